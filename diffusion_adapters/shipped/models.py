"""The shipped networks as models, ready for `expint.sample`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from diffusion_adapters.families.adapters import EDMAdapter, IDDPMAdapter, VEAdapter, VPAdapter
from diffusion_adapters.families.phase_space import CLDAdapter
from diffusion_adapters.shipped.files import load_network
from diffusion_adapters.shipped.tuned_plans import tuned_plan
from expint import schedules
from expint.guards.arguments import checked

_ADAPTERS: dict[str, Any] = {
    "vp": VPAdapter,
    "ve": VEAdapter,
    # Half of its training timesteps lay between two entries of the table.
    "iddpm": partial(IDDPMAdapter, timesteps="interpolate"),
    "edm": EDMAdapter,
    "cld": CLDAdapter,
}


@checked
def load(name: str, labels: Sequence[int] | Tensor | None = None) -> Any:
    """A shipped network as a model.

    Args:
        name: one of `diffusion_adapters.names()`.
        labels: class indices, one per sample, for a class-conditional network.

    Returns:
        The adapter of the network's family, with the further attributes `card` (a dict: training
        data, seed, figures), `shape` (the event shape of its samples) and `plan_for` (its tuned
        plans, see `diffusion_adapters.shipped.tuned_plans`).

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
    schedule = getattr(schedules, parameters.pop("kind"))(**parameters)
    model: Any = _ADAPTERS[card["family"]](network, schedule)
    if labels is not None:
        if not isinstance(model, EDMAdapter):
            raise ValueError(f"{name!r} is not class-conditional: leave out the labels.")
        model = model.with_labels(labels)
    model.card, model.shape = card, tuple(card["shape"])
    model.plan_for = partial(tuned_plan, name)
    return model
