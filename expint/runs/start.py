"""Where a run begins: the initial state, and the noise source from the seeds."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from expint.guards.finite import check_state
from expint.guards.start import (
    check_dtype,
    check_noise,
    check_pure_noise,
    check_scale,
    checked_shape,
)
from expint.noise import Gaussian, NoiseSource, initial_state
from expint.numerics.devices import usable_device
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
    check_noise(noise)
    if dtype is not None:
        check_dtype(dtype)
    device = None if device is None else usable_device(device)
    if isinstance(shape, np.ndarray) and shape.ndim > 1:
        shape = torch.as_tensor(shape)
    if isinstance(shape, Tensor):
        check_state(shape)
        check_scale(shape, model.schedule, plan.grid[0].item())
        x = shape.detach().to(dtype=dtype or shape.dtype, device=device or shape.device)
        return x, noise or Gaussian(seeding(len(x)))
    sizes, kind = checked_shape(shape), dtype or torch.float32
    where = device or model.device or torch.device("cpu")
    seeds = seeding(sizes[0])
    first = plan.grid[0].item()
    check_pure_noise(model.schedule, first)
    x = initial_state(seeds, sizes[1:], kind, where).mul_(float(model.schedule.std(first)))
    return x, noise or Gaussian(seeds)
