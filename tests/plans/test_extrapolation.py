"""A factor on each step's extrapolation, and ℓ for each step: the numbers a plan is tuned in."""

import numpy as np
import pytest
import torch

import expint
from expint.noise import Gaussian
from expint.plans import extrapolated
from expint.runs import execute
from expint.schedules import EDM, VP

SOLVERS = ("seeds-ab2", "seeds-ab3", "seeds-3", "unipc-2", "sa-solver", "dpmpp-2m-sde", "pece-2")
SCHEDULE = VP()
TARGET = expint.targets.GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.2, [0.5, 0.5], SCHEDULE)


def plan_of(solver, **options):
    return expint.plan_sampling(SCHEDULE, solver, steps=6, **options)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_factor_of_one_changes_nothing(solver):
    plan = plan_of(solver)
    for row, same in zip(plan.rows, extrapolated(plan, [1.0] * 6).rows, strict=True):
        assert row._replace(weights=()) == same._replace(weights=())
        assert dict(same.weights) == pytest.approx(dict(row.weights), rel=1e-14)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_weights_keep_their_sum_and_the_noise_is_not_touched(solver):
    plan = plan_of(solver)
    factors = [0.0, 0.3, 0.7, 1.2, 1.5, 0.9]
    changed = extrapolated(plan, factors)
    moved = 0
    for row, new in zip(plan.rows, changed.rows, strict=True):
        assert sum(w for _, w in new.weights) == pytest.approx(sum(w for _, w in row.weights))
        assert (new.scale, new.noise, new.time) == (row.scale, row.noise, row.time)
        first = max(j for j, _ in row.weights)
        for j, weight in new.weights:
            if j != first and len(row.weights) > 1 and solver.startswith("seeds-ab"):
                assert weight == pytest.approx(factors[row.step] * dict(row.weights)[j])
                moved += 1
    assert moved or not solver.startswith("seeds-ab")
    assert changed.factors == tuple(factors)
    assert extrapolated(changed, [0.5] * 6).factors == pytest.approx([0.5 * f for f in factors])


@pytest.mark.parametrize("solver", ["seeds-ab2", "seeds-ab3", "seeds-3", "unipc-2"])
def test_with_factor_zero_a_step_is_of_first_order(solver):
    """Of several stages the last one then is the exponential Euler step of the whole step."""
    plan = extrapolated(plan_of(solver, ell=1.0), [0.0] * 6)
    euler = expint.plan_sampling(SCHEDULE, "seeds-1", ell=1.0, grid=plan.grid)
    last = [row for row, ends in zip(plan.rows, plan.ends_step, strict=True) if ends]
    for row, one in zip(last, euler.rows, strict=True):
        assert row.scale == pytest.approx(one.scale)
        assert sum(abs(w) for _, w in row.weights) == pytest.approx(one.weights[0][1])


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_ell_for_each_step_that_is_the_same_in_all(solver):
    one, each = plan_of(solver, ell=0.7), plan_of(solver, ell=[0.7] * 5)
    for row, same in zip(one.rows, each.rows, strict=True):
        assert same.scale == pytest.approx(row.scale, rel=1e-10)
        assert [w for _, w in same.weights] == pytest.approx([w for _, w in row.weights], rel=1e-9)
        assert same.noise == pytest.approx(row.noise, rel=1e-9)


def test_an_ell_as_an_array_or_as_a_tensor_of_one_number():
    listed = plan_of("seeds-ab2", ell=[0.7, 0.5, 0.3, 0.2, 0.1])
    array = plan_of("seeds-ab2", ell=np.array([0.7, 0.5, 0.3, 0.2, 0.1]))
    assert array.rows == listed.rows
    assert plan_of("seeds-ab2", ell=torch.tensor(0.5)).sde.diffusion.ell == 0.5


def test_a_step_with_ell_zero_has_no_noise():
    plan = plan_of("seeds-ab2", ell=[1.0, 0.0, 0.5, 0.0, 1.0])
    assert [plan.noise_std(row) > 0 for row in plan.rows] == [True, False, True, False, True, False]


def test_gradients_of_grid_ell_and_factors():
    """Against central differences of a run with fixed normals, float64."""
    base = plan_of("seeds-ab2", ell=0.8)
    lam = SCHEDULE.lam(base.grid[:-1])
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(numbers):
        inner = SCHEDULE.t_of_lam(lam[1:] + numbers[:5])
        grid = torch.cat([base.grid[:1], inner, base.grid[-1:]])
        sde_ell = numbers[5:10]
        plan = expint.plan_sampling(SCHEDULE, "seeds-ab2", grid=grid, ell=sde_ell)
        plan = extrapolated(plan, numbers[10:])
        return execute(plan, TARGET, x, Gaussian(range(4))).square().sum()

    point = torch.cat(
        [torch.linspace(-0.1, 0.1, 5), torch.full((5,), 0.8), torch.linspace(0.6, 1.1, 6)]
    )
    point = point.double()
    leaf = point.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    numeric = torch.zeros_like(point)
    for i in range(len(point)):
        step = torch.zeros_like(point)
        step[i] = 1e-5
        numeric[i] = (loss(point + step) - loss(point - step)) / 2e-5
    assert gradient[:-1].abs().min() > 1e-4 or gradient[10] == 0.0
    torch.testing.assert_close(gradient, numeric, rtol=1e-5, atol=1e-7)


def test_refusals():
    plan = plan_of("seeds-ab2")
    for wrong in ([1.0] * 5, [[1.0] * 6], [float("nan")] * 6):
        with pytest.raises(ValueError, match="one finite factor for each of the 6 steps"):
            extrapolated(plan, wrong)
    with pytest.raises(ValueError, match="takes derivatives"):
        extrapolated(plan_of("taylor-2"), [1.0] * 6)
    with pytest.raises(ValueError, match="ell is one number, or one for each of the 5 steps"):
        plan_of("seeds-ab2", ell=[1.0] * 3)
    with pytest.raises(ValueError, match="finite and >= 0 in every step"):
        plan_of("seeds-ab2", ell=[1.0, -1.0, 1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="form='data'"):
        plan_of("seeds-ab2", ell=[1.0] * 5, form="noise")
    assert expint.plan_sampling(EDM(), steps=4, ell=[0.0, 0.0, 0.5]).sde.is_stochastic
