"""Rectified flow: straight lines between data and noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from expint.schedules.base import Schedule
from expint.schedules.registry import register


@register("flow")
@dataclass(frozen=True)
class Flow(Schedule):
    """α_t = 1 − t, σ̄_t = t on t in [0, 1]; σ = ∞ at t = 1.

    Args:
        t_min, t_max: default sampling range; t_max = 1 starts at infinite σ, which the solvers handle exactly.

    Source: Liu et al., arXiv 2209.03003; Lipman et al., arXiv 2210.02747.
    """

    t_min: float = 1e-3
    t_max: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.t_min < self.t_max <= 1:
            raise ValueError(f"Flow needs 0 < t_min < t_max <= 1, got {self.t_min} and {self.t_max}.")

    @property
    def domain(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def sampling_range(self) -> tuple[float, float]:
        return (self.t_max, self.t_min)

    def _log_alpha(self, t: Tensor) -> Tensor:
        return torch.log1p(-t)

    def _log_std(self, t: Tensor) -> Tensor:
        return torch.log(t)

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)
