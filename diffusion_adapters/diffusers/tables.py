"""The noise schedule that the configuration of a diffusers scheduler means, and the labels of its
network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_adapters.diffusers.continuous import VPInSigma
from expint.grids.layout import MOST_STEPS
from expint.numerics.float64 import as_float64
from expint.registry import check_choice, unknown
from expint.schedules import (
    Discrete,
    Flow,
    Schedule,
    cosine_betas,
    linear_betas,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
)

_BETAS: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "squaredcos_cap_v2": lambda steps, first, last: cosine_betas(steps),
    # ᾱ(t) = e^{−12 t}
    "exp": lambda steps, first, last: -torch.expm1(as_float64([-12.0 / steps] * steps)),
    "sigmoid": lambda steps, first, last: (
        first
        + (last - first) * torch.sigmoid(torch.linspace(-6.0, 6.0, steps, dtype=torch.float64))
    ),
}


def schedule_of(config: Mapping[str, Any]) -> Schedule:
    """The noise schedule: `Flow` for flow matching, otherwise a table whose times are the network's
    timesteps, or for "continuous" labels `VPInSigma`.

    Raises:
        ValueError: for an unknown beta_schedule or a table that is not one.
    """
    count = config["num_train_timesteps"]
    flow = config["use_flow_sigmas"] or config["prediction_type"] == "flow_prediction"
    check_choice("num_train_timesteps", count, range(1 if flow else 3, MOST_STEPS + 1))
    if flow:  # of a count that is a unit and no number, the range is that of most
        return Flow(t_min=shifted(1.0 / (count if count > 2 else 1000), config["shift"]))
    name, betas = config["beta_schedule"], config["trained_betas"]
    if betas is None:
        if name not in _BETAS:
            raise unknown("beta_schedule", name, sorted(_BETAS), ", or trained_betas")
        betas = _BETAS[name](count, config["beta_start"], config["beta_end"])
    table = Discrete.from_betas(as_float64(betas))
    if config["continuous"]:
        last, first = table.sigma(as_float64([0.0, len(betas) - 1.0])).tolist()
        ends = (config["sigma_min"] or last, config["sigma_max"] or first)
        return VPInSigma(*ends, label=config["continuous"])
    if config["snr_shift_scale"] != 1.0:
        # ᾱ/(s + (1 − s) ᾱ): σ² times s
        bars, scale = as_float64(table.alphas_cumprod), config["snr_shift_scale"]
        table = Discrete(bars / (scale + (1.0 - scale) * bars))
    if config["rescale_betas_zero_snr"]:
        return Discrete(rescale_zero_terminal_snr(table.alphas_cumprod))
    return table


def labels_per_time(schedule: Schedule, config: Mapping[str, Any]) -> int:
    """What the network is called with per unit of time."""
    return config["num_train_timesteps"] if isinstance(schedule, Flow) else 1


def given_labels(
    grid: Tensor, timesteps: Sequence[float] | Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The times at which the steps of flow matching begin and the labels given for them, both from
    0 upwards.

    Raises:
        ValueError: unless there is one for each, and they fall.
    """
    labels = as_float64(timesteps)
    times, steps = grid[: len(labels)], labels.diff()
    if len(labels) not in (len(grid), len(grid) - 1) or not bool((steps < 0).all()):
        raise ValueError(
            f"timesteps that come with sigmas are labels that fall, one for each: {len(labels)} "
            f"came for {len(grid) - 1} steps."
        )
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero, times.flip(0)]).numpy(), torch.cat([zero, labels.flip(0)]).numpy()


def shifted(level: Any, shift: float) -> Any:
    """s t/(1 + (s − 1) t)."""
    return shift * level / (1.0 + (shift - 1.0) * level)
