"""Rectified flow: straight lines between data and noise."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from expint.schedules.base import UnitInterval
from expint.schedules.registry import register


@register("flow")
@dataclass(frozen=True)
class Flow(UnitInterval):
    """α_t = 1 − t', σ̄_t = t' with t' = s t/(1 + (s − 1) t) on t in [0, 1]; σ = ∞ at t = 1. Without
    a shift (s = 1) t' = t.

    A shift s multiplies σ by s at every t, so that steps that are uniform in t spend more time at
    high noise. It moves the time of the schedule only: a network that was trained on t' is to be
    given t' = std(t).

    Args:
        t_min, t_max: default sampling range; t_max = 1 starts at infinite σ, which the solvers
            handle exactly.
        shift: s > 0 (3 for Stable Diffusion 3, about 3 for Flux at 1024 × 1024).

    Source: Liu et al., arXiv 2209.03003; Lipman et al., arXiv 2210.02747; shift: Esser et al.,
    arXiv 2403.03206, eq. (23).
    """

    t_min: float = 1e-3
    t_max: float = 1.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        self._check_range(shift=self.shift)

    def _log_alpha(self, t: Tensor) -> Tensor:
        # 1 − t' = (1 − t)/(1 + (s − 1) t)
        return torch.log1p(-t) - torch.log1p((self.shift - 1.0) * t)

    def _log_std(self, t: Tensor) -> Tensor:
        return torch.log(self.shift * t) - torch.log1p((self.shift - 1.0) * t)

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam - math.log(self.shift))
