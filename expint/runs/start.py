"""Where a run begins: the initial state, and the noise source from the seeds."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.guards.finite import check_state
from expint.noise import Gaussian, NoiseSource, initial_state
from expint.numerics.float64 import is_whole
from expint.plans import Plan
from expint.runs.model import Description


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
    if noise is not None and not isinstance(noise, NoiseSource):
        raise TypeError(
            f"noise is a noise source such as expint.noise.Gaussian(seeds), got {noise!r}."
        )
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype is a torch.dtype such as torch.float32, got {dtype!r}.")
    if isinstance(shape, np.ndarray) and shape.ndim > 1:
        shape = torch.as_tensor(shape)
    if isinstance(shape, Tensor):
        check_state(shape)
        x = shape.detach().to(dtype=dtype or shape.dtype, device=device or shape.device)
        return x, noise or Gaussian(seeding(len(x)))
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    if not sizes or not all(is_whole(n) and n > 0 for n in sizes):
        raise ValueError(
            f"shape is (batch, *event) in positive integers, or an initial state; got {shape!r}."
        )
    sizes = tuple(int(n) for n in sizes)
    kind = dtype or torch.float32
    if not kind.is_floating_point:
        raise TypeError(f"dtype must be a floating-point type, got {kind}.")
    where = torch.device(device) if device is not None else model.device or torch.device("cpu")
    seeds = seeding(sizes[0])
    std = float(model.schedule.std(plan.grid[0].item()))
    x = initial_state(seeds, sizes[1:], kind, where).mul_(std)
    return x, noise or Gaussian(seeds)


def check_callback(callback: Any) -> None:
    """Refuse what cannot be called after every step."""
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback is called as callback(step, nfe, t, x, denoised), got {callback!r}."
        )
