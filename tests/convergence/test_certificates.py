"""A name in the registry stands for coefficients that were measured: certificates, and what shows
that one is missing or is not that of its solver.
"""

import runpy
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction as Q
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from one_reference import one_reference  # noqa: F401

from expint import phi, solvers
from expint.convergence import OrderStudy, certificates, certification
from expint.convergence.certification import (
    SLACK,
    certify_registration,
    declared_orders,
    register_solver,
    shortfall,
)
from expint.convergence.strong_certificates import has_path_noise
from expint.plans import stage_coefficients
from expint.solvers import Method, Stage, Tableau, churn, register, seeds2, seeds_ab

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
NAMES = solvers.names()
same_reference = pytest.mark.usefixtures("one_reference")
every_name = pytest.mark.parametrize("name", NAMES)
CHEAP: dict[str, Any] = {"steps": (32, 64, 128), "starts": 16, "weak_steps": (60, 120, 240)}
CHEAPER: dict[str, Any] = {
    "steps": (16, 32, 64),
    "starts": 4,
    "weak_steps": (15, 30, 60),
}  # with derivatives, which are slow


# --- The certificates ----------------------------------------------------------------------------


def without_certificate() -> set[str]:
    """Names that have none, and certificates without a solver."""
    return set(certificates.read()) ^ set(solvers.names())


def test_every_solver_has_a_certificate_and_every_certificate_a_solver():
    assert without_certificate() == set() and set(NAMES) == set(certificates.read())


@every_name
def test_the_certificate_is_of_these_coefficients(name: str):
    method, record = solvers.get(name), certificates.read()[name]
    assert record.fingerprint == certificates.fingerprint(name) and method.name == name
    orders = declared_orders(method)
    kinds = {"deterministic"} | ({"weak"} if orders.weak > 0 else set())
    if has_path_noise(method) and orders.strong > 0:
        kinds.add("strong")
    assert set(record.measured) == kinds


@every_name
def test_the_recorded_orders_are_the_declared_ones(name: str):
    """Strong orders by their whole 95 % interval: it holds the declared order or lies above it, and
    is narrow.
    """
    declared = declared_orders(name)
    method = solvers.get(name)
    for kind, found in certificates.read()[name].measured.items():
        quiet = kind == "weak" and method.ell == 0 and not method.operations
        wanted = declared.deterministic if quiet else getattr(declared, kind)
        assert found.order >= wanted - SLACK[kind]
        assert (found.interval is not None) == (kind == "strong")
        if found.interval is not None:
            low, high = found.interval
            assert wanted - SLACK["strong"] <= low < found.order < high and high >= wanted
            assert high - low < 0.1 and max(found.steps) >= 4096


@every_name
@same_reference
def test_the_measurement_again(name: str):
    """On fewer steps and starts than the certificate has; the orders without noise come out as they
    were recorded.
    """
    method = solvers.get(name)
    certificate = certify_registration(method, **(CHEAPER if method.tableau.slopes else CHEAP))
    assert certificate.passed, certificate.table()
    recorded = certificates.read()[name].measured
    for study in certificate.studies:
        assert study.order == pytest.approx(recorded[study.kind].order, abs=0.5), study.table()


@pytest.mark.parametrize(
    ("order", "interval", "errors", "words"),
    [
        (1.0, (0.91, 1.09), (4e-2, 2e-2, 1e-2), None),
        (1.3, (1.2, 1.4), (4e-2, 2e-2, 1e-2), None),
        (1.0, (0.89, 1.11), (4e-2, 2e-2, 1e-2), "take more paths"),
        (1.0, (0.3, 1.9), (4e-2, 2e-2, 1e-2), "interval 0.30 to 1.90 reaches below 0.9"),
        (0.7, (0.65, 0.75), (4e-2, 2.4e-2, 1.5e-2), "measured 0.70, declared 1"),
        (0.7, (0.6, 0.8), (4e-2, 3e-2, 1.5e-2), "the steps 8 to 32 are not asymptotic"),
    ],
)
def test_the_lower_end_of_the_interval_decides(
    order: float, interval: tuple[float, float], errors: tuple[float, ...], words: str | None
):
    """An interval that is merely wide enough to hold the declared order does not do."""
    steps = (8, 16, 32)
    named = ("strong", "s", 1.0, "", "", "")
    study = OrderStudy(*named, steps, steps, errors, (0, 2), order, None, interval)
    found = shortfall(study, 1.0)
    assert (found == []) if words is None else (words in found[0])


# --- Fingerprints --------------------------------------------------------------------------------


def moved(by: Q) -> Method:
    """etd-rk2a with part of the weight of one evaluation given to the other: still exact for
    constant F.
    """

    def rule(c: Any, nodes: Sequence[Any]) -> list[list[tuple[Any, int]]]:
        return [[(1 - by, 1), (-2, 2)], [(by, 1), (2, 2)]]

    stages = (Stage(Q(1, 2), through=(0,)), Stage(Q(1), through=(0, 1), rule=rule))
    return Method(Tableau("etd-rk2a", stages), form="noise", ell=0.0)


def test_a_fingerprint_is_of_all_that_decides_the_coefficients():
    plain = seeds_ab(3)
    changed = [
        replace(plain, form="noise"),
        replace(plain, ell=0.5),
        replace(plain, tableau=replace(plain.tableau, variable="sigma")),
        replace(plain, lower_order_final=True),
        replace(plain, start_up=(seeds2(),)),
        replace(plain, operations=(churn(1.0),)),
        replace(plain, noise_scale="exp-0.3"),
        seeds_ab(2),
        seeds_ab(3, "one-step"),
        moved(Q(0)),
        moved(Q(1, 1000)),
    ]
    assert (
        len({certificates.fingerprint(method) for method in (plain, *changed)}) == len(changed) + 1
    )
    assert certificates.fingerprint(
        replace(plain, name="another", source="elsewhere")
    ) == certificates.fingerprint(plain)


@same_reference
def test_a_scheme_that_was_tampered_with_is_not_that_of_its_certificate():
    """1/1000 of a weight moved: another fingerprint, and held to what the name declares it falls
    short."""
    right, wrong = moved(Q(0)), moved(Q(1, 1000))
    assert right.deterministic_order == 2 and wrong.deterministic_order == 1
    recorded = certificates.read()["etd-rk2a"].fingerprint
    assert certificates.fingerprint(right) == recorded != certificates.fingerprint(wrong)
    assert certify_registration(right, **CHEAP).passed
    assert certify_registration(wrong, **CHEAP).findings[0] == (
        "tableau: deterministic order 1 by the algebraic conditions, declared 2"
    )


def test_a_name_stands_for_its_first_declaration():
    before = solvers.get("seeds-2")
    for build in (lambda: moved(Q(1, 1000)), seeds2):
        with pytest.raises(ValueError, match=r"There is a solver 'seeds-2' already"):
            register("seeds-2", build, "again")
    assert solvers.get("seeds-2") is before and before.tableau == seeds2()


def test_a_solver_that_was_not_measured_is_without_a_certificate():
    register("two-thirds", two_thirds, "not certified")
    assert without_certificate() == {"two-thirds"}
    assert solvers.get("two-thirds").tableau == two_thirds()
    assert solvers.get(two_thirds()).name == "two-thirds"


# --- Registering a solver of one's own -----------------------------------------------------------


def two_thirds() -> Tableau:
    return Tableau("two-thirds", (Stage(Q(2, 3), through=(0,)), Stage(Q(1), through=(0, 1))))


@pytest.fixture
def few_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the study of the strong order: test_strong_certificates.py registers with all of them."""
    fewer = partial(certification.strong_certificates, steps=(32, 64, 128), paths=256)
    monkeypatch.setattr(certification, "strong_certificates", fewer)


@same_reference
@pytest.mark.usefixtures("few_paths")
def test_a_solver_of_ones_own():
    certificate = register_solver(two_thirds, "two stages")
    assert certificate.passed and certificate.noise is not None
    assert "two-thirds" in solvers.names() and solvers.get("two-thirds") == Method(two_thirds())
    measured = {study.kind: study.order for study in certificate.studies}
    assert set(measured) == {"deterministic", "weak", "strong"}
    assert measured["deterministic"] == pytest.approx(2, abs=0.15)
    with pytest.raises(
        ValueError, match=r"There is a solver 'two-thirds' already: choose another name"
    ):
        register_solver(two_thirds, "again")


def test_taken_names():
    with pytest.raises(ValueError, match=r"There is a solver 'seeds-2' already"):
        register_solver(seeds2, "again")
    with pytest.raises(ValueError, match=r"There is a solver 'seeds-2' already"):
        register("seeds-2", seeds2, "again")


@same_reference
@pytest.mark.usefixtures("few_paths")
def test_a_solver_that_does_not_keep_its_orders(monkeypatch: pytest.MonkeyPatch):
    """With half of φ_2 in the engine the tableau promises order 2 and delivers 1."""
    monkeypatch.setattr(
        stage_coefficients, "phi", lambda k, z: (0.5 if k == 2 else 1.0) * phi(k, z)
    )
    with pytest.raises(
        ValueError,
        match=r"(?s)'two-thirds' is not registered\..*"
        r"deterministic order: measured 1\.\d\d, declared 2",
    ):
        register_solver(two_thirds, "two stages")
    assert "two-thirds" not in solvers.names()


@same_reference
@pytest.mark.usefixtures("few_paths")
def test_a_solver_with_wrong_noise(monkeypatch: pytest.MonkeyPatch):
    """The orders without noise do not see it; the covariance of the stages does."""
    right = stage_coefficients._noise_columns

    def louder(*arguments: Any) -> list[list[Any]]:
        return [[1.01 * values for values in columns] for columns in right(*arguments)]

    monkeypatch.setattr(stage_coefficients, "_noise_columns", louder)
    with pytest.raises(
        ValueError, match=r"stage covariance: the noise of step 1, stage at 2/3 has variance"
    ):
        register_solver(two_thirds, "two stages")


# --- Programs ------------------------------------------------------------------------------------


def run(program: str, *arguments: str) -> Result:
    command = runpy.run_path(str(ROOT / "benchmarks" / program))["main"]
    return CliRunner().invoke(command, arguments)


def test_the_program_certifies_and_writes_only_when_asked():
    before = certificates.FILE.read_text(encoding="utf-8")
    small = ("--paths", "64", "--steps", "64,128,256")
    done = run("certify.py", "dpm-solver-1", "seeds-1", *small)
    assert done.exit_code == 0, done.output
    assert "dpm-solver-1: certified" in done.stdout and "  strong: order" in done.stdout
    assert certificates.FILE.read_text(encoding="utf-8") == before


def test_the_documents_have_the_recorded_orders():
    """Both pages are filled from the certificates, so that a measured order stands in one place."""
    done = run("solver_table.py", "--check")
    assert done.exit_code == 0, done.output


def test_what_the_page_on_orders_says_of_the_errors():
    """More than 140 times as large at 1024 steps, and a ratio that grows."""
    records = certificates.read()
    found = (records[name].measured["strong"] for name in ("seeds-3", "seeds-sra", "seeds-sra3"))
    errors = [dict(zip(strong.steps, strong.errors, strict=True)) for strong in found]
    (coarse, *others), (fine, *finer) = ([e[n] for e in errors] for n in (1024, 4096))
    assert all(coarse > 140 * other for other in others)
    assert all(fine / b > coarse / a for a, b in zip(others, finer, strict=True))
