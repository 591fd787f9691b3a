"""The option --features: what samples are compared in."""

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.own_objects import named_or_own
from diffusion_adapters.image_features import inception
from diffusion_adapters.shipped.files import load_classifier
from expint.numerics.devices import usable_device

_FEATURES = (
    "classifier, for samples like the shipped networks'; inception, of torchvision; or "
    "module:object, a function or module that makes (n, d) features of images in [-1, 1]."
)
FEATURES = option("--features NAME", _FEATURES, default="classifier")


def extractor(name: str, shape: tuple[int, ...], device: str | None) -> Callable[[Tensor], Tensor]:
    """What makes features of samples, by the name that the option has.

    Raises:
        ValueError: for an unknown name, or a network that is not here.
    """
    place = usable_device(device or "cpu")
    kinds = (FunctionType, torch.nn.Module, partial)
    own = named_or_own(name, kinds, "features", partial(_registered, shape=shape))
    if isinstance(own, torch.nn.Module):
        own.to(place).eval()
    call: Any = own.features if name == "classifier" else own
    return lambda images: call(images.to(place))


def _registered(name: str, shape: tuple[int, ...]) -> Any:
    kinds: dict[tuple[int, ...], str] = {(1, 8, 8): "digits", (1, 28, 28): "mnist"}
    if name == "inception":
        return inception()
    if name != "classifier" or shape not in kinds:
        known = f"classifier is for samples of shape {' or '.join(map(str, kinds))}"
        raise ValueError(
            f"Unknown features {name!r}: {known}, here {shape}; inception is for images; or "
            "module:object."
        )
    return load_classifier(f"{kinds[shape]}-classifier")[0]
