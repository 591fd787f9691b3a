"""How `expint compare` draws its samples: on common paths, or in folders that are kept."""

import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from diffusion_adapters.cli.options import option
from diffusion_adapters.runs import draw
from diffusion_adapters.shipped.image_quality import EveryClass
from expint import PlanWarning
from expint.noise import BrownianPath
from expint.plans import Plan
from expint.plans.file_format import checksum_of
from expint.runs.model import identity

# leaves of a common path per e-fold of the noise clock: enough for steps of a sixtieth of an e-fold
_RESOLUTION = 64
_BATCH, _SHARD = 1000, 250  # the batch of `compare_quality`, and samples that a process takes
_PATH = "One Brownian path per sample for all runs, instead of fresh normals."
_KEEP = (
    "Folder that keeps the samples of each run: a stopped comparison goes on, one with more "
    "solvers draws only theirs, and several processes share the work."
)
COMMON_PATH = option("--common-path", _PATH)
KEEP = option("--keep DIR", _KEEP, usual="none")


def drawing(model: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `expint.quality.comparison.compare_quality`: path, which makes the noise, and
    draw, which keeps samples in a folder for each plan.

    Args:
        model: of the comparison.
        given: options of the command by name. Those of this module are taken out.

    Raises:
        ValueError: for paths that are to be kept.
    """
    path, folder = given.pop("common_path"), given.pop("keep")
    if path and folder:
        raise ValueError("--keep has fresh noise for each run: leave out --common-path.")
    if folder and folder.is_file():
        raise ValueError(f"--keep is a folder, and {str(folder)!r} is a file.")
    if path:
        return {"path": partial(BrownianPath, resolution=_RESOLUTION)}
    return {"draw": partial(_kept, folder, model, given["seed"])} if folder else {}


def _kept(folder: Path, model: Any, seed: int, plan: Plan, places: range) -> Iterator[Tensor]:
    labels = None
    if isinstance(model, EveryClass):
        model = model.model
        labels = [i % model.label_dim for i in range(len(places))] if model.label_dim else None
    settings: dict[str, Any] = {"seed": seed, "start": places.start, "labels": labels}
    wanted = checksum_of({"model": identity(model), "plan": plan.to_dict(), **settings})
    out = folder / f"{plan.solver}-{plan.nfe}-{wanted[:12]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanWarning)  # a comparison is to show what is bad
        run = draw(model, len(places), plan=plan, out=out, shard=_SHARD, progress=False, **settings)
    if run.not_finite:
        raise FloatingPointError(f"{len(run.not_finite)} samples became NaN or infinite.")
    yield from torch.cat([torch.from_numpy(part["samples"]) for part in run]).split(_BATCH)


def end_all_but_first() -> None:
    """Of the processes of torchrun, the first alone writes what was found."""
    if int(os.environ.get("RANK", "0")):
        click.get_current_context().exit(0)
