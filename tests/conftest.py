"""What all tests share."""

import gc
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from expint import soundness
from expint.plans import Plan
from expint.registry import Registry

_judged: dict[Any, tuple[float, str]] = {}
_verdict = soundness.verdict


def _once(plan: Plan) -> tuple[float, str]:
    """Every plan that a test runs is held to Gaussian data first: plans with the same numbers, of
    which there are many, are so once."""
    key = (str(plan.sde), plan.rows, plan.normals)
    if key not in _judged:
        _judged[key] = _verdict(plan)
    return _judged[key]


soundness.verdict = _once


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Searches take longest, and would come last: begun first, they leave no process to end
    alone."""
    items.sort(key=lambda item: item.path.parent.name != "tuning")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests last as long as the process: no garbage is looked for among them, neither
    while they are made nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def registries_as_before() -> Iterator[None]:
    """What a test registers is gone after it."""
    with Registry.unchanged():
        yield
