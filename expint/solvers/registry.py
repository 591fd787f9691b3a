"""Solvers by name. A name stands for coefficients that the convergence laboratory has certified:
others are not registered.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from expint.registry import unknown
from expint.solvers.tableau import Stage, Tableau

__all__ = ["Entry", "add", "entries", "fingerprint", "get", "names", "pending", "register"]


@dataclass(frozen=True)
class Entry:
    """A registered solver: its builder, one line about it, and what the laboratory measured.

    Attributes:
        name: registry name.
        build: makes the tableau; all its arguments have defaults.
        summary: one line.
        measured: orders by kind ("deterministic", "weak", "strong"), where they were measured.
    """

    name: str
    build: Callable[..., Tableau]
    summary: str
    measured: dict[str, float] = field(default_factory=dict, hash=False)


_REGISTRY: dict[str, Entry] = {}
_PENDING: dict[str, Entry] = {}
_WITH_ARGUMENTS: dict[str, Callable[..., Tableau]] = {}
_DECLARED: list[tuple[str, Callable[..., Tableau], str]] = []
_STEPS = 12  # of a run that shows the schemes of all steps


def fingerprint(tableau: Tableau) -> str:
    """A digest of all that decides the coefficients: the stages of every step in exact rationals,
    and the equation.
    """
    steps = [tableau.at(k, _STEPS) for k in range(_STEPS)]
    schemes = [
        [
            (
                str(stage.c),
                str(stage.share),
                str(sorted(terms.items())),
                str(sorted(stage.slope.items())),
            )
            for stage, terms in zip(scheme.stages, scheme.terms, strict=True)
        ]
        for scheme in steps
    ]
    unequal = [[_on_unequal_steps(scheme, stage) for stage in scheme.stages] for scheme in steps]
    kinds = [(scheme.reuse, str(scheme.variable)) for scheme in steps]
    scale = str(getattr(tableau.noise_scale, "name", tableau.noise_scale))
    content = [schemes, unequal, kinds, (tableau.form, tableau.ell, scale, str(tableau.operations))]
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _on_unequal_steps(scheme: Tableau, stage: Stage) -> str:
    """The terms of a stage that looks back, where the earlier steps had other lengths."""
    if not stage.history:
        return ""
    nodes = dict(enumerate(scheme.evaluation_nodes)) | {
        -j: Fraction(-j * (j + 3), 5) for j in range(1, stage.history + 1)
    }
    return str(stage.placed(stage.c, [nodes[j] for j in stage.through]))


@cache
def _certificates() -> dict[str, Any]:
    file = Path(__file__).parents[1] / "convergence" / "certificates.json"
    return json.loads(file.read_text(encoding="utf-8"))


def register(
    name: str, summary: str, *, needs: str = ""
) -> Callable[[Callable[..., Tableau]], Callable[..., Tableau]]:
    """Decorator: make the tableau that a function builds (with default arguments) available as
    `get(name)`.

    It is registered only if `certificates.json` holds a certificate for exactly these coefficients.
    For a solver of your own use `expint.convergence.certification.register_solver`, which runs the
    laboratory. A builder that `needs` an argument has no coefficients of its own to certify: it is
    found by `get(name, argument=...)`, and is not listed.
    """

    def decorate(build: Callable[..., Tableau]) -> Callable[..., Tableau]:
        if needs:
            _WITH_ARGUMENTS[name] = build
        else:
            _DECLARED.append((name, build, summary))
        return build

    return decorate


def _settle() -> None:
    """Hold what was declared since to its certificates."""
    while _DECLARED:
        name, build, summary = _DECLARED.pop(0)
        certificate = _certificates().get(name, {})
        certified = certificate.get("fingerprint") == fingerprint(build())
        place, other = (_REGISTRY, _PENDING) if certified else (_PENDING, _REGISTRY)
        measured = {kind: found["order"] for kind, found in certificate.get("measured", {}).items()}
        place[name] = Entry(name, build, summary, measured)
        other.pop(name, None)  # the latest declaration counts


def add(entry: Entry) -> None:
    """Register an entry that has just been certified.

    Raises:
        ValueError: if the name is taken.
    """
    if entry.name in names():
        raise ValueError(f"There is a solver {entry.name!r} already: choose another name.")
    _REGISTRY[entry.name] = entry
    _PENDING.pop(entry.name, None)


def entries() -> list[Entry]:
    """All registered solvers, sorted by name."""
    return [_REGISTRY[name] for name in names()]


def names() -> list[str]:
    """Names of all registered solvers, sorted."""
    _settle()
    return sorted(_REGISTRY)


def pending() -> list[Entry]:
    """Solvers that are not registered, because their coefficients have no certificate."""
    _settle()
    return [_PENDING[name] for name in sorted(_PENDING)]


def get(solver: str | Tableau, **parameters: Any) -> Tableau:
    """The tableau registered under a name, built with `parameters`; a tableau passes unchanged.

    Raises:
        ValueError: if there is no such solver (the message names the nearest ones), or it is not
            certified.
        TypeError: if `solver` is neither a name nor a Tableau.
    """
    if isinstance(solver, Tableau):
        return solver
    if not isinstance(solver, str):
        raise TypeError(
            f"A solver is a name or a Tableau, got {type(solver).__name__}: {solver!r}."
        )
    _settle()
    if solver in _PENDING:
        raise ValueError(
            f"The solver {solver!r} is not registered: its coefficients are not those of its "
            "certificate. Certify it with benchmarks/certify.py, or pass the tableau itself."
        )
    if solver in _WITH_ARGUMENTS:
        return _WITH_ARGUMENTS[solver](**parameters)
    if solver not in _REGISTRY:
        raise unknown("solver", solver, names())
    return _built(_REGISTRY[solver]) if not parameters else _REGISTRY[solver].build(**parameters)


@cache
def _built(entry: Entry) -> Tableau:
    """The tableau with default arguments, made once: its orders and the schemes of its first and
    last steps are then known.
    """
    return entry.build()
