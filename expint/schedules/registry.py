"""Schedules by name, for the command line and for tests that run over every schedule."""

from collections.abc import Callable
from typing import Any, TypeVar

from expint.registry import unknown
from expint.schedules.base import Schedule

S = TypeVar("S", bound=type[Schedule])
_REGISTRY: dict[str, type[Schedule]] = {}


def register(name: str) -> Callable[[S], S]:
    """Class decorator: make a schedule whose arguments all have defaults available as
    `get(name)`.
    """

    def add(cls: S) -> S:
        _REGISTRY[name] = cls
        return cls

    return add


def names() -> list[str]:
    """Names of all registered schedules, sorted."""
    return sorted(_REGISTRY)


def get(name: str, **parameters: Any) -> Schedule:
    """The schedule registered under `name`, built with `parameters`.

    Raises:
        ValueError: if there is no such schedule; the message names the nearest ones.
    """
    if name not in _REGISTRY:
        raise unknown("schedule", name, names())
    return _REGISTRY[name](**parameters)
