"""Propagator, clock and noise clock of a semi-linear SDE that is given by its coefficients.

For dx = [A x + b F] dt + g dω, with the integration running over `span`:

    a(t) = exp ∫ A dt,     weight of F: c = |b|/a,     noise clock: dτ = (g/a)² |dt|

and any positive weight with primitive C is e^μ dμ with μ = log C (SEEDS, arXiv 2305.14267, remark
3.3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import sympy
import torch
from sympy.core.function import AppliedUndef
from torch import Tensor

from expint.equations.sde import Clock, NoiseClock, SemiLinearSDE
from expint.numerics.float64 import as_float64
from expint.numerics.primitive import Primitive
from expint.numerics.roots import invert_monotone
from expint.schedules.formula.callables import on_arrays

__all__ = ["CLOCKS", "from_coefficients"]

CLOCKS = ("auto", "exponential", "linear")
_T = sympy.Symbol("t", real=True)
_ArrayFunction = Callable[[np.ndarray], np.ndarray]


def from_coefficients(
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
        The SDE. Primitives are exact where the coefficients are constant, and otherwise by
        Chebyshev quadrature with a relative tolerance of 1e-14 per panel.

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
    start, end = (float(v) for v in span)
    if not (np.isfinite(start) and np.isfinite(end)) or start == end:
        raise ValueError(f"span must be two different finite times, got {span!r}.")
    if clock not in CLOCKS:
        raise ValueError(f"Unknown clock {clock!r}: choose one of {CLOCKS}.")
    if clock_start is not None and not clock_start > 0:
        raise ValueError(f"clock_start is the value of a positive primitive, got {clock_start!r}.")
    if clock_start is not None and clock == "linear":
        raise ValueError(
            "clock_start belongs to the exponential clock, but clock='linear' was asked for: leave "
            "one of them out."
        )
    inside = start + 0.618 * (end - start)
    parsed = [_parse(value, name, inside) for value, name in ((A, "A"), (b, "b"), (g, "g"))]
    constants = [value for value in parsed if isinstance(value, Tensor)]
    if len(constants) == 3:
        return _constant(*constants, start=start, end=end)
    if any(value.ndim for value in constants):
        raise ValueError(
            "Coefficients that are tensors must all be constant in time. For a diagonal part that "
            "depends on time, build SemiLinearSDE from its propagator, clock and noise clock."
        )
    functions = [_as_function(value) for value in parsed]
    return _variable(functions, start, end, clock, clock_start)


def _parse(value: Any, name: str, inside: float) -> Tensor | _ArrayFunction:
    """A constant as a tensor, anything else as a function of an array; `inside` is a time at which
    it can be called.
    """
    if isinstance(value, (str, sympy.Expr)):
        value = _parse_expression(value, name)
        if callable(value):
            return cast(_ArrayFunction, value)
    if callable(value):
        return on_arrays(name, value, inside)
    constant = as_float64(value)
    if not torch.isfinite(constant).all():
        raise ValueError(f"{name} must be finite, got {value!r}.")
    return constant


def _parse_expression(value: Any, name: str) -> Any:
    """A float, or a function of an array."""
    try:
        expression = cast(Any, sympy.sympify)(value, locals={"t": _T})
    except (sympy.SympifyError, SyntaxError, TypeError) as error:
        raise ValueError(f"{name} = {value!r} is not an expression in t: {error}") from error
    if not isinstance(expression, sympy.Expr):
        raise ValueError(
            f"{name} = {value!r} is not an expression in t, but {type(expression).__name__}."
        )
    strange = sorted(str(s) for s in expression.free_symbols if str(s) != "t")
    if strange:
        raise ValueError(
            f"{name} = {expression} has the free symbol {strange[0]}: give it a value; only t may "
            "stay free."
        )
    unknown = sorted(str(f) for f in expression.atoms(AppliedUndef))
    if unknown or expression.has(sympy.I):
        what = f"the unknown function {unknown[0]}" if unknown else "imaginary parts"
        raise ValueError(f"{name} = {expression} has {what}: it must be a real expression in t.")
    expression = expression.subs({s: _T for s in expression.free_symbols})
    return sympy.lambdify(_T, expression, "numpy") if expression.free_symbols else float(expression)


def _as_function(value: Tensor | _ArrayFunction) -> _ArrayFunction:
    if isinstance(value, Tensor):
        number = float(value)
        return lambda t: np.full_like(t, number)

    def quiet(t: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):  # what is not finite inside the span is told with its place
            return value(t)

    return quiet


def _constant(A: Tensor, b: Tensor, g: Tensor, *, start: float, end: float) -> SemiLinearSDE:
    """Constant coefficients: μ = |t − t_0|, a = e^{A(t−t_0)}, ρ = −A·sign, κ = b·sign, τ = g² μ
    φ_1(2ρμ): no overflow in logs.
    """
    sign = 1.0 if end > start else -1.0
    event_ndim = max(A.ndim, b.ndim, g.ndim)
    rho = -A * sign
    clock = _time_clock(start, end)

    def log_interval(s: Tensor, t: Tensor) -> Tensor:
        mu, h = clock(s), t.sub(s) * sign
        return 2.0 * torch.log(g.abs()) + 2.0 * rho * mu + _log_phi1(2.0 * rho * h) + torch.log(h)

    origin = torch.tensor(start, dtype=torch.float64)
    noisy = bool((g != 0).any())
    return SemiLinearSDE(
        log_propagator=lambda t: A * (t - start),
        clock=Clock(
            clock,
            lambda mu: start + sign * mu,
            rho.reshape(rho.shape or (1,) * event_ndim) if event_ndim else rho.item(),
            b * sign if b.ndim else (b * sign).item(),
        ),
        noise=NoiseClock(lambda t: log_interval(origin, t), 1, log_interval) if noisy else None,
        coefficients=lambda t: (A + 0.0 * t, b + 0.0 * t, g.abs() + 0.0 * t),
        span=(start, end),
        name=f"constant coefficients on [{start:g}, {end:g}]",
    )


def _time_clock(start: float, end: float) -> Callable[[Tensor], Tensor]:
    """|t − t_0|, which refuses times outside the span, rounding of a single precision grid
    aside.
    """
    low, high = min(start, end), max(start, end)
    room = 1e-6 * max(abs(low), abs(high))

    def clock(t: Tensor) -> Tensor:
        outside = t[(t < low - room) | (t > high + room)]
        if outside.numel():
            raise ValueError(
                f"t = {outside[0].item():.9g} is outside the span from {low:.9g} to {high:.9g} of "
                "the coefficients."
            )
        return t - start if end > start else start - t

    return clock


def _log_phi1(z: Tensor) -> Tensor:
    """log φ_1(z), also where e^z would overflow: φ_1(z) = e^z φ_1(−z), and φ_1(−|z|) =
    −expm1(−|z|)/|z| loses no digits.
    """
    size = torch.where(z == 0.0, 1.0, z.abs())
    return torch.where(z == 0.0, 0.0, z.clamp(min=0.0) + torch.log(-torch.expm1(-size) / size))


@dataclass(frozen=True, eq=False)
class _Growing:
    """A positive primitive of a positive weight, summed from the end where the weight is small so
    that no digits cancel.

    With sign +1 it is C = base + ∫_start^t, increasing along the integration; with sign −1, C =
    base + ∫_t^end, decreasing.
    """

    primitive: Primitive
    sign: int
    base: float
    forwards: bool

    def log(self, t: Tensor) -> Tensor:
        from_low = self.forwards == (self.sign > 0)
        integral = self.primitive(t) if from_low else self.primitive.to_high(t)
        return torch.log(
            self.base + integral.clamp(min=0.0)
        )  # rounding may put an empty integral below 0


def _weight(
    values: _ArrayFunction, start: float, end: float, name: str
) -> tuple[Primitive, int, float, float]:
    """Primitive of a positive weight; whether it grows (+1) or falls (−1) along the span; its rate
    and value at the small end.
    """
    low, high = min(start, end), max(start, end)
    primitive = Primitive(values, low, high, name=name)
    first, last = (float(values(np.array([v]))[0]) for v in (start, end))
    sign = 1 if last >= first else -1
    small = start if sign > 0 else end
    step = 1e-6 * (high - low) * (1.0 if small == low else -1.0)
    at, inside = (float(values(np.array([v]))[0]) for v in (small, small + step))
    rate = (np.log(inside) - np.log(at)) / abs(step) if at > 0 and inside > 0 else np.inf
    return primitive, sign, rate, at


def _variable(
    functions: list[_ArrayFunction], start: float, end: float, clock: str, clock_start: float | None
) -> SemiLinearSDE:
    drift, factor, diffusion = functions
    low, high = min(start, end), max(start, end)
    forwards = end > start
    log_a = Primitive(drift, low, high, absolute=1e-15, name="A")
    at_start = log_a(as_float64(start))

    def log_propagator(t: Tensor) -> Tensor:
        return log_a(t) - at_start

    def inverse_a(t: np.ndarray) -> np.ndarray:
        return np.exp(-log_propagator(torch.as_tensor(t)).numpy())

    of_f = _clock_of_f(factor, inverse_a, start, end, clock, clock_start)
    noise = _noise_clock(diffusion, inverse_a, start, end, forwards)
    return SemiLinearSDE(
        log_propagator=log_propagator,
        clock=of_f,
        noise=NoiseClock(noise.log, noise.sign) if noise is not None else None,
        coefficients=lambda t: tuple(
            torch.as_tensor(np.broadcast_to(f(t.numpy()), t.shape).copy()) for f in functions
        ),  # pyright: ignore[reportArgumentType]
        span=(start, end),
        name=f"coefficients on [{start:g}, {end:g}], {'exponential' if of_f.rho else 'linear'} clock",
    )


def _clock_of_f(
    factor: _ArrayFunction,
    inverse_a: _ArrayFunction,
    start: float,
    end: float,
    clock: str,
    clock_start: float | None,
) -> Clock:
    low, high = min(start, end), max(start, end)
    forwards = end > start
    probe = np.linspace(low, high, 1001)[1:-1]
    values = np.broadcast_to(factor(probe), probe.shape)
    if not values.any():
        if clock == "exponential" or clock_start is not None:
            raise ValueError(
                "b = 0 leaves no weight of F whose logarithm the exponential clock could be: leave "
                "the clock out."
            )
        direction = 1.0 if forwards else -1.0
        return Clock(_time_clock(start, end), lambda mu: start + direction * mu, 0.0, 0.0)
    if not ((values > 0).all() or (values < 0).all()):
        where = (
            probe[np.flatnonzero(values * np.sign(values[0]) <= 0)[0]]
            if values[0] != 0
            else probe[0]
        )
        raise ValueError(
            "b must keep one sign on the span, but it vanishes or changes sign near t = "
            f"{where:.6g}."
        )
    kappa = float(np.sign(values[0])) * (1.0 if forwards else -1.0)

    def weight(t: np.ndarray) -> np.ndarray:
        return np.abs(factor(t)) * inverse_a(t)

    primitive, sign, rate, at = _weight(weight, start, end, "the weight b/a of F")
    # Where the weight is almost constant its primitive would begin at at/rate, huge, and log C
    # would lose its digits.
    growth = np.isfinite(rate) and rate * (high - low) > 1e-2
    exponential = clock == "exponential" or clock_start is not None or (clock == "auto" and growth)
    if clock_start is not None:
        sign, base = 1, clock_start
    else:
        base = at / rate if growth else float(primitive(as_float64(high)))
    growing = _Growing(primitive, sign, base, forwards)

    def mu(t: Tensor) -> Tensor:
        if exponential:
            return sign * growing.log(t)
        return primitive(t) if forwards else primitive.to_high(t)

    return Clock(
        mu,
        lambda value: invert_monotone(mu, value, low, high),
        float(sign) if exponential else 0.0,
        kappa,
    )


def _noise_clock(
    diffusion: _ArrayFunction, inverse_a: _ArrayFunction, start: float, end: float, forwards: bool
) -> _Growing | None:
    low, high = min(start, end), max(start, end)
    if not np.any(diffusion(np.linspace(low, high, 257))):
        return None
    primitive, sign, _, _ = _weight(
        lambda t: (diffusion(t) * inverse_a(t)) ** 2, start, end, "(g/a)^2"
    )
    return _Growing(primitive, sign, 0.0, forwards)
