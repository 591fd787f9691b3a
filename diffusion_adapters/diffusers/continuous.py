"""Schedules of networks that are called with a function of σ in place of an entry of a table.

The state is the variance-preserving one, α x₀ + σ̄ ε with σ = σ̄/α: what diffusers holds for them, x₀
+ σ ε, is divided by √(1 + σ²) before the network sees it, and their prediction is v.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from expint.schedules.base import Schedule, variance_preserving_log_alpha


@dataclass(frozen=True)
class VPInSigma(Schedule):
    """The variance-preserving schedule with the network's label as its time.

    Args:
        sigma_min, sigma_max: ends of the sampling range.
        label: "log": t = ¼ log σ, of Stable Video Diffusion and EDM; "atan": t = (2/π) arctan σ in
            [0, 1], of Stable Audio Open.

    Source: EDM, arXiv 2206.00364, table 1 (c_noise); Stable Audio Open, arXiv 2407.14358.
    """

    sigma_min: float
    sigma_max: float
    label: str = "log"

    @property
    def domain(self) -> tuple[float, float]:
        return (-math.inf, math.inf) if self.label == "log" else (0.0, 1.0)

    @property
    def sampling_range(self) -> tuple[float, float]:
        return (self.t_of_sigma(self.sigma_max), self.t_of_sigma(self.sigma_min))

    def _log_alpha(self, t: Tensor) -> Tensor:
        return variance_preserving_log_alpha(self._half_log_snr(t))

    def _log_std(self, t: Tensor) -> Tensor:
        return variance_preserving_log_alpha(-self._half_log_snr(t))

    def _half_log_snr(self, t: Tensor) -> Tensor:
        return -4.0 * t if self.label == "log" else -torch.log(torch.tan(0.5 * math.pi * t))

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        atan = torch.atan(torch.exp(-lam)) * (2.0 / math.pi)
        return -0.25 * lam if self.label == "log" else atan
