"""Anderson's acceleration of a fixed-point iteration, for each sample of a batch by itself."""

from collections.abc import Callable

import torch
from torch import Tensor

_MEMORY = 8
_LEAST = 1e-10  # of the largest singular value: smaller ones are rounding


def solve(
    missing: Callable[[Tensor], Tensor], y: Tensor, allowed: Tensor, most: int = 40
) -> tuple[Tensor, bool]:
    """A y at which `missing` vanishes, from the iteration y ← y + missing(y).

    The differences of the last residuals, which are expected to shrink, are fitted to the residual
    by least squares, and the states move by as much. It goes on to a tenth of what is allowed, as
    long as that is not yet the rounding.

    Args:
        missing: the residual, of the shape of y.
        y: where to begin, shape (batch, *event).
        allowed: root mean square of the residual, shape (batch,).
        most: evaluations of the residual.

    Returns:
        For each sample the y of the least residual, and whether all are allowed.

    Source: Walker & Ni, Anderson acceleration for fixed-point iterations (2011), eq. (2.2).
    """
    states, residuals = list[Tensor](), list[Tensor]()
    best, least = y, torch.full_like(allowed, torch.inf)
    for _ in range(most):
        r = missing(y)
        size = rms(r)
        better, gained = size < least, (size < 0.5 * least).any()
        best = torch.where(better.reshape(-1, *[1] * (y.ndim - 1)), y, best)
        least = torch.where(better, size, least)
        if (least <= (1.0 if not gained else 0.1) * allowed).all():
            break
        states, residuals = [*states[-_MEMORY:], _flat(y)], [*residuals[-_MEMORY:], _flat(r)]
        step = residuals[-1]
        if len(states) > 1:
            dy, dr = (torch.stack(of, 2).diff(dim=2) for of in (states, residuals))
            share = torch.linalg.pinv(dr, rtol=_LEAST) @ step[:, :, None]
            step = step - ((dy + dr) @ share)[:, :, 0]
        y = (states[-1] + step).reshape(y.shape).to(y)
    return best, bool((least <= allowed).all())


def rms(x: Tensor) -> Tensor:
    """Root mean square of each sample, shape (batch,)."""
    return x.flatten(1).square().mean(1).sqrt()


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1).to(torch.float64)
