"""Grids by name, for the command line and for tests that run over every grid."""

from collections.abc import Callable
from typing import TypeVar

from expint.grids.layout import GridBuilder
from expint.registry import unknown

__all__ = ["get", "names", "register"]

G = TypeVar("G", bound=GridBuilder)
_BUILDERS: dict[str, GridBuilder] = {}


def register(name: str) -> Callable[[G], G]:
    """Function decorator: make the builder `grid(schedule, steps, *, final="denoise")` available as
    `get(name)`.
    """

    def add(builder: G) -> G:
        _BUILDERS[name] = builder
        return builder

    return add


def names() -> list[str]:
    """Names of the grids that `get` and the command line know."""
    return sorted(_BUILDERS)


def get(name: str) -> GridBuilder:
    """The builder called `name`; a ValueError names the nearest ones."""
    if name not in _BUILDERS:
        raise unknown("grid", name, names(), ", or give the times themselves")
    return _BUILDERS[name]
