"""Variance-preserving schedules in continuous time: α² + σ̄² = 1."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from expint.schedules.base import Schedule, variance_preserving_log_alpha
from expint.schedules.registry import register


@dataclass(frozen=True)
class LinearBeta(Schedule):
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
        if not (self.beta_min > 0 and self.beta_d >= 0):
            raise ValueError(
                f"{name} needs beta_min > 0 and beta_d >= 0, got {self.beta_min} and {self.beta_d}."
            )
        if not 0 < self.t_min < 1:
            raise ValueError(f"{name} needs 0 < t_min < 1, got {self.t_min}.")

    @property
    def domain(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def sampling_range(self) -> tuple[float, float]:
        return (1.0, self.t_min)

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
class Cosine(Schedule):
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
        if not self.s > 0:
            raise ValueError(f"Cosine needs s > 0, got {self.s}.")
        if not 0 < self.t_min < self.t_max <= 1:
            raise ValueError(
                f"Cosine needs 0 < t_min < t_max <= 1, got {self.t_min} and {self.t_max}."
            )

    @property
    def domain(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def sampling_range(self) -> tuple[float, float]:
        return (self.t_max, self.t_min)

    @property
    def _theta_0(self) -> float:
        return 0.5 * math.pi * self.s / (1.0 + self.s)

    def _log_alpha(self, t: Tensor) -> Tensor:
        # cos θ = sin(π/2 − θ), with the difference formed exactly, keeps full accuracy near t = 1.
        return torch.log(torch.sin(0.5 * math.pi * (1.0 - t) / (1.0 + self.s))) - math.log(
            math.cos(self._theta_0)
        )

    def _log_std(self, t: Tensor) -> Tensor:
        # 1 − cos²θ/cos²θ_0 = sin(θ − θ_0) sin(θ + θ_0)/cos²θ_0
        step = 0.5 * math.pi * t / (1.0 + self.s)
        product = torch.sin(step) * torch.sin(step + 2.0 * self._theta_0)
        return 0.5 * torch.log(product) - math.log(math.cos(self._theta_0))

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        # With c = cos θ_0: cos θ = α c and cos 2θ_0 − cos 2θ = 2 σ̄² c², hence sin(θ − θ_0) = σ̄²
        # c²/sin(θ + θ_0).
        alpha = torch.exp(variance_preserving_log_alpha(lam))
        variance = torch.exp(2.0 * variance_preserving_log_alpha(-lam))
        c, sine_0 = math.cos(self._theta_0), math.sin(self._theta_0)
        theta = torch.atan2(torch.sqrt(variance * c**2 + sine_0**2), alpha * c)
        late = theta - self._theta_0
        early = torch.asin((variance * c**2 / torch.sin(theta + self._theta_0)).clamp(max=1.0))
        return torch.where(late < 0.5, early, late) * (2.0 / math.pi) * (1.0 + self.s)
