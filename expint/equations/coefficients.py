"""Propagator, clock and noise clock of a semi-linear SDE that is given by its coefficients.

For dx = [A x + b F] dt + g dω, with the integration running over `span`:

    a(t) = exp ∫ A dt,     weight of F: c = |b|/a,     noise clock: dτ = (g/a)² |dt|

and any positive weight with primitive C is e^μ dμ with μ = log C (SEEDS, arXiv 2305.14267, remark
3.3).
"""

import math
import sys
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.equations.growing_primitive import GrowingPrimitive
from expint.equations.sde import Clock, NoiseClock, SemiLinearSDE
from expint.equations.time_clock import time_clock
from expint.numerics.float64 import are_numbers, as_float64
from expint.numerics.quadrature import Primitive, RealFunction
from expint.numerics.roots import invert_monotone
from expint.schedules.formula.callables import on_tensors

CLOCKS = ("auto", "exponential", "linear")


def sde_from_coefficients(
    A: Any,
    b: Any = 1.0,
    g: Any = 0.0,
    *,
    span: tuple[float, float],
    clock: str = "auto",
    clock_start: float | None = None,
) -> SemiLinearSDE:
    """The SDE dx = [A x + b F(x, t)] dt + g dω, integrated from span[0] to span[1] (forwards or
    backwards in time).

    Args:
        A, b, g: each a number, a tensor that broadcasts against the event (a diagonal linear part:
            constants only), a sympy expression or string in t, or a function of times, written for
            numpy arrays, for torch tensors or for one float at a time. b = 0 is a linear SDE,
            without F.
        span: first and last time.
        clock: in which variable F is interpolated. Constant coefficients have the clock t, with the
            weight e^{−At} integrated exactly. Otherwise "exponential" takes μ = log C, C a
            primitive of the weight of F; "linear" takes μ = C itself; "auto" is exponential with
            the primitive that continues the weight exponentially beyond the end where it is small.
            Where b = 0, no F is interpolated and the clock is t.
        clock_start: C at span[0] for the exponential clock, > 0; it makes the clock of variable
            coefficients exponential.

    Returns:
        The SDE; its propagator, clock and noise clock are exact where the coefficients are
        constant, and otherwise by Chebyshev quadrature with a relative tolerance of 1e-14 per
        panel.

    Raises:
        TypeError: for a function that gives no real numbers.
        ValueError: for an empty span, an unknown clock, a free symbol other than t, coefficients
            that are not finite on the span or too rough, a b that changes sign, or tensors that
            depend on time.

    Example:
        >>> import torch
        >>> from expint import SemiLinearSDE
        >>> sde = SemiLinearSDE.from_coefficients(-(torch.arange(3.0) ** 2), g=0.1, span=(0.0, 1.0))
        >>> sde.propagator(torch.tensor([1.0])).shape
        torch.Size([3])
    """
    start, end = span_ends(span)
    if clock not in CLOCKS:
        raise ValueError(f"Unknown clock {clock!r}: choose one of {CLOCKS}.")
    if clock_start is not None and not (are_numbers(clock_start) and clock_start > 0):
        raise ValueError(f"clock_start is the value of a positive primitive, got {clock_start!r}.")
    if clock_start is not None and clock == "linear":
        raise ValueError(
            "clock_start belongs to the exponential clock, but clock='linear' was asked for: leave "
            "one of them out."
        )
    parsed = [_parse(value, name, start, end) for value, name in ((A, "A"), (b, "b"), (g, "g"))]
    if isinstance(parsed[0], Tensor) and parsed[0].shape in ((2, 2), (3, 3)):
        warnings.warn(
            f"A of shape {tuple(parsed[0].shape)} acts on an event of that shape component by "
            "component; it is no matrix that mixes components.",
            UserWarning,
            stacklevel=3,
        )
    constants = [value for value in parsed if isinstance(value, Tensor)]
    if len(constants) == 3:
        return _constant(*constants, start=start, end=end)
    if any(value.ndim for value in constants):
        raise ValueError(
            "Coefficients that are tensors must all be constant in time. For a diagonal part that "
            "depends on time, use expint.fields.time_dependent."
        )
    drift, factor, diffusion = (_as_function(value) for value in parsed)
    integral = Primitive(drift, min(start, end), max(start, end), name="A")
    at_start = integral(as_float64(start))
    log_a = lambda t: integral(t) - at_start  # noqa: E731
    made = _clock(factor, log_a, start, end, clock, clock_start)
    noise = None
    if diffusion(torch.linspace(start, end, 257, dtype=torch.float64)).any():
        variance = GrowingPrimitive(diffusion, log_a, 2, start, end, "(g/a)^2")
        variance.check()
        noise = NoiseClock(variance.log, variance.sign)
    kind = "exponential" if made.rho else "linear"
    return SemiLinearSDE(
        log_a,
        made,
        noise,
        coefficients=lambda t: (drift(t), factor(t), diffusion(t)),
        span=(start, end),
        name=f"coefficients on [{start:g}, {end:g}], {kind} clock",
    )


def span_ends(span: Any) -> tuple[float, float]:
    """First and last time of a span.

    Raises:
        ValueError: unless they are two different finite times.
    """
    ends = as_float64(span).tolist() if not isinstance(span, str) else []
    if np.shape(ends) != (2,) or not np.isfinite(ends).all() or ends[0] == ends[1]:
        raise ValueError(f"span must be two different finite times, got {span!r}.")
    return ends[0], ends[1]


def _parse(value: Any, name: str, start: float, end: float) -> Tensor | RealFunction:
    """A constant as a tensor, anything else as a function of times."""
    sympy = sys.modules.get("sympy")  # a sympy expression can come only where it is imported
    if isinstance(value, str) or (sympy is not None and isinstance(value, sympy.Basic)):
        from expint.schedules.formula.expressions import compiled, parse, time_symbol

        t = time_symbol("t")
        expression = parse(name, value, t)
        if expression.free_symbols:
            return compiled(expression, t, (start, end))
        value = float(expression)
    if callable(value):
        return on_tensors(name, value, start + 0.618 * (end - start))
    constant = as_float64(value)
    if not torch.isfinite(constant).all():
        raise ValueError(f"{name} must be finite, got {value!r}.")
    return constant


def _as_function(value: Tensor | RealFunction) -> RealFunction:
    return (lambda t: value.expand(t.shape)) if isinstance(value, Tensor) else value


def _constant(A: Tensor, b: Tensor, g: Tensor, *, start: float, end: float) -> SemiLinearSDE:
    """Constant coefficients: μ = |t − t_0|, a = e^{A(t−t_0)}, ρ = −A·sign, κ = b·sign, τ = g² μ
    φ_1(2ρμ): no overflow in logs.
    """
    sign = 1.0 if end > start else -1.0
    rho = -A * sign
    clock = time_clock(start, end, rho.reshape(rho.shape or (1,) * g.ndim), b * sign)

    def log_step(s: Tensor, t: Tensor) -> Tensor:
        h = (t - s) * sign
        return 2.0 * torch.log(g.abs()) + _log_phi1(-2.0 * rho * h) + torch.log(h)

    log_tau = lambda t: log_step(as_float64(start), t) + 2.0 * rho * clock.mu(t)  # noqa: E731
    noise = NoiseClock(log_tau, log_step=log_step)
    return SemiLinearSDE(
        lambda t: A * (t - start),
        clock,
        noise if (g != 0).any() else None,
        coefficients=lambda t: (A + 0.0 * t, b + 0.0 * t, g.abs() + 0.0 * t),
        span=(start, end),
        name=f"constant coefficients on [{start:g}, {end:g}]",
    )


def _log_phi1(z: Tensor) -> Tensor:
    """log φ_1(z), also where e^z would overflow: φ_1(z) = e^z φ_1(−z), and φ_1(−|z|) =
    −expm1(−|z|)/|z| loses no digits.
    """
    size = torch.where(z == 0.0, 1.0, z.abs())
    return torch.where(z == 0.0, 0.0, z.clamp(min=0.0) + torch.log(-torch.expm1(-size) / size))


def _clock(
    factor: RealFunction,
    log_a: RealFunction,
    start: float,
    end: float,
    clock: str,
    clock_start: float | None,
) -> Clock:
    """In which variable F is interpolated."""
    low, high = min(start, end), max(start, end)
    probe = torch.linspace(low, high, 1001, dtype=torch.float64)[1:-1]
    values = factor(probe)
    if not values.any():
        if clock == "exponential" or clock_start is not None:
            raise ValueError(
                "b = 0 leaves no weight of F whose logarithm the exponential clock could be: leave "
                "the clock out."
            )
        return time_clock(start, end, kappa=0.0)
    other = values * values[0] <= 0
    if other.any():
        raise ValueError(
            "b must keep one sign on the span, but it vanishes or changes sign near t = "
            f"{probe[other][0].item():.6g}."
        )
    growing = GrowingPrimitive(factor, log_a, 1, start, end, "the weight b/a of F")
    beyond, whole = growing.continued(), growing.log_between(start, as_float64(end)).item()
    exponential = clock == "exponential" or (clock == "auto" and beyond is not None)
    if clock_start is not None:
        growing.small, growing.log_base, exponential = start, math.log(clock_start), True
    else:
        growing.log_base = whole if beyond is None else beyond
    growing.check()
    if not exponential and len(growing.primitives) > 1:
        raise ValueError(
            "The linear clock is the integral of b/a itself, which leaves the floating-point "
            "numbers here: take clock='exponential'."
        )

    def mu(t: Tensor) -> Tensor:
        if exponential:
            return growing.sign * growing.log(t)
        (only,) = growing.primitives
        return only(t) if start == only.low else only.to_high(t)

    return Clock(
        mu,
        lambda value: invert_monotone(mu, value, low, high),
        float(growing.sign) if exponential else 0.0,
        math.copysign(1.0, end - start) * values[0].sign().item(),
    )
