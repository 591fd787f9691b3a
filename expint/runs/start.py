"""Where a run begins: the initial state, and the noise source from the seeds."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.guards.devices import usable_device
from expint.guards.finite import check_state
from expint.guards.start import check_pure_noise, check_scale
from expint.noise import Gaussian, NoiseSource, initial_state
from expint.numerics.float64 import is_whole
from expint.plans import Plan
from expint.runs.model import Description

_MOST, _MOST_SAMPLES = 2**40, 2**27  # numbers and samples of a run


def start_state(
    model: Description,
    shape: Sequence[int] | Tensor,
    plan: Plan,
    seeding: Callable[[int], Sequence[int]],
    noise: NoiseSource | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> tuple[Tensor, NoiseSource]:
    """The initial state and the noise source; a given state is taken as it is, otherwise it is σ̄
    times normals. The arguments are those of `expint.sample`, with what the model says of itself;
    seeding(batch) gives one seed per sample.

    Raises:
        TypeError, ValueError: for anything that does not fit, saying what is allowed.
    """
    if noise is not None and (isinstance(noise, type) or not isinstance(noise, NoiseSource)):
        raise TypeError(
            f"noise is a noise source such as expint.noise.Gaussian(seeds), got {noise!r}."
        )
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype is a torch.dtype such as torch.float32, got {dtype!r}.")
    floating = dtype is None or dtype.is_floating_point or isinstance(shape, Tensor)
    if dtype is not None and (not floating or dtype.itemsize == 1):
        raise TypeError(f"dtype must be a floating-point type, got {dtype}: of 16 bits at least.")
    device = None if device is None else usable_device(device)
    if isinstance(shape, np.ndarray) and shape.ndim > 1:
        shape = torch.as_tensor(shape)
    if isinstance(shape, Tensor):
        check_state(shape)
        check_scale(shape, model.schedule, plan.grid[0].item())
        x = shape.detach().to(dtype=dtype or shape.dtype, device=device or shape.device)
        return x, noise or Gaussian(seeding(len(x)))
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    if not sizes or not all(is_whole(n) and n > 0 for n in sizes):
        raise ValueError(
            f"shape is (batch, *event) in positive integers, or an initial state; got {shape!r}."
        )
    sizes = tuple(int(n) for n in sizes)
    if math.prod(sizes) > _MOST or sizes[0] > _MOST_SAMPLES:
        raise ValueError(
            f"shape={sizes} is {sizes[0]:.3g} samples and {math.prod(sizes):.3g} numbers, more "
            "than a run holds: draw the samples in batches."
        )
    kind = dtype or torch.float32
    where = device or model.device or torch.device("cpu")
    seeds = seeding(sizes[0])
    first = plan.grid[0].item()
    check_pure_noise(model.schedule, first)
    std = float(model.schedule.std(first))
    x = initial_state(seeds, sizes[1:], kind, where).mul_(std)
    return x, noise or Gaussian(seeds)


def check_callback(callback: Any) -> None:
    """Refuse what cannot be called after every step."""
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback is called as callback(step, nfe, t, x, denoised), got {callback!r}."
        )
