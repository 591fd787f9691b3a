"""Grids that are a spread of points over the sampling range: equal steps of some function of time
or of the noise level.
"""

import math

import torch
from scipy import special
from torch import Tensor

from expint.grids.layout import FIRST_SIGMA, count_points, finish, in_sigma, in_time
from expint.grids.registry import register
from expint.schedules.base import Schedule

__all__ = [
    "beta",
    "cosine",
    "exponential",
    "quadratic",
    "shifted",
    "sigmoid",
    "uniform_lambda",
    "uniform_time",
]


def _positive(grid: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"The grid {grid!r} needs {name} > 0, got {value}.")


@register("uniform_time")
def uniform_time(schedule: Schedule, steps: int, *, final: str = "denoise") -> Tensor:
    """Equal steps in t over the sampling range."""
    return in_time(schedule, steps, final, lambda x: 1.0 - x)


@register("quadratic")
def quadratic(schedule: Schedule, steps: int, *, final: str = "denoise") -> Tensor:
    """Equal steps in √t, t counted from 0 or from an earlier data end. Source: DDIM, arXiv
    2010.02502, appendix D.2.
    """
    noise, data = schedule.sampling_range
    origin = min(0.0, data)
    first, last = math.sqrt(noise - origin), math.sqrt(data - origin)

    def fraction(x: Tensor) -> Tensor:
        return (
            torch.lerp(torch.full_like(x, first), torch.full_like(x, last), x) ** 2 + origin - data
        ) / (noise - data)

    return in_time(schedule, steps, final, fraction)


@register("sigmoid")
def sigmoid(
    schedule: Schedule, steps: int, width: float = 3.0, *, final: str = "denoise"
) -> Tensor:
    """Times along a logistic curve from −width to width: dense at both ends. Source: the curve of
    arXiv 2212.11972, section 2.
    """
    _positive("sigmoid", width=width)
    low, high = (1.0 / (1.0 + math.exp(sign * width)) for sign in (1, -1))
    return in_time(
        schedule,
        steps,
        final,
        lambda x: (torch.sigmoid(width * (1.0 - 2.0 * x)) - low) / (high - low),
    )


@register("beta")
def beta(
    schedule: Schedule,
    steps: int,
    a: float = 0.6,
    b: float = 0.6,
    over: str = "time",
    *,
    first_sigma: float = FIRST_SIGMA,
    final: str = "denoise",
) -> Tensor:
    """Quantiles of a Beta(a, b) distribution laid over t, or over σ with over="sigma": dense at
    both ends.

    Raises:
        ValueError: if a or b is not positive, or for an unknown `over`.

    Source: Lee et al., "Beta Sampling is All You Need", arXiv 2407.12173 (over time).
    """
    _positive("beta", a=a, b=b)
    if over == "time":
        return in_time(schedule, steps, final, lambda x: _quantiles(1.0 - x, a, b))
    if over != "sigma":
        raise ValueError(f"The grid 'beta' is laid over 'time' or 'sigma', got over={over!r}.")

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        places = _quantiles(torch.linspace(1.0, 0.0, count, dtype=torch.float64), a, b)
        return torch.log(math.exp(last) + (math.exp(first) - math.exp(last)) * places)

    return in_sigma(schedule, steps, final, log_sigma, first_sigma)


def _quantiles(probability: Tensor, a: float, b: float) -> Tensor:
    return torch.as_tensor(special.betaincinv(a, b, probability.numpy()))


def _equal_logs(first: float, last: float, count: int) -> Tensor:
    return torch.linspace(first, last, count, dtype=torch.float64)


@register("uniform_lambda")
def uniform_lambda(
    schedule: Schedule, steps: int, *, first_sigma: float = FIRST_SIGMA, final: str = "denoise"
) -> Tensor:
    """Equal steps in λ (half log-SNR). Source: DPM-Solver, arXiv 2206.00927, section 3.4."""
    return in_sigma(schedule, steps, final, _equal_logs, first_sigma)


@register("exponential")
def exponential(
    schedule: Schedule, steps: int, *, first_sigma: float = FIRST_SIGMA, final: str = "denoise"
) -> Tensor:
    """Equal steps in log σ: the grid `uniform_lambda` under the name that libraries in σ use."""
    return in_sigma(schedule, steps, final, _equal_logs, first_sigma)


@register("cosine")
def cosine(schedule: Schedule, steps: int, *, final: str = "denoise") -> Tensor:
    """Equal steps of the angle arctan σ: uniform time on the schedule α = cos θ, σ̄ = sin θ,
    whatever this schedule's own time is.

    Source: the cosine schedule in its simplest form, Salimans & Ho, arXiv 2202.00512, section 3.
    """
    noise, data = (schedule.sigma(t) for t in schedule.sampling_range)
    first, last = math.atan(noise), math.atan(data)

    def log_sigma(_first: float, _last: float, count: int) -> Tensor:
        angles = torch.linspace(first, last, count + (noise == math.inf), dtype=torch.float64)[
            -count:
        ]
        return torch.log(torch.tan(angles))

    return in_sigma(schedule, steps, final, log_sigma)


@register("shifted")
def shifted(
    schedule: Schedule, steps: int, shift: float = 3.0, *, final: str = "denoise"
) -> Tensor:
    """Equal steps in the time u of rectified flow (σ = u/(1 − u)), then shifted: u' = s u/(1 + (s −
    1) u), which is σ' = s σ.

    The ends are those of the sampling range, before and after. `shift=1` is uniform time for
    `Flow()`.

    Raises:
        ValueError: if shift is not positive.

    Source: Esser et al. (Stable Diffusion 3), arXiv 2403.03206, eq. (23).
    """
    _positive("shifted", shift=shift)
    count = count_points(steps, final)
    ends = torch.tensor(schedule.sampling_range, dtype=torch.float64)
    # u before the shift, at both ends: σ/(s + σ) = 1/(1 + s e^λ).
    before = 1.0 / (1.0 + shift * torch.exp(schedule.lam(ends)))
    u = torch.linspace(before[0].item(), before[1].item(), count, dtype=torch.float64)
    times = schedule.t_of_lam(torch.log1p(-u[1:-1]) - torch.log(shift * u[1:-1]))
    return finish(schedule, torch.cat([ends[:1], times, ends[1:]]), final)
