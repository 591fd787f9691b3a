"""What a compiled plan must satisfy whatever the solver, form, schedule and stochasticity: its
drift part and its text.
"""

import json
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import every_schedule_and_solver
from quadrature import ReverseSDE, interval
from solver_kinds import ONE_STEP
from toy_models import constant, wavy

from expint import Plan, SemiLinearSDE, compile_plan, grids, reverse_sde, schedules, solvers
from expint.equations.forms import EXPONENTIAL
from expint.equations.sde import Clock
from expint.noise import Replay
from expint.numerics.float64 import as_float64
from expint.runs import execute
from expint.schedules import EDM, IDDPM, VP, Schedule

SIGMA_DATA = 0.7
SCHEDULES = schedules.names()
every_form = pytest.mark.parametrize("form", EXPONENTIAL)
every_solver = pytest.mark.parametrize("solver", ONE_STEP)
every_ell = pytest.mark.parametrize("ell", [0.0, 1.7])
X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)


def reverse(schedule: Schedule, form: str, ell: float) -> SemiLinearSDE:
    return reverse_sde(schedule, form, ell, sigma_data=SIGMA_DATA)


def silent(plan: Plan) -> Replay:
    return Replay(torch.zeros(max(plan.normals, 1), *X.shape, dtype=torch.float64))


@every_form
@every_schedule_and_solver
@every_ell
def test_every_row_is_exact_for_constant_F(form: str, solver: str, ell: float, name: str):
    """Each row's scale is Φ and its weights sum to ∫ Φ b, both by quadrature of the reverse SDE."""
    schedule = schedules.get(name)
    sde = reverse(schedule, form, ell)
    reference = ReverseSDE(schedule, sde.diffusion.prediction, ell, SIGMA_DATA)
    s, t = interval(schedule)
    plan = compile_plan(sde, solver, [s, t])
    for row in plan.rows:
        assert row.scale == pytest.approx(float(reference.transition(s, row.target)), rel=1e-10)
        total = sum(weight for _, weight in row.weights)
        assert total == pytest.approx(
            float(reference.response(s, row.target, torch.ones_like)), rel=1e-10
        )


@every_form
@every_schedule_and_solver
def test_constant_F_is_exact_for_every_step_size(form: str, solver: str, name: str):
    """One step over the whole sampling range lands where 17 do."""
    schedule, ell = schedules.get(name), 1.0
    noise, data = schedule.sampling_range
    start = schedule.t_of_sigma(30.0) if math.isinf(schedule.sigma(noise)) else noise
    fine = [
        start,
        *schedule.t_of_sigma(torch.logspace(1, -1, 16, dtype=torch.float64)).tolist(),
        data,
    ]
    results = []
    for grid in ([start, data], fine):
        plan = compile_plan(reverse(schedule, form, ell), solver, grid)
        results.append(
            execute(
                plan,
                constant(schedule, plan.sde.diffusion.prediction, 0.8, SIGMA_DATA),
                X,
                silent(plan),
            )
        )
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)


@every_solver
@every_form
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_interpolatory_rows_are_exact_for_polynomials_in_the_clock(
    form: str, solver: str, ell: float
):
    schedule, tableau = VP(), solvers.get(solver).tableau
    sde = reverse(schedule, form, ell)
    reference = ReverseSDE(schedule, sde.diffusion.prediction, ell, SIGMA_DATA)
    s, t = interval(schedule)
    plan = compile_plan(sde, tableau, [s, t])
    mu_s = sde.clock(as_float64(s))
    for stage, row in zip(tableau.stages, plan.rows, strict=True):
        for degree in range(len(stage.through)):
            value = sum(
                w * float(sde.clock(as_float64(plan.rows[j].time)) - mu_s) ** degree
                for j, w in row.weights
            )
            exact = reference.response(
                s, row.target, lambda u, k=degree: (sde.clock(u) - mu_s) ** k
            )
            assert value == pytest.approx(float(exact), rel=1e-9)


@every_form
@every_schedule_and_solver
def test_nodes_lie_in_the_clock_of_the_form(form: str, solver: str, name: str):
    schedule, tableau = schedules.get(name), solvers.get(solver).tableau
    sde = reverse(schedule, form, 0.6)
    times = [schedule.t_of_sigma(sigma) for sigma in (7.0, 2.0, 0.3)]
    plan = compile_plan(sde, tableau, times)
    assert plan.nfe == len(plan.rows) == 2 * tableau.evaluations and plan.steps == 2
    assert plan.ends_step == plan.ends_substep
    assert plan.ends_step == ((False,) * (tableau.evaluations - 1) + (True,)) * 2
    for k in range(2):
        mu_s, mu_t = (float(sde.clock(as_float64(t))) for t in times[k : k + 2])
        rows = [row for row in plan.rows if row.step == k]
        for row, node in zip(rows, tableau.evaluation_nodes, strict=True):
            assert float(sde.clock(as_float64(row.time))) == pytest.approx(
                mu_s + float(node) * (mu_t - mu_s), rel=1e-9
            )
        # The grid itself, not its round trip through the clock.
        assert rows[0].time == times[k] and rows[-1].target == times[k + 1]


def test_second_order_condition_survives_small_steps():
    """As h → 0 the weights tend to those of the quadrature rule: Σ w_j c_j/Σ w_j → 1/2, also at h =
    1e-7.
    """
    for solver in ONE_STEP:
        tableau = solvers.get(solver).tableau
        if tableau.order() < 2:
            continue
        for h in (1e-1, 1e-3, 1e-5, 1e-7):
            plan = compile_plan(reverse_sde(EDM(), "data", 1.0), tableau, [1.0, math.exp(-h)])
            w = {j: weight for j, weight in plan.rows[-1].weights}
            mean = sum(
                weight * float(tableau.evaluation_nodes[j]) for j, weight in w.items()
            ) / sum(w.values())
            assert mean == pytest.approx(0.5, abs=0.5 * h + 1e-8), (solver, h)


@pytest.mark.parametrize("name", SCHEDULES)
def test_data_and_noise_forms_of_a_first_order_ode_step_agree(name: str):
    schedule = schedules.get(name)
    grid = [schedule.t_of_sigma(sigma) for sigma in (9.0, 2.0, 0.1)]
    model = wavy(schedule)
    plans = (
        compile_plan(reverse(schedule, form, 0.0), "seeds-1", grid) for form in ("data", "noise")
    )
    by_data, by_noise = (execute(plan, model, X) for plan in plans)
    torch.testing.assert_close(by_data, by_noise, rtol=1e-10, atol=1e-10)


@every_form
@every_solver
def test_all_forms_have_one_limit(form: str, solver: str):
    """Forms are one SDE: with 400 steps each is near the finest run of the data form."""
    schedule = VP()
    model = wavy(schedule)
    start, end = (schedule.t_of_sigma(sigma) for sigma in (2.0, 0.5))

    def run(chosen: str, tableau: str, steps: int) -> torch.Tensor:
        grid = schedule.t_of_lam(
            torch.linspace(schedule.lam(start), schedule.lam(end), steps + 1, dtype=torch.float64)
        )
        return execute(compile_plan(reverse(schedule, chosen, 0.0), tableau, grid), model, X)

    order = solvers.get(solver).deterministic_order
    torch.testing.assert_close(
        run(form, solver, 400), run("data", "seeds-3", 400), rtol=0, atol=10.0 * 400.0**-order
    )


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    solver=st.sampled_from(ONE_STEP),
    form=st.sampled_from(EXPONENTIAL),
    name=st.sampled_from(SCHEDULES),
    ell=st.floats(0.0, 2.0),
    levels=st.lists(
        st.floats(0.02, 15.0),
        min_size=2,
        max_size=6,
        unique_by=lambda sigma: round(math.log(sigma), 2),
    ),
)
def test_any_grid_gives_finite_coefficients(
    solver: str, form: str, name: str, ell: float, levels: list[float]
):
    schedule = schedules.get(name)
    grid = [schedule.t_of_sigma(sigma) for sigma in sorted(levels, reverse=True)]
    plan = compile_plan(reverse(schedule, form, ell), solver, grid)
    for row in plan.rows:
        assert (
            math.isfinite(row.scale)
            and row.scale > 0
            and all(math.isfinite(w) for _, w in row.weights)
        )
    normals = solvers.get(solver).tableau.normals
    assert plan.normals == (0 if ell == 0 else plan.steps * normals)


@every_solver
def test_text_and_dictionary(solver: str):
    schedule = VP()
    plan = compile_plan(reverse_sde(schedule), solver, grids.uniform_lambda(schedule, 4))
    lines = str(plan).splitlines()
    assert (
        len(lines) == plan.nfe + 2
        and lines[0].startswith(f"{solver} on ")
        and f"{plan.nfe} evaluations" in lines[0]
    )
    assert "D[0]*" in lines[2] and str(plan) == plan.table()
    saved = json.loads(json.dumps(plan.to_dict()))
    assert [float(t) for t in saved["grid"]] == plan.grid.tolist()
    for row, kept in zip(plan.rows, saved["rows"], strict=True):
        assert (
            float(kept["scale"]) == row.scale
            and float(kept["time"]) == row.time
            and float(kept["target"]) == row.target
        )
        assert [(j, float(w)) for j, w in kept["weights"]] == list(row.weights)


def test_text_of_an_infinite_end():
    plan = compile_plan(reverse_sde(VP()), "seeds-1", [0.9, 0.5, -math.inf])
    assert (
        "-inf" in str(plan)
        and json.loads(json.dumps(plan.to_dict(), allow_nan=False))["grid"][-1] == "-inf"
    )


@every_form
def test_coefficients_are_differentiable_in_the_grid(form: str):
    schedule = VP()
    sde = reverse(schedule, form, 1.0)

    def values(middle: torch.Tensor) -> torch.Tensor:
        plan = compile_plan(sde, "seeds-2", torch.stack([as_float64(0.8), middle, as_float64(0.1)]))
        numbers = [
            n
            for row in plan.rows
            for n in (row.scale, plan.noise_std(row), *(w for _, w in row.weights))
        ]
        return torch.stack([torch.as_tensor(n) for n in numbers])

    assert torch.autograd.gradcheck(
        values, torch.tensor(0.45, dtype=torch.float64, requires_grad=True)
    )


def test_times_rounded_to_the_table():
    """Evaluations are at entries of the table, and rows stay exact for polynomials through the
    rounded nodes.
    """
    schedule = IDDPM(200)
    sde = reverse_sde(schedule, "data", 1.0)
    for solver in ONE_STEP:
        tableau = solvers.get(solver).tableau
        if any(stage.weights for stage in tableau.stages):
            continue
        plan = compile_plan(sde, tableau, [180.4, 90.3, 20.2, -1.0], round_time=schedule.round)
        assert all(row.time == round(row.time) for row in plan.rows) and plan.grid.tolist() == [
            180.0,
            90.0,
            20.0,
            -1.0,
        ]
        for row in plan.rows[:-1]:
            s = plan.grid[row.step].item()
            mu_s, mu = schedule.lam(s), schedule.lam(row.target)
            for degree in range(len(row.weights)):
                value = sum(
                    w * (schedule.lam(plan.rows[j].time) - mu_s) ** degree for j, w in row.weights
                )
                exact = (
                    _moment(mu_s, mu, degree) * float(sde.kappa) * float(sde.propagator(row.target))
                )
                assert value == pytest.approx(exact, rel=1e-9)


def _moment(mu_s: float, mu: float, degree: int) -> float:
    """∫ e^{2μ} (μ − μ_s)^k dμ by parts."""
    if degree == 0:
        return (math.exp(2 * mu) - math.exp(2 * mu_s)) / 2
    return math.exp(2 * mu) * (mu - mu_s) ** degree / 2 - degree / 2 * _moment(mu_s, mu, degree - 1)


def test_rounding_that_cannot_be():
    schedule = IDDPM(200)
    with pytest.raises(
        ValueError, match=r"rows are stated for fixed nodes: use interpolated times"
    ):
        compile_plan(
            reverse_sde(schedule),
            solvers.get("seeds-2", c=Fraction(1, 3)),
            [150.0, 20.0],
            round_time=schedule.round,
        )
    with pytest.raises(
        ValueError, match=r"too fine for the table .* nodes of one step coincide\. Take fewer steps"
    ):
        compile_plan(reverse_sde(schedule), "seeds-3", [151.0, 150.0], round_time=schedule.round)


def test_an_unsorted_grid_of_an_sde_without_a_schedule():
    sde = SemiLinearSDE(lambda t: -t, Clock(lambda t: t, lambda mu: mu), name="decay")
    with pytest.raises(
        ValueError,
        match=r"clock of SemiLinearSDE\(decay\) must increase .*grid\[1\] = 1 and grid\[2\] = 0\.5",
    ):
        compile_plan(sde, "seeds-1", [0.0, 1.0, 0.5])
    with pytest.raises(ValueError, match=r"at least 2 finite times, got shape \(2,\)"):
        compile_plan(sde, "seeds-1", [0.0, math.inf])
