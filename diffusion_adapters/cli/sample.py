"""`expint sample`: draw samples from a shipped network into a folder."""

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

import expint
from diffusion_adapters import load
from diffusion_adapters.cli.options import plan_arguments, plan_options
from diffusion_adapters.cli.output import (
    check_folder,
    json_bytes,
    npz_bytes,
    picture_bytes,
    write_files,
)
from expint.plans.plan import Plan
from expint.solvers import get

__all__ = ["FILES", "sample", "versions"]

FILES = ("samples.png", "samples.npz", "manifest.json")
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@click.command()
@click.option(
    "--model",
    "name",
    default="digits-edm",
    show_default=True,
    metavar="NAME",
    help="A network (see `expint models`).",
)
@plan_options
@click.option(
    "--num",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="How many samples.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Sample i has seed N + i.",
)
@click.option(
    "--labels",
    metavar="LIST",
    help="Classes, with commas, repeated in turn until there is one per sample; 'none' for no class.  "
    "[default: all classes of a class-conditional network]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder for the files.",
)
@click.option(
    "--dtype",
    type=click.Choice(list(_DTYPES)),
    default="float32",
    show_default=True,
    help="Precision of the state.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Samples computed at a time; a sample does not depend on it, but for rounding.",
)
@click.option("--compile", "compiled", is_flag=True, help="Pass the network through torch.compile.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def sample(
    name: str,
    num: int,
    seed: int,
    labels: str | None,
    out: Path,
    dtype: str,
    batch: int,
    compiled: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Draw samples from a shipped network.

    Writes samples.png (all of them in a picture), samples.npz (samples, labels, seeds) and
    manifest.json (every setting).
    """
    model = load(name)
    classes = _classes(labels, name, getattr(model, "label_dim", 0), num)
    arguments = plan_arguments(**options)
    plan = expint.plan_sampling(
        model.schedule, **arguments, sigma_data=model.sigma_data, round_time=model.round_time
    )
    if seed + num > 2**64:
        raise ValueError(
            f"The last seed, --seed + --num - 1 = {seed + num - 1}, must be below 2**64."
        )
    check_folder(out, FILES)

    began = time.perf_counter()
    images = np.empty((num, *model.shape), dtype=np.float32)
    with tqdm(
        total=plan.nfe * -(-num // batch), disable=no_progress, unit="NFE", desc=plan.solver
    ) as bar:
        for first in range(0, num, batch):
            part = range(first, min(first + batch, num))
            chosen = model if classes is None else model.with_labels([classes[i] for i in part])
            done = bar.n
            drawn = expint.sample(
                chosen,
                (len(part), *model.shape),
                **arguments,
                seed=[seed + i for i in part],
                callback=lambda step, nfe, t, x, denoised, done=done: bar.update(
                    done + nfe - bar.n
                ),
                progress=False,
                dtype=_DTYPES[dtype],
                compile=compiled,
            )
            images[part.start : part.stop] = drawn.cpu().numpy()
    seconds = time.perf_counter() - began

    seeds = range(seed, seed + num)
    settings = {
        "model": name,
        **arguments,
        "num": num,
        "seed": seed,
        "labels": labels,
        "out": str(out),
    }
    tableau = get(plan.solver)
    settings["form"] = arguments["form"] or tableau.form
    settings["ell"] = (
        tableau.ell if arguments["ell"] is None and arguments["eta"] is None else arguments["ell"]
    )
    settings["operations"] = [str(operation) for operation in arguments.get("operations", ())]
    settings |= {"dtype": dtype, "batch": batch, "compile": compiled}
    manifest = _manifest(model, plan, settings, seeds, classes, seconds)
    content = (
        picture_bytes(images),
        npz_bytes(
            samples=images,
            labels=np.array([-1] * num if classes is None else classes, dtype=np.int64),
            seeds=np.array(seeds, dtype=np.uint64),
        ),
        json_bytes(manifest),
    )
    write_files(out, dict(zip(FILES, content, strict=True)))
    _report(name, plan, manifest, out)


def _classes(labels: str | None, name: str, label_dim: int, num: int) -> list[int] | None:
    """One class per sample, or None for no classes.

    Raises:
        ValueError: for classes that the network does not have, or more of them than samples.
    """
    if labels is None:
        return [i % label_dim for i in range(num)] if label_dim else None
    if labels.strip().lower() == "none":
        return None
    if not label_dim:
        raise ValueError(f"The network {name!r} has no classes: leave out --labels.")
    known = f"classes 0 to {label_dim - 1} with commas between them, or none"
    try:
        listed = [int(part) for part in labels.split(",")]
    except ValueError as error:
        raise ValueError(f"--labels takes {known}, got {labels!r}.") from error
    outside = [label for label in listed if not 0 <= label < label_dim]
    if outside:
        raise ValueError(f"The network {name!r} has no class {outside[0]}: --labels takes {known}.")
    if len(listed) > num:
        raise ValueError(
            f"{len(listed)} labels came for {num} samples: give fewer labels, or --num "
            f"{len(listed)}."
        )
    return [listed[i % len(listed)] for i in range(num)]


def _manifest(
    model: Any,
    plan: Plan,
    settings: dict[str, Any],
    seeds: Sequence[int],
    classes: list[int] | None,
    seconds: float,
) -> dict[str, Any]:
    """What was done, as JSON can hold it."""
    return {
        "command": "expint sample",
        "settings": settings,
        "model": {
            "name": settings["model"],
            "schedule": str(model.schedule),
            "prediction": model.prediction,
            "sigma_data": model.sigma_data,
            "shape": list(model.shape),
        },
        "sde": plan.sde.name,
        "steps": plan.steps,
        "nfe": plan.nfe,
        "gaussians": plan.gaussians,
        "times": plan.to_dict()["grid"],
        "seeds": list(seeds),
        "labels": classes,
        "seconds": round(seconds, 3),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "files": list(FILES),
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "expint": expint.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _equation(plan: Plan) -> str:
    """Form and ℓ, or what takes their place, without the schedule."""
    return plan.sde.name.removesuffix(f", {plan.sde.schedule}")


def _report(name: str, plan: Plan, manifest: dict[str, Any], out: Path) -> None:
    settings, seconds, seeds = manifest["settings"], manifest["seconds"], manifest["seeds"]
    asked = f" (of at most {settings['nfe']})" if settings["nfe"] not in (None, plan.nfe) else ""
    click.echo(
        f"{len(seeds)} samples of {name}, seeds {seeds[0]} to {seeds[-1]}: {', '.join(FILES)} in "
        f"{out}"
    )
    click.echo(f"{plan.solver}, {_equation(plan)}, {settings['dtype']} on {manifest['device']}")
    click.echo(f"{plan.nfe} network evaluations per sample{asked} in {plan.steps} steps")
    click.echo(f"{seconds:.2f} s, {1e3 * seconds / len(seeds):.1f} ms per sample")
