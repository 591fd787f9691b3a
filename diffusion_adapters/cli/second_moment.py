"""`expint second-moment`: measure the statistic of Analytic-DPM on data."""

from pathlib import Path
from typing import Any

import click
import numpy as np
import safetensors
import safetensors.numpy
import torch
from torch import Tensor

from diffusion_adapters import load
from diffusion_adapters.cli.output import check_folder, json_bytes, write_files
from diffusion_adapters.shipped.image_quality import real_images
from expint.second_moments import ESTIMATORS, second_moment

__all__ = ["read_data", "second_moment_command"]

_KINDS = (".npy", ".npz", ".safetensors")


@click.command("second-moment")
@click.option(
    "--model",
    "name",
    default="digits-edm",
    show_default=True,
    metavar="NAME",
    help="A network (see `expint models`).",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Samples as the network knows them, floating, (n, *shape), without noise: .npy, .npz or .safetensors.  "
    "[default: the network's training images, where they come with scikit-learn]",
)
@click.option(
    "--array",
    metavar="NAME",
    help="Which array of the file.  [default: the only one of the network's shape]",
)
@click.option(
    "--labels",
    metavar="NAME",
    help="The file's array of classes, (n,), for a class-conditional network.",
)
@click.option(
    "--times",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="How many, uniform in lambda.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=2),
    metavar="N",
    help="Noisy samples per time.  [default: one per item of the data]",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Draw i has seed N + i.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    metavar="N",
    help="Computed at a time.",
)
@click.option(
    "--estimator",
    type=click.Choice(ESTIMATORS),
    default=ESTIMATORS[0],
    show_default=True,
    help="moment: the mean square of the predicted noise; residual: one minus that of its error, more precise at high noise.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The .json file.",
)
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def second_moment_command(
    name: str,
    data: Path | None,
    array: str | None,
    labels: str | None,
    out: Path,
    no_progress: bool,
    **settings: Any,
) -> None:
    """Measure how large the noise is that a network predicts, for the solver analytic-dpm.

    Writes a .json file that expint.SecondMoment.load reads.
    """
    model = load(name)
    if data is None:
        if array is not None or labels is not None:
            raise ValueError("--array and --labels name arrays of a file: give it with --data.")
        images, classes = real_images(name)[0], None
    else:
        images, classes = read_data(data, tuple(model.shape), array, labels)
    if classes is not None and not getattr(model, "label_dim", 0):
        raise ValueError(f"The network {name!r} has no classes: leave out --labels.")
    check_folder(out.parent, [out.name])
    chosen = classes  # never None inside
    moment = second_moment(
        model,
        images,
        **settings,
        conditioned=None if chosen is None else lambda items: model.with_labels(chosen[items]),
        progress=not no_progress,
    )
    write_files(out.parent, {out.name: json_bytes(moment.to_dict())})
    click.echo(
        f"{len(moment.times)} times, {moment.count} draws each, of {name} on {len(images)} "
        f"samples: {out}"
    )
    for t, lam, value, error in zip(
        moment.times, moment.lams, moment.values, moment.errors, strict=True
    ):
        click.echo(f"t = {t:<12.6g} lambda = {lam:<10.6g} moment = {value:.6g} +- {error:.2g}")


def read_data(
    file: Path, shape: tuple[int, ...], array: str | None = None, labels: str | None = None
) -> tuple[Tensor, Tensor | None]:
    """Samples, and their classes if they are asked for, from a file; nothing in it is run.

    Args:
        file: .npy, .npz or .safetensors.
        shape: of one sample.
        array: name of the samples in the file; default: the only array of this shape.
        labels: name of the classes in the file, or None.

    Returns:
        Samples, floating, shape (n, *shape), and classes, int64, shape (n,), or None.

    Raises:
        ValueError: for a file that cannot be read, that lacks such an array, or whose numbers are
            no floating ones.
    """
    arrays = _arrays(file)
    expected = f"(n, {', '.join(map(str, shape))})"
    if array is None:
        fitting = [
            key
            for key, value in arrays.items()
            if value.shape[1:] == shape and value.ndim == len(shape) + 1
        ]
        if len(fitting) != 1:
            found = ", ".join(f"{key} {value.shape}" for key, value in arrays.items())
            raise ValueError(
                f"{str(file)!r} holds {len(fitting)} arrays of shape {expected}, where one is "
                f"needed: {found}. Name it with --array."
            )
        array = fitting[0]
    samples = _one(arrays, array, file)
    if samples.shape[1:] != shape or samples.ndim != len(shape) + 1:
        raise ValueError(
            f"The array {array!r} of {str(file)!r} has shape {samples.shape}, the network needs "
            f"{expected}."
        )
    if samples.dtype.kind != "f":
        raise ValueError(
            f"The array {array!r} of {str(file)!r} is {samples.dtype}, not floating: give samples "
            "as the network knows them (pixels p in 0 … 255 as p/127.5 − 1)."
        )
    kept = samples if samples.dtype == np.float64 else samples.astype(np.float32)
    if labels is None:
        return torch.from_numpy(np.ascontiguousarray(kept)), None
    classes = _one(arrays, labels, file)
    if classes.shape != samples.shape[:1] or classes.dtype.kind not in "iu":
        raise ValueError(
            f"The array {labels!r} of {str(file)!r} should have one class per sample, integers of "
            f"shape ({len(samples)},); got {classes.dtype} of shape {classes.shape}."
        )
    return torch.from_numpy(np.ascontiguousarray(kept)), torch.from_numpy(classes.astype(np.int64))


def _one(arrays: dict[str, np.ndarray], name: str, file: Path) -> np.ndarray:
    if name not in arrays:
        raise ValueError(
            f"{str(file)!r} has no array {name!r}; it has: {', '.join(arrays) or 'none'}."
        )
    return arrays[name]


def _arrays(file: Path) -> dict[str, np.ndarray]:
    if file.suffix not in _KINDS:
        raise ValueError(
            f"--data takes a file of a kind in {', '.join(_KINDS)}, got {str(file)!r}."
        )
    try:
        if file.suffix == ".safetensors":
            return dict(safetensors.numpy.load(file.read_bytes()))
        with file.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            return {"array": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    # A cut or damaged archive fails in many ways (zip, zlib, header); an array of objects would
    # need pickle.
    except Exception as error:
        raise ValueError(f"Cannot read {str(file)!r}: {error}") from error
