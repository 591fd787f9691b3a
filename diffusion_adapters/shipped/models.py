"""The embedded networks as models, ready for `expint.sample`."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from diffusion_adapters.families.adapter import NetworkAdapter
from diffusion_adapters.families.adapters import EDMAdapter, IDDPMAdapter, VEAdapter, VPAdapter
from diffusion_adapters.shipped.files import load_network
from expint import schedules

_ADAPTERS: dict[str, Callable[[nn.Module, schedules.Schedule], NetworkAdapter]] = {
    "vp": lambda network, schedule: VPAdapter(network, schedule),
    "ve": lambda network, schedule: VEAdapter(network, schedule),
    "iddpm": lambda network, schedule: IDDPMAdapter(network, schedule),  # pyright: ignore[reportArgumentType]
    "edm": lambda network, schedule: EDMAdapter(network, schedule),
}


def load(name: str, labels: Sequence[int] | Tensor | None = None) -> Any:
    """An embedded network as a model.

    Args:
        name: one of `diffusion_adapters.names()`.
        labels: class indices, one per sample, for a class-conditional network.

    Returns:
        The adapter of the network's family, with the further attributes `card` (a dict: training
        data, seed, figures) and `shape` (the event shape of its samples).

    Raises:
        ValueError: for an unknown name (the nearest are named), damaged files, or labels that the
            network does not have.

    Example:
        >>> import expint
        >>> model = load("digits-edm", labels=[3, 7])
        >>> expint.sample(model, (2, *model.shape), steps=4, progress=False).shape
        torch.Size([2, 1, 8, 8])
    """
    network, card = load_network(name)
    parameters = dict(card["schedule"])
    schedule = schedules.get(parameters.pop("kind").lower(), **parameters)
    model = _ADAPTERS[card["family"]](network, schedule)
    if labels is not None:
        if not isinstance(model, EDMAdapter):
            raise ValueError(
                f"The network {name!r} is not class-conditional: leave out the labels."
            )
        model = model.with_labels(labels)
    return _with_card(model, card)


def _with_card(model: Any, card: dict[str, Any]) -> Any:
    model.card, model.shape = card, tuple(card["shape"])
    return model
