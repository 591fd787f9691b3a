"""The images the shipped networks are trained on: sklearn's 8x8 digits and MNIST, scaled to [-1,
1].
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

SPLIT_SEED = 0
DIGITS_TEST_FRACTION = 0.25


@dataclasses.dataclass(frozen=True)
class Images:
    """A data set, split once and for all.

    Attributes:
        train: (N, 1, H, W) float32 in [-1, 1].
        train_labels: (N,) int64, 0..9.
        test: held-out images, as `train`.
        test_labels: as `train_labels`.
        source: where the images come from, and their licence.
        split: how they were split.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    source: str
    split: str

    @property
    def sigma_data(self) -> float:
        """Standard deviation of all training pixels, in units of the data."""
        return float(self.train.double().std())


def digits() -> Images:
    """The 1797 scans of 8x8 pixels in scikit-learn, a quarter of them held out, stratified by
    digit.
    """
    flat, target = load_digits(return_X_y=True)
    images = torch.tensor(flat, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    labels = torch.tensor(target, dtype=torch.int64)
    train, test = train_test_split(
        np.arange(len(labels)),
        test_size=DIGITS_TEST_FRACTION,
        random_state=SPLIT_SEED,
        stratify=target,
    )
    return Images(
        images[train],
        labels[train],
        images[test],
        labels[test],
        source="Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI), as "
        "sklearn.datasets.load_digits; CC BY 4.0",
        split=f"{len(train)} for training, {len(test)} held out; stratified, "
        f"test_size={DIGITS_TEST_FRACTION}, random_state={SPLIT_SEED}",
    )


def mnist(path: str | Path) -> Images:
    """MNIST from an .npz file with `train_x`, `train_y`, `test_x`, `test_y` (uint8 images of 28x28
    pixels).

    Raises:
        ValueError: if the file lacks one of the arrays, or an array has another shape.
    """
    names = ("train_x", "train_y", "test_x", "test_y")
    # Keras' copy of the file names the same arrays the other way round.
    keras = dict(zip(names, ("x_train", "y_train", "x_test", "y_test"), strict=True))
    with np.load(path, allow_pickle=False) as archive:
        found = set(archive.files)
        keys = {name: name if name in found else keras[name] for name in names}
        missing = [name for name, key in keys.items() if key not in found]
        if missing:
            raise ValueError(
                f"{path} lacks {missing}; it has {sorted(found)}. Expected the arrays "
                f"{list(names)}."
            )
        arrays = {name: archive[key] for name, key in keys.items()}
    for name in ("train_x", "test_x"):
        if arrays[name].shape[1:] != (28, 28):
            raise ValueError(
                f"{name} in {path} must have shape (N, 28, 28), got {arrays[name].shape}."
            )
    scaled = {
        name: torch.from_numpy(arrays[name]).float()[:, None] / 127.5 - 1
        for name in ("train_x", "test_x")
    }
    labels = {
        name: torch.from_numpy(arrays[name].astype(np.int64)) for name in ("train_y", "test_y")
    }
    return Images(
        scaled["train_x"],
        labels["train_y"],
        scaled["test_x"],
        labels["test_y"],
        source="MNIST (LeCun, Cortes, Burges); CC BY-SA 3.0",
        split=f"the data set's own: {len(labels['train_y'])} for training, "
        f"{len(labels['test_y'])} held out",
    )


def augment(x: Tensor, generator: torch.Generator, probability: float = 0.5) -> Tensor:
    """Small random rotations, scalings and shifts of some of the images.

    Args:
        x: (B, C, H, W) in [-1, 1].
        generator: source of randomness.
        probability: share of the images that are transformed.

    Returns:
        Images of the same shape; what enters from outside is background (-1).
    """
    batch, _, _, width = x.shape
    uniform = torch.rand(4, batch, generator=generator) * 2 - 1
    chosen = torch.rand(batch, generator=generator) < probability
    angle, zoom = uniform[0] * 0.12, 1 + 0.06 * uniform[1]
    shift = uniform[2:] * 0.5 * 2 / width  # half a pixel; the image spans 2 in the grid's units
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = torch.stack(
        [torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1
    )
    grid = torch.nn.functional.affine_grid(rows, list(x.shape), align_corners=False)
    # Bicubic, because bilinear interpolation would blur 8x8 pixels: it takes a sixth of their
    # standard deviation.
    moved = (
        torch.nn.functional.grid_sample(x + 1, grid, mode="bicubic", align_corners=False).clamp(
            0, 2
        )
        - 1
    )
    return torch.where(chosen[:, None, None, None], moved, x)
