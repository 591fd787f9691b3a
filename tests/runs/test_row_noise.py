"""The noise of rows as it is served, and how much memory a run takes."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from expint import plan_sampling, sample
from expint.noise import Gaussian, Replay
from expint.plans import Plan
from expint.runs.row_noise import RowNoise
from expint.schedules import EDM, VP
from expint.solvers import get, names
from tests.toy_models import FunctionModel


def served(plan: Plan, normals: Tensor) -> list[Tensor]:
    """The noise of every row."""
    noise = RowNoise(plan, plan.rows, Replay(normals).stream(normals[0], plan.run))
    zero = torch.zeros_like(normals[0])
    return [sum((c * z for c, z in noise.terms(i)), zero) for i in range(len(plan.rows))]


@pytest.mark.parametrize("ell", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(
    "solver", [n for n in names() if not any(s.slope for s in get(n).tableau.stages)]
)
def test_the_noise_of_every_row_is_its_combination_of_normals(solver: str, ell: float):
    plan = plan_sampling(VP(), solver, steps=4, ell=ell)
    normals = torch.randn(
        plan.normals, 1, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found, begins = served(plan, normals), [0]
    for noise in plan.noises:
        begins.append(begins[-1] + (noise.normals if noise else 0))
    for row, value in zip(plan.rows, found, strict=True):
        own = normals[begins[row.substep] :]
        expected = sum((c * z for c, z in zip(row.noise, own, strict=False)), torch.zeros(1, 5))
        torch.testing.assert_close(value, expected.double(), rtol=1e-12, atol=1e-14)


def test_a_multi_stage_step_holds_one_state_of_noise():
    plan = plan_sampling(VP(), "seeds-3", steps=4)
    normals = torch.zeros(plan.normals, 1, 2)
    noise = RowNoise(plan, plan.rows, Replay(normals).stream(normals[0], plan.run))
    assert [len(noise.terms(i)) for i in range(6)] == [1, 1, 2] * 2


class Peak(TorchDispatchMode):
    """The largest number of distinct pieces of memory, of `size` bytes or more, that tensors of
    operations under it lie in."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.most, self._seen = size, 0, list[weakref.ref[Tensor]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        parts = result if isinstance(result, (tuple, list)) else [result]
        large = [
            part
            for part in parts
            if isinstance(part, Tensor) and part.untyped_storage().nbytes() >= self.size
        ]
        self._seen = [ref for ref in self._seen if ref() is not None]
        self._seen += [weakref.ref(part) for part in large]
        alive = [tensor for ref in self._seen if (tensor := ref()) is not None]
        places = {tensor.untyped_storage().data_ptr() for tensor in alive}
        self.most = max(self.most, len(places))
        return result


@pytest.mark.parametrize(
    ("solver", "states"),
    [("seeds-3", 6), ("dpmpp-2m", 4), ("seeds-ab3", 6), ("unipc-3", 6), ("sa-solver", 7)],
)
def test_states_held_at_the_peak(solver: str, states: int):
    """With the model's output, which is one of them."""
    shape = (1, 2**17)  # more than sources draw ahead
    model = FunctionModel(EDM(), "data", lambda x, t: 0.5 * x)
    with Peak(4 * 2**17) as peak:
        sample(model, shape, solver, nfe=12, progress=False)
    assert 3 <= peak.most <= states


def test_noise_drawn_ahead_is_not_held_for_large_states():
    stream = Gaussian([0]).stream(torch.empty(1, 2**17), [])
    plan = plan_sampling(VP(), "seeds-3", steps=4)
    with Peak(4 * 2**17) as peak:
        for _ in range(3):
            for noise in plan.run:
                for z in stream.normals(noise):
                    del z
    assert peak.most == 1
