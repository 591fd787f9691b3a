"""Critically-damped Langevin diffusion: data and a velocity beside them, and noise on the velocity
alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from expint.schedules.formula.critical_damping import CriticalDamping


@dataclass(frozen=True)
class CLD(CriticalDamping):
    """The forward process of u = (x, v), state (batch, 2, *event),

        dx = β v/M dt,    dv = −β (x + Γ v/M) dt + √(2Γβ) dω,    Γ² = 4M,

    from data x_0 and v_0 ~ N(0, γM), whose limit is N(0, 1) for x and N(0, M) for v. With s = ∫β dt
    and ω = 1/√M its propagator is e^{−ωs} [[1 + ωs, ω² s], [−s, 1 − ωs]]: a double eigenvalue.

    Args:
        beta: β, a positive number, or a function of time on tensors.
        M: mass; Γ = 2√M.
        gamma: γ, the variance of v_0 in units of M.
        stop: last time of the forward process; sampling begins there.

    Source: Dockhorn, Vahdat & Kreis, arXiv 2112.07068, sections 3 and B (there β = 4, M = 1/4,
    γ = 0.04).

    Example:
        >>> from expint.schedules import CLD
        >>> mean, covariance = CLD().kernel(1.0)
        >>> [round(x, 4) for x in mean.tolist()], round(covariance[0, 0].item(), 4)
        ([0.003, -0.0013], 1.0)
    """

    beta: float | Callable[[Tensor], Tensor] = 4.0
    M: float = 0.25
    gamma: float = 0.04
    stop: float = 1.0
    pace = 1.0

    def __post_init__(self) -> None:
        self._check("M", "gamma", "stop")

    @property
    def Gamma(self) -> float:
        """Γ = 2√M, critical damping."""
        return 2.0 * math.sqrt(self.M)

    @property
    def frictions(self) -> tuple[float, float]:
        """0 and Γ/M: the noise acts on the velocity alone."""
        return 0.0, self.Gamma / self.M
