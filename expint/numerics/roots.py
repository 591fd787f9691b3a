"""Roots and inverses of monotone functions, bracketed and vectorised."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["bracketed_root", "invert_monotone"]

_EPS = torch.finfo(torch.float64).eps


def bracketed_root(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """The root of `function` in each interval [low, high] at whose ends its signs differ, to the
    last few bits.

    Inverse quadratic interpolation where it is safe, else bisection: Chandrupatla, Advances in
    Engineering Software 28 (1997). An infinite value at an end of a bracket is allowed.
    """
    a, b = low, high
    fa, fb = function(a), function(b)
    fraction = torch.full_like(a, 0.5)
    best, c, fc = torch.where(fa.abs() < fb.abs(), a, b), a, fa
    for _ in range(200):
        x = a + fraction * (b - a)
        fx = function(x)
        same = torch.sign(fx) == torch.sign(fa)
        c, fc = torch.where(same, a, b), torch.where(same, fa, fb)
        b, fb = torch.where(same, b, a), torch.where(same, fb, fa)
        a, fa = x, fx
        smaller = fa.abs() < fb.abs()
        best, f_best = torch.where(smaller, a, b), torch.where(smaller, fa, fb)
        shortest = (2.0 * _EPS * best.abs() + 1e-300) / (b - c).abs()
        if bool(((shortest > 0.5) | (f_best == 0)).all()):
            break
        xi, ratio = (a - b) / (c - b), (fa - fb) / (fc - fb)
        safe = (ratio**2 < xi) & ((1.0 - ratio) ** 2 < 1.0 - xi)
        quadratic = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (
            fc - fb
        )
        shortest = shortest.clamp(max=0.5)
        fraction = torch.minimum(
            torch.maximum(torch.where(safe, quadratic, 0.5), shortest), 1.0 - shortest
        )
    return best


def invert_monotone(
    function: Callable[[Tensor], Tensor], value: Tensor, low: float, high: float
) -> Tensor:
    """The points x in [low, high] with function(x) = value, to rounding, for all entries at once.

    Args:
        function: strictly monotone on [low, high], elementwise on float64 tensors; infinite values
            at the ends are allowed.
        value: float64, any shape. Values beyond those at the ends give the ends.
        low, high: finite ends of the bracket.

    Returns:
        float64, the shape of `value`. It is detached: no gradients flow through the iteration.
    """
    target = value.detach()
    with torch.no_grad():
        ends = torch.tensor([low, high], dtype=torch.float64)
        first, last = function(ends).unbind(0)
        rising = bool(last > first)
        below, above = (
            (target <= first, target >= last) if rising else (target >= first, target <= last)
        )
        inside = torch.where(below | above, function(ends.mean().reshape(1)), target)
        start, stop = torch.full_like(target, low), torch.full_like(target, high)
        root = bracketed_root(
            lambda x: torch.nan_to_num(function(x) - inside, posinf=1e300, neginf=-1e300),
            start,
            stop,
        )
        return torch.where(below, low, torch.where(above, high, root))
