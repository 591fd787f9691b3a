"""What the critically damped forward processes of position and velocity share: their kernels, and
grids of their times."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from expint.numerics.float64 import are_numbers, as_float64
from expint.numerics.quadrature import Primitive
from expint.numerics.roots import invert_monotone


class CriticalDamping(ABC):
    """The forward process of u = (x, v), state (batch, 2, *event),

        du = r [[−Γ, 1/M], [−1, −ν]] u dt + √(2r) diag(√Γ, √(Mν)) dω,    ν = Γ + 2/√M,

    with the rate r, a multiple of β, from data x_0 and v_0 ~ N(0, γM). Its limit is N(0, 1) for x
    and N(0, M) for v. With s = ∫r dt, κ = (Γ + ν)/2 and ω = 1/√M its propagator is
    e^{−κs} [[1 + ωs, ω² s], [−s, 1 − ωs]]: a double eigenvalue −κ.
    """

    beta: float | Callable[[Tensor], Tensor]
    M: float
    gamma: float
    stop: float
    pace: ClassVar[float]
    """r/β."""

    @property
    @abstractmethod
    def frictions(self) -> tuple[float, float]:
        """Γ and ν, of the position and of the velocity, in units of r."""

    def _check(self, *names: str) -> None:
        kind = type(self).__name__
        for name in (*names, *(() if callable(self.beta) else ("beta",))):
            value = getattr(self, name)
            if not are_numbers(value) or not 0 < value < math.inf:
                raise ValueError(f"{kind}.{name} must be a positive number, got {value!r}.")
        if callable(self.beta):
            times = torch.linspace(0.0, self.stop, 257, dtype=torch.float64)
            if not (self.beta_at(times) > 0).all():
                raise ValueError(f"{kind}.beta must be positive at all times from 0 to stop.")
            primitive = Primitive(self.beta_at, 0.0, self.stop, name="beta")
            object.__setattr__(self, "_primitive", primitive)

    @property
    def first_noised(self) -> int:
        """Index of the first component that has noise of its own: 0, or 1 where Γ = 0. The scores
        of this component and of those after it enter the reverse equation."""
        return 0 if self.frictions[0] else 1

    def beta_at(self, t: Any) -> Tensor:
        """β at times `t`."""
        times = as_float64(t)
        value = self.beta(times) if callable(self.beta) else as_float64(self.beta)
        return as_float64(value).expand(times.shape)

    def elapsed(self, t: Any) -> Tensor:
        """s = ∫_0^t r."""
        times = as_float64(t)
        known = getattr(self, "_primitive", lambda t: self.beta * t)
        return self.pace * known(times)

    def drift(self, t: Any) -> Tensor:
        """A(t) of the forward process, shape (*times, 2, 2)."""
        position, velocity = self.frictions
        matrix = as_float64([[-position, 1.0 / self.M], [-1.0, -velocity]])
        return self.pace * self.beta_at(t)[..., None, None] * matrix

    def diffusion(self, t: Any) -> Tensor:
        """G(t), shape (*times, 2, n): a column for each component with noise of its own."""
        position, velocity = self.frictions
        strength = torch.sqrt(2.0 * self.pace * self.beta_at(t))[..., None, None]
        roots = as_float64([position, self.M * velocity]).sqrt().diag()
        return strength * roots[:, self.first_noised :]

    def propagator(self, t: Any) -> Tensor:
        """Φ(t, 0), shape (*times, 2, 2)."""
        s, w = self.elapsed(t), 1.0 / math.sqrt(self.M)
        rows = [1.0 + w * s, w * w * s, -s, 1.0 - w * s]
        decay = torch.exp(-0.5 * sum(self.frictions) * s)
        return (decay[..., None] * torch.stack(rows, -1)).unflatten(-1, (2, 2))

    def conditional_covariance(self, t: Any) -> Tensor:
        """Covariance of u_t given (x_0, v_0), shape (*times, 2, 2). Its mean is Φ(t, 0) u_0.

        It is diag(1, M) − Φ diag(1, M) Φᵀ. With z = 2κs, ρ = ω/κ ≤ 1 and p = z³ e^{−z} φ_3(z), an
        incomplete Γ function, its entries are sums of terms ≥ 0, without the cancellation:

            xx = p + e^{−z} [(1 − ρ) z + (1 − ρ²) z²/2],    xv = 2ω s² e^{−z},
            vv = M (p + e^{−z} [(1 + ρ) z + (1 − ρ²) z²/2]).
        """
        s, w = self.elapsed(t), 1.0 / math.sqrt(self.M)
        z, ratio = sum(self.frictions) * s, 2.0 * w / sum(self.frictions)
        decay, common = torch.exp(-z), torch.special.gammainc(torch.full_like(z, 3.0), z)
        curved = 0.5 * (1.0 - ratio**2) * z**2
        xx = common + decay * ((1.0 - ratio) * z + curved)
        vv = self.M * (common + decay * ((1.0 + ratio) * z + curved))
        across = 2.0 * w * s**2 * decay
        return torch.stack([xx, across, across, vv], -1).unflatten(-1, (2, 2))

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
