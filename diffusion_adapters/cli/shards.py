"""`expint sample` of many samples: a folder of shards, which the same command continues."""

import os
import signal
from types import SimpleNamespace
from typing import Any

import click
import torch

from diffusion_adapters.cli import options, output
from diffusion_adapters.cli.options import option
from diffusion_adapters.runs import RunFolder, draw
from diffusion_adapters.runs.folder import is_run
from diffusion_adapters.runs.production import IMAGES
from expint.numerics.devices import usable_device

NAMES = ("shard", "merge", "images")
_LARGEST = 1000  # samples of a run that is written at its end

SHARD = option("--shard N", "Samples in a file.", usual="1000, or 256 MiB of them", least=1)
MERGE = option("--merge", "Also write all samples to samples.npz at the end.")
IMAGES_OPTION = option(f"--images [{'|'.join(IMAGES)}]", "A file for each sample.", default="none")


def device_of(name: str | None) -> torch.device | None:
    """The device of --device; of several GPUs, each process that torchrun starts gets its own."""
    rank = os.environ.get("LOCAL_RANK")
    if name is None:
        return None
    return usable_device(f"cuda:{rank}" if name == "cuda" and rank else name)


def are_wanted(given: SimpleNamespace, num: int) -> bool:
    """Whether a run is written in shards: it is large, is asked for so, is one of several
    processes, or goes on in a folder of shards."""
    asked = given.shard or given.merge or given.images != "none"
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return bool(asked or several or num > _LARGEST or is_run(given.out))


def draw_in_shards(given: SimpleNamespace, network: Any, num: int, **settings: Any) -> None:
    """Draw, and say what there is. After Ctrl-C and SIGTERM it says how to go on."""
    first = int(os.environ.get("RANK", "0")) == 0
    output.check_folder(given.out, ["manifest.json", "samples.npz"])
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run = draw(
            network, num, out=given.out, shard=given.shard, merge=given.merge, images=given.images,
            progress=given.progress and first, about=options.asked("out"), **settings,
        )  # fmt: skip
    except KeyboardInterrupt:
        there = RunFolder(given.out).count if is_run(given.out) else 0
        text = f"Interrupted: {there} of {num} samples are in {given.out}."
        if first:
            click.echo(f"{text} The same command continues the run.", err=True)
        click.get_current_context().exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)
    if not first:
        return
    click.echo(f"{num} samples of {given.model} in {given.out}/shards, {len(run.shards)} files")
    if given.merge:
        click.echo(f"All samples in {given.out}/samples.npz")
    if bad := run.not_finite:
        seeds = ", ".join(f"sample {place} (seed {seed})" for place, seed in bad[:10])
        more = f" and {len(bad) - 10} more" if len(bad) > 10 else ""
        click.echo(f"Warning: NaN, as they did not stay finite: {seeds}{more}", err=True)
