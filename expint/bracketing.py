"""Inverse of a monotone function, vectorised and bracketed."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["invert_monotone"]


def invert_monotone(function: Callable[[Tensor], Tensor], value: Tensor, low: float, high: float) -> Tensor:
    """The points x in [low, high] with function(x) = value, to rounding, by Chandrupatla's method on all entries at once.

    Args:
        function: strictly monotone on [low, high], elementwise on float64 tensors; infinite values at the ends are allowed.
        value: float64, any shape. Values beyond those at the ends give the ends.
        low, high: finite ends of the bracket.

    Returns:
        float64, the shape of `value`. It is detached: no gradients flow through the iteration.

    Source: Chandrupatla, Advances in Engineering Software 28 (1997).
    """
    target = value.detach()
    with torch.no_grad():
        a, b = torch.full_like(target, high), torch.full_like(target, low)
        fa, fb = _bounded(function(a) - target), _bounded(function(b) - target)
        below, above = torch.sign(fb) == torch.sign(fa), torch.abs(fb) < torch.abs(fa)
        outside = torch.where(above, b, a)
        c, fc = a.clone(), fa.clone()
        share, best = torch.full_like(target, 0.5), b
        for _ in range(200):
            x = a + share * (b - a)
            fx = _bounded(function(x) - target)
            same = torch.sign(fx) == torch.sign(fa)
            c, fc = torch.where(same, a, b), torch.where(same, fa, fb)
            b, fb = torch.where(same, b, a), torch.where(same, fb, fa)
            a, fa = x, fx
            best = torch.where(torch.abs(fa) < torch.abs(fb), a, b)
            # Relative to the point itself, so that points near zero keep their digits.
            room = 4e-16 * torch.abs(best) + 1e-300
            width = torch.abs(b - a)
            if bool(((width <= 2 * room) | (fa == 0) | below).all()):
                break
            xi, ratio = (a - b) / (c - b), (fa - fb) / (fc - fb)
            inverse = (ratio**2 < xi) & ((1 - ratio) ** 2 < 1 - xi)
            quadratic = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
            share = torch.where(inverse & torch.isfinite(quadratic), quadratic, 0.5)
            least = torch.clamp(room / width.clamp(min=1e-300), max=0.5)
            share = torch.minimum(torch.maximum(share, least), 1 - least)
        root = torch.where(fa == 0, a, best)
    return torch.where(below, outside, root)


def _bounded(residual: Tensor) -> Tensor:
    """Residuals with infinities replaced by huge numbers, so that interpolation never meets inf − inf."""
    return torch.nan_to_num(residual, nan=0.0, posinf=1e300, neginf=-1e300)
