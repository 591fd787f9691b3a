"""Time grids: where the steps of a sampler lie, from the noise end to the data end.

Every builder `grid(schedule, steps, ..., final=...)` returns a float64 tensor of steps + 1 times. With `final="denoise"` (the
default) the last step goes to σ = 0, where the exact first-order step returns αD, so that no noise is left in the sample; with
`final="none"` all steps lie inside the schedule's sampling range and the sample keeps the noise of its data end.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from expint.float64 import as_float64
from expint.schedules.base import Schedule
from expint.schedules.discrete import TabulatedVP

__all__ = ["FINALS", "check", "discrete", "get", "karras", "names", "uniform_lambda", "uniform_time"]

FINALS = ("denoise", "none")
GridBuilder = Callable[..., Tensor]


def _interior(schedule: Schedule, steps: int, final: str) -> int:
    """Number of points to lay inside the sampling range, after checking the arguments that all builders share."""
    if final not in FINALS:
        raise ValueError(f"Unknown final={final!r}: choose one of {FINALS}.")
    least = 2 if final == "denoise" else 1
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < least:
        raise ValueError(f"A grid with final={final!r} needs an integer steps >= {least}, got {steps!r}.")
    return steps if final == "denoise" else steps + 1


def _finish(schedule: Schedule, times: Tensor, final: str) -> Tensor:
    if final == "none":
        return times
    clean = as_float64(schedule.t_of_lam(float("inf")))
    return torch.cat([times, clean.reshape(1)])


def _pin(schedule: Schedule, times: Tensor) -> Tensor:
    """Replace the end points by the exact ends of the sampling range (the inverse of λ only comes within rounding)."""
    noise, data = schedule.sampling_range
    return torch.cat([as_float64([noise]), times[1:-1], as_float64([data])])


def _finite_noise_end(schedule: Schedule, name: str) -> Tensor:
    noise, data = schedule.sampling_range
    lam = schedule.lam(as_float64([noise, data]))
    if not torch.isfinite(lam).all():
        raise ValueError(
            f"The grid {name!r} needs a finite sigma at both ends, but {schedule} has sigma = infinity at t = {noise}. "
            f"Use 'uniform_time', or a schedule with t_max below {noise}."
        )
    return lam


def uniform_time(schedule: Schedule, steps: int, *, final: str = "denoise") -> Tensor:
    """Equal steps in t over the sampling range."""
    count = _interior(schedule, steps, final)
    noise, data = schedule.sampling_range
    return _finish(schedule, torch.linspace(noise, data, count, dtype=torch.float64), final)


def uniform_lambda(schedule: Schedule, steps: int, *, final: str = "denoise") -> Tensor:
    """Equal steps in λ (half log-SNR) over the sampling range. Source: DPM-Solver, arXiv 2206.00927, section 3.4."""
    count = _interior(schedule, steps, final)
    low, high = _finite_noise_end(schedule, "uniform_lambda").tolist()
    lam = torch.linspace(low, high, count, dtype=torch.float64)
    return _finish(schedule, _pin(schedule, schedule.t_of_lam(lam)), final)


def karras(schedule: Schedule, steps: int, rho: float = 7.0, *, final: str = "denoise") -> Tensor:
    """Equal steps in σ^{1/ρ} over the sampling range. Source: EDM, arXiv 2206.00364, eq. (5).

    Raises:
        ValueError: if rho is not positive.
    """
    if not rho > 0:
        raise ValueError(f"The Karras grid needs rho > 0, got {rho}.")
    count = _interior(schedule, steps, final)
    first, last = torch.exp(-_finite_noise_end(schedule, "karras") / rho).tolist()
    sigma = torch.linspace(first, last, count, dtype=torch.float64) ** rho
    return _finish(schedule, _pin(schedule, schedule.t_of_sigma(sigma)), final)


def discrete(schedule: Schedule, steps: int, *, final: str = "denoise") -> Tensor:
    """Evenly spread entries of the table that a discrete-time network was trained on.

    Raises:
        ValueError: if the schedule has no table, or fewer entries than the grid needs.
    """
    count = _interior(schedule, steps, final)
    if not isinstance(schedule, TabulatedVP):
        raise ValueError(f"The grid 'discrete' needs a tabulated schedule (Discrete, IDDPM), got {schedule}.")
    if count > schedule.steps:
        raise ValueError(f"The grid 'discrete' needs {count} entries, but {schedule} has {schedule.steps}.")
    return _finish(schedule, torch.linspace(schedule.steps - 1, 0, count, dtype=torch.float64).round(), final)


_BUILDERS: dict[str, GridBuilder] = {
    "uniform_time": uniform_time,
    "uniform_lambda": uniform_lambda,
    "karras": karras,
    "discrete": discrete,
}


def names() -> list[str]:
    """Names of the grids that `get` and the command line know."""
    return sorted(_BUILDERS)


def get(name: str) -> GridBuilder:
    """The builder called `name`; a ValueError names the nearest ones."""
    if name not in _BUILDERS:
        near = get_close_matches(name, names(), n=3, cutoff=0.3)
        raise ValueError(f"Unknown grid {name!r}; nearest: {near or names()}. All: {names()}, or give the times themselves.")
    return _BUILDERS[name]


def check(schedule: Schedule, grid: Sequence[float] | Tensor | Any) -> Tensor:
    """Return `grid` as a float64 tensor after checking that it runs from noise to data inside the schedule's domain.

    Raises:
        ValueError: if it is not 1-D with at least two finite times, leaves the domain, or λ does not strictly increase.
    """
    times = as_float64(grid)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"A grid is a 1-D sequence of at least 2 times, got shape {tuple(times.shape)}.")
    low, high = schedule.domain
    inside = (times >= low) & (times <= high)
    inside[-1] |= times[-1] == -float("inf")  # the clean end of a schedule that has no finite one
    if not inside.all():
        i = int(torch.nonzero(~inside)[0])
        raise ValueError(f"grid[{i}] = {times[i].item()!r} is outside the domain [{low}, {high}] of {schedule}.")
    lam = schedule.lam(times.detach())
    flat = torch.nonzero(~(lam[1:] > lam[:-1]))
    if len(flat):
        i = int(flat[0])
        raise ValueError(
            f"A grid runs from noise to data, with strictly decreasing noise, but grid[{i}] = {times[i].item():.9g} and "
            f"grid[{i + 1}] = {times[i + 1].item():.9g} have lambda {lam[i].item():.6g} and {lam[i + 1].item():.6g}. "
            f"Sort the times so that sigma falls, without repeats."
        )
    return times
