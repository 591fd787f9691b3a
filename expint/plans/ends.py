"""The two ends of a diffusion, σ = ∞ and σ = 0, and noise that is added between steps: rows with
coefficients of their own."""

import math

import torch
from torch import Tensor

from expint.equations import SemiLinearSDE
from expint.equations.diffusion import Diffusion
from expint.noise import SubstepNoise
from expint.plans.plan import Row

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
    start, end = times[0].item(), times[1].item()
    std = float(schedule.std(end))
    weights = ((0, float(schedule.alpha(end))),)
    if sde.noise is None or std == 0.0:
        scale = std / float(schedule.std(start))
        return [Row(0, start, end, "data", scale, weights)], None
    # The interval starts at τ(σ=∞): 0 in every form but those with τ < 0, where it is −∞ and only
    # fresh noise can serve.
    tau = sde.noise(times[:2].detach())
    kept = min(float(tau[0] / tau[1]), 1.0) if sde.noise.sign > 0 else 0.0
    scale = math.sqrt(kept) * std / float(schedule.std(start))
    row = Row(0, start, end, "data", scale, weights, (std * math.sqrt(1.0 - kept),))
    return [row], SubstepNoise(1, False, tau)


def last_to_zero(diffusion: Diffusion, step: int, start: float, end: float, source: int) -> Row:
    """The last step to σ = 0, where every form has the same first-order limit: x = α D, without
    noise."""
    return Row(step, start, end, "data", 0.0, ((source, float(diffusion.schedule.alpha(end))),))


def added_noise(
    diffusion: Diffusion, start: Tensor, end: Tensor, s_noise: float
) -> list[tuple[float, float]]:
    """Factor of the state, and standard deviation of the noise, that bring it from `start` to
    noisier times `end`."""
    schedule = diffusion.schedule
    low, high, alpha = schedule.sigma(start), schedule.sigma(end), schedule.alpha(end)
    std = alpha * torch.sqrt(((high - low) * (high + low)).clamp(min=0.0)) * s_noise
    factors = (alpha / schedule.alpha(start)).tolist()
    return list(zip(factors, std.tolist(), strict=True))


def fresh_noise(step: int, start: float, end: float, scale: float, std: float) -> Substep:
    """A row that only adds noise, which is not the path's: it has no place in the noise clock."""
    row = Row(step, start, end, "data", scale, (), (std,), evaluates=False)
    return [row], SubstepNoise(1)


def langevin(
    diffusion: Diffusion, times: Tensor, ratio: float
) -> list[tuple[float, float, float, float]]:
    """Per time the coefficients of x + ε s + √(2ε) z with ε = 2 (r σ̄)² and s = (αD − x)/σ̄²: the
    time, and the coefficients of x, D and z."""
    alphas, stds = diffusion.schedule.alpha(times), diffusion.schedule.std(times)
    on_data, on_z = 2.0 * ratio**2 * alphas, 2.0 * ratio * stds
    scale = 1.0 - 2.0 * ratio**2
    return [
        (t, scale, data, z)
        for t, data, z in zip(times.tolist(), on_data.tolist(), on_z.tolist(), strict=True)
    ]


def langevin_row(
    step: int, index: int, time: float, scale: float, data: float, z: float
) -> Substep:
    """The row of a Langevin step; `index` is its own."""
    row = Row(step, time, time, "data", scale, ((index, data),), (z,))
    return [row], SubstepNoise(1)
