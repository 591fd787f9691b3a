"""Whether a run can begin as it is asked to."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.guards.warning import warn
from expint.noise import NoiseSource
from expint.numerics.float64 import is_whole
from expint.schedules import Schedule

_NOISE_SIGMA = 10.0
"""From this σ on states count as pure noise: data of variance 1 is at most 1 % of theirs."""
_MANY_ENTRIES = 1024
_MOST, _MOST_SAMPLES = 2**40, 2**27  # numbers and samples of a run


def check_dtype(dtype: Any) -> None:
    """Refuse what is no floating-point type of at least 16 bits."""
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1):
        raise TypeError(f"dtype, torch.dtype, is a floating-point type, got {dtype!r}: of 16 bits.")


def check_noise(noise: Any) -> None:
    """Refuse what is no noise source; None is none."""
    if noise is not None and (isinstance(noise, type) or not isinstance(noise, NoiseSource)):
        raise TypeError(f"noise is a noise source such as Gaussian(seeds), got {noise!r}.")


def check_callback(callback: Any) -> None:
    """Refuse what cannot be called after every step."""
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback is called as callback(step, nfe, t, x, denoised), got {callback!r}."
        )


def checked_shape(shape: Any) -> tuple[int, ...]:
    """The shape (batch, *event) of samples as integers.

    Raises:
        ValueError: for anything else, and for more numbers than a run holds.
    """
    listed = isinstance(shape, (Sequence, np.ndarray)) and not isinstance(shape, (str, bytes))
    sizes: tuple[Any, ...] = tuple(shape) if listed else ()
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
    return sizes


def check_pure_noise(schedule: Schedule, first: float) -> None:
    """Refuse to draw the initial state at a time where its law is not known.

    Raises:
        ValueError: with the way out, for a first time well below the noise end and σ = 10.
    """
    noise = schedule.sampling_range[0]
    sigma, largest = schedule.sigma(first), schedule.sigma(noise)
    if sigma < min(_NOISE_SIGMA, 0.99 * largest):
        raise ValueError(
            f"The grid starts at t = {first:.6g}, where sigma = {sigma:.6g}: there a state is not "
            "pure noise, and its law is not known. Give the state in place of its shape (x = alpha "
            f"x0 + std noise), or start at t = {noise:.6g}, where sigma = {largest:.6g}. Noise "
            "levels become times by schedule.t_of_sigma(levels)."
        )


def check_scale(x: Tensor, schedule: Schedule, first: float) -> None:
    """Warn of an initial state whose size is far from that of the states at the first time, or that
    is pure noise where it cannot be."""
    alpha, std, n = schedule.alpha(first), schedule.std(first), x.numel()
    values = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    found = values.abs().square().mean().sqrt().item()
    # n standard normals have a root mean square below f with a probability of at most
    # (f √e)ⁿ (Chernoff), which is e^−15 here.
    least = min(1.0 / 3.0, math.exp(-15.0 / n - 0.5))
    if not std * least <= found <= 10.0 * math.hypot(alpha, std):
        warn(
            f"The initial state has a root mean square of {found:.3g}, but at the first time of "
            f"the grid, t = {first:.6g}, the noise alone has {std:.3g}: multiply standard normals "
            "by schedule.std(t), or give a shape and let them be drawn."
        )
    elif x.ndim > 2 and n >= _MANY_ENTRIES and x.shape[-1] > 1 and schedule.sigma(first) < 1.0:
        neighbours = torch.stack([values[..., 1:], values[..., :-1]]).flatten(1)
        if abs(torch.corrcoef(neighbours)[0, 1].item()) < 5.0 / math.sqrt(n):
            warn(
                "The initial state is pure noise (its neighbouring entries are independent), but "
                f"at the first time of the grid, t = {first:.6g}, sigma is only "
                f"{schedule.sigma(first):.3g}. If the grid was meant as noise levels, times are "
                "schedule.t_of_sigma(levels)."
            )
