"""The sub-VP schedule, whose variance stays below that of VP."""

from dataclasses import dataclass

import torch
from torch import Tensor

from expint.schedules.registry import register
from expint.schedules.variance_preserving import LinearBeta


@register("subvp")
@dataclass(frozen=True)
class SubVP(LinearBeta):
    """α_t = exp(−½ B(t)), σ̄_t = 1 − exp(−B(t)), B(t) = ½ β_d t² + β_min t, on t in [0, 1].

    σ̄_t is the square of VP's for the same β. σ = 2 sinh(½ B) grows with B, and so λ decreases for
    every β > 0: this is a schedule like any other. A solver sees the kernel only, and so the
    forward SDE is the one that belongs to it: f = −½β, and g² = dσ̄²/dt − 2 f σ̄² = β (1 −
    e^{−2B}), which is Song's.

    Args:
        beta_d: slope of β, per unit time squared.
        beta_min: β at t = 0, per unit time.
        t_min: data end of the default sampling range.

    Source: Song et al., arXiv 2011.13456, section 3.4, eq. (12), and appendix C.
    """

    def _log_std(self, t: Tensor) -> Tensor:
        return torch.log(-torch.expm1(2.0 * self._log_alpha(t)))

    def _exponent_of_lam(self, lam: Tensor) -> Tensor:
        # σ = e^{−λ} = 2 sinh(½ B). For large σ, asinh(σ/2) = −λ to all digits, and does not
        # overflow.
        return 2.0 * torch.where(
            lam < -300.0, -lam, torch.asinh(0.5 * torch.exp(-lam.clamp(min=-300.0)))
        )
