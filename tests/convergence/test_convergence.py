"""Convergence studies: what they measure of sound solvers, and the faults they name."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction as Q
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from solver_kinds import ONE_STEP

from expint import compile_plan, phi, reverse_sde, schedules, solvers
from expint.convergence import (
    Comparison,
    Problem,
    compare,
    deterministic_order,
    deterministic_orders,
    noise_covariance,
    strong_order,
    strong_orders,
    weak_order,
)
from expint.convergence.certification import Orders, certify, declared_orders
from expint.convergence.linear_response import _UnitNormals, gaussian_moments
from expint.convergence.order_fitting import (
    asymptotic_range,
    bootstrap,
    bootstrap_indices,
    fitted_order,
    local_orders,
    root_mean,
)
from expint.equations.forms import EXPONENTIAL
from expint.noise import BrownianPath, SubstepNoise
from expint.plans import stage_coefficients
from expint.plans.plan import Plan
from expint.schedules import EDM, VP, Flow
from expint.solvers import Stage, Tableau, Term, seeds3
from expint.targets import Gaussian, GaussianMixture

SIGMA_DATA = 1.2
NAMES = ("seeds-1", "seeds-2", "seeds-3", "seeds-sra", "seeds-sra3")


def mixture(schedule: Any = None) -> GaussianMixture:
    return GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]], 0.6, None, schedule or VP())


def gaussian(schedule: Any = None) -> Gaussian:
    return Gaussian([0.7, -1.0], [0.3, 2.0], schedule or VP())


@cache
def strong(name: str) -> Comparison:
    """A reduced size of benchmarks/strong_order.py."""
    target = gaussian() if name == "gaussian" else mixture()
    return strong_orders(
        NAMES, Problem(target), steps=(32, 64, 128), paths=512, batch=512, refine=4
    )


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_strong_orders(name: str):
    for study in strong(name).studies:
        if study.declared > 1:
            assert study.order > 1.4, study.summary()
        else:  # with 512 paths the intervals are wide
            assert study.order == pytest.approx(1.0, abs=0.13), study.summary()
            assert (
                study.order_interval is not None
                and study.order_interval[0] < study.order < study.order_interval[1]
            )
        assert set(study.others) == {"sup over the grid", "median"}
        for rms, largest in zip(study.errors, study.others["sup over the grid"], strict=True):
            assert rms < largest
        assert study.other_orders["sup over the grid"] > study.declared - 0.15


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_the_area_pays(name: str):
    errors = {study.solver: study.errors[-1] for study in strong(name).studies}
    assert (
        errors["seeds-3"] / errors["seeds-sra"] > 12
        and errors["seeds-3"] / errors["seeds-sra3"] > 12
    )


def test_the_path_may_be_another():
    """The same law on a BrownianPath: other numbers, the same error within the statistics of 256
    paths.
    """
    problem = Problem(mixture(EDM()))
    options: dict[str, Any] = {"steps": (4, 8, 16), "paths": 256, "refine": 4}
    own = strong_order("seeds-2", problem, **options)
    other = strong_order(
        "seeds-2", problem, path=lambda seeds: BrownianPath(seeds, resolution=32), **options
    )
    for a, b in zip(own.errors, other.errors, strict=True):
        assert a != b and a == pytest.approx(b, rel=0.3)


def test_one_solver_or_many_batches_change_nothing_but_the_path():
    problem = Problem(mixture(EDM()))
    options: dict[str, Any] = {"steps": (4, 8, 16), "paths": 64, "refine": 4}
    whole = strong_order("seeds-sra", problem, **options)
    parts = strong_order("seeds-sra", problem, batch=24, **options)
    assert parts.errors == pytest.approx(whole.errors, rel=1e-9)
    assert strong_order("seeds-sra", problem, **options).errors == whole.errors
    assert strong_order("seeds-sra", problem, seed=1000, **options).errors != whole.errors


@pytest.mark.parametrize(
    ("name", "order"),
    [("seeds-1", 1), ("seeds-2", 2), ("seeds-3", 2), ("seeds-sra", 2), ("seeds-sra3", 3)],
)
def test_weak_orders_on_gaussian_data(name: str, order: int):
    study = weak_order(name, Problem(gaussian(), sigmas=(2.0, 0.2)), steps=(80, 160, 320))
    assert study.declared == order and study.order == pytest.approx(order, abs=0.05), study.table()
    assert (
        study.intervals is None and max(study.others["mean"]) < 1e-12
    )  # D is a martingale along the reverse SDE


@pytest.mark.parametrize("form", EXPONENTIAL)
@pytest.mark.parametrize("name", ONE_STEP)
def test_weak_orders_in_every_form(name: str, form: str):
    problem = Problem(gaussian(), form, 0.7, sigma_data=SIGMA_DATA)
    study = weak_order(name, problem, steps=(30, 60, 120))
    assert study.order > study.declared - 0.2, study.table()


def test_weak_order_by_sampling():
    study = weak_order("seeds-1", Problem(mixture(EDM())), steps=(8, 16, 32), paths=1024, refine=2)
    assert study.floors is not None and all(
        e > f for e, f in zip(study.errors, study.floors, strict=True)
    )
    assert study.order == pytest.approx(1.0, abs=0.25), study.table()


@pytest.fixture(scope="module")
def deterministic() -> Comparison:
    return deterministic_orders(ONE_STEP, Problem(mixture()), steps=(16, 32, 64), starts=16)


def test_deterministic_orders(deterministic: Comparison):
    for study in deterministic.studies:
        assert study.declared == solvers.get(study.solver).deterministic_order
        assert study.order == pytest.approx(study.declared, abs=0.08), study.table()


@pytest.mark.parametrize("form", [form for form in EXPONENTIAL if form != "data"])
def test_deterministic_order_in_the_other_forms(form: str):
    study = deterministic_order(
        "seeds-3", Problem(mixture(), form, sigma_data=SIGMA_DATA), steps=(32, 64, 128), starts=8
    )
    assert study.order == pytest.approx(3.0, abs=0.15), study.table()


@pytest.mark.parametrize("form", EXPONENTIAL)
@pytest.mark.parametrize("ell", [0.5, 1.0])
@pytest.mark.parametrize("name", ONE_STEP)
def test_stage_covariances(name: str, ell: float, form: str):
    plan = Problem(gaussian(), form, ell, sigma_data=SIGMA_DATA).plan(name, 3)
    study = noise_covariance(plan, ell=ell)
    assert study.finding() is None and study.error < 1e-12
    assert len(study.labels) == len(plan.rows) and study.labels[-1] == "step 3"
    assert float(study.exact.diagonal().min()) > 0
    wrong = noise_covariance(plan, ell=ell + 1e-3).finding()
    assert wrong is not None and wrong.startswith("stage covariance: the noise of step 1")


@pytest.mark.parametrize("name", [name for name in schedules.names() if name != "discrete"])
def test_stage_covariances_on_every_schedule(name: str):
    schedule = schedules.get(name)
    assert (
        noise_covariance(
            Problem(gaussian(schedule), ell=0.8, sigmas=(2.0, 0.2)).plan("seeds-3", 2), ell=0.8
        ).error
        < 1e-9
    )


def test_covariance_of_a_step_by_hand():
    """SEEDS-2, ℓ = 1, data form: Var = σ_t² (1 − e^{−2h}) for the step in z = x/α, Cov of stage and
    step from the noise clock.
    """
    schedule = EDM()
    grid = [schedule.t_of_sigma(2.0), schedule.t_of_sigma(0.5)]
    study = noise_covariance(compile_plan(reverse_sde(schedule), "seeds-2", grid))
    s, m, t = 2.0, 1.0, 0.5
    tau = {u: u**-2.0 for u in (s, m, t)}
    exact = [
        [m**4 * (tau[m] - tau[s]), m**2 * t**2 * (tau[m] - tau[s])],
        [0.0, t**4 * (tau[t] - tau[s])],
    ]
    for i, j in ((0, 0), (0, 1), (1, 1)):
        assert float(study.exact[i, j]) == pytest.approx(exact[i][j], rel=1e-10)
        assert float(study.found[i, j]) == pytest.approx(exact[i][j], rel=1e-10)


# --- Planted faults ------------------------------------------------------------------------------


def planner(change: Callable[[Plan], Plan]) -> Callable[..., Plan]:
    """An engine with a fault."""
    return lambda sde, method, grid: change(compile_plan(sde, method, grid))


def swap_noise(plan: Plan) -> Plan:
    """SEEDS-3 whose first two stages take each other's noise."""
    rows = [*plan.rows]
    for i in range(0, len(rows), 3):
        first, second = rows[i : i + 2]
        rows[i], rows[i + 1] = (
            first._replace(noise=second.noise),
            second._replace(noise=first.noise),
        )
    return replace(plan, rows=tuple(rows))


def independent_noise(plan: Plan) -> Plan:
    """SEEDS-2 whose stage has noise of the right variance that is independent of the step's: of the
    normal that is left for the integral."""
    rows = [
        row if ends else row._replace(noise=(0.0, 0.0, *row.noise))
        for row, ends in zip(plan.rows, plan.ends_step, strict=True)
    ]
    noises = [noise and replace(noise, integral=True) for noise in plan.noises]
    return replace(plan, rows=tuple(rows), noises=tuple(noises))


def half_phi_2(tableau: Tableau) -> Tableau:
    """A φ_2 that lacks its factor 2 in the last row."""
    *early, _ = tableau.stages
    row = {
        j: tuple(Term(t.q / 2 if t.k == 2 else t.q, t.k, t.scale) for t in terms)
        for j, terms in tableau.terms[-1].items()
    }
    return replace(tableau, stages=(*early, Stage(Q(1), weights=row)))


def test_swapped_stage_noise_is_named():
    certificate = certify(
        "seeds-3", Problem(mixture(), planner=planner(swap_noise)), kinds=("weak",)
    )
    assert not certificate.passed and "NOT certified" in certificate.table()
    assert certificate.findings[0].startswith(
        "stage covariance: the noise of step 1, stage at 1/3 has variance"
    )
    assert any(
        re.match(r"weak order: measured (0\.9|1\.0)\d, declared 2", finding)
        for finding in certificate.findings
    )


def test_independent_stage_noise_is_named():
    certificate = certify(
        "seeds-2", Problem(mixture(), planner=planner(independent_noise)), kinds=("weak",)
    )
    first, *others = certificate.findings
    assert first.startswith(
        "stage covariance: the noises of step 1, stage at 1/2 and step 1 have correlation"
    )
    assert len(others) == 1 and re.match(
        r"weak order: measured (0\.9|1\.0)\d, declared 2", others[0]
    )


def test_a_wrong_phi_2_is_named():
    wrong = half_phi_2(seeds3())
    assert solvers.get(wrong).deterministic_order == 1 and declared_orders(
        wrong
    ) == declared_orders("seeds-3") == Orders(3, 2, 1)
    certificate = certify(wrong, Problem(mixture()), kinds=("deterministic", "weak"))
    assert certificate.noise is not None and certificate.noise.finding() is None
    assert (
        "tableau: deterministic order 1 by the algebraic conditions, declared 3"
        in certificate.findings
    )
    measured = [finding for finding in certificate.findings if "measured" in finding]
    assert [finding.split(":")[0] for finding in measured] == ["deterministic order", "weak order"]
    assert measured[0].endswith("declared 3") and float(
        measured[0].split()[3].rstrip(",")
    ) == pytest.approx(1.0, abs=0.1)


def test_a_wrong_phi_2_in_the_engine_is_named(monkeypatch: pytest.MonkeyPatch):
    """The tableau is sound and says so; only what the engine makes of it is wrong."""
    monkeypatch.setattr(
        stage_coefficients, "phi", lambda k, z: phi(k, z) * (0.5 if k == 2 else 1.0)
    )
    certificate = certify("seeds-3", Problem(mixture()), kinds=("deterministic",))
    (finding,) = certificate.findings
    assert finding.startswith("deterministic order: measured") and finding.endswith("declared 3")


def test_noise_that_is_drawn_twice_in_the_loop_is_named(monkeypatch: pytest.MonkeyPatch):
    """Step 2 repeats the noise of step 1: a fault of the run, not of the plan."""
    normals = _UnitNormals.normals

    def again(self: _UnitNormals, substep: SubstepNoise) -> Sequence[torch.Tensor]:
        self._used = 0
        return normals(self, substep)

    monkeypatch.setattr(_UnitNormals, "normals", again)
    finding = noise_covariance(Problem(gaussian()).plan("seeds-1", 2)).finding()
    assert finding is not None and finding.startswith(
        "stage covariance: the noise of step 2 has variance"
    )


def test_noise_that_the_plan_does_not_have_is_named():
    """Rows with more noise than the plan asks of its source, and so less than the SDE's."""

    def silent(plan: Plan) -> Plan:
        return replace(plan, noises=tuple(n and replace(n, count=1) for n in plan.noises))

    certificate = certify("seeds-2", Problem(gaussian(), planner=planner(silent)), kinds=())
    (finding,) = certificate.findings
    assert finding.startswith("stage covariance: the noise of step 1 has variance")


def test_a_wrong_propagator_is_named():
    plan = Problem(gaussian()).plan("seeds-2", 1)
    wrong = replace(
        plan, rows=(plan.rows[0], plan.rows[1]._replace(scale=1.01 * plan.rows[1].scale))
    )
    assert (
        noise_covariance(wrong).finding()
        == "propagator: factors of the initial state are off by up to 0.01"
    )


@pytest.mark.parametrize("name", ["seeds-3", "seeds-sra"])
def test_sound_solvers_are_certified(name: str):
    certificate = certify(name, Problem(mixture()), kinds=("deterministic", "weak"))
    assert (
        certificate.passed
        and certificate.findings == ()
        and f"{name}: certified" in certificate.table()
    )
    assert json.loads(certificate.to_json())["passed"] is True


def test_declared_orders_may_be_given():
    certificate = certify(
        "seeds-2", Problem(gaussian(), ell=0.0), kinds=("deterministic",), declared=Orders(3, 2, 1)
    )
    assert certificate.noise is None
    assert (
        certificate.findings[0]
        == "tableau: deterministic order 2 by the algebraic conditions, declared 3"
    )


# --- Fits ----------------------------------------------------------------------------------------


def test_asymptotic_range():
    steps = (8, 16, 32, 64, 128)
    power = [3.0 * n**-1.5 for n in steps]
    assert asymptotic_range(steps, power) == (0, 4)
    assert asymptotic_range(steps, [5.0, *power[1:]]) == (1, 4)
    assert asymptotic_range(steps, [5.0, 5.0, 5.0, *power[3:]]) == (2, 4)  # never fewer than three
    assert asymptotic_range(steps, power, [0.0, 0.0, 0.0, 0.0, 1.0]) == (0, 3)
    with pytest.raises(
        ValueError, match=r"An order needs 3 errors above .* at steps \[8, 16, 32, 64, 128\]"
    ):
        asymptotic_range(steps, power, [0.0, 0.0, 1.0, 0.0, 0.0])
    assert local_orders(steps, power) == pytest.approx([1.5] * 4)


def test_bootstrap_interval_has_the_width_of_the_statistics():
    """For squared errors of relative variance v the root mean square has relative standard
    deviation √(v/n)/2.
    """
    n, steps = 2000, (10, 20, 40)
    base = (bootstrap_indices(n, 3, 5) + 1.0).to(torch.float64) / n  # uniform: v = 1/3
    squared = base * torch.tensor([1e-2, 1e-3, 1e-4], dtype=torch.float64)[:, None]
    intervals, (low, high) = bootstrap(root_mean, squared, steps, (0, 2), seed=0, resamples=400)
    for (a, b), error in zip(intervals, root_mean(squared).tolist(), strict=True):
        assert a < error < b and (b - a) / error == pytest.approx(
            2 * 1.96 * (1 / 3 / n) ** 0.5 / 2, rel=0.25
        )
    assert low < fitted_order(steps, root_mean(squared).tolist()) < high


# --- Output, and what is refused -----------------------------------------------------------------


def test_tables_pictures_and_json(deterministic: Comparison, tmp_path: Path):
    text, markdown = deterministic.table(), deterministic.table(markdown=True)
    assert (
        text.splitlines()[1].startswith("reference: classical Runge-Kutta")
        and "| solver" in markdown
        and "|---" in markdown
    )
    both = Comparison((deterministic.studies[0], *strong("gaussian").studies[:2]))
    assert both.kinds == ("deterministic", "strong")
    both.plot(tmp_path / "orders.png")
    assert (tmp_path / "orders.png").read_bytes().startswith(b"\x89PNG")
    study = both.studies[-1]
    study.plot(tmp_path / "one.svg")
    assert (tmp_path / "one.svg").read_bytes().startswith(b"<?xml")
    assert study.summary() in study.table() and "sup over the grid" in study.table(markdown=True)
    stored = json.loads(study.to_json())
    assert (
        stored["errors"] == list(study.errors)
        and stored["order"] == study.order
        and stored["kind"] == "strong"
    )
    assert len(json.loads(both.to_json())["studies"]) == 3


def test_covariance_table_and_picture(tmp_path: Path):
    study = noise_covariance(Problem(gaussian()).plan("seeds-sra", 2))
    assert "step 1, stage at 3/4" in study.table() and study.table().endswith(
        "all as the SDE has them"
    )
    study.plot(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(study.to_json())["labels"] == list(study.labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Problem(gaussian(), sigmas=(0.1, 5.0)), r"first > last > 0, got \(0\.1, 5\.0\)"),
        (lambda: Problem(gaussian(), sigmas=(1e9, 1.0)), r"leave the noise levels of VP"),
        (lambda: Problem(gaussian(), form="precond"), "sigma_data"),
        (lambda: strong_order("seeds-1", Problem(gaussian(), ell=0.0)), r"need noise, ell > 0"),
        (
            lambda: strong_order("seeds-1", Problem(gaussian()), steps=(8, 4)),
            r"increasing positive integers, got \(8, 4\)",
        ),
        (
            lambda: strong_order("seeds-1", Problem(gaussian()), steps=(7, 11, 13)),
            r"must be nested",
        ),
        (
            lambda: strong_orders(["seeds-1", "seeds-1"], Problem(gaussian())),
            r"\['seeds-1'\] came more than once",
        ),
        (lambda: weak_order("seeds-1", Problem(mixture(), ell=0.0)), r"need noise, ell > 0"),
        (
            lambda: compare(["seeds-1"], Problem(gaussian()), ("strange",)),
            r"kinds among \['strong', 'weak', 'deterministic'\]",
        ),
        (
            lambda: certify("seeds-1", Problem(gaussian()), kinds=("strange",)),
            r"Unknown kinds \['strange'\]",
        ),
        (
            lambda: noise_covariance(Problem(gaussian(), ell=0.0).plan("seeds-1", 2)),
            "There is no noise to study",
        ),
        (
            lambda: noise_covariance(Problem(gaussian()).plan("seeds-1", 2), "seeds-2"),
            "makes 4 states in 2 steps, but .* 2 rows",
        ),
    ],
)
def test_what_is_refused(call: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "study",
    [
        lambda model: deterministic_order("seeds-1", model),
        lambda model: deterministic_orders(["seeds-1"], model),
        lambda model: strong_order("seeds-1", model),
        lambda model: strong_orders(["seeds-1"], model),
        lambda model: weak_order("seeds-1", model),
        lambda model: compare(["seeds-1"], model),
        lambda model: certify("seeds-1", model),
    ],
)
def test_a_model_in_the_place_of_the_problem(study: Callable[[Any], object]):
    with pytest.raises(
        TypeError,
        match=r"expint\.convergence\.Problem, got Gaussian: for a model, give Problem\(model\)",
    ):
        study(gaussian())


def test_moments_are_those_of_gaussian_data_on_the_schedule_of_the_plan():
    plan = Problem(gaussian()).plan("seeds-2", 3)
    with pytest.raises(TypeError, match=r"an expint\.targets\.Gaussian, got GaussianMixture"):
        gaussian_moments(plan, mixture())  # pyright: ignore[reportArgumentType]
    for other in (EDM(), VP(beta_d=10.0)):
        with pytest.raises(
            ValueError, match=rf"schedule VP\(beta_d=19\.9.* has {re.escape(str(other))}"
        ):
            gaussian_moments(plan, gaussian(other))
    far = Problem(gaussian(EDM()), sigmas=(50.0, 1.0)).plan("seeds-1", 3)
    with pytest.raises(
        ValueError, match=r"schedule EDM\(.* has Flow\("
    ):  # which has no time as late as that
        gaussian_moments(far, gaussian(Flow()))


def test_coarse_steps_are_not_a_missed_order():
    """A sound solver whose errors do not follow a power law yet; and a wrong one, whose errors
    do.
    """
    problem = Problem(gaussian())
    coarse = weak_order("seeds-3", problem, steps=(8, 16, 32))
    certificate = certify("seeds-3", problem, kinds=("weak",), studies={"weak": coarse})
    (finding,) = certificate.findings
    assert finding.startswith(
        "weak order: the steps 8 to 32 are not asymptotic, the order between neighbours goes 0."
    )
    assert finding.endswith("take finer steps to tell whether it is 2") and not certificate.passed
    fine = deterministic_order("seeds-2", problem)
    certificate = certify(
        "seeds-2",
        problem,
        kinds=("deterministic",),
        declared=Orders(3, 2, 1),
        studies={"deterministic": fine},
    )
    assert re.fullmatch(
        r"deterministic order: measured (1\.9|2\.0)\d, declared 3", certificate.findings[-1]
    )


def test_compare_gathers_kinds():
    found = compare(["seeds-1"], Problem(gaussian()), ("weak", "deterministic"), steps=(16, 32, 64))
    assert [study.kind for study in found.studies] == [
        "weak",
        "deterministic",
    ] and "exact" in found.table()
