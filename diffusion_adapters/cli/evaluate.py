"""`expint evaluate`: how far the samples of a run are from a reference."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from diffusion_adapters.cli import options, output
from diffusion_adapters.cli.extractors import FEATURES, extractor
from diffusion_adapters.cli.given_data import read_data
from diffusion_adapters.cli.options import option
from diffusion_adapters.runs import RunFolder, evaluate
from diffusion_adapters.runs.folder import MERGED, is_run
from diffusion_adapters.runs.origin import origin

FILES = ("evaluation.json", "samples.png")
_SHOWN = 64  # samples in the picture
_REFERENCE = "Samples of the data, (n, *shape), .npy, .npz or .safetensors; or the folder of a run."
_ARRAY = "Which array of the file."


@click.command("evaluate")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@option("--reference FILE", _REFERENCE, required=True)
@option("--array NAME", _ARRAY, usual="the only one of the samples' shape")
@FEATURES
@option("--most N", "Features for all but the Frechet distance.", default=10_000, least=1)
@option("--batch N", "Computed at a time.", default=500, least=1)
@options.DEVICE
@option("--out DIR", "Folder for the files.", usual="the folder of the run")
def evaluate_command(
    folder: Path, reference: Path, array: str | None, features: str, most: int, batch: int,
    device: str | None, out: Path | None,
) -> None:  # fmt: skip
    """Measure how far the samples in the folder DIR are from a reference.

    Writes evaluation.json, Frechet and kernel distance, precision, recall, density and coverage,
    each for all samples and for both halves of them, and samples.png, a picture of the first.
    """
    goal = out or folder
    output.check_folder(goal, FILES)
    shape = tuple(next(_parts(folder)).shape[1:])
    data = _parts(reference) if reference.is_dir() else _file(reference, shape, array)
    call = extractor(features, shape, device)
    found = evaluate(_parts(folder), data, call, batch=batch, most=most)
    record = {"command": "expint evaluate", "options": options.asked("out"), **found, **origin()}
    record["options"] |= {name: str(record["options"][name]) for name in ("folder", "reference")}
    content = {FILES[0]: output.json_bytes(record)}
    first = next(_parts(folder))[:_SHOWN].numpy()
    if len(shape) == 3 and shape[0] in (1, 3):
        content[FILES[1]] = output.picture_bytes(np.nan_to_num(first))
    written = output.write_files(goal, content)
    click.echo(f"{found['samples']} samples, {found['reference']} of the reference: {written}")
    for name, (one, other) in found["halves"].items():
        click.echo(f"{name:<10} {found[name]:<10.5g} (halves {one:.5g}, {other:.5g})")


def _parts(folder: Path) -> Iterator[Tensor]:
    """The samples of a run, shard by shard, or of samples.npz."""
    if is_run(folder):
        yield from (torch.from_numpy(part["samples"]) for part in RunFolder(folder))
    elif (folder / MERGED).is_file():
        with np.load(folder / MERGED) as arrays:
            yield torch.from_numpy(arrays["samples"])
    else:
        raise ValueError(f"The folder {str(folder)!r} holds no samples: see `expint sample`.")


def _file(file: Path, shape: tuple[int, ...], array: str | None) -> list[Tensor]:
    images = read_data(file, shape, array)[0]
    return [images.float() / 127.5 - 1.0 if images.dtype == torch.uint8 else images]
