"""Certificates: what was measured of every registered solver, and of which coefficients.

They are evidence for tests and documents: nothing that samples reads them. benchmarks/certify.py
writes the file.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from expint.results import jsonable, write_json
from expint.solvers import Stage, Tableau, get
from expint.solvers.registry import Solver

FILE = Path(__file__).with_name("certificates.json")
_STEPS = 12  # of a run that shows the schemes of all steps


class Measured(NamedTuple):
    """One measured order.

    Attributes:
        order: fitted to the errors.
        interval: 95 % interval over the paths; None where nothing is random.
        steps, errors: those that it is fitted to.
        median: the order of the median error over the paths; None where nothing is random.
    """

    order: float
    interval: Sequence[float] | None
    steps: Sequence[int]
    errors: Sequence[float]
    median: float | None = None


class Record(NamedTuple):
    """What is kept of a certificate.

    Attributes:
        fingerprint: of the coefficients that were measured.
        measured: by kind, "deterministic", "weak" and "strong".
    """

    fingerprint: str
    measured: Mapping[str, Measured]


def read() -> dict[str, Record]:
    """All records by the solver's name."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: Record(
            entry["fingerprint"],
            {kind: Measured(**values) for kind, values in entry["measured"].items()},
        )
        for name, entry in content.items()
    }


def write(records: Mapping[str, Record]) -> None:
    """Replace the file."""
    write_json(FILE, jsonable(dict(sorted(records.items()))))


def fingerprint(solver: Solver) -> str:
    """A digest of all that decides the coefficients: the stages of every step in exact rationals,
    and the equation.
    """
    method = get(solver)
    steps = [method.at(k, _STEPS) for k in range(_STEPS)]
    schemes = [
        [
            _written(
                stage.c, stage.increment_weight, sorted(terms.items()), sorted(stage.slope.items())
            )
            for stage, terms in zip(tableau.stages, tableau.terms, strict=True)
        ]
        for tableau in steps
    ]
    unequal = [[_on_unequal_steps(tableau, stage) for stage in tableau.stages] for tableau in steps]
    kinds = [(tableau.reuse, str(tableau.variable)) for tableau in steps]
    scale = str(getattr(method.noise_scale, "name", method.noise_scale))
    around = str(_written(*method.operations))
    content = [schemes, unequal, kinds, (method.form, method.ell, scale, around)]
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _written(*parts: object) -> tuple[str, ...]:
    return tuple(map(str, parts))


def _on_unequal_steps(scheme: Tableau, stage: Stage) -> str:
    """The terms of a stage that looks back, where the earlier steps had other lengths."""
    if not stage.history:
        return ""
    nodes = dict(enumerate(scheme.evaluation_nodes)) | {
        -j: Fraction(-j * (j + 3), 5) for j in range(1, stage.history + 1)
    }
    return str(stage.placed(stage.c, [nodes[j] for j in stage.through]))
