"""From errors to an order of convergence: where the errors are asymptotic, the slope there, and how
sure it is.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from expint.noise.source import fill_normals, generators

_BOOTSTRAP_STREAM = 0x5F356495
LEAST = 3  # points of a fit


def fitted_order(steps: Any, errors: Any) -> float:
    """Least-squares slope of log(error) against −log(steps)."""
    return float(_slopes(torch.as_tensor(steps), torch.as_tensor(errors, dtype=torch.float64)))


def _slopes(steps: Tensor, errors: Tensor) -> Tensor:
    """The same for errors of shape (..., len(steps))."""
    h, e = torch.log(steps.to(torch.float64)), torch.log(errors)
    h, e = h - h.mean(), e - e.mean(-1, keepdim=True)
    return -(h * e).sum(-1) / (h * h).sum()


def root_mean(squared: Tensor) -> Tensor:
    """√ of the mean over paths of squared errors, shape (steps, paths) → (steps,)."""
    return torch.sqrt(squared.mean(1))


def local_orders(steps: Sequence[int], errors: Sequence[float]) -> list[float]:
    """Slopes between neighbouring points."""
    pairs = [(steps[i : i + 2], errors[i : i + 2]) for i in range(len(steps) - 1)]
    return [fitted_order(n, e) if min(e) > 0 else math.nan for n, e in pairs]


def asymptotic_range(
    steps: Sequence[int],
    errors: Sequence[float],
    floors: Sequence[float] | None = None,
    spread: float = 0.15,
) -> tuple[int, int]:
    """Which of the errors follow a power law: indices (first, last), both included.

    Points below their floor are left out at the fine end. Of what remains it is the longest run of
    at least three points that ends at the finest one and whose local orders all lie within `spread`
    of one another; if there is none, the last three points.

    Args:
        steps: increasing.
        errors: positive, one per step count.
        floors: what each error cannot be distinguished from: errors of the reference, rounding,
            statistics;
            default 0.
        spread: allowed difference of local orders.

    Raises:
        ValueError: if fewer than three errors are above their floor.
    """
    limits = [0.0] * len(steps) if floors is None else list(floors)
    pairs = zip(errors, limits, strict=True)
    count = [*(math.isfinite(e) and e > limit for e, limit in pairs), False].index(False)
    if count < LEAST:
        raise ValueError(
            f"An order needs {LEAST} errors above what the reference and the number of paths "
            f"resolve, from the coarsest on; got errors {[f'{e:.3g}' for e in errors]} and floors "
            f"{[f'{e:.3g}' for e in limits]} at steps {list(steps)}. Take coarser grids, or more "
            "paths."
        )
    local = local_orders(steps[:count], errors[:count])
    first = count - LEAST
    while first > 0 and max(local[first - 1 :]) - min(local[first - 1 :]) <= spread:
        first -= 1
    return first, count - 1


def bootstrap_indices(paths: int, resamples: int, seed: int) -> Tensor:
    """Which paths each resample takes, int64, shape (resamples, paths). Source: Efron, Annals of
    Statistics 7 (1979).
    """
    normals = torch.empty(1, resamples, paths)
    fill_normals(generators([seed], _BOOTSTRAP_STREAM, normals.device), normals)
    return (torch.special.ndtr(normals[0]) * paths).to(torch.int64).clamp_(max=paths - 1)


def bootstrap(
    statistic: Callable[[Tensor], Tensor],
    values: Tensor,
    steps: Sequence[int],
    fitted: tuple[int, int],
    seed: int,
    resamples: int = 200,
) -> tuple[tuple[tuple[float, float], ...], tuple[float, float]]:
    """95 % intervals of the errors and of their slope, by resampling the paths: the same resample
    at all step counts.

    Args:
        statistic: the errors, shape (steps,), of values per path, shape (steps, paths, ...).
        values: the values.
        steps: step counts.
        fitted: range of the fit, as from `asymptotic_range`.
        seed, resamples: of the resampling.

    Returns:
        One (low, high) per step count, and one for the order.
    """
    resampled = bootstrap_indices(values.shape[1], resamples, seed)
    errors = torch.stack([statistic(values[:, index]) for index in resampled])
    part = slice(fitted[0], fitted[1] + 1)
    slopes = _slopes(torch.as_tensor(steps[part]), errors[:, part])
    quantiles = torch.tensor([0.025, 0.975], dtype=torch.float64)
    intervals = torch.quantile(errors, quantiles, dim=0).T.tolist()
    low, high = torch.quantile(slopes, quantiles).tolist()
    return tuple((a, b) for a, b in intervals), (low, high)
