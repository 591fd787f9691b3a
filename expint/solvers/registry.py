"""Solvers by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import signature
from typing import Any

from expint.registry import Registry
from expint.solvers.method import EndSettings, Method
from expint.solvers.tableau import Tableau

Solver = str | Method | Tableau
"""What a user names: see `get`."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A registered solver.

    Attributes:
        name: registry name.
        build: makes the tableau or method.
        summary: one line about it.
        arguments: of `build`, where they are not its defaults.
        needs: the argument without which nothing can be built; such a solver is not listed.
    """

    name: str
    build: Callable[..., Tableau | Method]
    summary: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""

    @property
    def parameters(self) -> list[str]:
        """Names of the arguments that `get` takes for this solver."""
        names = list(signature(self.build).parameters)
        if "settings" in names:
            names = [*names[:-1], *EndSettings.__annotations__]
        return [name for name in names if name not in self.arguments]

    def method(self, **parameters: Any) -> Method:
        """The method, built with `parameters`."""
        made = _method(self.build(**{**self.arguments, **parameters}))
        return replace(made, name=self.name)


_SOLVERS = Registry[Entry]("solver")


def _method(made: Tableau | Method) -> Method:
    return made if isinstance(made, Method) else Method(made)


def register(
    name: str,
    build: Callable[..., Tableau | Method],
    summary: str,
    arguments: Mapping[str, Any] | None = None,
    needs: str = "",
) -> None:
    """Make what `build` returns available as `get(name, **parameters)`.

    `expint.convergence.register_solver` measures its orders first.

    Args:
        name: registry name.
        build: makes the tableau or method; its arguments are those of `get`.
        summary: one line about it.
        arguments, needs: see `Entry`.

    Raises:
        ValueError: if the name is taken.
    """
    _SOLVERS.add(name, Entry(name, build, summary, arguments or {}, needs))


def entry(name: str) -> Entry:
    """The entry of a name; a ValueError gives the nearest names."""
    return _SOLVERS.get(name)


def entries() -> list[Entry]:
    """All registered solvers that need no argument, sorted by name."""
    return [found for name in _SOLVERS.names() if not (found := _SOLVERS.get(name)).needs]


def names() -> list[str]:
    """Names of all registered solvers that need no argument, sorted."""
    return [found.name for found in entries()]


def get(solver: Solver, **parameters: Any) -> Method:
    """The method registered under a name, built with `parameters`; a method passes unchanged, and a
    tableau is taken in the data form at ℓ = 1.

    Raises:
        ValueError: if there is no such solver (the message gives the nearest names).
        TypeError: if `solver` is none of these.
    """
    if isinstance(solver, (Method, Tableau)):
        return _method(solver)
    if not isinstance(solver, str):
        raise TypeError(
            f"A solver is a name, a Method or a Tableau, got {type(solver).__name__}: {solver!r}."
        )
    found = entry(solver)
    return found.method(**parameters) if parameters or found.needs else _default(found)


@cache
def _default(found: Entry) -> Method:
    """Made once: its orders and the schemes of its first and last steps are then known."""
    return found.method()
