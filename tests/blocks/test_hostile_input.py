"""What a user may bring by mistake: it is right, or refused with the reason."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from expint import SemiLinearSDE, compile_plan, execute, integrate, noise
from expint.noise.paths.composed import ComposedNoise

A, G = [[0.0, 1.0], [-4.0, -0.5]], [[0.0], [0.3]]
GRID = [0.0, 0.5, 1.0]
X, FRESH = torch.ones(2, 2, dtype=torch.float64), noise.Gaussian(range(2))


def sde(A: Any = A, G: Any = G, **options: Any) -> SemiLinearSDE:
    return SemiLinearSDE.from_blocks(A, None, G, **{"span": (0.0, 1.0)} | options)


def F(u: Tensor, t: Tensor) -> Tensor:
    return torch.cos(u)


@pytest.mark.parametrize("solver", ["seeds-2", "unipc-2"])
def test_gradients_in_the_matrices_are_those_of_differences(solver: str):
    """The noise of the pendulum has full rank, its root is Cholesky's."""
    learned = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    x = integrate(sde(learned), F, X, GRID, solver, FRESH).x
    (found,) = torch.autograd.grad(x.sum(), learned)
    moved = np.array([[[0.0, 0.0], [d, 0.0]] for d in (1e-5, -1e-5)]) + A
    ends = [integrate(sde(one), F, X, GRID, solver, FRESH).x.sum().item() for one in moved]
    assert found[1, 0].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-7)


@pytest.mark.parametrize(
    ("A", "solver"), [(A, "seeds-sra"), ([[-1.0, 0.0], [0.0, -1.0]], "seeds-1")]
)
def test_gradients_that_would_not_be_finite_are_refused(A: Any, solver: str):
    """Of symmetric roots, where eigenvalues are equal: they were NaN."""
    learned = torch.tensor(G, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="Integrals and singular noise have no gradients"):
        compile_plan(sde(A, learned), solver, GRID)


def test_times_outside_the_span_are_refused_in_a_clock_of_ones_own():
    """They were moved to its end."""
    with pytest.raises(ValueError, match="t = 2 is outside the span from 0 to 1"):
        compile_plan(sde(clock=lambda t: t + t**2), "seeds-3", [0.0, 0.5, 2.0])


def test_noise_of_a_short_time_is_seen():
    """G = 1 − y², y = (t − .406)/.003, between y = −1 and 1 alone, 0.6 % of the span."""

    def short(t: Tensor) -> Tensor:
        g = (1 - ((t - 0.406) / 0.003) ** 2).clamp(min=0.0)
        return torch.stack([torch.zeros_like(g), g], -1)[..., None]

    plan = compile_plan(sde(np.zeros((2, 2)), short), "seeds-1", [0.0, 0.403, 0.409, 1.0])
    expected = torch.diag(torch.tensor([0.0, 0.003 * 16 / 15], dtype=torch.float64))
    torch.testing.assert_close(plan.noise_covariance(1), expected, rtol=1e-10, atol=0)


def test_coefficients_beyond_float32_are_refused_before_the_first_evaluation():
    growing = SemiLinearSDE.from_blocks([[200.0, 0.0], [0.0, 1.0]], span=(0.0, 1.0))
    with pytest.raises(ValueError, match=r"A coefficient of this plan is 2\.69e\+43, beyond"):
        integrate(growing, F, X.float(), GRID, "seeds-1")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_short_types(dtype: torch.dtype):
    x = integrate(sde(), F, X.to(dtype), GRID, "seeds-3", FRESH).x
    exact = integrate(sde(), F, X, GRID, "seeds-3", FRESH).x
    assert x.dtype == dtype
    size = 5 * torch.finfo(dtype).eps
    torch.testing.assert_close(x.double(), exact, rtol=size, atol=size)


def test_copies_of_plans_run():
    plan = compile_plan(sde(), "seeds-3", GRID)
    twin = copy.deepcopy(plan)
    assert torch.equal(execute(twin, F, X, FRESH), execute(plan, F, X, FRESH))


def test_states_are_contiguous():
    """A network may ask for other views of its input."""
    x = torch.ones(3, 2, 4, 4, dtype=torch.float64)
    seen = lambda u, t: u.view(3, -1).view(u.shape)  # noqa: E731
    assert integrate(sde(), seen, x, GRID, "seeds-3", noise.Gaussian(range(3))).x.is_contiguous()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sde(lambda t: np.eye(2 if t < 0.5 else 3)), "A must give a matrix .* one shape"),
        (lambda: sde(np.array(A) * 1j), "A is no matrix of numbers: Cannot use"),
        (lambda: sde(lambda t: None), "A must give a matrix of numbers"),
        (lambda: sde(np.zeros((2, 0))), "A must be a matrix, got shape"),
        (lambda: sde(A, [0.0, 0.3]), "G must have as many rows as A, which is 2 x 2, got 1 x 2"),
        (lambda: ComposedNoise("x", [1], GRID), "x has no noise with matrices"),
        (lambda: ComposedNoise(sde(G=None), [1], GRID), "has no noise with matrices"),
    ],
)
def test_refusals(call: Any, words: str):
    with pytest.raises(ValueError, match=words):
        call()
