"""What all tests share."""

from collections.abc import Iterator

import pytest

from expint.registry import Registry


@pytest.fixture(autouse=True)
def registries_as_before() -> Iterator[None]:
    """What a test registers is gone after it."""
    with Registry.unchanged():
        yield
