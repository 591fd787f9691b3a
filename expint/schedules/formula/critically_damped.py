"""Critically-damped Langevin diffusion: data and a velocity beside them, and noise on the velocity
alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import are_numbers, as_float64
from expint.numerics.quadrature import Primitive
from expint.numerics.roots import invert_monotone


@dataclass(frozen=True)
class CLD:
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

    def __post_init__(self) -> None:
        for name in ("M", "gamma", "stop", *(() if callable(self.beta) else ("beta",))):
            value = getattr(self, name)
            if not are_numbers(value) or not 0 < value < math.inf:
                raise ValueError(f"CLD.{name} must be a positive number, got {value!r}.")
        if callable(self.beta):
            times = torch.linspace(0.0, self.stop, 257, dtype=torch.float64)
            if not (self.beta_at(times) > 0).all():
                raise ValueError("CLD.beta must be positive at all times from 0 to stop.")
            primitive = Primitive(self.beta_at, 0.0, self.stop, name="beta")
            object.__setattr__(self, "_primitive", primitive)

    @property
    def Gamma(self) -> float:
        """Γ = 2√M, critical damping."""
        return 2.0 * math.sqrt(self.M)

    def beta_at(self, t: Any) -> Tensor:
        """β at times `t`."""
        times = as_float64(t)
        value = self.beta(times) if callable(self.beta) else as_float64(self.beta)
        return as_float64(value).expand(times.shape)

    def elapsed(self, t: Any) -> Tensor:
        """s = ∫_0^t β."""
        times = as_float64(t)
        return getattr(self, "_primitive")(times) if callable(self.beta) else self.beta * times  # noqa: B009

    def drift(self, t: Any) -> Tensor:
        """A(t) of the forward process, shape (*times, 2, 2)."""
        matrix = as_float64([[0.0, 1.0 / self.M], [-1.0, -self.Gamma / self.M]])
        return self.beta_at(t)[..., None, None] * matrix

    def diffusion(self, t: Any) -> Tensor:
        """G(t) = (0, √(2Γβ)), shape (*times, 2, 1)."""
        g = torch.sqrt(2.0 * self.Gamma * self.beta_at(t))
        return torch.stack([torch.zeros_like(g), g], -1)[..., None]

    def propagator(self, t: Any) -> Tensor:
        """Φ(t, 0), shape (*times, 2, 2)."""
        s, w = self.elapsed(t), 1.0 / math.sqrt(self.M)
        rows = [1.0 + w * s, w * w * s, -s, 1.0 - w * s]
        return (torch.exp(-w * s)[..., None] * torch.stack(rows, -1)).unflatten(-1, (2, 2))

    def conditional_covariance(self, t: Any) -> Tensor:
        """Covariance of u_t given (x_0, v_0), shape (*times, 2, 2). Its mean is Φ(t, 0) u_0.

        With z = 2ωs and r = z³ e^{−z} φ_3(z), an incomplete Γ function, it is [[r, z² e^{−z} √M/2],
        [·, M(r + 2z e^{−z})]]: diag(1, M) − Φ diag(1, M) Φᵀ without the cancellation.
        """
        z = 2.0 * self.elapsed(t) / math.sqrt(self.M)
        decay = torch.exp(-z)
        r = torch.special.gammainc(torch.full_like(z, 3.0), z)
        across = 0.5 * math.sqrt(self.M) * z**2 * decay
        return _symmetric(r, across, self.M * (r + 2.0 * z * decay))

    def kernel(self, t: Any) -> tuple[Tensor, Tensor]:
        """p(u_t | x_0) = N(m x_0, Σ): m, shape (*times, 2), and Σ, shape (*times, 2, 2), the same
        for every coordinate; the velocity v_0 is integrated out."""
        propagator = self.propagator(t)
        mean, velocity = propagator.unbind(-1)
        spread = self.gamma * self.M * velocity[..., :, None] * velocity[..., None, :]
        return mean, self.conditional_covariance(t) + spread

    def lam(self, t: Any) -> Tensor:
        """λ = log m_x − ½ log Σ_xx, half the log signal-to-noise ratio of x."""
        mean, covariance = self.kernel(t)
        return torch.log(mean[..., 0]) - 0.5 * torch.log(covariance[..., 0, 0])

    def t_of_lam(self, lam: Any) -> Tensor:
        """The time of a given λ, between 1e-9 and `stop`."""
        return invert_monotone(self.lam, as_float64(lam), 1e-9, self.stop)

    def grid(self, steps: int, end: float = 1e-3, rho: float | None = None) -> Tensor:
        """Times from `stop` to `end`, float64, shape (steps + 1,): uniform in λ, or in t^(1/ρ)."""
        if rho is None:
            first, last = self.lam([self.stop, end]).tolist()
            times = self.t_of_lam(torch.linspace(first, last, steps + 1, dtype=torch.float64))
        else:
            ends = self.stop ** (1 / rho), end ** (1 / rho)
            times = torch.linspace(*ends, steps + 1, dtype=torch.float64) ** rho
        times[0], times[-1] = self.stop, end
        return times


def _symmetric(xx: Tensor, xv: Tensor, vv: Tensor) -> Tensor:
    return torch.stack([xx, xv, xv, vv], -1).unflatten(-1, (2, 2))
