"""Features of images by networks that know images of one size in their own scale."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor


class ImageFeatures(torch.nn.Module):
    """A network of RGB images of one size as an extractor of features of images in [-1, 1] of any
    size, for `expint evaluate`: those of torchvision and timm, for example.

    Images are resized (bilinear, with antialiasing), and grey ones get three equal channels.

    Args:
        network: makes (n, d) features, or arrays that are flattened, of (n, 3, size, size).
        size: of its images, in pixels.
        mean, std: with which it wants images of [0, 1] normalised, one for all channels or for
            each. Default: images stay in [-1, 1].

    Example:
        >>> features = ImageFeatures(torch.nn.AvgPool2d(4), 8, mean=0.0, std=1.0)
        >>> features(torch.ones(2, 1, 28, 28)).flatten(1)[0].tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self, network: torch.nn.Module, size: int, *,
        mean: float | Sequence[float] = 0.5, std: float | Sequence[float] = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self._size = network.eval(), size
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value).reshape(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, …) of images (n, 1 or 3, H, W) in [-1, 1].

        Raises:
            ValueError: for samples that are no images.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            came = f"got (n, {', '.join(map(str, images.shape[1:]))})"
            raise ValueError(f"Images have shape (n, C, H, W) with C = 1 or 3, {came}.")
        size = (self._size, self._size)
        sized = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
        normalised = ((sized + 1.0) / 2.0 - self.get_buffer("mean")) / self.get_buffer("std")
        return self.network(normalised.expand(-1, 3, -1, -1))


def inception() -> ImageFeatures:
    """The 2048 pooled features of torchvision's Inception v3, trained on ImageNet.

    Distances in them are not those of the Inception of clean-fid and others, whose weights differ.

    Raises:
        ValueError: if torchvision or the weights are not here, with the way to get them.

    Source: Szegedy et al., arXiv 1512.00567.
    """
    own = "Or give features of your own: --features module:object."
    try:
        models = import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:  # the latter for a build for another torch
        needed = "The features 'inception' need torchvision, in the build for your torch"
        raise ValueError(f"{needed} ({error}): pip install torchvision. {own}") from error
    weights = models.Inception_V3_Weights.DEFAULT
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if not file.is_file():
        raise ValueError(
            f"The weights of Inception v3 are not here: put {weights.url} at {file}. {own}"
        )
    # In this form it takes images in [-1, 1].
    network = models.inception_v3(weights=weights, transform_input=False)
    network.fc = torch.nn.Identity()
    return ImageFeatures(network, 299)
