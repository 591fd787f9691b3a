"""What all grids share: the ends of the sampling range, the final step, and the check of times that
a user gives.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64, is_whole
from expint.schedules.base import Schedule, check_schedule

FINALS = ("denoise", "none")
FIRST_SIGMA = 80.0
"""First finite σ of a grid that is laid out in σ but starts at σ = ∞. The step from σ = ∞ is of
first order: with ℓ = 0 it leaves a relative error of var(data)/σ² in the variance of the sample, as
EDM's start from N(0, 80²) does.
"""

GridBuilder = Callable[..., Tensor]


class Ends(TypedDict, total=False):
    """Where a grid begins and ends: the keyword arguments of every builder."""

    start: float | None
    stop: float | None
    final: str


class SigmaEnds(Ends, total=False):
    """The same for a grid that is laid out in σ, which needs a first finite σ after σ = ∞."""

    first_sigma: float


MOST_STEPS = 100_000
"""More steps are taken for a mistake: their plan alone takes minutes and gigabytes."""


def count_points(steps: int, final: str) -> int:
    """Number of points to lay from start to stop, after checking the arguments."""
    if final not in FINALS:
        raise ValueError(f"Unknown final={final!r}: choose one of {FINALS}.")
    least = 2 if final == "denoise" else 1
    if not is_whole(steps) or steps < least:
        raise ValueError(
            f"A grid with final={final!r} needs an integer steps >= {least}, got {steps!r}."
        )
    if steps > MOST_STEPS:
        raise ValueError(f"A grid has at most {MOST_STEPS} steps, got {steps}: take fewer.")
    return int(steps) + (final == "none")


def ends_of(
    schedule: Schedule, start: float | None = None, stop: float | None = None
) -> tuple[float, float]:
    """First and last time of a grid, inside the sampling range."""
    check_schedule(schedule)
    noise, data = schedule.sampling_range
    first = noise if start is None else as_float64(start).item()
    last = data if stop is None else as_float64(stop).item()
    if not data <= last < first <= noise:
        raise ValueError(
            f"A grid lies inside the sampling range of {schedule}, from t = {noise:.9g} down to "
            f"{data:.9g}, and start is above stop; got start={start!r} and stop={stop!r}."
        )
    return first, last


def finish(schedule: Schedule, times: Tensor, final: str) -> Tensor:
    """Add the clean end for final="denoise"."""
    if final == "none":
        return times
    clean = as_float64(schedule.t_of_lam(math.inf))
    if clean.item() == times[-1].item():
        raise ValueError(
            f"The sampling range of {schedule} ends at sigma = 0 itself, and final='denoise' then "
            "has nothing left to do: use final='none', or a sampling range that ends before."
        )
    return torch.cat([times, clean.reshape(1)])


def evenly(first: float, last: float, count: int) -> Tensor:
    """`count` equally spaced numbers from `first` to `last`."""
    return torch.linspace(first, last, count, dtype=torch.float64)


def lay(
    schedule: Schedule,
    steps: int,
    place: Callable[[float, float, int], Tensor],
    *,
    start: float | None = None,
    stop: float | None = None,
    final: str = "denoise",
) -> Tensor:
    """The times `place(first, last, count)`, with these ends exactly (an inverse of λ only comes
    within rounding), and the clean end for final="denoise".
    """
    count, (first, last) = count_points(steps, final), ends_of(schedule, start, stop)
    inside = place(first, last, count)[1:-1]
    return finish(schedule, torch.cat([as_float64([first]), inside, as_float64([last])]), final)


def in_time(
    schedule: Schedule, steps: int, fraction: Callable[[Tensor], Tensor], **ends: Unpack[Ends]
) -> Tensor:
    """Times last + (first − last)·fraction(i/(n−1)), where `fraction` falls from 1 at 0 to 0 at
    1.
    """

    def place(first: float, last: float, count: int) -> Tensor:
        return last + (first - last) * fraction(evenly(0.0, 1.0, count))

    return lay(schedule, steps, place, **ends)


def in_sigma(
    schedule: Schedule,
    steps: int,
    log_sigma: Callable[[float, float, int], Tensor],
    *,
    first_sigma: float = FIRST_SIGMA,
    **ends: Unpack[Ends],
) -> Tensor:
    """Times of the noise levels exp(log_sigma(log σ_first, log σ_last, n)), n of them in decreasing
    order with these ends. After σ = ∞ they go on from `first_sigma`.
    """

    def place(first: float, last: float, count: int) -> Tensor:
        high, low = (-schedule.lam(as_float64([first, last]))).tolist()
        if low == -math.inf:
            raise ValueError(
                "A grid in sigma needs a data end with sigma > 0, but the sampling range of "
                f"{schedule} ends at t = {last:.9g}, where sigma = 0: give a stop, or a sampling "
                "range, that ends before."
            )
        if high < math.inf:
            return schedule.t_of_lam(-log_sigma(high, low, count))
        if not math.exp(low) < first_sigma < math.inf:
            raise ValueError(
                f"{schedule} starts at sigma = infinity and the grid goes on from first_sigma, "
                "which must be finite and above the sigma of the data end, "
                f"{math.exp(low):.6g}; got {first_sigma!r}."
            )
        later = schedule.t_of_lam(-log_sigma(math.log(first_sigma), low, count - 1))
        return torch.cat([as_float64([first]), later])

    return lay(schedule, steps, place, **ends)


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
    inside[-1] |= times[-1] == -math.inf  # the clean end of a schedule that has no finite one
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
