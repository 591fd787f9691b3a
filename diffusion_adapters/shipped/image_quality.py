"""What it takes to measure the samples of a shipped network: held-out images, and the features of
its data set's classifier.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_adapters.array_files import read_arrays
from diffusion_adapters.guidance.wrapping import ModelWrapper
from diffusion_adapters.shipped.files import load_classifier
from diffusion_adapters.shipped.models import load

_BATCH = 500
# The split that the shipped networks were trained on.
_SPLIT = {"test_size": 0.25, "random_state": 0}


def real_images(name: str, data: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """Training and held-out images of the data set of a shipped network, float32 in [-1, 1].

    Args:
        name: of the network; what stands before the first "-" is the data set.
        data: for MNIST, an .npz file with the arrays train_x and test_x, uint8, (N, 28, 28), and
            train_y, the classes (or with the names x_train, x_test and y_train).

    Returns:
        The pair, of shapes (N, 1, H, W) and (M, 1, H, W); the training images with their classes in
        turn, as far as they go.

    Raises:
        ValueError: if the images are not at hand, with the way to get them.
    """
    kind = name.split("-")[0]
    if kind == "digits":
        return _digits()
    if data is None:
        missing = f"The images of {kind!r} do not come with the package"
        raise ValueError(f"{missing}: give an .npz file (`--data` on the command line).")
    return _from_file(Path(data))


def frechet_judging(
    name: str, data: str | Path | None = None, n: int | None = None
) -> dict[str, Any]:
    """Arguments of `expint.quality.comparison.compare_quality` for the Fréchet distance in the
    classifier's last hidden layer.

    Args:
        name: of the shipped network.
        data: as in `real_images`.
        n: samples per run; default: as many as training images, at most 2000. The floor is the
            distance of as many training images, or all of them, from the held-out ones.

    Returns:
        metric, n, reference (the held-out images), independent (training images) and features.

    Raises:
        ValueError: as `real_images` and `diffusion_adapters.load` do, and for fewer samples than
            features.

    Source: Heusel et al., arXiv 1706.08500, with the classifier in the place of Inception.
    """
    classifier, _ = load_classifier(f"{name.split('-')[0]}-classifier")
    train, held_out = real_images(name, data)
    count = min(2000, len(train)) if n is None else n

    def features(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([classifier.features(part) for part in images.split(_BATCH)])

    width = features(held_out[:1]).shape[1]
    if count <= width:
        raise ValueError(f"The Fréchet distance needs more than {width} samples, got n={count}.")
    return {
        "metric": "frechet",
        "n": count,
        "reference": held_out,
        "independent": train[:count],
        "features": features,
    }


class EveryClass(ModelWrapper):
    """A shipped class-conditional network as a model that samples all of its classes in turn,
    whatever the batch.

    Sample i of a batch is of class i mod `label_dim`; a network without classes is called as it is.

    Args:
        name: of the network.

    Raises:
        ValueError: if there is no such network.
    """

    def __init__(self, name: str) -> None:
        super().__init__(load(name))

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        classes, model = self.model.label_dim, self.model
        if classes:
            model = model.with_labels([i % classes for i in range(len(x))])
        return self._evaluate(model, x, t)


def _digits() -> tuple[Tensor, Tensor]:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ValueError("Digits come with scikit-learn: pip install 'expint[train]'.") from error
    flat, target = load_digits(return_X_y=True)
    images = torch.tensor(flat, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    train, held_out = train_test_split(np.arange(len(images)), stratify=target, **_SPLIT)
    return images[train[_in_turn(target[train])]], images[held_out]


def _in_turn(classes: np.ndarray) -> np.ndarray:
    """Indices that put one of each class first, then a second of each, …, so that the first n are
    of all classes alike.
    """
    rank = np.empty(len(classes), dtype=np.int64)
    for each in np.unique(classes):
        mask = classes == each
        rank[mask] = np.arange(mask.sum())
    return np.lexsort((classes, rank))


def _from_file(file: Path) -> tuple[Tensor, Tensor]:
    # Keras has the names the other way round.
    wanted = {"train_x": "x_train", "test_x": "x_test", "train_y": "y_train"}
    arrays = read_arrays(file)
    arrays |= {key: arrays[other] for key, other in wanted.items() if other in arrays}
    if not wanted.keys() <= arrays.keys():
        needed = f"an .npz file with {', '.join(wanted)}"
        raise ValueError(f"Cannot read images from {str(file)!r}: give {needed}.")
    train, held_out, classes = (arrays[key] for key in wanted)
    for key, array in (("train_x", train), ("test_x", held_out)):
        if array.ndim != 3 or array.dtype != np.uint8:
            wanted = f"uint8 of shape (N, H, W), got {array.dtype} {array.shape}"
            raise ValueError(f"{key} in {str(file)!r} must be {wanted}.")
    if classes.shape != train.shape[:1]:
        wanted = f"one class per image, {train.shape[:1]}, got {classes.shape}"
        raise ValueError(f"train_y in {str(file)!r} must have {wanted}.")
    return _scaled(train[_in_turn(classes)]), _scaled(held_out)


def _scaled(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).float()[:, None] / 127.5 - 1
