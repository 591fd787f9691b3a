"""ℓ = ∞: each row is x = α D + σ̄ z, alone and among steps of finite ℓ."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

import expint
from expint import compile_plan, plan_sampling, reverse_sde, sample, solvers
from expint.convergence import gaussian_moments
from expint.schedules import EDM, VP, Discrete, Flow, Schedule
from expint.solvers import Method
from expint.targets import Gaussian

INF = math.inf
SCHEDULES = [EDM(), VP(), Flow()]
QUIET: dict[str, Any] = {"progress": False, "dtype": torch.float64, "seed": 3}
# Those whose polynomials are in the clock, with no operations of their own.
IN_CLOCK = [
    name
    for name in solvers.names()
    if (m := solvers.get(name)).tableau.variable == "clock"
    and not (m.operations or m.tableau.slopes)
]


def numbers(row: Any) -> torch.Tensor:
    return torch.tensor([row.scale, *(w for _, w in row.weights), *row.noise], dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_one_stage_is_ping_pong(schedule: Schedule):
    plan = plan_sampling(schedule, "seeds-1", steps=6, ell=INF)
    assert len(plan.run) == 5
    for k, row in enumerate(plan.rows[:-1]):
        alpha, std = float(schedule.alpha(row.target)), float(schedule.std(row.target))
        assert row.scale == 0.0 and row.weights == ((k, pytest.approx(alpha, rel=1e-14)),)
        assert row.noise == (pytest.approx(std, rel=1e-14),)
    assert plan.rows[-1].noise == () and plan.rows[-1].weights == ((5, schedule.alpha(0.0)),)


@pytest.mark.parametrize(
    ("schedule", "name"),
    [(EDM(), name) for name in IN_CLOCK]
    + [(s, name) for s in (VP(), Flow()) for name in ("seeds-3", "seeds-sra", "sa-solver")],
    ids=str,
)
def test_it_is_the_limit(schedule: Schedule, name: str):
    """Against ℓ = 10⁴, where products of exponents near 10⁸ leave eight digits."""
    limit = plan_sampling(schedule, name, steps=6, ell=INF, form="data")
    large = plan_sampling(schedule, name, steps=6, ell=1e4, form="data")
    for a, b in zip(limit.rows, large.rows, strict=True):
        assert [j for j, _ in a.weights] == [j for j, _ in b.weights]
        scale = max(1.0, numbers(b).abs().max().item())
        assert (numbers(a) - numbers(b)).abs().max() < 1e-6 * scale


def test_its_error_falls_as_one_over_ell_squared():
    """φ_2 leaves 1/(ρh), so the weights of Adams–Bashforth tend to the limit like ℓ^−2."""
    limit = plan_sampling(EDM(), "seeds-ab2", steps=6, ell=INF)

    def gap(ell: float) -> float:
        plan = plan_sampling(EDM(), "seeds-ab2", steps=6, ell=ell)
        pairs = zip(limit.rows, plan.rows, strict=True)
        return max((numbers(a) - numbers(b)).abs().max().item() for a, b in pairs)

    assert gap(40.0) / gap(20.0) == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("name", ["er-sde-2", "er-sde-3", "deis-tab3"])
@pytest.mark.parametrize("schedule", SCHEDULES[:2], ids=str)
def test_polynomials_in_another_variable(name: str, schedule: Schedule):
    """The value at the row's own node: exact for F constant and linear in the variable."""
    plan = plan_sampling(schedule, name, steps=6, ell=INF, form="data")
    variable = plan.method.tableau.variable

    def v(time: Any) -> float:
        return float(time if variable == "time" else schedule.sigma(time))

    first = int(schedule.sigma(plan.grid[0].item()) == INF)
    for row in plan.rows[first:-1]:
        alpha = float(schedule.alpha(row.target))
        own = [w / alpha for _, w in row.weights]
        assert sum(own) == pytest.approx(1.0, rel=1e-12)
        if len(own) > 1:
            moment = sum(
                w * v(plan.rows[j].time) for w, (j, _) in zip(own, row.weights, strict=True)
            )
            assert moment == pytest.approx(v(row.target), rel=1e-10)


def test_moments_on_gaussian_data():
    """x_t = D + σ_t z with D = m + v/(v + σ_s²) (x_s − m)."""
    target, grid = Gaussian([1.0, -2.0], [0.25, 1.0], EDM()), [80.0, 3.0, 1.0, 0.4]
    plan = compile_plan(reverse_sde(EDM(), ell=INF), "seeds-1", grid)
    mean, variance = gaussian_moments(plan, target)
    centre, spread = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.25, 1.0]).double()
    m, v = centre, spread + 80.0**2
    for sigma, after in pairwise(grid):
        gain = spread / (spread + sigma**2)
        m, v = centre + gain * (m - centre), gain**2 * v + after**2
    assert torch.allclose(mean, m, rtol=1e-12) and torch.allclose(variance, v, rtol=1e-12)


def test_a_consistency_function_gives_the_law_of_the_data():
    """The consistency function of N(m, v) is m + √(v/(v + σ²)) (x − m), whose law is the data's at
    every σ: then so is that of the samples, in any number of steps. 40,000 samples: a standard
    deviation that is .018 off is 5 standard errors away."""

    class Consistency:
        schedule, prediction = EDM(), "data"

        def __call__(self, x: torch.Tensor, t: Any) -> torch.Tensor:
            return 1.0 + 0.5 * (x - 1.0) / (0.25 + t**2) ** 0.5

    for steps in (2, 5):
        x = sample(Consistency(), (40_000, 1), "seeds-1", steps=steps, ell=INF, **QUIET)
        assert x.mean().item() == pytest.approx(1.0, abs=0.0125)
        assert x.std().item() == pytest.approx(0.5, abs=0.009)


@pytest.mark.parametrize("name", ["seeds-1", "seeds-2", "seeds-3", "seeds-sra", "unipc-1"])
def test_among_finite_steps(name: str):
    """Steps of one step each are those of the plans with one ℓ throughout."""
    kinds, given = (INF, 0.5, 1.0), [1.0, INF, 0.5, INF, INF]
    mixed = plan_sampling(EDM(), name, steps=6, ell=given, form="data")
    plain = {ell: plan_sampling(EDM(), name, steps=6, ell=ell, form="data") for ell in kinds}
    for k, row in enumerate(mixed.rows[:-1]):
        own = plain[given[row.step]].rows[k]
        assert torch.allclose(numbers(row), numbers(own), rtol=1e-10, atol=1e-14)


def test_history_ends_where_the_kind_changes():
    """Across a step with ℓ = ∞ earlier nodes are infinitely far away."""
    given = [1.0, 1.0, INF, INF, INF, 0.5, 0.5]
    plan = plan_sampling(EDM(), "seeds-ab3", steps=8, ell=given)
    used = [[j for j, _ in row.weights] for row in plan.rows]
    assert used == [[0], [1, 0], [2], [3, 2], [4, 3, 2], [5], [6, 5], [7]]
    # At finite ℓ the weights across the jump tend to zero.
    large = plan_sampling(EDM(), "seeds-ab2", steps=8, ell=[1.0, 1.0, 1e3, 1e3, 1e3, 0.5, 0.5])
    assert abs(large.rows[5].weights[1][1]) < 1e-5


def test_from_infinite_noise():
    """From σ = ∞ too the state is αD + σ̄z, in a run of ℓ = ∞ throughout."""
    first = plan_sampling(Flow(), "seeds-1", steps=4, ell=INF).rows[0]
    std = float(Flow().std(first.target))
    assert first.scale == 0.0 and first.noise == (pytest.approx(std, rel=1e-14),)


def test_times_of_a_table_keep_their_steps():
    schedule = Discrete()
    given = [1.0, INF, 1.0, INF]
    plan = plan_sampling(schedule, "seeds-1", steps=5, ell=given, round_time=schedule.round)
    assert [row.scale == 0.0 for row in plan.rows] == [False, True, False, True, True]


@pytest.mark.parametrize("form", ["noise", "sigma", "time", "variance", "log-sigma", "precond"])
def test_other_forms_have_no_limit(form: str):
    with pytest.raises(ValueError, match=r"got inf.*For form='data' it may be inf"):
        reverse_sde(EDM(), form, INF, sigma_data=0.5)


def test_a_method_of_its_own():
    method = Method(solvers.seeds1(), "ping-pong", ell=INF)
    plan = plan_sampling(EDM(), method, steps=4)
    assert torch.equal(numbers(plan.rows[1]), numbers(plan_sampling(
        EDM(), "seeds-1", steps=4, ell=INF).rows[1]))  # fmt: skip


@pytest.mark.parametrize("ell", [INF, [INF] * 5, [1.0, INF, 0.5, INF, INF]], ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES[:2], ids=str)
def test_plans_are_saved(tmp_path: Any, schedule: Schedule, ell: Any):
    plan = plan_sampling(schedule, "seeds-2", steps=6, ell=ell)
    plan.save(tmp_path / "plan.json")
    again = expint.Plan.load(tmp_path / "plan.json")
    for a, b in zip(plan.rows, again.rows, strict=True):
        assert torch.equal(numbers(a), numbers(b))


def test_the_noise_factor_and_paths():
    half = plan_sampling(EDM(), "seeds-1", steps=5, ell=INF, operations=[solvers.noise_factor(0.5)])
    full = plan_sampling(EDM(), "seeds-1", steps=5, ell=INF)
    assert half.rows[0].noise[0] == 0.5 * full.rows[0].noise[0]
    target = Gaussian([1.0], [0.25], EDM())
    path = expint.noise.BrownianPath(range(4))
    x = sample(target, (4, 1), plan=full, noise=path, **QUIET)
    assert torch.equal(x, sample(target, (4, 1), plan=full, noise=path, **QUIET))


def test_gradients_reach_the_grid():
    grid = torch.tensor([10.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)
    plan = compile_plan(reverse_sde(EDM(), ell=INF), "seeds-1", grid)
    (slope,) = torch.autograd.grad(torch.as_tensor(plan.rows[0].noise[0]), grid)
    assert torch.allclose(slope, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
