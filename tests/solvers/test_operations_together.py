"""Bounds of operations, several of them in one run, and their factors with solvers of several
steps."""

import math
from itertools import pairwise

import pytest
import torch

from expint import compile_plan, reverse_sde
from expint.schedules import EDM, VP
from expint.solvers import ancestral, churn, large_variance

SIGMAS = [9.0, 4.0, 1.5, 0.6, 0.2]


def test_churn_includes_its_bounds():
    """EDM's S_tmin ≤ t_i ≤ S_tmax."""
    raised = churn(1.0, s_min=0.6, s_max=4.0).raised
    assert raised is not None
    sigma = torch.tensor(SIGMAS, dtype=torch.float64)
    found = raised(sigma, 5) / sigma
    assert found.tolist() == pytest.approx([1.0, 1.2, 1.2, 1.2, 1.0], rel=1e-14)


def test_churn_counts_all_steps_of_the_grid():
    """γ = s_churn/N with the step to σ = 0 among the N, from which level it is raised too."""
    plan = compile_plan(
        reverse_sde(EDM(), ell=0.0), "ddim", [*SIGMAS, 0.0], operations=[churn(0.8)]
    )
    starts = [row.time for row in plan.rows if row.evaluates]
    assert starts == pytest.approx([1.16 * sigma for sigma in SIGMAS], rel=1e-9)


def test_operations_follow_one_another():
    """Each takes the levels that the one before it gives: σ̂ = (1 + γ_1)(1 + γ_2) σ, and the second
    ancestral step starts from σ̂ and goes down from the first one's level."""
    around = [churn(0.4), ancestral(0.6), churn(0.8), ancestral(0.3)]
    plan = compile_plan(reverse_sde(EDM(), ell=0.0), "ddim", SIGMAS, operations=around)
    steps = [row for row in plan.rows if row.evaluates]
    for row, (sigma, target) in zip(steps, pairwise(SIGMAS), strict=True):
        start = 1.1 * 1.2 * sigma
        assert row.time == pytest.approx(start, rel=1e-9)
        for eta in (0.6, 0.3):
            up = min(target, eta * target * math.sqrt(1 - (target / start) ** 2))
            target = math.sqrt(target**2 - up**2)
        assert row.target == pytest.approx(target, rel=1e-9)


@pytest.mark.parametrize("solver", ["seeds-ab2", "seeds-ab3", "dpmpp-2m-sde"])
def test_factors_of_single_steps_with_history(solver: str):
    """The variance of each step is the large one of that step, whatever history it has."""
    schedule = VP()
    grid = [schedule.t_of_sigma(sigma) for sigma in SIGMAS]
    sde = reverse_sde(schedule)
    large, plain = (
        compile_plan(sde, solver, grid, operations=around) for around in ([large_variance()], [])
    )
    for a, b in zip(large.rows, plain.rows, strict=True):
        ratio = schedule.std(a.time) / schedule.std(a.target)
        assert large.noise_std(a) == pytest.approx(ratio * plain.noise_std(b), rel=1e-12)
        assert (a.weights, a.scale) == (b.weights, b.scale)
