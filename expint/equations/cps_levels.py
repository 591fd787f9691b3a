"""The level of coefficients-preserving sampling (CPS) as ℓ."""

import math
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import are_numbers, as_float64
from expint.schedules.base import Schedule


def ell_from_cps(schedule: Schedule, grid: Any, level: float) -> Tensor:
    """ℓ of each step for the level η of coefficients-preserving sampling.

    Its step keeps c = cos(ηπ/2) of the predicted noise ε and draws the rest: x_t = α_t D +
    σ̄_t (c ε + √(1 − c²) z). That is the step of `seeds-1` in the data form with e^{−ℓ²h} = c, h the
    step in λ: c is the same at every step, where ℓ is not.

    Args:
        schedule: the noise schedule.
        grid: times from noise to data, shape (steps + 1,); a step from σ = ∞, which is without
            noise here and not in CPS, and a last step to σ = 0 have no ℓ.
        level: η from 0, the ODE, to 1, where all noise is drawn anew: ℓ = ∞.

    Returns:
        ℓ for `ell=` of `expint.sample`, float64, one for each step between finite noise levels.

    Raises:
        ValueError: for another level.

    Source: Coefficients-Preserving Sampling, arXiv 2509.05952; flow_grpo's sde_type "cps".

    Example:
        >>> from expint.schedules import Flow
        >>> ell_from_cps(Flow(), [0.8, 0.5, 0.2, 0.0], 0.5).round(decimals=3).tolist()
        [0.5, 0.5]
    """
    if not are_numbers(level) or not 0.0 <= level <= 1.0:
        raise ValueError(f"The level of CPS is a number from 0 to 1, got {level!r}.")
    lam = schedule.lam(as_float64(grid))
    h = lam[torch.isfinite(lam)].diff()
    kept = math.cos(0.5 * math.pi * level) if level < 1.0 else 0.0
    return torch.sqrt((-math.log(kept) if kept else math.inf) / h)
