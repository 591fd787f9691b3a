"""`expint second-moment`: measure the statistic of Analytic-DPM on data."""

from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from diffusion_adapters import load
from diffusion_adapters.array_files import read_arrays
from diffusion_adapters.cli import options, output
from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.own_objects import model_of
from diffusion_adapters.shipped.image_quality import real_images
from expint.runs.model import describe
from expint.second_moments import ESTIMATORS, second_moment

_DATA = (
    "Samples as the network knows them, floating, (n, *shape), without noise: .npy, .npz or "
    ".safetensors."
)
_USUAL_DATA = "the network's training images, where they come with scikit-learn"
_LABELS = "The file's array of classes, (n,), for a class-conditional network."
_ESTIMATOR = (
    "moment: the mean square of the predicted noise; residual: one minus that of its error, more "
    "precise at high noise."
)


@click.command("second-moment")
@options.MODEL
@option("--data FILE", _DATA, usual=_USUAL_DATA)
@option("--array NAME", "Which array of the file.", usual="the only one of the network's shape")
@option("--labels NAME", _LABELS)
@option("--times N", "How many, uniform in lambda.", default=50, least=1)
@option("--draws N", "Noisy samples per time.", usual="one per item of the data", least=2)
@options.SEED
@option("--batch N", "Computed at a time.", default=256, least=1)
@option(f"--estimator [{'|'.join(ESTIMATORS)}]", _ESTIMATOR, default=ESTIMATORS[0])
@option("--out FILE", "The .json file.", required=True)
@options.NO_PROGRESS
def second_moment_command(
    model: str, data: Path | None, array: str | None, labels: str | None, out: Path, **settings: Any
) -> None:
    """Measure how large the noise is that a network predicts, for the solver analytic-dpm.

    Writes a .json file that expint.SecondMoment.load reads.
    """
    network, classes = model_of(model, load), None
    if data is not None:
        images, classes = read_data(data, describe(network).shape, array, labels)
    elif array or labels:
        raise ValueError("--array and --labels name arrays of a file: give it with --data.")
    else:
        images = real_images(model)[0]
    if classes is not None:
        if not describe(network).label_dim:
            raise ValueError(f"The network {model!r} has no classes: leave out --labels.")
        settings["conditioned"] = lambda items, of=classes: network.with_labels(of[items])
    output.check_folder(out.parent, [out.name])
    moment = second_moment(network, images, **settings)
    output.write_files(out.parent, {out.name: output.json_bytes(moment.to_dict())})
    click.echo(
        f"{len(moment.times)} times, {moment.count} draws each, of {model} on {len(images)} "
        f"samples: {out}"
    )
    columns = (moment.times, moment.lams, moment.values, moment.errors)
    for t, lam, value, error in zip(*columns, strict=True):
        click.echo(f"t = {t:<12.6g} lambda = {lam:<10.6g} moment = {value:.6g} +- {error:.2g}")


def read_data(
    file: Path, shape: tuple[int, ...] | None, array: str | None = None, labels: str | None = None
) -> tuple[Tensor, Tensor | None]:
    """Samples, and their classes if they are asked for, from a file; nothing in it is run.

    Args:
        file: .npy, .npz or .safetensors.
        shape: of one sample, as the model says it.
        array: name of the samples in the file; default: the only array of this shape.
        labels: name of the classes in the file, or None.

    Returns:
        Samples, shape (n, *shape), and classes, int64, shape (n,), or None.

    Raises:
        ValueError: for a file that cannot be read, or that lacks such an array; for a model that
            does not say its shape.
    """
    if shape is None:
        raise ValueError("The model has no shape: give it an attribute shape.")
    arrays, wanted = read_arrays(file), f"(n, {', '.join(map(str, shape))})"
    held = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in arrays.items()) or "nothing"
    fitting = [a for name, a in arrays.items() if array in (None, name) and a.shape[1:] == shape]
    if len(fitting) != 1:
        found = f"{len(fitting)} arrays" if array is None else f"no array {array!r}"
        needed = f"{found} of shape {wanted}, where the network needs one: {held}"
        raise ValueError(f"{str(file)!r} holds {needed}. Name it with --array.")
    samples = fitting[0]
    images = torch.from_numpy(np.ascontiguousarray(samples))
    images = images.float() if images.dtype == torch.float16 else images
    if labels is None:
        return images, None
    classes = arrays.get(labels, np.empty(0))
    if classes.shape != samples.shape[:1] or classes.dtype.kind not in "iu":
        wanted = f"one class per sample, integers of shape ({len(samples)},)"
        raise ValueError(f"{labels!r} in {str(file)!r} must be {wanted}; it holds {held}.")
    return images, torch.from_numpy(classes.astype(np.int64))
