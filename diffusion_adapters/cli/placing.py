"""Where the network of a command is, and in which precision."""

from types import SimpleNamespace
from typing import Any

import torch

from diffusion_adapters import load
from diffusion_adapters.cli import shards
from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.own_objects import model_of
from diffusion_adapters.families import NetworkAdapter

_KINDS = ("float32", "bfloat16", "float16")
NETWORK_DTYPE = option(
    f"--network-dtype [{'|'.join(_KINDS)}]",
    "Precision of the network; that of the state is --dtype.",
    usual="its own",
)


def placed_model(given: SimpleNamespace) -> tuple[Any, torch.device | None]:
    """The model of the options, where and as they say, and its device if they say one.

    Raises:
        ValueError: for a model of one's own that cannot be cast.
    """
    place, kind = shards.device_of(given.device), given.network_dtype
    model = model_of(given.model, load)
    if issubclass(type(model), NetworkAdapter | torch.nn.Module):
        for where in (place, kind and getattr(torch, kind)):
            if where is not None:
                model.to(where)  # any other looks after itself
    elif kind:
        raise ValueError(
            f"--network-dtype casts a torch.nn.Module or an adapter, and {given.model!r} is a "
            f"{type(model).__name__}: cast the network where the model is made."
        )
    return model, place
