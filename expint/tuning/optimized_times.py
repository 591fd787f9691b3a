"""The bound of optimized time steps (DM-NonUniform), and the grid that minimises it.

In z = x/α a multistep method of the data form with ℓ = 0 ends at σ_n (z_0/σ_0 + Σ_j c_j D_j), c_j
being the sum of the weights that its steps give to evaluation j: the integrals of e^λ times the
polynomials of Lagrange. If evaluation j is wrong by ε̃_j, the result is wrong by Σ_j ε̃_j |c_j| at
most, with ε̃ = σ̄^p/α of a variance-preserving schedule, a function of λ.

Taken by itself this bound lets the weights of different steps cancel, and has a minimum near each
start. As in the authors' code the first three steps are therefore counted by themselves, the root
of Σ_j (ε̃_j w_j)² each.
"""

import math
from typing import Any, Unpack

import torch
from scipy.optimize import minimize
from torch import Tensor

from expint.grids import check, cosine, karras, uniform_lambda
from expint.grids.layout import SigmaEnds, ends_of
from expint.grids.published import all_in_sigma
from expint.numerics.float64 import are_numbers, as_float64
from expint.numerics.quadrature import gauss_legendre
from expint.registry import check_choice
from expint.schedules import EDM, Schedule

ORDERS = (1, 2, 3, 4)
_ALONE = 3  # steps at the beginning that are counted by themselves
_LEAST_GAP = 1e-3  # of an even one
_STARTS = (uniform_lambda, karras, cosine)


def dmn_bound(schedule: Schedule, times: Tensor, order: int = 3, power: float = 2.0) -> float:
    """The bound of a grid, in units of the error of an evaluation.

    Args:
        schedule: the noise schedule.
        times: from noise to data. σ = 0 at the end stands for the data end of the sampling range; a
            step from σ = ∞ is not counted.
        order: evaluations in a step, fewer in the first and last ones: 3 is the predictor of
            UniPC-3, 2 that of DPM-Solver++.
        power: p of the error ε̃ = σ̄^p/α.

    Raises:
        ValueError: for a grid, an order or a power that does not fit.

    Source: Xue et al., "Accelerating Diffusion Sampling with Optimized Time Steps", arXiv
    2402.17376, and its reference implementation.
    """
    _check(order, power)
    lam = schedule.lam(check(schedule, times))
    data = float(schedule.lam(as_float64(ends_of(schedule)))[1])
    lam = lam[lam > -math.inf].clamp(max=max(data, float(lam[-2])))
    return float(_bound(lam.unique_consecutive(), order, power))


def dmn_grid(
    schedule: Schedule, steps: int, order: int = 3, power: float = 2.0, **ends: Unpack[SigmaEnds]
) -> Tensor:
    """The grid of DMN: that of the least bound, by sequential quadratic programming from three
    grids: equal steps of λ, Karras', and equal steps of arctan σ. The network is not asked.

    Args:
        schedule: the noise schedule.
        steps: number of steps n, all of them within the bound; with final="denoise" the last goes
            on to σ = 0 in place of the data end.
        order, power: as for `dmn_bound`.
        ends: start, stop, final and first_sigma as for every grid in σ (`expint.grids`).

    Returns:
        Times, float64, shape (steps + 1,).

    Raises:
        ValueError: for anything that does not fit.

    Source: as for `dmn_bound`. Its authors take one start and a trust-region method, which from
    seven steps on ends at somewhat larger bounds.

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -1.0], [0.04, 1.0], expint.schedules.EDM())
        >>> x = expint.sample(target, (8, 2), "unipc-3", nfe=6, grid=dmn_grid, progress=False)
    """
    _check(order, power)

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        if count < 3:
            return as_float64([first, last][-count:])
        high, low = torch.exp(as_float64([first, last])).tolist()
        own = EDM(sigma_min=low, sigma_max=high)
        starts = [own.lam(start(own, count - 1, final="none")) for start in _STARTS]
        found = starts + [_lowered(lam, order, power) for lam in starts]
        return -min(found, key=lambda lam: float(_bound(lam, order, power)))

    return all_in_sigma(schedule, steps, log_sigma, **ends)


def _check(order: int, power: float) -> None:
    check_choice("The order of the bound", order, ORDERS)
    if not (are_numbers(power) and 0 <= power < math.inf):
        raise ValueError(f"The power of the error must be >= 0 and finite, got {power!r}.")


def _lowered(lam: Tensor, order: int, power: float) -> Tensor:
    """From λ to where the bound no longer falls, by the logarithms of the gaps."""

    def moved(gaps: Tensor) -> Tensor:
        parts = (torch.softmax(gaps, 0) + _LEAST_GAP / len(gaps)) / (1.0 + _LEAST_GAP)
        inner = lam[0] + (lam[-1] - lam[0]) * parts.cumsum(0)[:-1]
        return torch.cat([lam[:1], inner, lam[-1:]])

    def value(x: Any) -> tuple[float, Any]:
        gaps = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        bound = _bound(moved(gaps), order, power)
        (slope,) = torch.autograd.grad(bound, gaps)
        return float(bound.detach()), slope.numpy()

    begin = torch.log(lam.diff()).numpy()
    return moved(as_float64(minimize(value, begin, jac=True, method="SLSQP").x))


def _bound(lam: Tensor, order: int, power: float) -> Tensor:
    at = 2.0 * lam[:-1]
    error = torch.sigmoid(-at) ** (power / 2.0) / torch.sigmoid(at).sqrt()
    parts = _weights(lam, order) * error
    alone = torch.arange(len(parts)) < _ALONE
    return parts[alone].norm(dim=1).sum() + parts[~alone].sum(0).abs().sum()


def _weights(lam: Tensor, order: int) -> Tensor:
    """Of each step, in the rows, those of the evaluations at its beginning and before: the
    integrals of e^λ times Lagrange's polynomials, shape (n, n)."""
    step = torch.arange(len(lam) - 1)
    count = torch.minimum((step + 1).clamp(max=order), len(step) - step)[:, None]
    back = torch.arange(order)
    known = back < count  # (n, order), as are the next two
    place = (step[:, None] - back).clamp(min=0)
    node = lam[place]
    points, shares = gauss_legendre(24)
    width = lam.diff()[:, None]
    x = lam[:-1, None] + width * points
    pairs = known[:, :, None] & known[:, None, :]
    others = pairs & ~torch.eye(order, dtype=torch.bool)  # (n, order, order)
    apart = torch.where(others, node[:, :, None] - node[:, None, :], 1.0)
    away = x[:, None, None, :] - node[:, None, :, None]
    factors = torch.where(others[..., None], away / apart[..., None], 1.0)
    weights = (factors.prod(2) * (torch.exp(x) * shares * width)[:, None, :]).sum(-1)
    empty = torch.zeros(len(step), len(step), dtype=torch.float64)
    return empty.scatter_add(1, place, torch.where(known, weights, 0.0))
