"""Whether a run can begin as it is asked to."""

import math
import warnings

import torch
from torch import Tensor

from expint.schedules import Schedule

_NOISE_SIGMA = 10.0
"""From this σ on states count as pure noise: data of variance 1 is at most 1 % of theirs."""
_LEAST_ENTRIES = 64


def check_pure_noise(schedule: Schedule, first: float) -> None:
    """Refuse to draw the initial state at a time where its law is not known.

    Raises:
        ValueError: with the way out, for a first time well below the noise end and σ = 10.
    """
    noise = schedule.sampling_range[0]
    sigma, largest = schedule.sigma(first), schedule.sigma(noise)
    if sigma >= min(_NOISE_SIGMA, 0.99 * largest):
        return
    raise ValueError(
        f"The grid starts at t = {first:.6g}, where sigma = {sigma:.6g}: there a state is not pure "
        "noise, and its law is not known. Give the state in place of its shape (x = alpha x0 + std "
        f"noise), or start at t = {noise:.6g}, where sigma = {largest:.6g}. Noise levels become "
        "times by schedule.t_of_sigma(levels)."
    )


def check_scale(x: Tensor, schedule: Schedule, first: float) -> None:
    """Warn of an initial state whose size is far from that of the states at the first time."""
    if x.numel() < _LEAST_ENTRIES:
        return
    alpha, std = schedule.alpha(first), schedule.std(first)
    found = x.to(torch.float32).square().mean().sqrt().item()
    if std / 3.0 <= found <= 10.0 * math.hypot(alpha, std):
        return
    warnings.warn(
        f"The initial state has a root mean square of {found:.3g}, but at the first time of the "
        f"grid, t = {first:.6g}, the noise alone has {std:.3g}: multiply standard normals by "
        "schedule.std(t), or give a shape and let them be drawn.",
        UserWarning,
        stacklevel=5,
    )
