"""Schedules by name, for the command line and for tests that run over every schedule."""

from typing import Any

from expint.registry import Registry
from expint.schedules.base import Schedule

REGISTRY = Registry[type[Schedule]]("schedule")
register = REGISTRY.register
"""`register(name)` is a class decorator that makes a schedule whose arguments all have defaults
available as `get(name)`."""
names = REGISTRY.names
"""Names of all registered schedules, sorted."""


def get(name: str, **parameters: Any) -> Schedule:
    """The schedule registered under `name`, built with `parameters`.

    Raises:
        ValueError: if there is no such schedule; the message gives the nearest ones.
    """
    return REGISTRY.get(name)(**parameters)
