"""Grids by name, for the command line and for tests that run over every grid."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeVar

from expint.grids.layout import GridBuilder

__all__ = ["get", "names", "register"]

G = TypeVar("G", bound=GridBuilder)
_BUILDERS: dict[str, GridBuilder] = {}


def register(name: str) -> Callable[[G], G]:
    """Function decorator: make the builder `grid(schedule, steps, *, final="denoise")` available as `get(name)`."""

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
        near = get_close_matches(name, names(), n=3, cutoff=0.3)
        raise ValueError(f"Unknown grid {name!r}; nearest: {near or names()}. All: {names()}, or give the times themselves.")
    return _BUILDERS[name]
