"""A semi-linear SDE as three functions of time: propagator, clock and noise clock."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.equations.coefficients import triple
from expint.schedules.base import Schedule

__all__ = ["SemiLinearSDE"]

TimeFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class SemiLinearSDE:
    """dx = [A x + b F(x, t)] dt + g dω, held by its propagator a, clock μ and noise clock τ. Its
    exact solution is

        x_t = (a_t/a_s) x_s + κ a_t ∫_{μ_s}^{μ_t} e^{ρμ} F dμ + a_t [W(τ_t) − W(τ_s)],    W a
        standard Brownian motion.

    Functions take a float64 tensor of times. For a diagonal linear part they may return tensors
    with `event_ndim` trailing dimensions that broadcast against the event dimensions of the state
    (times then come with that many trailing ones).

    Args:
        log_propagator: log a.
        clock: μ, increasing along the integration.
        time_of_clock: the inverse of μ.
        log_noise_clock: log |τ|, or None for an equation without noise.
        noise_sign: the sign of τ; τ increases along the integration.
        rho, kappa: exponent and factor of the weight of F, floats or tensors that broadcast against
            the event.
        prediction: what F is: one of `expint.equations.predictions.PREDICTIONS` for a diffusion
            model, else "F" (used as it is).
        schedule: the noise schedule behind the SDE, or None.
        sigma_data: of the preconditioned form.
        rate: for the prediction "rate": (on_x, on_data) as a function of time, with which F = on_x
            x + on_data D.
        event_ndim: number of trailing dimensions of diagonal coefficients, 0 for scalar ones.
        log_noise_step: log(τ_t − τ_s) as a function of s and t, where a formula is better than the
            difference of clocks.
        span: first and last time that the SDE is meant for, where there are such.
        coefficients: (A, b, g) as a function of time, where they are known; otherwise they are
            found by differentiation.
        name: for print-outs.

    Source: SEEDS, arXiv 2305.14267, section 3 (variation of constants and remark 3.3).
    """

    log_propagator: TimeFunction
    clock: TimeFunction
    time_of_clock: TimeFunction
    log_noise_clock: TimeFunction | None = None
    noise_sign: int = 1
    rho: float | Tensor = 1.0
    kappa: float | Tensor = 1.0
    prediction: str = "F"
    schedule: Schedule | None = None
    sigma_data: float | None = None
    rate: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    event_ndim: int = 0
    log_noise_step: Callable[[Tensor, Tensor], Tensor] | None = None
    coefficients: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] | None = None
    span: tuple[float, float] | None = None
    name: str = "semi-linear SDE"

    def __post_init__(self) -> None:
        if self.noise_sign not in (1, -1):
            raise ValueError(
                f"noise_sign is the sign of the noise clock, 1 or -1, got {self.noise_sign!r}."
            )

    @property
    def is_stochastic(self) -> bool:
        """Whether there is a noise term."""
        return self.log_noise_clock is not None

    def __repr__(self) -> str:
        return f"SemiLinearSDE({self.name})"

    def propagator(self, t: Any) -> Tensor:
        """a at times `t`."""
        return torch.exp(self.log_propagator(torch.as_tensor(t, dtype=torch.float64)))

    def noise_clock(self, t: Any) -> Tensor:
        """τ at times `t`; zero for an equation without noise."""
        times = torch.as_tensor(t, dtype=torch.float64)
        if self.log_noise_clock is None:
            return torch.zeros_like(times)
        return self.noise_sign * torch.exp(self.log_noise_clock(times))

    def log_noise_interval(self, s: Tensor, t: Tensor) -> Tensor:
        """log(τ_t − τ_s) for s before t, formed from the logarithms of |τ| so that close times do
        not cancel.
        """
        if self.log_noise_clock is None:
            raise ValueError(f"{self} has no noise clock.")
        if self.log_noise_step is not None:
            return self.log_noise_step(s, t)
        early, late = self.log_noise_clock(s), self.log_noise_clock(t)
        small, large = (early, late) if self.noise_sign > 0 else (late, early)
        # Rounding may put equal clocks out of order; truly negative variances are refused when a
        # noise scale is made.
        return large + torch.log(-torch.expm1((small - large).clamp(max=0.0)))

    def coefficients_at(self, t: Any) -> tuple[Tensor, Tensor, Tensor]:
        """(A, b, g) at times `t`, float64: the coefficients of dx = [A x + b F] dt + g dω.

        A = d log a/dt,   b = κ a e^{ρμ} dμ/dt,   g = a √|dτ/dt|   (by automatic differentiation
        unless they were given).

        Raises:
            ValueError: if the clocks cannot be differentiated automatically.
        """
        times = torch.as_tensor(t, dtype=torch.float64).detach()
        if self.coefficients is not None:
            return self.coefficients(times)
        log_a, drift = self._rate(self.log_propagator, times)
        mu, speed = self._rate(self.clock, times)
        b = self.kappa * torch.exp(log_a + self.rho * mu) * speed
        if self.log_noise_clock is None:
            return drift, b, torch.zeros_like(b)
        log_tau, rate = self._rate(self.log_noise_clock, times)
        return drift, b, torch.exp(log_a + 0.5 * log_tau) * torch.sqrt(rate.abs())

    def _rate(self, function: TimeFunction, times: Tensor) -> tuple[Tensor, Tensor]:
        """Value and time derivative, elementwise.

        A value may have more components than `times` (diagonal coefficients), so that the gradient
        of its sum would mix them. The product v·∂value/∂t is linear in v, and its gradient with
        respect to v has one derivative for each component.
        """
        with torch.enable_grad():
            leaf = times.clone().requires_grad_(True)
            value = function(leaf)
            if not value.requires_grad:
                raise ValueError(
                    f"The clocks of {self} are not differentiable: give its coefficients, or use "
                    "another form."
                )
            v = torch.ones_like(value, requires_grad=True)
            (product,) = torch.autograd.grad(value, leaf, v, create_graph=True)
            (rate,) = torch.autograd.grad(product.sum(), v)
        return value.detach(), rate

    @staticmethod
    def from_coefficients(
        A: Any, b: Any = 1.0, g: Any = 0.0, *, span: tuple[float, float], **options: Any
    ) -> "SemiLinearSDE":
        """The SDE dx = [A x + b F] dt + g dω given by its coefficients; see
        `expint.equations.coefficients.triple`, which takes the same arguments.
        """
        found = triple(A, b, g, span=span, **options)
        start, end = span
        return SemiLinearSDE(
            log_propagator=found.log_propagator,
            clock=found.mu,
            time_of_clock=found.time_of_mu,
            log_noise_clock=found.log_noise,
            noise_sign=found.noise_sign,
            rho=found.rho,
            kappa=found.kappa,
            event_ndim=found.event_ndim,
            log_noise_step=found.log_noise_step,
            coefficients=found.coefficients,
            span=(float(start), float(end)),
            name=found.name,
        )
