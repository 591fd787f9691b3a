"""What all grids share: the ends of the sampling range, the final step, and the check of times that
a user gives.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64, is_whole
from expint.schedules.base import Schedule

__all__ = [
    "FINALS",
    "FIRST_SIGMA",
    "GridBuilder",
    "check",
    "count_points",
    "finish",
    "in_sigma",
    "in_time",
]

FINALS = ("denoise", "none")
FIRST_SIGMA = 80.0
"""First finite σ of a grid that is laid out in σ but starts at σ = ∞. The step from σ = ∞ is of
first order: with ℓ = 0 it leaves a relative error of var(data)/σ² in the variance of the sample, as
EDM's start from N(0, 80²) does.
"""

GridBuilder = Callable[..., Tensor]


def count_points(steps: int, final: str) -> int:
    """Number of points to lay inside the sampling range, after checking the arguments that all
    builders share.
    """
    if final not in FINALS:
        raise ValueError(f"Unknown final={final!r}: choose one of {FINALS}.")
    least = 2 if final == "denoise" else 1
    if not is_whole(steps) or steps < least:
        raise ValueError(
            f"A grid with final={final!r} needs an integer steps >= {least}, got {steps!r}."
        )
    steps = int(steps)
    return steps if final == "denoise" else steps + 1


def finish(schedule: Schedule, times: Tensor, final: str) -> Tensor:
    """Add the clean end for final="denoise"."""
    if final == "none":
        return times
    clean = as_float64(schedule.t_of_lam(float("inf")))
    if clean.item() == times[-1].item():
        raise ValueError(
            f"The sampling range of {schedule} ends at sigma = 0 itself, and final='denoise' then "
            "has nothing left to do: use final='none', or a sampling range that ends before."
        )
    return torch.cat([times, clean.reshape(1)])


def in_time(
    schedule: Schedule, steps: int, final: str, fraction: Callable[[Tensor], Tensor]
) -> Tensor:
    """Times data + (noise − data)·fraction(i/(n−1)), where `fraction` falls from 1 at 0 to 0 at
    1.
    """
    count = count_points(steps, final)
    noise, data = schedule.sampling_range
    places = fraction(torch.linspace(0.0, 1.0, count, dtype=torch.float64))
    return finish(schedule, _pinned(schedule, data + (noise - data) * places), final)


def in_sigma(
    schedule: Schedule,
    steps: int,
    final: str,
    log_sigma: Callable[[float, float, int], Tensor],
    first_sigma: float = FIRST_SIGMA,
) -> Tensor:
    """Times of the noise levels exp(log_sigma(log σ_noise, log σ_data, n)), n of them in decreasing
    order with these ends.
    """
    count = count_points(steps, final)
    noise, data = schedule.sampling_range
    first, last = (-schedule.lam(as_float64([noise, data]))).tolist()
    if last == -math.inf:
        raise ValueError(
            "A grid in sigma needs a data end with sigma > 0, but the sampling range of "
            f"{schedule} ends at t = {data:.9g}, where sigma = 0: give a sampling range that ends "
            "before."
        )
    if first < math.inf:
        times = schedule.t_of_lam(-log_sigma(first, last, count))
        return finish(schedule, _pinned(schedule, times), final)
    if not math.exp(last) < first_sigma < math.inf:
        raise ValueError(
            f"{schedule} starts at sigma = infinity and the grid goes on from first_sigma, which "
            f"must be finite and above the sigma of the data end, {math.exp(last):.6g}; got "
            f"{first_sigma!r}."
        )
    later = (
        log_sigma(math.log(first_sigma), last, count - 1)
        if count > 2
        else torch.tensor([last], dtype=torch.float64)
    )
    return finish(
        schedule,
        _pinned(schedule, torch.cat([as_float64([noise]), schedule.t_of_lam(-later)])),
        final,
    )


def _pinned(schedule: Schedule, times: Tensor) -> Tensor:
    """Replace the end points by the exact ends of the sampling range (the inverse of λ only comes
    within rounding).
    """
    noise, data = schedule.sampling_range
    return torch.cat([as_float64([noise]), times[1:-1], as_float64([data])])


def check(schedule: Schedule, grid: Sequence[float] | Tensor | Any) -> Tensor:
    """Return `grid` as a float64 tensor after checking that it runs from noise to data inside the
    schedule's domain.

    Raises:
        ValueError: if it is not 1-D with at least two finite times, leaves the domain, or λ does
            not strictly increase.
    """
    times = as_float64(grid)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(
            f"A grid is a 1-D sequence of at least 2 times, got shape {tuple(times.shape)}."
        )
    low, high = schedule.domain
    inside = (times >= low) & (times <= high)
    inside[-1] |= times[-1] == -float("inf")  # the clean end of a schedule that has no finite one
    if not inside.all():
        i = int(torch.nonzero(~inside)[0])
        raise ValueError(
            f"grid[{i}] = {times[i].item()!r} is outside the domain [{low}, {high}] of {schedule}."
        )
    lam = schedule.lam(times.detach())
    flat = torch.nonzero(~(lam[1:] > lam[:-1]))
    if len(flat):
        i = int(flat[0])
        raise ValueError(
            f"A grid runs from noise to data, with strictly decreasing noise, but grid[{i}] = "
            f"{times[i].item():.9g} and grid[{i + 1}] = {times[i + 1].item():.9g} have lambda "
            f"{lam[i].item():.6g} and {lam[i + 1].item():.6g}. Sort the times so that sigma falls, "
            "without repeats."
        )
    return times


def default(schedule: Schedule, *, table: bool, start: float | None = None) -> str:
    """Name of the grid that is laid where none is asked for.

    Args:
        schedule: the noise schedule.
        table: whether the network is called at the entries of its table only.
        start: first time; default: the noise end of the sampling range.
    """
    from expint.schedules.discrete import TabulatedVP

    if table and isinstance(schedule, TabulatedVP):
        return "discrete"
    first = schedule.sampling_range[0] if start is None else start
    return "uniform_time" if schedule.lam(first) == -math.inf else "uniform_lambda"
