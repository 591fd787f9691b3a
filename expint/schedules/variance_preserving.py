"""Variance-preserving schedules in continuous time: α² + σ̄² = 1."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import are_numbers
from expint.schedules.base import UnitInterval, variance_preserving_log_alpha
from expint.schedules.registry import register


@dataclass(frozen=True)
class LinearBeta(UnitInterval):
    """What schedules with α_t = exp(−½ B(t)), B(t) = ½ β_d t² + β_min t on [0, 1] share; they
    differ in σ̄ as a function of B.

    Args:
        beta_d: slope of β, per unit time squared.
        beta_min: β at t = 0, per unit time.
        t_min: data end of the default sampling range.
    """

    beta_d: float = 19.9
    beta_min: float = 0.1
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        name = type(self).__name__
        betas = (self.beta_min, self.beta_d)
        if not (
            are_numbers(*betas) and 0 < self.beta_min < math.inf and 0 <= self.beta_d < math.inf
        ):
            raise ValueError(
                f"{name} needs beta_min > 0 and beta_d >= 0, got {self.beta_min} and {self.beta_d}."
            )
        if not (are_numbers(self.t_min) and 0 < self.t_min < 1):
            raise ValueError(f"{name} needs 0 < t_min < 1, got {self.t_min}.")

    @abstractmethod
    def _exponent_of_lam(self, lam: Tensor) -> Tensor:
        """B where λ has the given value."""

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * (0.5 * self.beta_d * t + self.beta_min) * t

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        # The root of the quadratic B(t) in the form that does not cancel as B -> 0.
        b = self._exponent_of_lam(lam)
        return 2.0 * b / (self.beta_min + torch.sqrt(self.beta_min**2 + 2.0 * self.beta_d * b))


@register("vp")
@dataclass(frozen=True)
class VP(LinearBeta):
    """Linear β: α_t = exp(−½ B(t)), B(t) = ½ β_d t² + β_min t, on t in [0, 1].

    Args:
        beta_d: slope of β, per unit time squared.
        beta_min: β at t = 0, per unit time.
        t_min: data end of the default sampling range.

    Source: Song et al., arXiv 2011.13456, appendix C; notation of EDM, arXiv 2206.00364, table 1.
    """

    def _log_std(self, t: Tensor) -> Tensor:
        return 0.5 * torch.log(-torch.expm1(2.0 * self._log_alpha(t)))

    def _exponent_of_lam(self, lam: Tensor) -> Tensor:
        return -2.0 * variance_preserving_log_alpha(lam)


@register("cosine")
@dataclass(frozen=True)
class Cosine(UnitInterval):
    """α_t = cos(θ_t)/cos(θ_0), θ_t = (π/2)(t + s)/(1 + s), on t in [0, 1]; σ = ∞ at t = 1.

    Args:
        s: offset that keeps the first noise level from vanishing too fast.
        t_min, t_max: default sampling range. t_max = 1 starts at infinite σ.

    Source: Nichol & Dhariwal, arXiv 2102.09672, eq. (17).
    """

    s: float = 0.008
    t_min: float = 1e-3
    t_max: float = 0.9946

    def __post_init__(self) -> None:
        self._check_range(s=self.s)

    def _angle(self, t: Any) -> Any:
        return 0.5 * math.pi * t / (1.0 + self.s)

    def _log_alpha(self, t: Tensor) -> Tensor:
        # cos θ = sin(π/2 − θ), with the difference formed exactly, keeps full accuracy near t = 1.
        return torch.log(torch.sin(self._angle(1.0 - t)) / math.cos(self._angle(self.s)))

    def _log_std(self, t: Tensor) -> Tensor:
        # 1 − cos²θ/cos²θ_0 = sin(θ − θ_0) sin(θ + θ_0)/cos²θ_0
        step, first = self._angle(t), self._angle(self.s)
        product = torch.sin(step) * torch.sin(step + 2 * first)
        return 0.5 * torch.log(product / math.cos(first) ** 2)

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        # With c = cos θ_0, s = sin θ_0: cos θ = α c and sin²θ = σ̄² c² + s²; sin(θ − θ_0) follows
        # from cos 2θ_0 − cos 2θ = 2 σ̄² c² without cancellation.
        c, s = math.cos(self._angle(self.s)), math.sin(self._angle(self.s))
        alpha, std = (torch.exp(variance_preserving_log_alpha(x)) for x in (lam, -lam))
        sine = torch.sqrt((c * std) ** 2 + s**2)
        step = torch.atan2(c * std**2 / (sine + alpha * s), c**2 * alpha + sine * s)
        return step / self._angle(1.0)
