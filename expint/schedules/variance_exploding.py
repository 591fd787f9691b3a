"""Schedules with α = 1: VE and EDM."""

from dataclasses import dataclass

import torch
from torch import Tensor

from expint.numerics.float64 import are_numbers
from expint.schedules.base import Schedule
from expint.schedules.registry import register


@dataclass(frozen=True)
class UnitSignal(Schedule):
    """What schedules with α = 1 and σ from 0 to ∞ share.

    Args:
        sigma_min, sigma_max: noise levels of the default sampling range.
    """

    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        ends = (self.sigma_min, self.sigma_max)
        if not (are_numbers(*ends) and 0 < self.sigma_min < self.sigma_max < float("inf")):
            raise ValueError(
                f"{type(self).__name__} needs 0 < sigma_min < sigma_max < inf, got "
                f"{self.sigma_min} and {self.sigma_max}."
            )

    @property
    def domain(self) -> tuple[float, float]:
        return (0.0, float("inf"))

    def _log_alpha(self, t: Tensor) -> Tensor:
        return 0.0 * t


@register("ve")
@dataclass(frozen=True)
class VE(UnitSignal):
    """σ_t = √t (the forward SDE is dx = dω).

    Args:
        sigma_min, sigma_max: noise levels of the default sampling range.

    Source: Song et al., arXiv 2011.13456; in this parametrisation EDM, arXiv 2206.00364, table 1,
    column VE.
    """

    sigma_min: float = 0.02
    sigma_max: float = 100.0

    @property
    def sampling_range(self) -> tuple[float, float]:
        return (self.sigma_max**2, self.sigma_min**2)

    def _log_std(self, t: Tensor) -> Tensor:
        return 0.5 * torch.log(t)

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.exp(-2.0 * lam)


@register("edm")
@dataclass(frozen=True)
class EDM(UnitSignal):
    """σ_t = t.

    Args:
        sigma_min, sigma_max: noise levels of the default sampling range.

    Source: Karras et al., arXiv 2206.00364, table 1, column "Ours (EDM)".
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    @property
    def sampling_range(self) -> tuple[float, float]:
        return (self.sigma_max, self.sigma_min)

    def _log_std(self, t: Tensor) -> Tensor:
        return torch.log(t)

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.exp(-lam)
