"""What all tests share."""

from collections.abc import Iterator

import pytest

from expint import solvers
from expint.registry import Registry
from expint.solvers import registry


@pytest.fixture(autouse=True)
def registry_as_before() -> Iterator[None]:
    """What a test registers is gone after it."""
    solvers.names()
    kept = [
        (held, held.copy())
        for held in (
            registry._REGISTRY,
            registry._PENDING,
            registry._DECLARED,
            registry._WITH_ARGUMENTS,
        )
    ]
    with Registry.unchanged():
        yield
    for held, before in kept:
        held.clear()
        held.extend(before) if isinstance(held, list) else held.update(before)  # type: ignore[attr-defined]
