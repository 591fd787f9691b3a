"""Names of other programs against their published rules."""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch

from expint import phi, plan_sampling, solvers
from expint.schedules import EDM, VP, Discrete, Flow, scaled_linear_betas

SCHEDULES = [EDM(), VP(), Flow()]
GRID = [5.0, 2.0, 0.9, 0.5, 0.2]


def steps_of(name: str, schedule: Any, **options: Any) -> Any:
    """(h, α_s, α_t, σ_s, σ_t, rows) of each step between the σ of `GRID`."""
    times = [schedule.t_of_sigma(sigma) for sigma in GRID]
    plan = plan_sampling(schedule, name, grid=times, **options)
    for k, (s, t) in enumerate(pairwise(times)):
        rows = [row for row in plan.rows if row.step == k]
        h = schedule.lam(t) - schedule.lam(s)
        yield h, schedule.alpha(s), schedule.alpha(t), GRID[k], GRID[k + 1], rows


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("order", [2, 3])
def test_res_multistep(schedule: Any, order: int):
    """The weights that the stiff order conditions leave, Σ b_j c_j^k/k! = φ_{k+1}(−h)."""
    before: list[float] = []
    for h, old, alpha, high, low, (row,) in steps_of(f"res-{order}m", schedule):
        nodes = [0.0]
        for length in before[::-1][: order - 1]:
            nodes.append(nodes[-1] - length / h)
        if before and h > 2.5 * before[-1]:
            nodes = [0.0]
        system = [[c**k / math.factorial(k) for c in nodes] for k in range(len(nodes))]
        right = torch.tensor([phi(k + 1, -h) for k in range(len(nodes))], dtype=torch.float64)
        b = torch.linalg.solve(torch.tensor(system, dtype=torch.float64), right)
        weights = [weight for _, weight in row.weights]
        assert row.scale == pytest.approx(alpha / old * low / high, rel=1e-12)
        assert weights == pytest.approx([alpha * h * float(x) for x in b], rel=1e-9)
        before.append(h)
    assert len(before) == 4


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_res_singlestep(schedule: Any):
    for h, old, alpha, high, low, (first, last) in steps_of("res-2s", schedule):
        middle = schedule.alpha(schedule.t_of_lam(-math.log(high) + 0.5 * h))
        assert first.weights[0][1] == pytest.approx(middle * 0.5 * h * phi(1, -0.5 * h), rel=1e-12)
        b2 = 2.0 * phi(2, -h)
        expected = [alpha * h * (phi(1, -h) - b2), alpha * h * b2]
        assert [w for _, w in last.weights] == pytest.approx(expected, rel=1e-12)
        assert last.scale == pytest.approx(alpha / old * low / high, rel=1e-12)


def test_res_three_stages():
    """γ = 4 for the nodes 1/2 and 1: a_32 = 2 φ_2(−h/2) + 2 φ_2(−h), b_2 = 4 b_3 = 4/3 φ_2(−h)."""
    for h, *_, (_, second, last) in steps_of("res-3s", EDM()):
        a32 = 2.0 * phi(2, -0.5 * h) + 2.0 * phi(2, -h)
        expected = [h * (phi(1, -h) - a32), h * a32]
        assert [w for _, w in second.weights] == pytest.approx(expected, rel=1e-12)
        b3 = phi(2, -h) / 3.0
        expected = [h * (phi(1, -h) - 5.0 * b3), 4.0 * h * b3, h * b3]
        assert [w for _, w in last.weights] == pytest.approx(expected, rel=1e-12)


def test_nodes_may_be_chosen():
    assert solvers.get("res-2s", c=0.7).tableau.stages[0].c == Fraction(7, 10)
    third = solvers.get("res-3s", c2=1 / 3, c3=2 / 3)
    assert third.tableau.terms == solvers.seeds3().terms and third.deterministic_order == 3


def test_heun_for_sdes():
    """On EDM, where t = σ and the reverse SDE is dx = 2 (x − D)/σ dσ + √(2σ) dw: x̂ and the mean of
    the two drifts, both with the whole increment."""
    for _, _, _, high, low, (first, last) in steps_of("heun-sde", EDM()):
        assert first.prediction == "rate" and last.time == pytest.approx(low, rel=1e-12)
        dt = high - low
        assert first.scale == last.scale == 1.0
        assert [w for _, w in last.weights] == pytest.approx([0.5 * dt] * 2, rel=1e-12)
        assert first.noise == last.noise == (pytest.approx((high**2 - low**2) ** 0.5, rel=1e-10),)


LABELS = [999, 759, 499, 259]
SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def ipndm_v_weights(h: list[float], mended: bool) -> list[float]:
    """Of order 3, by its code; h are the lengths of this step and of the two before. Mended, the
    factor of the divided differences stands behind the bracket."""
    a, b = h[0] / (3 * (h[0] + h[1])), h[0] * (h[0] + h[1]) / (h[1] * (h[1] + h[2]))
    more = (1 - a) * b / 2 if mended else (1 - a * b) / 2
    r = h[1] / h[2]
    return [1 + h[0] / h[1] / 2 + more, -h[0] / h[1] / 2 - (1 + r) * more, more * r]


def test_ipndm_v():
    """The third step on unequal levels: as its code with the bracket mended; on equal ones, as it
    is. What its code has otherwise fails the condition of order 3."""
    third = [rows[0] for *_, rows in steps_of("ipndm-v", EDM())][2]
    high, low = GRID[2], GRID[3]
    lengths = [a - b for a, b in pairwise(GRID)][2::-1]
    found = [weight / (low - high) for _, weight in third.weights]
    assert found == pytest.approx(ipndm_v_weights(lengths, mended=True), rel=1e-12)
    assert found != pytest.approx(ipndm_v_weights(lengths, mended=False), rel=0.01)
    equal = [0.3, 0.3, 0.3]
    adams = [23 / 12, -16 / 12, 5 / 12]
    for mended in (False, True):
        assert ipndm_v_weights(equal, mended) == pytest.approx(adams, rel=1e-12)
        nodes = [0.0, -lengths[1] / lengths[0], -(lengths[1] + lengths[2]) / lengths[0]]
        weights = ipndm_v_weights(lengths, mended)
        second = sum(w * c**2 for w, c in zip(weights, nodes, strict=True))
        assert (second == pytest.approx(1 / 3)) is mended


def lcm_run(scheduler: Any, own: bool, scaling: float) -> torch.Tensor:
    """Four steps on one noise. The model is a consistency function with the boundary condition that
    LCM's scheduler applies to the network: for ours it is part of the model."""
    table = Discrete.from_betas(scaled_linear_betas())
    generator = torch.Generator().manual_seed(2)
    x = torch.empty(2, 3, 4, 4).normal_(generator=generator)
    for t in scheduler.timesteps:
        eps = 0.3 * torch.tanh(x) + 0.001 * float(t)
        if own:
            alpha, std = float(table.alpha(float(t))), float(table.std(float(t)))
            skip = 0.25 / ((float(t) * scaling) ** 2 + 0.25)
            out = float(t) * scaling / ((float(t) * scaling) ** 2 + 0.25) ** 0.5
            eps = (x - alpha * (skip * x + out * (x - std * eps) / alpha)) / std
        x = scheduler.step(eps, t, x, generator=generator).prev_sample
    return x


@pytest.mark.parametrize("scaling", [10.0, 0.01])
def test_lcm_against_diffusers(scaling: float):
    """Live, also with a boundary condition that matters, c_skip up to .04."""
    diffusers = pytest.importorskip("diffusers")
    from diffusion_adapters.diffusers import ExpIntScheduler

    theirs = diffusers.LCMScheduler(**SD, timestep_scaling=scaling)
    theirs.set_timesteps(timesteps=LABELS)
    ours = ExpIntScheduler(**SD, solver="lcm")
    ours.set_timesteps(timesteps=LABELS)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist() == LABELS
    got, expected = lcm_run(ours, True, scaling), lcm_run(theirs, False, scaling)
    torch.testing.assert_close(got, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_euler_ancestral_has_the_marginals_of_a_flow(eta: float):
    """For exact D = x₀ and x = (1 − t) x₀ + t ε, every step keeps (1 − t) x₀ and the standard
    deviation t; with η = 1 it is SEEDS-1 at ℓ = 1, DDPM's rule."""
    plan = plan_sampling(Flow(), solvers.get("euler-ancestral", eta=eta), steps=8)
    mean, variance = 0.0, 1.0
    for row in plan.rows[:-1]:
        weight = row.weights[0][1] if row.weights else 0.0
        mean = row.scale * mean + weight
        variance = row.scale**2 * variance + sum(z**2 for z in row.noise)
        target = float(row.target)
        assert mean == pytest.approx(1.0 - target, rel=1e-12)
        assert variance**0.5 == pytest.approx(target, rel=1e-5)
