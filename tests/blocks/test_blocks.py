"""Linear parts with matrices: exact laws for every tableau, stiff, defective and singular ones, one
path at every resolution, refusals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from expint import (
    Plan,
    SemiLinearSDE,
    compile_plan,
    execute,
    integrate,
    noise,
    solvers,
    to_torchsde,
)
from expint.blocks import LinearSystem
from expint.convergence import gaussian_moments
from expint.noise import SubstepNoise
from expint.noise.paths.composed import ComposedNoise
from expint.phase_space import block_moments
from expint.schedules import VP
from expint.targets import Gaussian

GRID = [0.0, 0.3, 0.45, 1.0, 1.4]
REFUSED = {"needs a noise schedule": "no noise schedule", "takes derivatives": "derivative of F"}


def runs(name: str) -> bool:
    """Whether a solver is for equations without a noise schedule and without derivatives."""
    method = solvers.get(name)
    return not (
        method.operations
        or method.tableau.slopes
        or method.tableau.variable not in ("clock", "time")
    )


SOLVERS = [name for name in solvers.names() if runs(name)]


class UnitNormals:
    """Normal j of a run is 1 for component c in batch entry j k + c, and 0 elsewhere."""

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "UnitNormals":
        self.like, self.used = like, 0
        return self

    def normals(self, substep: SubstepNoise) -> list[Tensor]:
        made = []
        for _ in range(substep.normals):
            unit, k = torch.zeros_like(self.like), self.like.shape[1]
            unit[self.used * k : (self.used + 1) * k] = torch.eye(k, dtype=unit.dtype)
            made.append(unit)
            self.used += 1
        return made


def law(plan: Plan, force: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, (steps, k), and joint covariance, (steps, k, steps, k), of the states at the ends of
    all steps of an executed run with constant F."""
    k, states = len(start), []

    def keep(step: int, nfe: int, t: float, x: Tensor, d: Tensor) -> None:
        states.append(x)

    x = start.repeat(plan.normals * k + 1, 1)
    execute(plan, lambda u, t: force.expand(len(u), -1), x, UnitNormals(), keep)
    made = torch.stack(states)
    mean = made[:, -1]
    response = made[:, :-1] - mean[:, None]
    return mean, torch.einsum("snk,tnl->sktl", response, response)


def exact_law(
    A: np.ndarray, B: np.ndarray, G: np.ndarray, force: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """By scipy's exponential and Gauss-Legendre quadrature with it."""
    k, times = len(A), GRID[1:]
    nodes, weights = np.polynomial.legendre.leggauss(60)

    def Q(t: float) -> np.ndarray:
        parts = [scipy.linalg.expm(A * (0.5 * t * (1 + x))) @ G for x in nodes]
        return sum(
            (0.5 * t * w * p @ p.T for w, p in zip(weights, parts, strict=True)), np.zeros((k, k))
        )

    def drift(t: float) -> np.ndarray:
        whole = np.zeros((k + 1, k + 1))
        whole[:k, :k], whole[:k, k] = A, B @ force
        return scipy.linalg.expm(whole * t)[:k, k]

    mean = np.stack([scipy.linalg.expm(A * t) @ start + drift(t) for t in times])
    covariance = np.zeros((len(times), k, len(times), k))
    for i, s in enumerate(times):
        for j, t in enumerate(times[i:], i):
            block = Q(s) @ scipy.linalg.expm(A * (t - s)).T
            covariance[i, :, j], covariance[j, :, i] = block, block.T
    return mean, covariance


def check_law(name: str, k: int, n: int, seed: int, scale: float, tolerance: float = 1e-10) -> None:
    random = np.random.default_rng(seed)
    A = scale * random.standard_normal((k, k)) / math.sqrt(k)
    B, G = random.standard_normal((k, k)), random.standard_normal((k, n))
    force, start = random.standard_normal(k), random.standard_normal(k)
    sde = SemiLinearSDE.from_blocks(A, B, G, span=(0.0, 1.4))
    found = law(compile_plan(sde, name, GRID), torch.tensor(force), torch.tensor(start))
    for mine, exact in zip(found, exact_law(A, B, G, force, start), strict=True):
        size = max(1.0, np.abs(exact).max())
        torch.testing.assert_close(mine.numpy() / size, exact / size, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_is_exact_for_constant_F(name: str):
    """Mean, covariance and covariance across times of a random system of 3 components with noise of
    rank 2; of every solver that is not refused."""
    check_law(name, 3, 2, 5, 1.5)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.sampled_from(SOLVERS), st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**31),
    st.floats(0.1, 4.0),
)  # fmt: skip
def test_random_systems_are_exact(name: str, k: int, n: int, seed: int, scale: float):
    check_law(name, k, n, seed, scale)


@pytest.mark.parametrize("name", sorted(set(solvers.names()) - set(SOLVERS)))
def test_what_does_not_run_is_refused_with_the_reason(name: str):
    sde = SemiLinearSDE.from_blocks([[0, 1], [-1, 0]], span=(0.0, 1.4))
    with pytest.raises(ValueError, match=r"no noise schedule|derivative of F"):
        compile_plan(sde, name, GRID)


JORDAN = [[-2.0, 1.0, 0.0], [0.0, -2.0, 1.0], [0.0, 0.0, -2.0]]


@pytest.mark.parametrize(
    "A",
    [JORDAN, np.zeros((2, 2)), [[0.0, 1.0], [0.0, 0.0]], [[0.0, 30.0], [-30.0, 0.0]]],
    ids=["defective", "zero", "singular", "oscillating"],
)
@pytest.mark.parametrize("constant", [True, False])
def test_defective_singular_and_oscillating(A: Any, constant: bool):
    A = np.array(A)
    k = len(A)
    G, force, start = np.eye(k)[:, -1:], np.ones(k), np.arange(1.0, k + 1)
    given_A = A if constant else lambda t: torch.tensor(A).expand(*t.shape, k, k)
    sde = SemiLinearSDE.from_blocks(given_A, None, G, span=(0.0, 1.4))
    found = law(compile_plan(sde, "seeds-3", GRID), torch.tensor(force), torch.tensor(start))
    for mine, exact in zip(found, exact_law(A, np.eye(k), G, force, start), strict=True):
        torch.testing.assert_close(mine.numpy(), exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["seeds-3", "seeds-sra3", "etd-rk4-ho"])
@pytest.mark.parametrize("constant", [True, False])
def test_stiff_systems_are_finite_and_right(name: str, constant: bool):
    """Rates 10⁶, 10³ and 1 in a basis that is not orthogonal, so that |A|h is above 10⁶: in one
    step the state has the stationary law of the fast modes, A Q + Q Aᵀ + G Gᵀ = 0 at long times."""
    V = np.array([[1.0, 0.4, -0.2], [0.0, 1.0, 0.5], [0.3, 0.0, 1.0]])
    A, G = V @ np.diag([-1e6, -1e3, -1.0]) @ np.linalg.inv(V), np.eye(3)
    given_A = A if constant else lambda t: torch.tensor(A) + 0.0 * t[..., None, None]
    sde = SemiLinearSDE.from_blocks(given_A, None, G, span=(0.0, 4.0))
    zero = torch.zeros(3, dtype=torch.float64)
    start = torch.ones(3, dtype=torch.float64)
    mean, covariance = law(compile_plan(sde, name, [0.0, 4.0]), zero, start)
    rates, mixed = np.array([1e6, 1e3, 1.0]), np.linalg.inv(V)
    noise_in_modes = mixed @ mixed.T
    sums = rates[:, None] + rates
    modes = noise_in_modes * -np.expm1(-4.0 * sums) / sums
    torch.testing.assert_close(covariance[0, :, 0].numpy(), V @ modes @ V.T, rtol=0, atol=1e-8)
    exact = V @ (np.exp(-4.0 * rates) * (mixed @ np.ones(3)))
    torch.testing.assert_close(mean[0].numpy(), exact, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["seeds-2", "seeds-sra", "seeds-sra3", "seeds-ab2", "unipc-2"])
def test_one_component_is_the_scalar_plan(name: str):
    """Scales, weights and the covariance of all noise of a step are those of from_coefficients."""
    scalar = SemiLinearSDE.from_coefficients(-1.3, 0.7, 0.4, span=(0.0, 1.4))
    block = SemiLinearSDE.from_blocks(-1.3, 0.7, 0.4, span=(0.0, 1.4))
    for one, other in zip(
        compile_plan(scalar, name, GRID).rows, compile_plan(block, name, GRID).rows, strict=True
    ):
        assert float(other.scale) == pytest.approx(one.scale, rel=1e-12)
        for (j, a), (i, b) in zip(one.weights, other.weights, strict=True):
            assert i == j and float(b) == pytest.approx(a, rel=1e-11)
        assert [float(v) for v in other.noise] == pytest.approx(list(one.noise), rel=1e-8)


def swinging(t: Any) -> Any:
    one = torch.ones_like(t)
    rows = [torch.stack([0 * t, one], -1), torch.stack([-4 - torch.sin(3 * t), -one], -1)]
    return torch.stack(rows, -2)


def test_functions_of_time_torch_numpy_and_sympy_agree():
    t = sympy.Symbol("t")
    given = (
        swinging,
        lambda t: np.array([[0.0, 1.0], [-4.0 - math.sin(3 * t), -1.0]]),
        sympy.Matrix([[0, 1], [-4 - sympy.sin(3 * t), -1]]),
    )
    plans = [
        compile_plan(
            SemiLinearSDE.from_blocks(A, None, [[0], [1]], span=(0.0, 1.4)), "seeds-3", GRID
        )
        for A in given
    ]
    for rows in zip(*(plan.rows for plan in plans), strict=True):
        for other in rows[1:]:
            torch.testing.assert_close(other.scale, rows[0].scale, rtol=1e-12, atol=1e-13)
            for z, first in zip(other.noise, rows[0].noise, strict=True):
                torch.testing.assert_close(z, first, rtol=1e-10, atol=1e-12)


def test_matrices_that_depend_on_time():
    """Φ of a swing against scipy's adaptive solver at 1e-12, backwards in time too."""
    for span in ((0.0, 1.4), (1.4, 0.0)):
        sde = SemiLinearSDE.from_blocks(swinging, span=span)
        found = compile_plan(sde, "seeds-1", list(span)).rows[0].scale
        assert isinstance(found, Tensor)
        right = scipy.integrate.solve_ivp(
            lambda t, y: (swinging(torch.tensor(t).double()).numpy() @ y.reshape(2, 2)).ravel(),
            span, np.eye(2).ravel(), "DOP853", rtol=1e-13, atol=1e-14,
        ).y[:, -1].reshape(2, 2)  # fmt: skip
        torch.testing.assert_close(found.as_subclass(Tensor).numpy(), right, rtol=0, atol=1e-11)


def test_composed_noise_is_one_path_at_every_grid():
    """Without F the state at the end is the same for 1, 4 and 16 steps of any solver."""
    sde = SemiLinearSDE.from_blocks([[0, 1], [-4, -0.5]], None, [[0], [0.7]], span=(0.0, 2.0))
    path = ComposedNoise(sde, range(5), torch.linspace(0, 2, 49, dtype=torch.float64))
    x = torch.zeros(5, 2, 3, dtype=torch.float64)
    ends = [
        integrate(
            sde, lambda u, t: 0 * u, x, torch.linspace(0, 2, n + 1, dtype=torch.float64), name, path
        ).x
        for n in (1, 4, 16)
        for name in ("seeds-1", "seeds-3", "seeds-sra")
    ]
    assert ends[0].abs().mean() > 0.05
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-11)


def test_strong_orders_on_composed_noise():
    """Noise on one component, which reaches the other through A, 200 paths: strong order 1, and 3/2
    for seeds-sra. The fine grid has 768 steps; errors of 200 paths are known to 5 %, the slope over
    two halvings to .05."""
    G = [[0.0], [2.0]]
    sde = SemiLinearSDE.from_blocks([[-0.3, 1.0], [-1.0, -0.5]], None, G, span=(0.0, 1.0))
    path = ComposedNoise(sde, range(200), torch.linspace(0, 1, 769, dtype=torch.float64))
    x = torch.ones(200, 2, dtype=torch.float64)

    def force(u: Tensor, t: Tensor) -> Tensor:
        return torch.stack(
            [torch.sin(2 * u[:, 1]), torch.cos(2 * u[:, 0]) + torch.sin(2 * u[:, 1])], 1
        )

    def end(name: str, n: int) -> Tensor:
        grid = torch.linspace(0, 1, n + 1, dtype=torch.float64)
        return integrate(sde, force, x, grid, name, path).x

    exact = end("seeds-sra", 384)
    for name, order in (("seeds-2", 1.0), ("seeds-sra", 1.5)):
        errors = [(end(name, n) - exact).square().sum(1).mean().sqrt().item() for n in (16, 64)]
        slope = math.log2(errors[0] / errors[1]) / 2
        assert slope == pytest.approx(order, abs=0.15), (name, errors)


@pytest.mark.parametrize("G", [[[0.0], [1.0]], [[1.0, 0.3], [0.2, 0.8]]], ids=["one", "both"])
def test_weak_order_three_for_linear_F(G: Any):
    """seeds-sra3 on a linear F: the covariance, by linear response, falls 8 times per halving."""
    A, K = [[-1.0, 0.8], [-0.6, -0.5]], torch.tensor([[0.3, -0.4], [0.7, 0.2]], dtype=torch.float64)
    sde = SemiLinearSDE.from_blocks(A, None, G, span=(0.0, 1.0))
    whole = SemiLinearSDE.from_blocks(
        (torch.tensor(A).double() + K).tolist(), None, G, span=(0.0, 1.0)
    )
    one, eye = torch.ones(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    exact = block_moments(compile_plan(whole, "seeds-1", [0.0, 1.0]), lambda u, t: 0 * u, one, eye)[
        1
    ]
    errors = []
    for n in (6, 12):
        plan = compile_plan(sde, "seeds-sra3", torch.linspace(0, 1, n + 1, dtype=torch.float64))
        found = block_moments(plan, lambda u, t: u @ K.T, one, eye)[1]
        errors.append((found - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(3.0, abs=0.3)


def test_a_clock_of_ones_own_and_fewer_components_of_F():
    """F that is linear in the clock is exact with two nodes in it; it has one component of two."""
    A, B = [[0.0, 1.0], [-4.0, -0.5]], [[0.0], [1.0]]
    sde = SemiLinearSDE.from_blocks(A, B, span=(0.0, 1.4), clock=lambda t: t + t**2)
    x = torch.ones(2, 2, 3, dtype=torch.float64)
    one = integrate(sde, lambda u, t: (t + t**2).expand(2, 1, 3), x, [0.0, 1.4], "etd-rk2a").x
    many = integrate(
        SemiLinearSDE.from_blocks(A, B, span=(0.0, 1.4)),
        lambda u, t: (t + t**2).expand(2, 1, 3),
        x,
        torch.linspace(0, 1.4, 65, dtype=torch.float64),
        "etd-rk4",
    ).x
    torch.testing.assert_close(one, many, rtol=0, atol=1e-9)


TWO = np.eye(2)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (([[1, 2, 3], [4, 5, 6]],), {}, "A must be square, got 2 x 3"),
        ((TWO, np.eye(3)), {}, "B must have as many rows as A, which is 2 x 2, got 3 x 3"),
        ((TWO, None, [[1.0]]), {}, "G must have as many rows as A"),
        (([[0, math.nan], [0, 0]],), {}, "A must be finite, but at t = "),
        ((lambda t: TWO / (t - t),), {}, "A must be finite"),
        ((np.zeros((2, 2, 2)),), {}, r"A must be a matrix, got shape \(2, 2, 2\)"),
        (("no",), {}, "A is no matrix of numbers"),
        (
            (TWO,),
            {"clock": lambda t: -t},
            "clock must be finite and increase along the integration",
        ),
        ((TWO,), {"clock": torch.sin, "span": (0.0, 3.0)}, "increase along the integration"),
        ((TWO,), {"span": (1.0, 1.0)}, "two different finite times"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], options: dict[str, Any], words: str):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=words):
        SemiLinearSDE.from_blocks(*arguments, **{"span": (0.0, 1.0)} | options)


@pytest.mark.parametrize(
    "source",
    [noise.BrownianPath([1]), noise.RememberingPath([1]), noise.UnionPath([1], [0.0, 1.0])],
)
def test_a_path_is_refused(source: Any):
    sde = SemiLinearSDE.from_blocks(TWO, None, TWO, span=(0.0, 1.0))
    x = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"no scalar noise time.*use fresh noise"):
        integrate(sde, lambda u, t: u, x, [0.0, 1.0], "seeds-1", source)


def test_what_does_not_fit_in_a_run_is_refused():
    sde = SemiLinearSDE.from_blocks(TWO, [[0.0], [1.0]], TWO, span=(0.0, 1.0))
    x = torch.zeros(1, 2, 4, dtype=torch.float64)
    fresh = noise.Gaussian([1])
    with pytest.raises(ValueError, match=r"shape \(1, 3\), but for a linear part of 2 components"):
        integrate(sde, lambda u, t: u, torch.zeros(1, 3), [0.0, 1.0], "seeds-1", fresh)
    with pytest.raises(ValueError, match="they must be equal"):
        integrate(sde, lambda u, t: u, x, [0.0, 1.0], "seeds-1", fresh)
    with pytest.raises(ValueError, match=r"has matrices.*expint\.integrate.*noise_type='general'"):
        to_torchsde(sde, lambda u, t: u)
    with pytest.raises(ValueError, match="no scalar propagator"):
        sde.propagator(0.5)
    path = ComposedNoise(sde, [1], [0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="not on the fine grid"):
        integrate(sde, lambda u, t: u[:, :1], x, [0.0, 0.3, 1.0], "seeds-1", path)
    with pytest.raises(ValueError, match="no noise with matrices"):
        ComposedNoise(SemiLinearSDE.from_blocks(TWO, span=(0.0, 1.0)), [1], [0.0, 1.0])


def test_too_many_oscillations_in_a_step_are_refused():
    def fast(t: Tensor) -> Tensor:
        rate = 1e6 * (1 + t)
        return torch.stack([torch.stack([0 * t, rate], -1), torch.stack([-rate, 0 * t], -1)], -2)

    with pytest.raises(ValueError, match="oscillates or grows too fast"):
        compile_plan(SemiLinearSDE.from_blocks(fast, span=(0.0, 1.0)), "seeds-1", [0.0, 1.0])


def test_the_system_composes():
    """Φ and Q of an interval are those of its parts, composed; with a rate that varies in time."""
    sde = SemiLinearSDE.from_blocks(swinging, None, [[0.1], [1.0]], span=(0.0, 2.0))
    system = sde.blocks
    assert isinstance(system, LinearSystem)
    times = torch.tensor([0.0, 0.7, 2.0], dtype=torch.float64)
    (one, q_one), (two, q_two) = (
        system.transition(times[i : i + 1], times[i + 1 : i + 2]) for i in (0, 1)
    )
    whole, q = system.transition(times[:1], times[2:])
    torch.testing.assert_close(two @ one, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(two @ q_one @ two.mT + q_two, q, rtol=0, atol=1e-12)


def test_the_noise_covariance_of_a_plan_has_the_components_of_its_rows():
    """Q of each node from the start of the step, and Φ Q between two of them; without noise 0."""
    sde = SemiLinearSDE.from_blocks(swinging, None, [[0.0], [0.7]], span=(0.0, 1.4))
    plan, system = compile_plan(sde, "seeds-3", GRID), sde.blocks
    assert isinstance(system, LinearSystem)
    rows = [row for row in plan.rows if row.substep == 1]
    times = torch.tensor([GRID[1], *(float(row.target) for row in rows)], dtype=torch.float64)
    exact = torch.zeros(len(rows), 2, len(rows), 2, dtype=torch.float64)
    for i in range(len(rows)):
        q = system.transition(times[:1], times[i + 1 : i + 2])[1][0]
        for j in range(i, len(rows)):
            phi = system.transition(times[i + 1 : i + 2], times[j + 1 : j + 2])[0][0]
            exact[j, :, i], exact[i, :, j] = phi @ q, q @ phi.mT
    found = plan.noise_covariance(1)
    torch.testing.assert_close(found, exact.reshape(found.shape), rtol=1e-9, atol=1e-12)
    quiet = SemiLinearSDE.from_blocks(TWO, span=(0.0, 1.4))
    assert not compile_plan(quiet, "seeds-1", GRID).noise_covariance(0).any()


def test_exact_moments_of_scalar_plans_are_not_asked_of_blocks():
    """They would be those of another equation."""
    sde = SemiLinearSDE.from_blocks([[0.0, 1.0], [-1.0, -1.0]], span=(0.0, 1.0))
    target = Gaussian([0.0, 0.0], [1.0, 1.0], VP())
    with pytest.raises(TypeError, match=r"for matrices see expint\.phase_space\.block_moments"):
        gaussian_moments(compile_plan(sde, "seeds-1", [0.0, 1.0]), target)
