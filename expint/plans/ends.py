"""The two ends of a diffusion, σ = ∞ and σ = 0, and noise that is added between steps: rows with
coefficients of their own."""

import math

import torch
from torch import Tensor

from expint.equations import SemiLinearSDE
from expint.equations.diffusion import Diffusion
from expint.noise import SubstepNoise
from expint.plans.plan import Coefficient, Row, each

Substep = tuple[list[Row], SubstepNoise | None]
"""Rows that share a start and normals, and what they ask of the noise."""


def first_from_infinity(sde: SemiLinearSDE, diffusion: Diffusion, times: Tensor) -> Substep:
    """The first step from σ = ∞, where every form has the same limit, of first order:
    x_t = P x_s + α_t D + noise.

    ℓ > 0: P = 0 and the noise has standard deviation σ̄_t; ℓ = 0: P = σ̄_t/σ̄_s and no noise. In
    between are noise scales for which φ/σ stays finite as σ → ∞, such as windows: P = (σ̄_t/σ̄_s)
    √q and variance σ̄_t² (1 − q) with q = τ_s/τ_t.
    """
    schedule = diffusion.schedule
    (alpha, std), first = (f(times[1]) for f in (schedule.alpha, schedule.std)), times[0]
    ratio = std / schedule.std(first)
    start, end, weight, scale = each(torch.stack([first, times[1], alpha, ratio]))
    weights = ((0, weight),)
    if sde.noise is None or std == 0.0:
        return [Row(0, start, end, "data", scale, weights)], None
    # The interval starts at τ(σ=∞): 0 in every form but those with τ < 0, where it is −∞ and only
    # fresh noise can serve.
    tau = sde.noise(times[:2].detach())
    kept = min(float(tau[0] / tau[1]), 1.0) if sde.noise.sign > 0 and tau[0] > 0 else 0.0
    scale, noise = each(torch.stack([math.sqrt(kept) * ratio, math.sqrt(1.0 - kept) * std]))
    return [Row(0, start, end, "data", scale, weights, (noise,))], SubstepNoise(1, False, tau)


def last_to_zero(diffusion: Diffusion, step: int, start: Tensor, end: Tensor, source: int) -> Row:
    """The last step to σ = 0, where every form has the same first-order limit: x = α D, without
    noise."""
    time, target, alpha = each(torch.stack([start, end, diffusion.schedule.alpha(end)]))
    return Row(step, time, target, "data", 0.0, ((source, alpha),))


def added_noise(
    diffusion: Diffusion, start: Tensor, end: Tensor, s_noise: float
) -> list[tuple[Coefficient, Coefficient]]:
    """Factor of the state, and standard deviation of the noise, that bring it from `start` to
    noisier times `end`."""
    schedule = diffusion.schedule
    low, high, alpha = schedule.sigma(start), schedule.sigma(end), schedule.alpha(end)
    gap = (high - low) * (high + low)
    std = s_noise * alpha * torch.where(gap > 0, torch.sqrt(torch.where(gap > 0, gap, 1.0)), 0.0)
    return list(zip(each(alpha / schedule.alpha(start)), each(std), strict=True))


def fresh_noise(
    step: int, start: Coefficient, end: Coefficient, scale: Coefficient, std: Coefficient
) -> Substep:
    """A row that only adds noise, which is not the path's: it has no place in the noise clock."""
    row = Row(step, start, end, "data", scale, (), (std,), evaluates=False)
    return [row], SubstepNoise(1)


def langevin(diffusion: Diffusion, times: Tensor, ratio: float) -> list[tuple[Coefficient, ...]]:
    """Per time the coefficients of x + ε s + √(2ε) z with ε = 2 (r σ̄)² and s = (αD − x)/σ̄²: the
    time, and the coefficients of x, D and z."""
    alphas, stds = diffusion.schedule.alpha(times), diffusion.schedule.std(times)
    on_data, on_z = 2.0 * ratio**2 * alphas, 2.0 * ratio * stds
    scale = 1.0 - 2.0 * ratio**2
    entries = zip(each(times), each(on_data), each(on_z), strict=True)
    return [(t, scale, data, z) for t, data, z in entries]


def langevin_row(
    step: int, index: int, time: Coefficient, scale: Coefficient, data: Coefficient, z: Coefficient
) -> Substep:
    """The row of a Langevin step; `index` is its own."""
    row = Row(step, time, time, "data", scale, ((index, data),), (z,))
    return [row], SubstepNoise(1)
