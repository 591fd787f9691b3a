"""Samples of the data that a command measures: of a file, or of a shipped network's data set."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_adapters.array_files import read_arrays
from diffusion_adapters.shipped.image_quality import real_images
from expint.runs.model import describe


def images_of(
    model: str,
    network: Any,
    data: Path | None,
    array: str | None,
    labels: str | None,
    *,
    held_out: bool = False,
) -> tuple[Tensor, dict[str, Any]]:
    """The samples of a file, else the images of a shipped network's data set; and the argument
    `conditioned`, where there are classes.

    Args:
        model: name of the network.
        network: what has that name.
        data, array, labels: as in `read_data`.
        held_out: of the data set the held-out images, not those of the training.

    Raises:
        ValueError: as `read_data` does, and for names of arrays without a file.
    """
    if data is None and (array or labels):
        raise ValueError("--array and --labels name arrays of a file: give it with --data.")
    if data is None:
        return real_images(model)[held_out], {}
    images, classes = read_data(data, describe(network).shape, array, labels)
    if classes is None:
        return images, {}
    if not describe(network).label_dim:
        raise ValueError(f"The network {model!r} has no classes: leave out --labels.")
    return images, {"conditioned": lambda items: network.with_labels(classes[items])}


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
