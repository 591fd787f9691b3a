"""Solvers by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from expint.naming import unknown
from expint.solvers.tableau import Tableau

__all__ = ["Entry", "entries", "get", "names", "register"]


@dataclass(frozen=True)
class Entry:
    """A registered solver: its builder and one line about it."""

    name: str
    build: Callable[..., Tableau]
    summary: str


_REGISTRY: dict[str, Entry] = {}


def register(name: str, summary: str) -> Callable[[Callable[..., Tableau]], Callable[..., Tableau]]:
    """Decorator: make the tableau that a function builds (with default arguments) available as `get(name)`."""

    def add(build: Callable[..., Tableau]) -> Callable[..., Tableau]:
        _REGISTRY[name] = Entry(name, build, summary)
        return build

    return add


def entries() -> list[Entry]:
    """All registered solvers, sorted by name."""
    return [_REGISTRY[name] for name in names()]


def names() -> list[str]:
    """Names of all registered solvers, sorted."""
    return sorted(_REGISTRY)


def get(solver: str | Tableau, **parameters: Any) -> Tableau:
    """The tableau registered under a name, built with `parameters`; a tableau passes unchanged.

    Raises:
        ValueError: if there is no such solver; the message names the nearest ones.
        TypeError: if `solver` is neither a name nor a Tableau.
    """
    if isinstance(solver, Tableau):
        return solver
    if not isinstance(solver, str):
        raise TypeError(f"A solver is a name or a Tableau, got {type(solver).__name__}: {solver!r}.")
    if solver not in _REGISTRY:
        raise unknown("solver", solver, names())
    return _REGISTRY[solver].build(**parameters)
