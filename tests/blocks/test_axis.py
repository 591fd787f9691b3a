"""Components on an axis of the state that the user chooses."""

from typing import Any

import pytest
import torch
from torch import Tensor

from expint import SemiLinearSDE, integrate, noise
from expint.noise.paths.composed import ComposedNoise

A, B, G = [[0.0, 1.0], [-4.0, -0.5]], [[0.0], [1.0]], [[0.1], [0.7]]
GRID = [0.0, 0.3, 0.9]
X = torch.sin(torch.arange(48, dtype=torch.float64)).reshape(3, 2, 4, 2)  # (batch, k, *event)


def force(axis: int) -> Any:
    """One component, of the first of two."""
    return lambda u, t: torch.cos(t) - u.narrow(axis, 0, 1) ** 3


class Moved:
    """The normals of a run whose components are first, on another axis."""

    def __init__(self, source: Any, axis: int) -> None:
        self.source, self.axis = source, axis

    def stream(self, like: Tensor, run: Any) -> "Moved":
        return Moved(self.source.stream(like.movedim(self.axis, 1), run), self.axis)

    def normals(self, substep: Any) -> Any:
        return [z.movedim(1, self.axis) for z in self.source.normals(substep)]


@pytest.mark.parametrize("axis", [1, 2, -1, -3])
@pytest.mark.parametrize("solver", ["seeds-3", "seeds-sra"])
def test_a_run_is_that_with_the_components_first(axis: int, solver: str):
    first = SemiLinearSDE.from_blocks(A, B, G, span=(0.0, 1.0))
    sde = SemiLinearSDE.from_blocks(A, B, G, span=(0.0, 1.0), axis=axis)
    fresh = noise.Gaussian(range(3))
    expected = integrate(first, force(1), X, GRID, solver, fresh).x.movedim(1, axis)
    x = X.movedim(1, axis).contiguous()
    found = integrate(sde, force(axis), x, GRID, solver, Moved(fresh, axis)).x
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    path = [
        ComposedNoise(one, range(3), torch.linspace(0, 1, 11).double().round(decimals=3))
        for one in (first, sde)
    ]
    expected = integrate(first, force(1), X, GRID, solver, path[0]).x.movedim(1, axis)
    found = integrate(sde, force(axis), x, GRID, solver, path[1]).x
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("axis", "shape"), [(2, (3, 2)), (-2, (2, 2)), (2, (3, 2, 4)), (-3, (3, 2, 2))]
)
def test_a_state_without_that_axis_is_refused(axis: int, shape: tuple[int, ...]):
    sde = SemiLinearSDE.from_blocks(A, span=(0.0, 1.0), axis=axis)
    with pytest.raises(ValueError, match=rf"with 2 of them on axis {axis}"):
        integrate(sde, lambda u, t: u, torch.ones(shape), GRID, "seeds-1")


@pytest.mark.parametrize("axis", [0, 1.5, "last", None, True])
def test_what_is_no_axis_of_the_event_is_refused(axis: Any):
    with pytest.raises(ValueError, match="axis is an integer other than 0, which is the batch"):
        SemiLinearSDE.from_blocks(A, span=(0.0, 1.0), axis=axis)


def test_an_output_with_its_components_elsewhere_is_refused():
    sde = SemiLinearSDE.from_blocks(A, B, span=(0.0, 1.0), axis=-1)
    x = torch.ones(3, 4, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"returned shape \(3, 1, 2\).*state of shape \(3, 4, 1\)"):
        integrate(sde, lambda u, t: u[:, :1], x, GRID, "seeds-1")
