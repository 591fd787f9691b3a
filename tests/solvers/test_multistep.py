"""Schemes with a memory: rows through earlier evaluations, how they start and end, and correctors
that cost nothing.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction as Q
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_reference import one_reference  # noqa: F401
from quadrature import ReverseSDE
from toy_models import Recorder, mixture, wavy

from expint import Plan, compile_plan, phi, reverse_sde, solvers
from expint.convergence import Problem, deterministic_order, gaussian_moments
from expint.noise import Replay
from expint.runs import execute
from expint.sampling import plan_sampling
from expint.schedules import EDM, VP, Flow, Schedule
from expint.solvers import (
    Method,
    Tableau,
    ancestral,
    churn,
    deis,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m_sde,
    er_sde,
    ipndm,
    pece,
    sa_solver,
    seeds2,
    seeds3,
    seeds_ab,
    unipc,
)
from expint.solvers.multistep import lms
from expint.targets import Gaussian

torch.set_num_threads(1)
SIGMA_DATA = 0.7
X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)
OTHER = VP(beta_d=7.0, beta_min=0.3)


def with_variable(method: Method, variable: str) -> Method:
    """The same scheme with its polynomials in another variable."""
    return replace(method, tableau=replace(method.tableau, variable=variable))


INTERPOLATORY = {
    "ab2": seeds_ab(2),
    "ab3": seeds_ab(3),
    "ab4": seeds_ab(4),
    "pece": solvers.get(pece(3)),
    "sa": sa_solver(3, 4),
    "ab3 in time": with_variable(seeds_ab(3), "time"),
    "ab4 in sigma": with_variable(seeds_ab(4), "sigma"),
    "deis in another time": deis(4, variable=OTHER),
    "er": er_sde(3, newton=True),
}


def lam_grid(
    schedule: Schedule, steps: int, first: float = -1.0, last: float = 1.5
) -> torch.Tensor:
    return schedule.t_of_lam(torch.linspace(first, last, steps + 1, dtype=torch.float64))


def in_variable(method: Method, sde: Any, schedule: Schedule) -> Callable[[Any], torch.Tensor]:
    """In what the rows are exact for polynomials, written down from the schedule."""
    names: dict[Any, Callable[[torch.Tensor], torch.Tensor]] = {
        "clock": sde.clock,
        "time": lambda t: t,
        "sigma": lambda t: schedule.std(t) / schedule.alpha(t),
        OTHER: lambda t: OTHER.t_of_sigma(schedule.sigma(t)),
    }
    function = names[method.tableau.variable]
    return lambda t: function(torch.as_tensor(t, dtype=torch.float64))


@pytest.mark.parametrize("name", INTERPOLATORY)
@settings(deadline=None, max_examples=6, derandomize=True)
@given(
    form=st.sampled_from(["data", "noise", "precond", "sigma"]),
    ell=st.sampled_from([0.0, 0.6, 1.0]),
    gaps=st.lists(st.floats(0.1, 0.7), min_size=4, max_size=4),
)
def test_rows_are_exact_for_polynomials_on_unequal_grids(
    name: str, form: str, ell: float, gaps: list[float]
):
    """Σ w_j v_j^k over all evaluations of a row is ∫ Φ b v^k, v the scheme's variable, against
    quadrature of the reverse SDE.
    """
    schedule, method = VP(), INTERPOLATORY[name]
    sde = reverse_sde(schedule, form, ell, sigma_data=SIGMA_DATA)
    times = [schedule.t_of_lam(-1.0 + gap) for gap in accumulate(gaps, initial=0.0)]
    value = in_variable(method, sde, schedule)
    assert_exact(
        compile_plan(sde, method, times),
        ReverseSDE(schedule, sde.diffusion.prediction, ell, SIGMA_DATA),
        value,
    )


def assert_exact(plan: Plan, reference: ReverseSDE, value: Callable[[Any], torch.Tensor]) -> None:
    for row in plan.rows:
        s, t = plan.grid[row.step : row.step + 2].tolist()

        def position(u: Any, start: float = s, end: float = t) -> torch.Tensor:
            return (value(u) - value(start)) / (value(end) - value(start))

        for degree in range(len(row.weights)):
            parts = [float(w * position(plan.rows[j].time) ** degree) for j, w in row.weights]
            exact = reference.response(s, row.target, lambda u, v=position, k=degree: v(u) ** k)
            assert sum(parts) == pytest.approx(
                float(exact), rel=1e-10, abs=1e-10 * max(map(abs, parts))
            )


@pytest.mark.parametrize("method", [er_sde(2), er_sde(3, newton=True)], ids=lambda m: m.name)
def test_rows_in_sigma_with_a_noise_scale(method: Method):
    """φ = σ^1.5 is the data form at ℓ² = 1/2."""
    schedule = EDM()
    sde = reverse_sde(schedule, noise_scale="power-1.5")
    plan = compile_plan(sde, method, [3.0, 2.2, 1.9, 0.8, 0.5])
    assert_exact(
        plan, ReverseSDE(schedule, "data", math.sqrt(0.5)), in_variable(method, sde, schedule)
    )


# --- The first steps and the last
# ----------------------------------------------------------------------------------------------


def sources(plan: Plan) -> list[list[int]]:
    """How many evaluations each row uses, by step."""
    counts: list[list[int]] = [[] for _ in range(plan.steps)]
    for row in plan.rows:
        counts[row.step].append(len(row.weights))
    return counts


def plan_of(solver: Method | Tableau, steps: int) -> Plan:
    method = solvers.get(solver)
    return compile_plan(reverse_sde(VP(), method.form, method.ell), method, lam_grid(VP(), steps))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_growing_start_uses_what_there_is(order: int):
    assert sources(plan_of(seeds_ab(order), 6)) == [[min(k + 1, order)] for k in range(6)]
    assert sources(plan_of(sa_solver(order, order, correct_last=True), 6)) == [
        [min(k + 1, order), min(k + 2, order)] for k in range(6)
    ]


def test_a_one_step_start_is_of_one_step_schemes():
    counts = sources(plan_of(seeds_ab(4, "one-step"), 5))
    assert counts[:3] == [sources(plan_of(seeds3(), 1))[0]] * 3 and counts[3:] == [[4], [4]]
    assert sources(plan_of(seeds_ab(3, "one-step"), 4))[:3] == [[1, 1], [1, 1], [3]]
    with pytest.raises(
        ValueError, match=r"start must be one of \['growing', 'one-step'\], got 'slow'"
    ):
        seeds_ab(3, "slow")


@pytest.mark.parametrize("build", [deis, unipc], ids=lambda build: build.__name__)
def test_the_order_falls_towards_the_end(build: Any):
    steps = 6
    plan = plan_of(build(3, lower_order_final=True), steps)
    assert (
        [counts[0] for counts in sources(plan)]
        == [min(3, k + 1, steps - k) for k in range(steps)]
        == [1, 2, 3, 3, 2, 1]
    )


@pytest.mark.parametrize("correct_last", [False, True])
def test_the_last_step_is_corrected_where_it_is_asked_for(correct_last: bool):
    for method in (unipc(2, correct_last=correct_last), sa_solver(correct_last=correct_last)):
        plan = plan_of(method, 5)
        assert [len(counts) for counts in sources(plan)] == [2, 2, 2, 2, 1 + correct_last]
        assert plan.nfe == 5 + correct_last == method.evaluations_in(5)
        # On the way to σ = 0 the evaluation is made in any case, so that the step before is
        # corrected for nothing.
        clean = compile_plan(plan.sde, method, [*plan.grid.tolist(), -math.inf])
        assert clean.nfe == 6 == method.evaluations_in(6, to_zero=True) and [
            len(c) for c in sources(clean)
        ] == [2] * 5 + [1]


def one_step_er(newton: bool) -> Method:
    return replace(er_sde(3, newton=newton), start_up=(seeds2(), seeds2()))


MEASURED = {
    "ab3 data": (seeds_ab(3, "one-step"), "data", 3),
    "ab3 noise": (seeds_ab(3, "one-step"), "noise", 3),
    "ab3 precond": (seeds_ab(3, "one-step"), "precond", 3),
    "ab4 data": (seeds_ab(4, "one-step"), "data", 4),
    "ab4 precond": (seeds_ab(4, "one-step"), "precond", 4),
    "lms": (lms(4, "one-step"), "sigma", 4),
    "deis": (deis(3, start="one-step"), "noise", 3),
    "ab3 growing": (seeds_ab(3), "data", 2),
    "3M": (dpmpp_3m_sde(start="one-step"), "data", 3),
    "3M published": (dpmpp_3m_sde(True, "one-step"), "data", 2),
    "ER-SDE-3 newton": (one_step_er(True), "data", 3),
    "ER-SDE-3 published": (one_step_er(False), "data", 2),
}


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.usefixtures("one_reference")
def test_measured_orders_without_noise(name: str):
    method, form, order = MEASURED[name]
    assert method.deterministic_order == order
    problem = Problem(mixture(VP()), form, sigma_data=0.5)
    assert deterministic_order(
        method, problem, steps=(64, 128, 256), starts=8
    ).order == pytest.approx(order, abs=0.15)


def test_adams_bashforth_constants_are_right_for_equal_steps_in_sigma():
    """iPNDM from a third-order start is of order 4 where σ falls in equal steps, and of order 1
    where it does not.
    """
    method = replace(ipndm(), form="sigma", start_up=(seeds3(),) * 3)

    def equal(sde: Any, solver: Method, grid: torch.Tensor) -> Plan:
        sigma = sde.diffusion.schedule.sigma(grid)
        return compile_plan(
            sde,
            solver,
            sde.diffusion.schedule.t_of_sigma(
                torch.linspace(sigma[0], sigma[-1], len(grid)).double()
            ),
        )

    problem = Problem(mixture(EDM()), "sigma", sigmas=(2.0, 0.5), planner=equal)
    assert deterministic_order(
        method, problem, steps=(64, 128, 256), starts=8
    ).order == pytest.approx(4, abs=0.3)
    unequal = replace(problem, planner=compile_plan)
    assert deterministic_order(method, unequal, steps=(64, 128, 256), starts=8).order < 2.3


def test_published_third_order_rows_in_exact_rationals():
    """The weights of F_0, F_−1, F_−2 on equal steps: 2 φ_3 of the second difference, of which the
    published row has half.
    """
    for published, part in ((False, Q(1)), (True, Q(1, 2))):
        method = dpmpp_3m_sde(published, "one-step")
        (row,) = method.tableau.terms
        found = {j: {t.k: t.q for t in terms} for j, terms in row.items()}
        assert found == {
            0: {1: Q(1), 2: Q(3, 2), 3: part},
            -1: {2: Q(-2), 3: -2 * part},
            -2: {2: Q(1, 2), 3: part},
        }
        assert method.deterministic_order == (2 if published else 3)


# --- Predictors and correctors
# -------------------------------------------------------------------------------------------------

EQUAL = [Q(1), Q(0), Q(-1), Q(-2)]
ADAMS_MOULTON = {
    2: [Q(1, 2)] * 2,
    3: [Q(5, 12), Q(8, 12), Q(-1, 12)],
    4: [Q(9, 24), Q(19, 24), Q(-5, 24), Q(1, 24)],
}
ADAMS_BASHFORTH = {
    2: [Q(3, 2), Q(-1, 2)],
    3: [Q(23, 12), Q(-16, 12), Q(5, 12)],
    4: [Q(55, 24), Q(-59, 24), Q(37, 24), Q(-9, 24)],
}


@pytest.mark.parametrize("nodes", [2, 3, 4])
def test_adams_coefficients_at_equal_steps(nodes: int):
    """In σ, on levels in equal steps, an Adams pair has the constants of the textbooks."""
    plan = compile_plan(
        reverse_sde(EDM(), "sigma", 0.0), sa_solver(nodes, nodes), [3.0, 2.5, 2.0, 1.5, 1.0, 0.5]
    )
    predictor, corrector = (row for row in plan.rows if row.step == 3)
    for row, constants in ((predictor, ADAMS_BASHFORTH[nodes]), (corrector, ADAMS_MOULTON[nodes])):
        times = [plan.rows[j].time for j, _ in row.weights]
        assert (
            times == [1.5 + 0.5 * k for k in range(nodes)] if row is predictor else times[0] == 1.0
        )
        assert [w for _, w in row.weights] == pytest.approx(
            [-0.5 * float(q) for q in constants], rel=1e-12
        )


@pytest.mark.parametrize("form", ["data", "noise"])
def test_exponential_adams_moulton_at_equal_steps(form: str):
    """{1, 0}: φ_2, φ_1 − φ_2.  {1, 0, −1}: φ_3 + φ_2/2, φ_1 − 2φ_3, φ_3 − φ_2/2."""
    schedule, h = VP(), 0.4
    sde = reverse_sde(schedule, form, 1.0)
    grid = lam_grid(schedule, 4, -0.5, -0.5 + 4 * h)
    one, two, three = (phi(k, -float(sde.rho) * h) for k in (1, 2, 3))
    closed = {2: [two, one - two], 3: [three + two / 2, one - 2 * three, three - two / 2]}
    for nodes, expected in closed.items():
        row = [
            row for row in compile_plan(sde, sa_solver(nodes, nodes), grid).rows if row.step == 2
        ][-1]
        factor = (
            float(sde.kappa)
            * float(sde.propagator(row.target) * torch.exp(sde.rho * sde.clock(grid[3])))
            * h
        )
        assert [w for _, w in row.weights] == pytest.approx(
            [factor * float(b) for b in expected], rel=1e-9
        )


@pytest.mark.parametrize("final", ["none", "denoise"])
@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("name", solvers.names())
def test_evaluations_are_counted_exactly(name: str, schedule: Schedule, final: str):
    """`evaluations_in`, the plan, and the calls that are made, from σ = ∞ (flow) or not, to σ = 0
    or not.
    """
    method = solvers.get(name)
    for steps in (2, 7):
        plan = plan_sampling(schedule, name, steps=steps, final=final)
        infinite = math.isinf(schedule.lam(plan.grid[0].item()))
        assert infinite == isinstance(schedule, Flow)
        assert (
            method.evaluations_in(steps, from_infinity=infinite, to_zero=final == "denoise")
            == plan.nfe
        )
        if plan.has_tangents:
            continue
        model = Recorder(wavy(schedule))
        execute(plan, model, X, Replay(torch.zeros(max(plan.normals, 1), *X.shape)))
        assert (
            model.times == [row.time for row in plan.rows if row.evaluates]
            and len(model.times) == plan.nfe
        )


def test_a_predictor_calls_nothing_and_a_corrector_costs_nothing():
    """Adams pair 1, 2 by hand, ℓ = 0: the next step takes the evaluation at the *predicted* state
    (PEC).
    """
    schedule, model = VP(), wavy(VP())
    grid = lam_grid(schedule, 4)
    sde = reverse_sde(schedule, "data", 0.0)
    plan = compile_plan(sde, sa_solver(1, 2, correct_last=True), grid)
    assert [row.evaluates for row in plan.rows] == [True, True] + [False, True] * 3
    x, data = X, model(X, grid[0])
    for s, t in pairwise(grid):
        h, alpha = float(schedule.lam(t) - schedule.lam(s)), float(schedule.alpha(t))
        ratio = float(schedule.std(t) / schedule.std(s))
        predicted = ratio * x - alpha * math.expm1(-h) * data
        new = model(predicted, t)
        late = (h + math.expm1(-h)) / h  # ∫ θ e^{−(1−θ)h} h dθ
        x = ratio * x + alpha * ((-math.expm1(-h) - late) * data + late * new)
        data = new
    torch.testing.assert_close(execute(plan, model, X), x, rtol=1e-12, atol=1e-12)


def test_the_variants_of_unipc_differ_at_two_nodes_only():
    grid = [0.9, 0.7, 0.55, 0.3, 0.2, 0.05]
    sde = reverse_sde(VP(), "data", 0.0)
    one, two = (
        compile_plan(sde, unipc(3, variant, correct_last=True), grid) for variant in ("bh1", "bh2")
    )
    counts = set()
    for a, b in zip(one.rows, two.rows, strict=True):
        same = [w for _, w in a.weights] == pytest.approx([w for _, w in b.weights], rel=1e-12)
        assert same == (len(a.weights) != 2)
        counts.add(len(a.weights))
    assert counts == {1, 2, 3, 4}
    # With its B(h) = e^h − 1 the two-node predictor is that of DPM-Solver++(2M).
    ours, theirs = (compile_plan(sde, method, grid).rows for method in (unipc(2), dpmpp_2m()))
    predictors = [row for row in ours if row.step == 3][:1] + [
        row for row in theirs if row.step == 3
    ]
    assert [w for _, w in predictors[0].weights] == pytest.approx(
        [w for _, w in predictors[1].weights], rel=1e-12
    )


STOCHASTIC: dict[str, Any] = {
    "ab2": seeds_ab(2),
    "ab3": seeds_ab(3),
    "2M midpoint": dpmpp_2m_sde(),
    "PEC 2": sa_solver(2, 2),
    "PEC 3": sa_solver(3, 4),
    "PECE": pece(2),
}


def leading_terms(solver: Method | Tableau, form: str) -> list[float]:
    """c_1, c_2, … of the error c_1 h + c_2 h² + … of the variance at ℓ = 0.7, h = 80/steps: an
    order that shows itself also where two terms of opposite signs hide it from a slope."""
    problem = Problem(Gaussian([0.7], [2.0], VP()), form, 0.7, sigma_data=0.5)
    exact = problem.model.moments(problem.grid(1)[-1])[1]
    steps = (80, 120, 160, 240)
    errors = torch.cat(
        [gaussian_moments(problem.plan(solver, n), problem.model)[1] - exact for n in steps]
    )
    h = 80.0 / torch.tensor(steps, dtype=torch.float64)
    return torch.linalg.solve(torch.stack([h, h**2, h**3, h**4], 1), errors).abs().tolist()


@pytest.mark.parametrize("form", ["data", "noise", "precond"])
@pytest.mark.parametrize("name", STOCHASTIC)
def test_weak_order_two_with_noise(name: str, form: str):
    method = solvers.get(STOCHASTIC[name])
    assert method.weak_order == 2 and method.strong_order == 1
    first, second, *_ = leading_terms(method, form)
    assert first < 1e-2 * second and second > 1e-5


@pytest.mark.parametrize("form", ["data", "noise"])
def test_noise_added_between_steps_costs_a_scheme_with_history_an_order(form: str):
    """Its earlier evaluations are from before that noise: weak order 1, and it says so."""
    for operation in (churn(6.0), ancestral(1.0)):
        method = replace(seeds_ab(2), operations=(operation,))
        first, second, *_ = leading_terms(method, form)
        assert method.weak_order == 1 and first > second
        alone = Method(seeds2(), operations=(operation,))
        first, second, *_ = leading_terms(alone, form)
        assert alone.weak_order == 2 and first < 1e-2 * second


@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_midpoint_row_of_2m_on_unequal_steps(ell: float):
    """x_t = (σ̄_t/σ̄_s) e^{−ℓ²h} x_s + α_t (1 − e^{−(1+ℓ²)h}) [D_0 + (D_0 − D_−1)/(2r)], r =
    h_−1/h.
    """
    schedule, before, h = VP(), 0.7, 0.3
    r, s = schedule.t_of_lam(-0.5 - before), schedule.t_of_lam(-0.5)
    t = schedule.t_of_lam(-0.5 + h)
    solver = dpmpp_2m() if ell == 0 else dpmpp_2m_sde()
    row = compile_plan(reverse_sde(schedule, "data", ell), solver, [r, s, t]).rows[-1]
    whole = -schedule.alpha(t) * math.expm1(-(1 + ell**2) * h)
    assert row.scale == pytest.approx(
        schedule.std(t) / schedule.std(s) * math.exp(-(ell**2) * h), rel=1e-12
    )
    slope = h / (2 * before)
    assert dict(row.weights) == pytest.approx(
        {1: whole * (1 + slope), 0: -whole * slope}, rel=1e-12
    )


def test_history_that_is_missing_is_refused():
    late = replace(seeds_ab(1), start_up=(seeds_ab(3).tableau,))
    assert sources(plan_of(late, 3)) == [
        [1],
        [1],
        [1],
    ]  # in the first step it is cut to what there is
    with pytest.raises(ValueError, match=r"order, the number of nodes, must be from 1 to 4, got 5"):
        seeds_ab(5)
    with pytest.raises(ValueError, match=r"predictor must be from 1 to 4, got 5"):
        sa_solver(5)


def test_a_step_that_is_much_longer_takes_no_history():
    """The grid jumps by a factor 3 before its last step; at the largest ratio that is allowed it
    would use its history.
    """
    schedule = VP()
    lam = torch.tensor([-2.0, -1.5, -1.0, -0.5, 1.0, 2.0], dtype=torch.float64)
    times = schedule.t_of_lam(lam)
    free = replace(seeds_ab(3), ratio_limit=math.inf)
    guarded, plain = (
        compile_plan(reverse_sde(schedule), scheme, times).rows for scheme in (seeds_ab(3), free)
    )
    assert [len(row.weights) for row in guarded] == [1, 2, 3, 1, 3] and [
        len(row.weights) for row in plain
    ] == [1, 2, 3, 3, 3]
    (single,) = compile_plan(reverse_sde(schedule), "seeds-1", times[3:5]).rows
    assert (
        guarded[3].weights[0][1] == pytest.approx(single.weights[0][1], rel=1e-13)
        and guarded[3].scale == single.scale
    )
