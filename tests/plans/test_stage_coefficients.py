"""Coefficients at the times where the network is really called: rounded nodes, nodes in another
variable, levels that operations moved.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from quadrature import ReverseSDE, interval
from torch import Tensor

from expint import Plan, compile_plan, reverse_sde, solvers
from expint.numerics.float64 import as_float64
from expint.schedules import EDM, IDDPM, VP, Flow, Schedule
from expint.solvers import (
    Method,
    Operation,
    Stage,
    Tableau,
    ancestral,
    churn,
    large_variance,
    noise_factor,
    optimal_variance,
)
from expint.solvers.interpolation import lagrange_coefficients

SIGMAS = [9.0, 4.0, 1.5, 0.6, 0.2]


def plan_of(
    schedule: Schedule, solver: str | Method, operations: list[Operation], ell: float
) -> Plan:
    grid = [schedule.t_of_sigma(sigma) for sigma in SIGMAS]
    return compile_plan(reverse_sde(schedule, ell=ell), solver, grid, operations=operations)


@pytest.mark.parametrize("solver", ["seeds-3", "seeds-sra"])
def test_the_noise_is_that_of_the_rounded_times(solver: str):
    """Noise times and covariances belong to the entries of the table at which the stages are."""
    schedule = IDDPM(200)
    sde = reverse_sde(schedule, "data", 1.0)
    plan = compile_plan(sde, solver, [180.0, 90.0, 20.0], round_time=schedule.round)
    unrounded = compile_plan(sde, solver, [180.0, 90.0, 20.0])
    assert any(a.time != b.time for a, b in zip(plan.rows, unrounded.rows, strict=True))
    for substep, asked in enumerate(plan.run):
        rows = [row for row in plan.rows if row.substep == substep]
        assert asked.times is not None
        taus = sde.noise_clock([rows[0].time, *(row.target for row in rows)])
        if not asked.integral:
            torch.testing.assert_close(asked.times, taus, rtol=1e-12, atol=0.0)
        a = sde.propagator([row.target for row in rows])
        exact = a * a[-1] * (taus[1:] - taus[0])  # covariance with the noise of the step
        found = plan.noise_covariance(substep)[-1]
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("schedule", [VP(), EDM()], ids=["vp", "edm"])
@pytest.mark.parametrize("variable", ["time", "sigma", Flow()], ids=str)
@pytest.mark.parametrize("form", ["data", "noise"])
def test_stages_in_another_variable(variable: str | Schedule, schedule: Schedule, form: str):
    """Every row, interior ones too, is exact for polynomials in the variable, and ends where the
    variable is at its node."""

    def v(t: Tensor) -> Tensor:
        if isinstance(variable, Schedule):
            return variable.t_of_sigma(schedule.sigma(t))
        return t if variable == "time" else schedule.sigma(t)

    tableau = replace(solvers.get("seeds-3").tableau, variable=variable)
    sde = reverse_sde(schedule, form, 0.7)
    reference = ReverseSDE(schedule, form, 0.7)
    s, t = interval(schedule)
    start, end = v(as_float64([s, t])).tolist()
    plan = compile_plan(sde, tableau, [s, t])
    for stage, row in zip(tableau.stages, plan.rows, strict=True):
        at = v(as_float64(row.target)).item()
        assert at == pytest.approx(start + float(stage.c) * (end - start), rel=1e-9)
        for degree in range(len(stage.through)):
            value = sum(
                w * (float(v(as_float64(plan.rows[j].time))) - start) ** degree
                for j, w in row.weights
            )
            exact = reference.response(s, row.target, lambda u, k=degree: (v(u) - start) ** k)
            assert value == pytest.approx(float(exact), rel=1e-8)


AROUND = [[churn(1.2)], [ancestral(0.8)], [ancestral(0.4), churn(2.0, s_min=1.0)]]


@pytest.mark.parametrize("around", AROUND, ids=["churn", "ancestral", "both"])
@pytest.mark.parametrize(("solver", "history"), [("seeds-ab2", 1), ("seeds-ab3", 2)])
def test_history_is_where_the_evaluations_were_made(
    solver: str, history: int, around: list[Operation]
):
    """A row through evaluations of earlier steps is exact for polynomials through the times of
    those evaluations, which churn raised, and from the time at which the step starts."""
    schedule, ell = VP(), 0.0
    plan = plan_of(schedule, solver, around, ell)
    reference = ReverseSDE(schedule, "data", ell)
    steps = [row for row in plan.rows if row.weights]
    assert max(len(row.weights) for row in steps) == history + 1
    for row in steps:
        for degree in range(len(row.weights)):
            value = sum(w * schedule.lam(plan.rows[j].time) ** degree for j, w in row.weights)
            exact = reference.response(
                row.time, row.target, lambda u, k=degree: schedule.lam(u) ** k
            )
            assert value == pytest.approx(float(exact), rel=1e-8)


LEVELS: list[Callable[[], Operation]] = [
    large_variance,
    lambda: optimal_variance(lambda lam: 1.0 / (1.0 + 0.3 * torch.exp(2.0 * lam)), 1.0),
]


@pytest.mark.parametrize("moving", [churn(1.2), ancestral(0.5)], ids=str)
@pytest.mark.parametrize("own", LEVELS, ids=["large", "optimal"])
def test_the_variance_of_a_step_is_for_the_levels_between_which_it_goes(
    own: Callable[[], Operation], moving: Operation
):
    """Where churn or an ancestral step moves a step's levels, its noise has the variance of a plan
    of that step alone."""
    plan = plan_of(VP(), "seeds-1", [own(), moving], 1.0)
    steps = [row for row in plan.rows if row.evaluates]
    assert len(steps) == len(SIGMAS) - 1
    for row in steps:
        alone = compile_plan(plan.sde, "seeds-1", [row.time, row.target], operations=[own()])
        assert plan.noise_std(row) == pytest.approx(alone.noise_std(alone.rows[0]), rel=1e-9)
    assert {row.time for row in steps} - set(plan.grid.tolist()) or {
        row.target for row in steps
    } - set(plan.grid.tolist())


def test_factors_of_several_operations_multiply():
    """Those of the solver's own noise, and those of the noise that is added."""
    schedule = VP()
    scaled, plain, large = (
        plan_of(schedule, "seeds-1", around, 1.0)
        for around in (
            [noise_factor(1.2), large_variance(), noise_factor(0.7)],
            [],
            [large_variance()],
        )
    )
    for a, b, c in zip(scaled.rows, plain.rows, large.rows, strict=True):
        found = plain.noise_std(b) * 1.2 * 0.7 * (large.noise_std(c) / plain.noise_std(b))
        assert scaled.noise_std(a) == pytest.approx(found, rel=1e-12)
    around = [churn(1.2, s_noise=1.1), ancestral(0.5, s_noise=0.8)]
    one = [churn(1.2), ancestral(0.5)]
    loud, quiet = (plan_of(schedule, "ddim", operations, 0.0) for operations in (around, one))
    added = [
        (a, b) for a, b in zip(loud.rows, quiet.rows, strict=True) if a.noise and not a.weights
    ]
    assert len(added) == 2 * (len(SIGMAS) - 1)
    for a, b in added:
        assert loud.noise_std(a) == pytest.approx(1.1 * 0.8 * quiet.noise_std(b), rel=1e-12)


def test_a_basis_gets_positions_in_the_variable():
    """The node of its stage and those of the evaluations, in units of the step."""
    given: list[tuple[Any, list[Any]]] = []

    def basis(c: Any, nodes: Sequence[Any]) -> Any:
        given.append((c, list(nodes)))
        return lagrange_coefficients(nodes)

    tableau = solvers.get("seeds-3").tableau
    stages = tuple(replace(stage, basis=basis) for stage in tableau.stages)
    tableau = replace(tableau, stages=stages, variable="sigma")
    given.clear()
    compile_plan(reverse_sde(VP()), tableau, interval(VP()))
    found = [[float(value) for value in (c, *nodes)] for c, nodes in given]
    nodes = [float(node) for node in tableau.evaluation_nodes]
    for stage, values in zip(stages, found[-len(stages) :], strict=True):
        assert values == pytest.approx([float(stage.c), *(nodes[j] for j in stage.through)])


@pytest.mark.parametrize("form", ["data", "noise"])
def test_ordinary_noise_beside_that_of_the_integral(form: str):
    """Stages of both kinds in one tableau: with s, θ the fractions of the noise time at an ordinary
    stage and at one with θ ΔW + κ √(12 θ(1−θ)) H, Var H = Δτ/12 and Cov(H, W(s)) = s(1 − s) Δτ/2.
    """
    stages = (
        Stage(Fraction(1, 4), through=(0,)),
        Stage(Fraction(3, 5), through=(0, 1), increment_weight=Fraction(1, 5)),
        Stage(Fraction(2, 3), through=(0,)),
        Stage(Fraction(1), through=(0, 1)),
    )
    schedule = VP()
    sde = reverse_sde(schedule, form, 0.9)
    start, end = schedule.t_of_sigma(3.0), schedule.t_of_sigma(0.4)
    plan = compile_plan(sde, Tableau("both", stages), [start, end])
    targets = [row.target for row in plan.rows]
    a, tau = sde.propagator(targets), sde.noise_clock([start, *targets])
    whole = tau[-1] - tau[0]
    parts = (tau[1:] - tau[0]) / whole
    exact = torch.minimum(parts[:, None], parts)
    theta, kappa = parts[1], stages[1].bridge_factor
    spread = kappa * torch.sqrt(12.0 * theta * (1.0 - theta))
    beside = theta * parts + spread * 0.5 * parts * (1.0 - parts)
    beside[1] = theta**2 + spread**2 / 12.0
    exact[1] = exact[:, 1] = beside
    found = plan.noise_covariance(0) / (a[:, None] * a * whole)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ell", [0.5, 1.001, 2.0])
def test_a_variance_for_another_ell_is_refused(ell: float):
    around = [optimal_variance(lambda lam: 0.0 * lam, 1.0)]
    with pytest.raises(ValueError, match="it is for the data form with ell = 1"):
        plan_of(VP(), "seeds-1", around, ell)
