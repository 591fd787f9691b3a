"""Networks of diffusers as models for `expint.sample`. Nothing here needs diffusers itself: a
network brings it along.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.diffusers.configs import DEFAULTS, prediction_of, read_config
from diffusion_adapters.diffusers.tables import labels_per_time, schedule_of
from diffusion_adapters.families.adapter import NetworkAdapter, Timesteps, without_variance
from expint.guards.arguments import checked
from expint.schedules.discrete import TabulatedVP


@checked
def from_diffusers(
    network: Callable[..., Any],
    scheduler: Any,
    *,
    timesteps: str | None = None,
    timestep_scale: float | None = None,
    **conditioning: Any,
) -> "DiffusersAdapter":
    """A U-Net or transformer of diffusers as a model, with the noise schedule and the prediction of
    its scheduler.

    Args:
        network: called as network(x, timestep=…, **conditioning): `UNet2DModel`,
            `UNet2DConditionModel`, `DiTTransformer2DModel`, `SD3Transformer2DModel` and others with
            these arguments. Of an output with twice the channels of the state (a learned variance)
            the first half is taken.
        scheduler: a diffusers scheduler, its configuration, or any mapping with the entries of a
            scheduler_config.json.
        timesteps: for a table, "round" (default) calls the network at integers and moves the times
            of the run there, "interpolate" calls it in between as well.
        timestep_scale: of flow matching: what the network takes per unit of time; default
            num_train_timesteps.
        conditioning: further arguments of the network, such as encoder_hidden_states, class_labels
            or added_cond_kwargs. Tensors (of dictionaries, too) have one row per sample; fewer
            rows, of which the batch is a multiple, are repeated, each for neighbouring samples.

    Returns:
        A model for `expint.sample`; `with_condition` gives the same network with other
        conditioning, and `cfg` guides it.

    Raises:
        TypeError, ValueError: for something other than a network or configuration, an unknown
            policy, a network of EDM's convention.

    Example:
        >>> import expint
        >>> class Net(torch.nn.Module):
        ...     def forward(self, sample, timestep):
        ...         return (0.1 * sample,)
        >>> model = from_diffusers(
        ...     Net(), {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
        ... )
        >>> expint.sample(model, (2, 3), steps=4, progress=False).shape
        torch.Size([2, 3])
    """
    given = getattr(scheduler, "config", scheduler)
    if not isinstance(given, Mapping):
        kind = type(scheduler).__name__
        raise TypeError(f"scheduler is a diffusers scheduler or its configuration, got a {kind}.")
    config = DEFAULTS | read_config(given)
    schedule, table = schedule_of(config), None
    if isinstance(schedule, TabulatedVP):
        table = Timesteps(schedule, "round" if timesteps is None else timesteps)
        if timestep_scale is not None:
            raise ValueError("timestep_scale is for flow matching, and this network has a table.")
    elif timesteps is not None:
        raise ValueError("timesteps is for a table, and flow matching has no table: leave it out.")
    scale = labels_per_time(schedule, config) if timestep_scale is None else timestep_scale
    settings = {"schedule": schedule, "prediction": prediction_of(config), "table": table}
    return DiffusersAdapter(network, scale, condition=conditioning, **settings)


class DiffusersAdapter(NetworkAdapter):
    """What `from_diffusers` makes."""

    repeats_rows, label_name = True, "timestep"

    def __init__(self, network: Callable[..., Any], scale: float, **settings: Any) -> None:
        super().__init__(network, **settings)
        self._scale = float(scale)
        names = inspect.signature(getattr(network, "forward", network)).parameters
        self._options = {"return_dict": False} if "return_dict" in names else {}

    def _predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        if self._table:
            label = self._table.labels(t, x)
        else:
            label = (t * self._scale).to(x.device, torch.float32).expand(len(x))
        made: Any = self.network(x, timestep=label, **condition, **self._options)
        made = made[0] if isinstance(made, tuple) and made else getattr(made, "sample", made)
        return without_variance(made, x)
