"""What all tests share."""

from collections.abc import Iterator
from typing import Any

import pytest

from expint import soundness
from expint.plans import Plan
from expint.registry import Registry

_VERDICTS: dict[Any, tuple[float, str]] = {}
_verdict = soundness.verdict


@pytest.fixture(autouse=True)
def registries_as_before() -> Iterator[None]:
    """What a test registers is gone after it."""
    with Registry.unchanged():
        yield


def _once(plan: Plan) -> tuple[float, str]:
    key = (str(plan.sde), plan.rows, plan.normals)
    if key not in _VERDICTS:
        _VERDICTS[key] = _verdict(plan)
    return _VERDICTS[key]


@pytest.fixture(autouse=True)
def one_verdict(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Every plan that a test runs is held to Gaussian data first; plans with the same rows are so
    once, but in the tests of just this."""
    if request.path.name != "test_soundness.py":
        monkeypatch.setattr(soundness, "verdict", _once)
