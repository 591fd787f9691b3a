"""Image to image: begin a run at an image with noise, instead of at noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_adapters.guidance.wrapping import check_number
from expint import grids
from expint.noise import initial_state
from expint.noise.source import check_seeds
from expint.runs.run import check_state
from expint.sampling import DEFAULT_GRID, DEFAULT_STEPS, model_schedule
from expint.schedules import Schedule
from expint.schedules.discrete import TabulatedVP

__all__ = ["Start", "start"]


class Start(NamedTuple):
    """A noised image, and the times from there on: `expint.sample(model, start.x,
    grid=start.grid)`.
    """

    x: Tensor
    """α·image + σ̄·noise at the first time, in the shape, dtype and device of the image."""
    grid: Tensor
    """float64, shape (steps + 1,), from the first time to the data end."""


def start(
    model: Any,
    image: Tensor,
    *,
    strength: float | None = None,
    sigma: float | None = None,
    steps: int = DEFAULT_STEPS,
    grid: str | None = None,
    final: str = "denoise",
    seed: int | Sequence[int] = 0,
) -> Start:
    """Noise an image to some level, and lay a grid from that level to the data.

    Args:
        model: a model, or a schedule.
        image: shape (batch, *event), floating, in the range of the network's data.
        strength: share of the noise in the mixture of image and noise, in (0, 1]: the run begins at
            σ = strength/(1 − strength), or at the noise end of the sampling range if that is lower.
            1/2 is as much noise as image, 1 forgets the image. It means the same for every
            schedule, grid and number of steps.
        sigma: the level itself, in place of `strength`.
        steps: number of steps, all of them between the level and the data.
        grid: name of a grid (`expint.grids.names()`), laid over the rest of the sampling range;
            default: that of `expint.sample`.
        final: "denoise" or "none", as for `expint.sample`.
        seed: seeds of the noise, one per sample, or one integer n for n, n+1, …. The noise is that
            of the initial state of `expint.sample` and independent of what it draws along the path
            with the same seeds.

    Returns:
        The pair (x, grid) for `expint.sample(model, x, grid=grid)`.

    Raises:
        TypeError, ValueError: unless exactly one of strength and sigma is given; for a level
            outside the sampling range (at strength 0 there is nothing to sample: the image is the
            result), an image that is no finite batch, or a grid that is not known.

    Source: Meng et al. (SDEdit), arXiv 2108.01073, algorithm 1.

    Example:
        >>> import expint
        >>> x, times = start(expint.schedules.EDM(), torch.zeros(2, 1, 8, 8), sigma=3.0, steps=4)
        >>> x.shape, times.shape, round(times[0].item(), 6)
        (torch.Size([2, 1, 8, 8]), torch.Size([5]), 3.0)
    """
    schedule = model if isinstance(model, Schedule) else model_schedule(model)
    check_state(image)
    rounding = getattr(model, "round_time", None)
    first_time = _first_time(schedule, strength, sigma, rounding)
    times = _grid_from(
        schedule, first_time, grid or _default_grid(schedule, first_time, rounding), steps, final
    )
    seeds = check_seeds(seed)
    if isinstance(seed, int):
        seeds = tuple(range(seed, seed + image.shape[0]))
    if len(seeds) != image.shape[0]:
        raise ValueError(
            f"There is one seed per sample, but {len(seeds)} seeds came for {image.shape[0]} "
            "images."
        )
    noise = initial_state(seeds, image.shape[1:], image.dtype, image.device)
    first = times[0]
    x = image * schedule.alpha(first).to(image) + noise * schedule.std(first).to(image)
    return Start(x, times)


@dataclass(frozen=True)
class _Rest(Schedule):
    """A schedule whose sampling range begins at `first`: grid builders then lay their points over
    what is left.
    """

    whole: Schedule
    first: float

    @property
    def domain(self) -> tuple[float, float]:
        return self.whole.domain

    @property
    def sampling_range(self) -> tuple[float, float]:
        return self.first, self.whole.sampling_range[1]

    def _log_alpha(self, t: Tensor) -> Tensor:
        return self.whole.log_alpha(t)

    def _log_std(self, t: Tensor) -> Tensor:
        return self.whole.log_std(t)

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return self.whole.t_of_lam(lam)


def _first_time(
    schedule: Schedule,
    strength: float | None,
    sigma: float | None,
    round_time: Callable[[Tensor], Tensor] | None,
) -> float:
    noise_end, data_end = schedule.sampling_range
    highest, lowest = schedule.sigma(noise_end), schedule.sigma(data_end)
    if (strength is None) == (sigma is None):
        raise ValueError(
            f"Give either strength or sigma, got strength={strength!r} and sigma={sigma!r}."
        )
    if strength is not None:
        share = check_number("strength", strength, 0.0, 1.0)
        level = share / (1.0 - share) if share < 1.0 else float("inf")
        level = min(level, highest)
    else:
        level = check_number("sigma", sigma, 0.0)
    if not lowest < level <= highest:
        given = (
            f"strength={strength!r} is sigma = {level:.6g}"
            if strength is not None
            else f"sigma={sigma!r} came"
        )
        raise ValueError(
            f"The run must begin within the sampling range of {schedule}, which has sigma from "
            f"{highest:.6g} to {lowest:.6g}, but {given}: take a level inside (for no noise at "
            "all, the image is the result)."
        )
    t = noise_end if level == highest else schedule.t_of_sigma(level)
    if round_time is not None:
        t = float(round_time(torch.tensor(t, dtype=torch.float64)))
    return float(t)


def _default_grid(schedule: Schedule, first: float, round_time: Any) -> str:
    """The grid that `expint.sample` takes for this schedule."""
    if round_time is not None and isinstance(schedule, TabulatedVP):
        return "discrete"
    return "uniform_time" if schedule.lam(first) == -float("inf") else DEFAULT_GRID


def _grid_from(schedule: Schedule, first: float, name: str, steps: int, final: str) -> Tensor:
    rest = _Rest(schedule, first)
    if name == "discrete" and isinstance(schedule, TabulatedVP):
        # Entries of the table, evenly spread over what is left of it.
        times = grids.uniform_time(rest, steps, final=final)
        inside = len(times) - (final == "denoise")
        times = torch.cat([schedule.round(times[:inside]), times[inside:]])
    else:
        times = grids.get(name)(rest, steps, final=final)
    return grids.check(schedule, times)
