"""Diagonal linear parts that depend on time."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import factorial
from typing import Any

import torch
from torch import Tensor

from expint.equations.sde import NoiseClock, SemiLinearSDE, TimeFunction
from expint.equations.time_clock import time_clock
from expint.numerics.float64 import as_float64
from expint.numerics.quadrature import gauss_legendre

_TOLERANCE, _MOST = 1e-12, 64
Weight = Callable[[Tensor, Tensor], Tensor]


def time_dependent(
    A: Any, b: Any = 1.0, g: Any = 0.0, *, span: tuple[float, float]
) -> SemiLinearSDE:
    """The SDE dx = [A(t) x + b(t) F(x, t)] dt + g(t) dω with coefficients of their own for each
    component of the event, integrated from span[0] to span[1], forwards or backwards in time.

    F is interpolated in time. The propagator, the weights and the variance of the noise of a step
    are quadratures that resolve the fast modes: with steps of any |A| h.

    Args:
        A, b, g: numbers, tensors that broadcast against the event, or functions of a float64 tensor
            of times that give such tensors. Many times come with as many trailing dimensions of 1
            as the event has, so that formulas broadcast: `lambda t: -(waves**2) * (1 + t)`. A
            function that raises for them is called with one time, a float, after the other, which
            is slow.
        span: first and last time.

    Raises:
        ValueError: for an empty span, coefficients that are not finite on it, or, here or when a
            plan is compiled, that vary too fast to be integrated to 1e-12.

    Example:
        >>> import torch
        >>> from expint import compile_plan
        >>> from expint.fields import time_dependent
        >>> waves = torch.arange(8, dtype=torch.float64)
        >>> sde = time_dependent(lambda t: -(waves**2) * (1 + t), g=0.1, span=(0.0, 1.0))
        >>> compile_plan(sde, "seeds-2", [0.0, 0.5, 1.0]).rows[0].scale.shape
        torch.Size([8])
    """
    ends = as_float64(span)
    if ends.shape != (2,) or not torch.isfinite(ends).all() or ends[0] == ends[1]:
        raise ValueError(f"span must be two different finite times, got {span!r}.")
    (start, end), sign = ends.tolist(), 1.0 if ends[1] > ends[0] else -1.0
    A, b, g = map(_function, (A, b, g))
    event = torch.broadcast_shapes(*(f(ends.mean()).shape for f in (A, b, g)))
    zero = torch.zeros((1,) * len(event), dtype=torch.float64)
    probe = start + (end - start) * torch.linspace(0, 1, 257).double().reshape(-1, *zero.shape)
    for name, function in (("A", A), ("b", b), ("g", g)):
        if not torch.isfinite(function(probe)).all():
            raise ValueError(f"{name} must be finite on the span from {start:g} to {end:g}.")

    def log_a(t: Tensor) -> Tensor:
        return _settled(lambda panels: 2 * [_integral(A, start + zero, t - start, 16, panels)], "A")

    def response(s: Tensor, t: Tensor, weight: Weight, power: int) -> Tensor:
        """∫_0^1 (a_t/a_u)^power weight(u, 1 − δ) dδ, u = t − δ h: places near the end, where fast
        modes have their layer, are known by their distance δ."""
        h = t - s
        fastest = power * (A(s).abs().max() + A(t).abs().max()) * h.abs().max()
        layers = 2 + int(torch.log2(fastest.clamp(min=1.0)).ceil())

        def over(panels: int) -> list[Tensor]:
            total, size, growth = zero, zero, zero
            nodes, weights = (v.reshape(-1, *[1] * t.ndim) for v in gauss_legendre(16, panels))
            for low, high in _graded(layers):
                places = low + (high - low) * torch.cat([zero.expand_as(nodes[:1]), nodes])
                u = t - places * h
                ahead = _integral(A, u[1:], places.diff(dim=0) * h, 6).cumsum(0)
                decay = (high - low) * weights * torch.exp(power * (growth + ahead))
                value = decay * weight(u[1:], 1.0 - places[1:])
                total, size = total + value.sum(0), size + value.abs().sum(0)
                growth = growth + ahead[-1] + _integral(A, t - high * h, (high - places[-1]) * h, 6)
            return [total, size]

        return _settled(over, "the linear part in a step")

    def moments(s: Tensor, k: int, h: Tensor) -> Tensor:
        size = sign / factorial(k - 1)
        return size * response(s, s + sign * h, lambda u, theta: b(u) * theta ** (k - 1), 1)

    def log_step(s: Tensor, t: Tensor) -> Tensor:
        return torch.log(response(s, t, lambda u, _: g(u) ** 2, 2) * (t - s).abs())

    clock = replace(time_clock(start, end, zero), moments=moments)
    log_tau = lambda t: log_step(start + 0.0 * t, t) - 2.0 * log_a(t)  # noqa: E731
    noise = NoiseClock(log_tau, log_step=log_step) if g(probe).any() else None
    given = lambda t: (A(t), b(t), g(t))  # noqa: E731
    name = f"diagonal coefficients of time on [{start:g}, {end:g}]"
    return SemiLinearSDE(log_a, clock, noise, coefficients=given, span=(start, end), name=name)


def _function(value: Any) -> TimeFunction:
    """Of many times; one that takes no tensor of them is called for each, with a float."""
    if not callable(value):
        number = as_float64(value)
        return lambda t: number + 0.0 * t

    def of_many(t: Tensor) -> Tensor:
        try:
            return as_float64(value(t))
        except (TypeError, ValueError, RuntimeError):
            found = torch.stack([as_float64(value(time)) for time in t.flatten().tolist()])
            return found.reshape(*t.shape[: t.ndim + 1 - found.ndim], *found.shape[1:])

    return of_many


def _integral(f: TimeFunction, start: Tensor, h: Tensor, points: int, panels: int = 1) -> Tensor:
    """∫ from `start` over the length h."""
    nodes, weights = (v.reshape(-1, *[1] * h.ndim) for v in gauss_legendre(points, panels))
    return (f(start + h * nodes) * weights).sum(0) * h


def _graded(layers: int) -> list[tuple[float, float]]:
    """Panels of [0, 1] that shrink towards either end."""
    half = [0.0, *(0.5**k for k in range(layers, 0, -1))]
    return [*pairwise([*half, *(1.0 - low for low in reversed(half[:-1]))])]


def _settled(integral: Callable[[int], list[Tensor]], name: str) -> Tensor:
    """The first of what `integral` gives for 1, 2, 4, … panels, once it changes by 1e-12 of the
    second."""
    before, panels = integral(1)[0], 2
    while panels <= _MOST:
        found, size = integral(panels)
        if not (torch.isfinite(found) & ((found - before).abs() > _TOLERANCE * size.abs())).any():
            return found
        before, panels = found, 2 * panels
    raise ValueError(f"The integral of {name} does not settle: it varies too fast; split the span.")
