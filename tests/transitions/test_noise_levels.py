"""Flow-GRPO's noise level is a constant ℓ, and what its Euler rule makes of Gaussian data."""

import math
from itertools import pairwise

import pytest
import torch

import expint
from expint.convergence import gaussian_moments
from expint.transitions import ell_from_noise_level, noise_level_from_ell

FLOW = expint.schedules.Flow()
LEVEL, STDS = 0.7, (1.0, 0.5, 0.1)


def flow_grpo_std(c: float) -> float:
    """Std of the samples over the exact one for data N(0, c²), by the published rule

        x ← x + [v + s²/(2t) (x + (1 − t) v)] Δt + s √|Δt| z,   s = a √(t/(1 − t)),

    on 10 steps of t uniform before the shift by 3 (Stable Diffusion 3's), down to t = 0; in the
    first step, at t = 1, the s of its code: 1 − t is that of the second time. v is linear in x, so
    that the variance is exact.
    """
    times = [3 * t / (1 + 2 * t) for t in (1 - i / 10 for i in range(11))]
    variance = 1.0
    for t, after in pairwise(times):
        noise = LEVEL * math.sqrt(t / (1 - (times[1] if t == 1 else t)))
        slope = (t - (1 - t) * c**2) / (t**2 + (1 - t) ** 2 * c**2)  # v = slope · x
        drift = slope + noise**2 / (2 * t) * (1 + (1 - t) * slope)
        variance = variance * (1 + drift * (after - t)) ** 2 + noise**2 * (t - after)
    return math.sqrt(variance) / c


def test_its_euler_rule_has_the_wrong_marginals():
    assert [round(flow_grpo_std(c), 3) for c in STDS] == [0.895, 0.849, 2.114]


def test_a_plan_of_the_same_noise_level_and_evaluations_is_within_two_percent():
    """dpm-solver-1, one density a step, at levels spaced as Karras's from 50 to .05."""
    sigma = torch.linspace(50 ** (1 / 7), 0.05 ** (1 / 7), 9, dtype=torch.float64) ** 7
    grid = [1.0, *FLOW.t_of_sigma(sigma).tolist(), 0.0]
    plan = expint.plan_sampling(FLOW, "dpm-solver-1", ell=ell_from_noise_level(LEVEL), grid=grid)
    assert plan.nfe == 10 and len(expint.transitions.kernels(plan)) == 9
    for c in STDS:
        target = expint.targets.Gaussian([0.0], c**2, FLOW)
        assert abs(gaussian_moments(plan, target)[1].item() ** 0.5 / c - 1) < 0.02


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_noise_of_a_short_step_is_that_of_the_published_sde(t: float):
    short = 1e-7
    ell = ell_from_noise_level(LEVEL)
    plan = expint.plan_sampling(FLOW, "seeds-1", ell=ell, grid=[t, t - short])
    (factor,) = (kernel.factor for kernel in expint.transitions.kernels(plan))
    assert factor.item() / short**0.5 == pytest.approx(LEVEL * math.sqrt(t / (1 - t)), rel=1e-5)


def test_there_and_back():
    assert noise_level_from_ell(ell_from_noise_level(LEVEL)) == pytest.approx(LEVEL, rel=1e-15)
    assert ell_from_noise_level(0) == 0.0


@pytest.mark.parametrize("bad", [-0.1, math.inf, math.nan, True, "0.7", None])
def test_other_levels_are_refused(bad: object):
    for function in (ell_from_noise_level, noise_level_from_ell):
        with pytest.raises(ValueError, match="is a number from 0 to"):
            function(bad)  # pyright: ignore[reportArgumentType]
