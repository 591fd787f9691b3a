"""The noise of stages that share the whole step's increment and integral, held to the SDE and to
the conditions of strong order 3/2 rather than to the formula that makes it.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction as Q
from typing import Any

import pytest
import torch

from expint import compile_plan, solvers
from expint.convergence import Problem, noise_covariance
from expint.convergence.certification import Orders, certify
from expint.convergence.stage_covariance import strong_defects
from expint.equations.forms import EXPONENTIAL
from expint.plans.plan import Plan
from expint.schedules import VP
from expint.solvers import Method, Stage, Tableau, seeds_sra, seeds_sra3
from expint.targets import Gaussian

SRA = ("seeds-sra", "seeds-sra3")
every_form = pytest.mark.parametrize("form", EXPONENTIAL)


def problem(form: str = "data", ell: float = 1.0, **options: Any) -> Problem:
    target = Gaussian([0.7, -1.0], [0.3, 2.0], VP())
    return Problem(target, form, ell, sigma_data=0.5, **options)


def with_weights(tableau: Tableau, weights: tuple[Q | None, ...]) -> Method:
    stages = [
        replace(stage, increment_weight=weight)
        for stage, weight in zip(tableau.stages, weights, strict=False)
    ]
    return Method(replace(tableau, stages=(*stages, tableau.stages[-1])))


@every_form
@pytest.mark.parametrize("ell", [0.5, 1.0, 3.0])
def test_the_reference_does_not_know_the_weights(form: str, ell: float):
    """On one step over all noise levels: the covariances of the path itself, that of ordinary
    noise; for seeds-sra all of them hold.
    """
    ordinary = with_weights(seeds_sra(), (None,))
    shared, path = (
        noise_covariance(problem(form, ell).plan(m, 1), m, ell=ell)
        for m in (solvers.get("seeds-sra"), ordinary)
    )
    assert torch.equal(shared.exact, path.exact) and bool(shared.held.all())
    assert shared.error < 1e-10 and shared.finding() is None
    third = noise_covariance(problem(form, ell).plan("seeds-sra3", 1), ell=ell)
    assert third.error < 1e-10 and third.held.sum() == 9 - 4  # the last row and column


def louder_integral(factor: float) -> Callable[..., Plan]:
    """An engine that scales what the stages take from z_U: covariances with the step stay."""

    def planner(*arguments: Any) -> Plan:
        plan = compile_plan(*arguments)
        rows = [
            row if ends else row._replace(noise=(*row.noise[:-1], factor * row.noise[-1]))
            for row, ends in zip(plan.rows, plan.ends_step, strict=True)
        ]
        return replace(plan, rows=tuple(rows))

    return planner


@pytest.mark.parametrize(("name", "words"), [(SRA[0], "instead of"), (SRA[1], "of at most")])
def test_too_much_noise_of_the_integral(name: str, words: str):
    found = certify(name, problem(planner=louder_integral(4.0)), kinds=()).findings
    assert found[0].startswith("stage covariance: the noise of step 1, stage at")
    assert words in found[0] and ("at most" in found[0]) == (name == SRA[1])
    assert found[1].startswith("stage noise: the conditions of strong order")


@every_form
@pytest.mark.parametrize("ell", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", SRA)
def test_the_conditions_hold_as_the_step_vanishes(name: str, form: str, ell: float):
    method = solvers.get(name)
    defects = [max(strong_defects(problem(form, ell), method, h)) for h in (1e-3, 1e-4)]
    assert defects[1] < 4e-4 and defects[1] / defects[0] == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("tableau", "weights", "missed"),
    [
        (seeds_sra(), (None,), (0.204, 0.0)),  # √(1/24)
        (seeds_sra(), (Q(1, 10),), (0.038, 0.031)),
        (seeds_sra3(), (Q(0), Q(0)), (0.0, 1 / 18)),
        (seeds_sra3(), (Q(-2, 9), Q(5, 18)), (0.0, 2 / 27)),
        (solvers.seeds2(), (), (12**-0.5, 0.0)),
    ],
)
def test_planted_schemes_miss_them(
    tableau: Tableau, weights: tuple[Q | None, ...], missed: tuple[float, float]
):
    """By as much as their limits do, and `certify` says so of one declared to have order 3/2."""
    method = with_weights(tableau, weights) if weights else Method(tableau)
    assert strong_defects(problem(), method) == pytest.approx(missed, abs=1e-3)
    found = certify(method, problem(), kinds=(), declared=Orders(2, 2, 1.5)).findings
    assert any("conditions of strong order 3/2 are missed by" in finding for finding in found)


@pytest.mark.parametrize(
    ("name", "words"), [(SRA[0], "stage covariance"), (SRA[1], "stage noise: the conditions")]
)
def test_a_wrong_factor_of_the_bridge_is_named(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
):
    """κ 1 % off in the engine; the reference takes it from nowhere."""
    right = Stage.bridge_factor.fget
    assert right is not None
    monkeypatch.setattr(Stage, "bridge_factor", property(lambda stage: 0.99 * right(stage)))
    found = certify(name, problem(), kinds=()).findings
    assert found and found[0].startswith(words), found
