"""Noise scales with an ℓ of its own in each step of a grid."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from expint.equations.noise_scales import NoiseScale, ell_from_eta, piecewise
from expint.numerics.float64 import as_float64
from expint.schedules.base import Schedule

MOST_ELL = 1e4
"""The largest finite ℓ; with less, steps already draw all of their noise anew."""


def noise_scale_from_eta(schedule: Schedule, grid: Any, eta: Any) -> NoiseScale:
    """φ for DDIM's η, one value per step of `grid` (or one for all): ℓ is constant within each
    step. Arguments and errors are those of `noise_scale_per_step`.

    Source: DDIM, arXiv 2010.02502, eq. (16).
    """
    return _per_step(schedule, grid, "eta", eta, ell_from_eta)


def noise_scale_per_step(schedule: Schedule, grid: Any, ell: Any) -> NoiseScale:
    """φ for an ℓ of its own in each step of `grid`.

    Args:
        schedule: the noise schedule.
        grid: times from noise to data, shape (steps + 1,); a step from σ = ∞ and a last step to
            σ = 0 take no ℓ.
        ell: one number for all steps, or one for each step between finite noise levels; they may
            carry gradients. With `math.inf` a step has the limit ℓ → ∞.

    Raises:
        ValueError: for another number of values, or one that is negative, NaN, or finite and above
            10⁴.
    """
    return _per_step(schedule, grid, "ell", ell, lambda ell, *_: ell)


def _per_step(
    schedule: Schedule, grid: Any, what: str, given: Any, to_ell: Callable[..., Tensor]
) -> NoiseScale:
    lam = schedule.lam(as_float64(grid))
    lam = lam[torch.isfinite(lam)]
    sigma, steps = torch.exp(-lam), len(lam) - 1
    values = as_float64(given).reshape(-1)
    if len(values) not in (1, steps):
        raise ValueError(
            f"{what} is one number, or one for each of the {steps} steps with finite sigma; got "
            f"{len(values)} values."
        )
    ells = to_ell(values.expand(steps), sigma[:-1], sigma[1:])
    if not bool((((ells >= 0) & (ells <= MOST_ELL)) | (ells == math.inf)).all()):
        found = f"at most {MOST_ELL:g}, got {ells.tolist()}; inf stands for the limit"
        raise ValueError(f"ell must be finite and >= 0 in every step, {found}.")
    name = f"{what}={values[0].item():g}" if len(values) == 1 else f"{what} per step"
    u, squares = (v.unbind(0) if v.requires_grad else v.tolist() for v in (-lam, ells**2))
    return piecewise(name, list(zip(u[1:], u[:-1], squares, strict=True)))
