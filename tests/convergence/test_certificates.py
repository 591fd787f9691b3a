"""A name in the registry stands for coefficients that were measured: certificates, and what happens
without one.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction as Q
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from one_reference import one_reference  # noqa: F401

import expint
from expint import phi, solvers
from expint.convergence.certification import certify_registration, declared_orders, register_solver
from expint.plans import stage_coefficients
from expint.solvers import churn, Stage, Tableau, registry, seeds2, seeds_ab

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
NAMES = [entry.name for entry in (*registry.entries(), *registry.pending())]
same_reference = pytest.mark.usefixtures("one_reference")
every_name = pytest.mark.parametrize("name", NAMES)
CHEAP: dict[str, Any] = {"steps": (32, 64, 128), "starts": 16, "weak_steps": (60, 120, 240)}
CHEAPER: dict[str, Any] = {
    "steps": (16, 32, 64),
    "starts": 4,
    "weak_steps": (15, 30, 60),
}  # with derivatives, which are slow


def certificates() -> dict[str, Any]:
    return json.loads(
        files("expint.solvers").joinpath("certificates.json").read_text(encoding="utf-8")
    )


# --- The certificates


def test_every_solver_has_a_certificate_and_every_certificate_a_solver():
    assert registry.pending() == [] and set(certificates()) == set(NAMES) <= set(solvers.names())


@every_name
def test_the_certificate_is_of_these_coefficients(name: str):
    tableau, certificate = solvers.get(name), certificates()[name]
    assert certificate["fingerprint"] == registry.fingerprint(tableau) and tableau.name == name
    orders = declared_orders(tableau)
    kinds = {"deterministic"} | ({"weak"} if orders.weak > 0 else set())
    if tableau.ell > 0 and orders.strong > 0 and tableau.noise_scale is None:
        kinds.add("strong")
    assert set(certificate["measured"]) == kinds
    assert registry.entries()[solvers.names().index(name)].measured == certificate["measured"]


@every_name
@same_reference
def test_the_measurement_again(name: str):
    """On fewer steps and starts than the certificate has; the orders without noise come out as they
    were recorded.
    """
    tableau = solvers.get(name)
    certificate = certify_registration(tableau, **(CHEAPER if tableau.slopes else CHEAP))
    assert certificate.passed, certificate.table()
    recorded = certificates()[name]["measured"]
    for study in certificate.studies:
        assert study.order == pytest.approx(recorded[study.kind], abs=0.5), study.table()


# --- Fingerprints


def moved(by: Q) -> Tableau:
    """Two stages with part of the weight of one evaluation given to the other: still exact for
    constant F.
    """

    def rule(c: Any, nodes: Sequence[Any]) -> list[list[tuple[Any, int]]]:
        return [[(1 - by, 1), (-1, 2)], [(by, 1), (1, 2)]]

    return Tableau(
        "etd-rk2a",
        (Stage(Q(1), through=(0,)), Stage(Q(1), through=(0, 1), rule=rule)),
        form="noise",
        ell=0.0,
    )


def test_a_fingerprint_is_of_all_that_decides_the_coefficients():
    plain = seeds_ab(3)
    changed = [
        replace(plain, form="noise"),
        replace(plain, ell=0.5),
        replace(plain, variable="sigma"),
        replace(plain, shrink=True),
        replace(plain, start=(seeds2(),)),
        replace(plain, operations=(churn(1.0),)),
        replace(plain, noise_scale="exp-0.3"),
        seeds_ab(2),
        seeds_ab(3, "one-step"),
        moved(Q(0)),
        moved(Q(1, 1000)),
    ]
    assert len({registry.fingerprint(tableau) for tableau in (plain, *changed)}) == len(changed) + 1
    assert registry.fingerprint(
        replace(plain, name="another", source="elsewhere")
    ) == registry.fingerprint(plain)


def test_of_a_scheme_that_was_tampered_with_nothing_is_registered():
    """1/1000 of a weight moved, and one declared under a certified name."""
    assert moved(Q(0)).deterministic_order == 2 and moved(Q(1, 1000)).deterministic_order == 1
    registry.register("etd-rk2a", "tampered")(lambda: moved(Q(1, 1000)))
    assert "etd-rk2a" not in solvers.names() and "etd-rk2a" in [
        entry.name for entry in registry.pending()
    ]
    with pytest.raises(
        ValueError,
        match=r"'etd-rk2a' is not registered: its coefficients are not those of its certificate",
    ):
        solvers.get("etd-rk2a")


def test_a_right_scheme_declared_again_is_registered_again():
    build = registry.entries()[solvers.names().index("seeds-2")].build
    registry.register("seeds-2", "wrong")(lambda: moved(Q(1, 1000)))
    assert "seeds-2" not in solvers.names()
    registry.register("seeds-2", "right")(build)
    assert (
        "seeds-2" in solvers.names()
        and solvers.get("seeds-2") == seeds2()
        and registry.pending() == []
    )


def test_of_two_declarations_the_later_counts():
    registry.register("seeds-2", "right")(seeds2)
    registry.register("seeds-2", "wrong")(lambda: moved(Q(1, 1000)))
    assert "seeds-2" not in solvers.names()


def test_without_a_certificate_nothing_is_registered():
    registry.register("two-thirds", "not certified")(two_thirds)
    assert "two-thirds" not in solvers.names()
    with pytest.raises(
        ValueError, match=r"Certify it with benchmarks/certify\.py, or pass the tableau itself"
    ):
        solvers.get("two-thirds")
    assert solvers.get(two_thirds()).name == "two-thirds"


# --- Registering a solver of one's own


def two_thirds() -> Tableau:
    return Tableau("two-thirds", (Stage(Q(2, 3), through=(0,)), Stage(Q(1), through=(0, 1))))


@same_reference
def test_a_solver_of_ones_own():
    certificate = register_solver(two_thirds, "two stages")
    assert certificate.passed and certificate.noise is not None
    assert "two-thirds" in solvers.names() and solvers.get("two-thirds") == two_thirds()
    entry = registry.entries()[solvers.names().index("two-thirds")]
    assert entry.measured == {study.kind: study.order for study in certificate.studies}
    assert entry.measured["deterministic"] == pytest.approx(2, abs=0.15)
    with pytest.raises(
        ValueError, match=r"There is a solver 'two-thirds' already: choose another name"
    ):
        register_solver(two_thirds, "again")


def test_taken_names():
    with pytest.raises(ValueError, match=r"There is a solver 'seeds-2' already"):
        register_solver(seeds2, "again")
    with pytest.raises(ValueError, match=r"There is a solver 'seeds-2' already"):
        registry.add(registry.entries()[solvers.names().index("seeds-2")])


@same_reference
def test_a_solver_that_does_not_keep_its_orders(monkeypatch: pytest.MonkeyPatch):
    """With half of φ_2 in the engine the tableau promises order 2 and delivers 1."""
    monkeypatch.setattr(
        stage_coefficients, "phi", lambda k, z: (0.5 if k == 2 else 1.0) * phi(k, z)
    )
    with pytest.raises(
        ValueError,
        match=r"(?s)'two-thirds' is not registered\..*deterministic order: "
        r"measured 1\.\d\d, declared 2",
    ):
        register_solver(two_thirds, "two stages")
    assert "two-thirds" not in solvers.names()


@same_reference
def test_a_solver_with_wrong_noise(monkeypatch: pytest.MonkeyPatch):
    """The orders without noise do not see it; the covariance of the stages does."""
    right = stage_coefficients._stage_noise

    def louder(*arguments: Any) -> dict[str, Any]:
        return {
            name: [None if value is None else 1.01 * value for value in values]
            for name, values in right(*arguments).items()
        }

    monkeypatch.setattr(stage_coefficients, "_stage_noise", louder)
    with pytest.raises(
        ValueError, match=r"stage covariance: the noise of step 1, stage at 2/3 has variance"
    ):
        register_solver(two_thirds, "two stages")


# --- Programs


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    where = str(Path(expint.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=150,
        check=False,
        env={"PYTHONPATH": where, "OMP_NUM_THREADS": "1", "PATH": ""},
    )


def test_the_program_certifies_and_writes_only_when_asked():
    before = files("expint.solvers").joinpath("certificates.json").read_text(encoding="utf-8")
    done = run("benchmarks/certify.py", "dpm-solver-1")
    assert done.returncode == 0, done.stderr
    assert (
        "dpm-solver-1" in done.stdout and " certified " in done.stdout and "NOT" not in done.stdout
    )
    assert (
        files("expint.solvers").joinpath("certificates.json").read_text(encoding="utf-8") == before
    )


def test_the_table_of_solvers_is_up_to_date():
    done = run("benchmarks/solver_table.py", "--check")
    assert done.returncode == 0, done.stderr
