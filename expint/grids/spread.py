"""Grids that are a spread of points over the range: equal steps of some function of time or of the
noise level.
"""

import math
from typing import Unpack

import torch
from torch import Tensor

from expint.grids.layout import FIRST_SIGMA, Ends, SigmaEnds, evenly, in_sigma, in_time, lay
from expint.schedules.base import Schedule


def uniform_time(schedule: Schedule, steps: int, **ends: Unpack[Ends]) -> Tensor:
    """Equal steps in t."""
    return in_time(schedule, steps, lambda x: 1.0 - x, **ends)


def quadratic(schedule: Schedule, steps: int, **ends: Unpack[Ends]) -> Tensor:
    """Equal steps in √t, t counted from 0 or from an earlier data end. Source: DDIM, arXiv
    2010.02502, appendix D.2.
    """

    def place(first: float, last: float, count: int) -> Tensor:
        origin = min(0.0, last)
        high, low = math.sqrt(first - origin), math.sqrt(last - origin)
        return evenly(high, low, count) ** 2 + origin

    return lay(schedule, steps, place, **ends)


def sigmoid(schedule: Schedule, steps: int, width: float = 3.0, **ends: Unpack[Ends]) -> Tensor:
    """Times along a logistic curve from −width to width: dense at both ends. Source: the curve of
    arXiv 2212.11972, section 2.

    Raises:
        ValueError: if width is not positive and finite.
    """
    _positive("sigmoid", width=width)
    low, high = (1.0 / (1.0 + math.exp(sign * width)) for sign in (1, -1))

    def fraction(x: Tensor) -> Tensor:
        return (torch.sigmoid(width * (1.0 - 2.0 * x)) - low) / (high - low)

    return in_time(schedule, steps, fraction, **ends)


def beta(
    schedule: Schedule,
    steps: int,
    a: float = 0.6,
    b: float = 0.6,
    over: str = "time",
    *,
    first_sigma: float = FIRST_SIGMA,
    **ends: Unpack[Ends],
) -> Tensor:
    """Quantiles of a Beta(a, b) distribution laid over t, or over σ with over="sigma": dense at
    both ends.

    Raises:
        ValueError: if a or b is not positive, or for an unknown `over`.

    Source: Lee et al., "Beta Sampling is All You Need", arXiv 2407.12173 (over time).
    """
    _positive("beta", a=a, b=b)

    def quantiles(x: Tensor) -> Tensor:
        from scipy.special import betaincinv  # takes longer to import than this package

        return torch.as_tensor(betaincinv(a, b, (1.0 - x).numpy()))

    if over == "time":
        return in_time(schedule, steps, quantiles, **ends)
    if over != "sigma":
        raise ValueError(f"The grid 'beta' is laid over 'time' or 'sigma', got over={over!r}.")

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        places = quantiles(evenly(0.0, 1.0, count))
        return torch.log(math.exp(last) + (math.exp(first) - math.exp(last)) * places)

    return in_sigma(schedule, steps, log_sigma, first_sigma=first_sigma, **ends)


def uniform_lambda(schedule: Schedule, steps: int, **ends: Unpack[SigmaEnds]) -> Tensor:
    """Equal steps in λ (half log-SNR). Source: DPM-Solver, arXiv 2206.00927, section 3.4."""
    return in_sigma(schedule, steps, evenly, **ends)


exponential = uniform_lambda
"""Equal steps in log σ: the grid `uniform_lambda` under the name that libraries in σ use."""


def cosine(schedule: Schedule, steps: int, std: float = 1.0, **ends: Unpack[Ends]) -> Tensor:
    """Equal steps of the angle arctan(σ/std): with std = 1 uniform time on the schedule α = cos θ,
    σ̄ = sin θ, whatever this schedule's own time is.

    On Gaussian data of standard deviation `std`, steps of first order at ℓ = 0 then end with the
    least Kullback–Leibler divergence.

    Raises:
        ValueError: if std is not positive and finite.

    Source: the cosine schedule in its simplest form, Salimans & Ho, arXiv 2202.00512, section 3;
    "Align Your Steps", arXiv 2404.14507, theorem 3.1.
    """
    _positive("cosine", std=std)

    def place(first: float, last: float, count: int) -> Tensor:
        high, low = (math.atan(schedule.sigma(t) / std) for t in (first, last))
        return schedule.t_of_lam(-torch.log(std * torch.tan(evenly(high, low, count))))

    return lay(schedule, steps, place, **ends)


def shifted(schedule: Schedule, steps: int, shift: float = 3.0, **ends: Unpack[Ends]) -> Tensor:
    """Equal steps in the time u of rectified flow (σ = u/(1 − u)), then shifted: u' = s u/(1 + (s −
    1) u), which is σ' = s σ.

    The ends are those of the grid, before and after. `shift=1` is uniform time for `Flow()`.

    Raises:
        ValueError: if shift is not positive and finite.

    Source: Esser et al. (Stable Diffusion 3), arXiv 2403.03206, eq. (23).
    """
    _positive("shifted", shift=shift)

    def place(first: float, last: float, count: int) -> Tensor:
        # u before the shift, at both ends: σ/(s + σ) = 1/(1 + s e^λ).
        high, low = (1.0 / (1.0 + shift * math.exp(schedule.lam(t))) for t in (first, last))
        u = evenly(high, low, count)
        return schedule.t_of_lam(torch.log1p(-u) - torch.log(shift * u))

    return lay(schedule, steps, place, **ends)


def _positive(grid: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"The grid {grid!r} needs {name} > 0, got {value}.")
