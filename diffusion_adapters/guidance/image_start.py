"""Image to image: begin a run at an image with noise, instead of at noise."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_adapters.guidance.wrapping import check_number
from expint import defaults, grids
from expint.guards.arguments import checked
from expint.guards.finite import check_state
from expint.noise import initial_state, per_sample
from expint.runs.model import describe
from expint.schedules import Schedule


class Start(NamedTuple):
    """A noised image, and the times from there on: `expint.sample(model, start.x,
    grid=start.grid)`.
    """

    x: Tensor
    """α·image + σ̄·noise at the first time, in the shape, dtype and device of the image."""
    grid: Tensor
    """float64, shape (steps + 1,), from the first time to the data end."""


@checked
def start(
    model: Any,
    image: Tensor,
    *,
    strength: float | None = None,
    sigma: float | None = None,
    steps: int = defaults.STEPS,
    grid: str | None = None,
    final: str = "denoise",
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
) -> Start:
    """Noise an image to some level, and lay a grid from that level to the data.

    Args:
        model: a model, or a schedule.
        image: shape (batch, *event), floating, in the range of the network's data.
        strength: fraction of noise in the mixture of image and noise, in (0, 1]: the run begins at
            σ = strength/(1 − strength), or at the noise end of the sampling range if that is lower.
            1/2 is as much noise as image, 1 forgets the image. It means the same for every
            schedule, grid and number of steps.
        sigma: the level itself, in place of `strength`.
        steps: number of steps, all of them between the level and the data.
        grid: name of a grid (`expint.grids.names()`), laid over the rest of the sampling range;
            default: that of `expint.sample`.
        final: "denoise" or "none", as for `expint.sample`.
        seed, seeds: of the noise, as for `expint.sample`. It is the noise of the initial state
            there, and independent of what is drawn along the path with the same seeds.

    Returns:
        The pair (x, grid) for `expint.sample(model, x, grid=grid)`.

    Raises:
        TypeError, ValueError: unless exactly one of strength and sigma is given; for a level
            outside the sampling range (at strength 0 there is nothing to sample: the image is the
            result), an image that is not a finite batch, or a grid that is not known.

    Source: Meng et al. (SDEdit), arXiv 2108.01073, algorithm 1.

    Example:
        >>> import expint
        >>> x, times = start(expint.schedules.EDM(), torch.zeros(2, 1, 8, 8), sigma=3.0, steps=4)
        >>> x.shape, times.shape, round(times[0].item(), 6)
        (torch.Size([2, 1, 8, 8]), torch.Size([5]), 3.0)
    """
    about = None if isinstance(model, Schedule) else describe(model)
    schedule, rounded = (about.schedule, about.round_time) if about else (model, None)
    check_state(image)
    first = _first_time(schedule, strength, sigma)
    if rounded is not None:  # perhaps to a last digit above the noise end
        moved = rounded(torch.tensor(first, dtype=torch.float64))
        first = min(float(moved), schedule.sampling_range[0])
    build = grids.get(grid) if grid else partial(defaults.grid, table=rounded is not None)
    times = grids.check(schedule, build(schedule, steps, start=first, final=final))
    chosen = per_sample(seed, len(image), seeds=seeds)
    noise = initial_state(chosen, image.shape[1:], image.dtype, image.device)
    alpha, std = schedule.alpha(times[0]), schedule.std(times[0])
    return Start(image * alpha.to(image) + noise * std.to(image), times)


def _first_time(schedule: Schedule, strength: float | None, sigma: float | None) -> float:
    noise_end, data_end = schedule.sampling_range
    highest, lowest = schedule.sigma(noise_end), schedule.sigma(data_end)
    if (strength is None) == (sigma is None):
        given = f"strength={strength!r} and sigma={sigma!r}"
        raise ValueError(f"Give either strength or sigma, got {given}.")
    if strength is not None:
        part = check_number("strength", strength, 0.0, 1.0)
        level = min(part / (1.0 - part), highest) if part < 1.0 else highest
        given = f"strength={strength!r} is sigma = {level:.6g}"
    else:
        level, given = check_number("sigma", sigma, 0.0), f"sigma={sigma!r} came"
    if not lowest < level <= highest:
        raise ValueError(
            f"The run must begin within the sampling range of {schedule}, sigma from "
            f"{highest:.6g} to {lowest:.6g}, but {given} (without noise, the image is the result)."
        )
    return noise_end if level == highest else min(schedule.t_of_sigma(level), noise_end)
