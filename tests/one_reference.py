"""Studies of many solvers on one problem without noise: its solution by the classical Runge–Kutta
method is computed once.
"""

from typing import Any

import pytest
from torch import Tensor

from expint.convergence import Problem

_SOLUTIONS: dict[Any, Tensor] = {}
_solve = Problem.without_noise


def _once(problem: Any, x: Tensor, steps: int) -> Tensor:
    model = problem.model
    key = repr(
        (
            model.means.tolist(),
            model.std,
            model.weights.tolist(),
            model.schedule,
            problem.ends,
            x.tolist(),
            steps,
        )
    )
    if key not in _SOLUTIONS:
        _SOLUTIONS[key] = _solve(problem, x, steps)
    return _SOLUTIONS[key]


@pytest.fixture
def one_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The solution depends on the mixture, the start and the noise levels, and not on the form or
    the solver under study.
    """
    monkeypatch.setattr(Problem, "without_noise", _once)
