"""A semi-linear SDE as three functions of time: propagator, clock and noise clock."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint import grids
from expint.blocks import LinearSystem
from expint.equations.diffusion import Diffusion
from expint.numerics.float64 import as_float64

TimeFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Clock:
    """Transformed time μ ("clock" for short), increasing along the integration, in which the weight
    of F is κ e^{ρμ} dμ.

    Args:
        mu: μ as a function of time.
        time: the inverse.
        rho, kappa: exponent and factor of the weight of F, floats or tensors that broadcast against
            the event.
        moments: where μ is the time and the weight no exponential of it, a function of s, of k ≥ 1
            and of a length h that gives ∫_0^1 Φ(t, u) b(u) θ^{k−1}/(k−1)! dθ in place of φ_k(−ρh),
            with u at θ h after s and t at h after s.
    """

    mu: TimeFunction
    time: TimeFunction
    rho: float | Tensor = 1.0
    kappa: float | Tensor = 1.0
    moments: Callable[[Tensor, int, Tensor], Tensor] | None = None

    def __call__(self, t: Tensor) -> Tensor:
        """μ at times `t`."""
        return self.mu(t)


@dataclass(frozen=True, eq=False)
class NoiseClock:
    """Noise time τ, increasing along the integration, in which the stochastic integral is W.

    Args:
        log: log |τ| as a function of time.
        sign: the sign of τ.
        log_step: log of the variance that the noise between s and t has in the state at t, as a
            function of s and t, where a formula is better than the difference of clocks.
    """

    log: TimeFunction
    sign: int = 1
    log_step: Callable[[Tensor, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.sign not in (1, -1):
            raise ValueError(f"sign is the sign of the noise clock, 1 or -1, got {self.sign!r}.")

    def __call__(self, t: Tensor) -> Tensor:
        """τ at times `t`."""
        return self.sign * torch.exp(self.log(t))

    def log_variance(self, s: Tensor, t: Tensor, log_a: Tensor) -> Tensor:
        """log of a_t² (τ_t − τ_s) for s before t, the variance of the noise between them in the
        state at t; from log a_t and the logarithms of |τ|, so that close times do not cancel."""
        if self.log_step is not None:
            return self.log_step(s, t)
        small, large = (self.log(time) for time in ((s, t) if self.sign > 0 else (t, s)))
        # Rounding may put equal clocks out of order; truly negative variances are refused when a
        # noise scale is made.
        return large + torch.log(-torch.expm1((small - large).clamp(max=0.0))) + 2.0 * log_a


@dataclass(frozen=True, eq=False)
class SemiLinearSDE:
    """dx = [A x + b F(x, t)] dt + g dω, by its propagator a, clock μ and noise clock τ:

        x_t = (a_t/a_s) x_s + κ a_t ∫_{μ_s}^{μ_t} e^{ρμ} F dμ + a_t [W(τ_t) − W(τ_s)],

    W a standard Brownian motion. Functions take a float64 tensor of times. For a diagonal linear
    part they may return tensors with `event_ndim` trailing dimensions that broadcast against the
    event dimensions of the state (times then come with that many trailing ones).

    Args:
        log_propagator: log a.
        clock: μ, its inverse, ρ and κ.
        noise: τ, or None for an equation without noise.
        diffusion: for the reverse SDE of a diffusion model, its noise schedule and what F is.
        coefficients: (A, b, g) as a function of time, where they are known; otherwise they are
            found by differentiation.
        span: first and last time that the SDE is meant for, where there are such.
        name: for print-outs.
        blocks: the linear system, where the coefficients are matrices (`from_blocks`).

    Source: SEEDS, arXiv 2305.14267, section 3 (variation of constants and remark 3.3).
    """

    log_propagator: TimeFunction
    clock: Clock
    noise: NoiseClock | None = None
    diffusion: Diffusion | None = None
    coefficients: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] | None = None
    span: tuple[float, float] | None = None
    name: str = "semi-linear SDE"
    blocks: LinearSystem | None = None

    @property
    def rho(self) -> float | Tensor:
        """Exponent of the weight of F."""
        return self.clock.rho

    @property
    def kappa(self) -> float | Tensor:
        """Factor of the weight of F."""
        return self.clock.kappa

    @property
    def event_ndim(self) -> int:
        """Number of trailing dimensions of diagonal coefficients, 0 for scalar ones."""
        return max(as_float64(self.rho).ndim, as_float64(self.kappa).ndim)

    @property
    def is_stochastic(self) -> bool:
        """Whether there is a noise term."""
        return self.noise is not None or bool(self.blocks and self.blocks.stochastic)

    def __repr__(self) -> str:
        return f"SemiLinearSDE({self.name})"

    def propagator(self, t: Any) -> Tensor:
        """a at times `t`."""
        return torch.exp(self.log_propagator(as_float64(t)))

    def noise_clock(self, t: Any) -> Tensor:
        """τ at times `t`; zero for an equation without noise."""
        times = as_float64(t)
        return torch.zeros_like(times) if self.noise is None else self.noise(times)

    def place(self, t: float) -> str:
        """A time, and its noise level if there is one, in words for messages."""
        sigma = f" (sigma = {self.diffusion.schedule.sigma(t):.6g})" if self.diffusion else ""
        return f"t = {t:.6g}{sigma}"

    def check_grid(self, grid: Any) -> Tensor:
        """`grid` as a float64 tensor, after checking that the clock increases along it.

        Raises:
            ValueError: unless it is 1-D with at least two finite times in the right order.
        """
        if self.diffusion:
            return grids.check(self.diffusion.schedule, grid)
        times = as_float64(grid)
        if times.ndim != 1 or len(times) < 2 or not torch.isfinite(times).all():
            raise ValueError(
                "A grid is a 1-D sequence of at least 2 finite times, got shape "
                f"{tuple(times.shape)}: {grid!r}."
            )
        mu = self.clock(times)
        flat = torch.nonzero(~(mu[1:] > mu[:-1]))
        if len(flat):
            i = int(flat[0])
            raise ValueError(
                f"The clock of {self} must increase along the grid, but between grid[{i}] = "
                f"{times[i].item():.9g} and grid[{i + 1}] = {times[i + 1].item():.9g} it goes from "
                f"{mu[i].item():.9g} to {mu[i + 1].item():.9g}."
            )
        return times

    def coefficients_at(self, t: Any) -> tuple[Tensor, Tensor, Tensor]:
        """(A, b, g) at times `t`, float64: the coefficients of dx = [A x + b F] dt + g dω.

        A = d log a/dt,  b = κ a e^{ρμ} dμ/dt,  g = a √|dτ/dt|  (by automatic differentiation unless
        they were given).

        Raises:
            ValueError: if the clocks cannot be differentiated automatically.
        """
        times = as_float64(t).detach()
        if self.coefficients is not None:
            return self.coefficients(times)
        log_a, drift = value_and_rate(self.log_propagator, times, self)
        mu, speed = value_and_rate(self.clock, times, self)
        b = self.kappa * torch.exp(log_a + self.rho * mu) * speed
        if self.noise is None:
            return drift, b, torch.zeros_like(b)
        log_tau, rate = value_and_rate(self.noise.log, times, self)
        return drift, b, torch.exp(log_a + 0.5 * log_tau) * torch.sqrt(rate.abs())

    @staticmethod
    def from_coefficients(
        A: Any, b: Any = 1.0, g: Any = 0.0, *, span: tuple[float, float], **options: Any
    ) -> "SemiLinearSDE":
        """The SDE dx = [A x + b F] dt + g dω given by its coefficients; see
        `expint.equations.coefficients.sde_from_coefficients`, which takes the same arguments."""
        from expint.equations.coefficients import sde_from_coefficients

        return sde_from_coefficients(A, b, g, span=span, **options)

    @staticmethod
    def from_blocks(A: Any, B: Any = None, G: Any = None, **options: Any) -> "SemiLinearSDE":
        """The SDE du = [A u + B F] dt + G dω with matrices that act on a component axis; see
        `expint.equations.from_blocks.sde_from_blocks`, which takes the same arguments."""
        from expint.equations.from_blocks import sde_from_blocks

        return sde_from_blocks(A, B, G, **options)


def value_and_rate(function: TimeFunction, times: Tensor, of: Any) -> tuple[Tensor, Tensor]:
    """Value and time derivative, elementwise, of a clock of the SDE `of`.

    A value may have more components than `times` (diagonal coefficients), so that the gradient of
    its sum would mix them. The product v·∂value/∂t is linear in v, and its gradient with respect to
    v has one derivative for each component. Both carry gradients where the times or the clock do.

    Raises:
        ValueError: if it cannot be differentiated automatically.
    """
    learned = torch.is_grad_enabled() and function(times).requires_grad
    with torch.inference_mode(False), torch.enable_grad():
        leaf = times if times.requires_grad else times.detach().clone().requires_grad_(True)
        value = function(leaf)
        if not value.requires_grad:
            raise ValueError(
                f"The clocks of {of} are not differentiable: give its coefficients, or use another "
                "form."
            )
        v = torch.ones_like(value, requires_grad=True)
        (product,) = torch.autograd.grad(value, leaf, v, create_graph=True)
        (rate,) = torch.autograd.grad(product.sum(), v, create_graph=learned)
    return (value, rate) if learned else (value.detach(), rate.detach())
