"""The bound of Align Your Steps from the mmse curve alone, and the grid that minimises it.

By Girsanov the divergence of the path of a plan from that of the SDE is at most KLUB. For a method
of first order in the data form, which keeps D_s over the step from s to t, it is per component

    KLUB = (1+ℓ²)²/(4ℓ²) Σ_steps ∫_{λ_s}^{λ_t} e^{2λ} E‖D_λ − D_s‖²/d dλ.

At ℓ = 1 the exact D is a martingale along the reverse path, so that E‖D_λ − D_s‖²/d = mmse_s −
mmse_λ. With W and M the integrals from the first noise level of w = 1/(σ + c)² and of w · mmse, the
step costs

    mmse_s (W_t − W_s) − (M_t − M_s),

and c = 0 is the bound itself, w = e^{2λ}. That spends its steps at noise that nobody sees; the
larger the scale c, the less of them lie below it.
"""

import math
from typing import Unpack

import torch
from torch import Tensor

from expint.grids import check
from expint.grids.layout import SigmaEnds, ends_of
from expint.grids.published import all_in_sigma
from expint.numerics.float64 import are_numbers, as_float64, is_whole
from expint.numerics.quadrature import gauss_legendre
from expint.schedules import Schedule
from expint.tuning.cheapest import cheapest
from expint.tuning.curve import MmseCurve

_PARTS = 64  # of a step, in each of which the curve is taken as linear in λ


def klub(
    schedule: Schedule, times: Tensor, curve: MmseCurve, c: float = 0.0, ell: float = 1.0
) -> float:
    """The bound of a grid, in nats per component.

    Args:
        schedule: the noise schedule.
        times: from noise to data. σ = 0 at the end stands for the data end of the sampling range; a
            step from σ = ∞ is not counted.
        curve: mmse(σ), over the noise levels of the grid.
        c: scale of the weight 1/(σ + c)², in units of σ; 0 for the bound itself.
        ell: ℓ > 0. At another ℓ than 1 the increments of D are taken to be those at 1.

    Raises:
        ValueError: for a grid, a scale or ℓ that does not fit, or noise levels that the curve does
            not cover.

    Source: Sabour, Fidler & Kreis, "Align Your Steps", arXiv 2404.14507, eq. (10), with the
    expectation in closed form.
    """
    _check(curve, c)
    if not (are_numbers(ell) and 0 < ell < math.inf):
        raise ValueError(f"The bound needs ell > 0, finite, got {ell!r}: the ODE has none.")
    lam = schedule.lam(check(schedule, times))
    ends = schedule.lam(as_float64(ends_of(schedule)))
    lam = lam[lam > -math.inf].clamp(max=max(float(ends[1]), float(lam[-2])))
    lam = lam.unique_consecutive()
    parts = torch.arange(_PARTS, dtype=torch.float64) / _PARTS
    fine = torch.cat([(lam[:-1, None] + lam.diff()[:, None] * parts).flatten(), lam[-1:]])
    mmse, weight, product = (part[::_PARTS] for part in _integrals(curve, fine, c))
    cost = mmse[:-1] * weight.diff() - product.diff()
    return (1.0 + ell**2) ** 2 / (4.0 * ell**2) * float(cost.sum())


def klub_grid(
    schedule: Schedule,
    steps: int,
    curve: MmseCurve,
    c: float = 0.5,
    *,
    candidates: int = 1000,
    **ends: Unpack[SigmaEnds],
) -> Tensor:
    """The grid that minimises the bound for a network's mmse curve, by dynamic programming.

    Args:
        schedule: the noise schedule.
        steps: number of steps n, all of them within the bound; with final="denoise" the last goes
            on to σ = 0 in place of the data end.
        curve: mmse(σ) of the network, from `expint.mmse_curve`.
        c: scale of the weight 1/(σ + c)², in units of σ; 0.5 is about the standard deviation of
            images in [-1, 1], and 0 gives the bound itself. Any ℓ has the same grid.
        candidates: noise levels to choose from, uniform in λ, both ends included.
        ends: start, stop, final and first_sigma as for every grid in σ (`expint.grids`).

    Returns:
        Times, float64, shape (steps + 1,).

    Raises:
        TypeError, ValueError: for anything that does not fit, or noise levels that the curve does
            not cover.

    Example:
        >>> from functools import partial
        >>> import expint
        >>> target = expint.targets.Gaussian([0.0] * 4, 0.25, expint.schedules.EDM())
        >>> curve = expint.mmse_curve(target, target.sample(300))
        >>> grid = partial(klub_grid, curve=curve)
        >>> x = expint.sample(target, (8, 4), nfe=10, grid=grid, progress=False)
    """
    _check(curve, c)
    if not (is_whole(candidates) and candidates > steps):
        raise ValueError(
            f"The KLUB grid of {steps} steps needs an integer candidates > {steps}, got "
            f"{candidates!r}."
        )

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        if count == 1:
            return as_float64([last])
        lam = torch.linspace(-first, -last, candidates, dtype=torch.float64)
        mmse, weight, product = _integrals(curve, lam, c)
        # cost[i, j], of a step from level i to level j.
        cost = mmse[:, None] * (weight - weight[:, None]) - (product - product[:, None])
        return -lam[cheapest(cost, count - 1)]

    return all_in_sigma(schedule, steps, log_sigma, **ends)


def _check(curve: MmseCurve, c: float) -> None:
    if not isinstance(curve, MmseCurve):
        raise TypeError(
            f"The bound needs an MmseCurve, got {curve!r}: measure one with "
            "expint.mmse_curve(model, data), or read one with expint.tuning.MmseCurve.load(file)."
        )
    if not (are_numbers(c) and 0 <= c < math.inf):
        raise ValueError(f"The scale c of the weight 1/(sigma + c)^2 must be >= 0, got {c!r}.")


def _integrals(curve: MmseCurve, lam: Tensor, c: float) -> tuple[Tensor, Tensor, Tensor]:
    """mmse at increasing λ, made to fall as that of a perfect denoiser does, and the integrals W
    and M from the first λ."""
    from scipy.optimize import isotonic_regression

    measured = curve(torch.exp(-lam))
    falling = isotonic_regression(measured.numpy(), increasing=False).x
    mmse = torch.from_numpy(falling.copy())
    nodes, shares = gauss_legendre(4)
    width = lam.diff()[:, None]
    weight = shares * width / (torch.exp(-(lam[:-1, None] + width * nodes)) + c).square()
    between = mmse[:-1, None] + mmse.diff()[:, None] * nodes
    parts = (weight.sum(1), (weight * between).sum(1))
    W, M = (torch.cat([part.new_zeros(1), part.cumsum(0)]) for part in parts)
    return mmse, W, M
