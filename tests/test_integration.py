"""Integrating semi-linear SDEs outside diffusion: exact laws, stiff diagonal modes, one path at
every resolution, refusals.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from solver_kinds import KINDS
from torch import Tensor

from expint import Plan, SemiLinearSDE, compile_plan, integrate, noise, solvers

LINEAR = [name for name in KINDS if not solvers.get(name).tableau.needs_integral]
WAVES = torch.arange(65, dtype=torch.float64)
RATES = -(WAVES**2)
STRENGTH = 0.5 / (1 + WAVES)


def nothing(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x)


def heat(span: tuple[float, float] = (0.0, 1.0), b: float = 1.0) -> SemiLinearSDE:
    """dx_k = −k² x_k dt + g_k dω_k, k = 0 … 64."""
    return SemiLinearSDE.from_coefficients(RATES, b, STRENGTH, span=span)


def moments(plan: Plan, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the end state where F = 0: the product of the scales and the sum of what
    each step adds.
    """
    for row, ends_step in zip(plan.rows, plan.ends_step, strict=True):
        if ends_step:
            p, std = (
                torch.as_tensor(v, dtype=torch.float64) for v in (row.scale, plan.noise_std(row))
            )
            mean, variance = p * mean, p**2 * variance + std**2
    return mean, variance


def heat_variance(T: float) -> Tensor:
    """g² (1 − e^{−2k²T})/(2k²), and g² T for k = 0."""
    k2 = WAVES[1:] ** 2
    decaying = -torch.expm1(-2 * k2 * T) / (2 * k2)
    return STRENGTH**2 * torch.cat([torch.tensor([T], dtype=torch.float64), decaying])


@pytest.mark.parametrize("solver", KINDS)
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_stiff_modes_without_F_are_exact(solver: str, steps: int):
    """Mean and variance of every mode for steps with k² h up to 4096, where e^{2k²h} has long
    overflowed.
    """
    plan = compile_plan(heat(), solver, np.linspace(0, 1, steps + 1))
    mean, variance = moments(
        plan, torch.ones(65, dtype=torch.float64), torch.full((65,), 0.3, dtype=torch.float64)
    )
    decay = torch.exp(RATES)
    torch.testing.assert_close(mean, decay, rtol=1e-11, atol=1e-300)
    torch.testing.assert_close(variance, 0.3 * decay**2 + heat_variance(1.0), rtol=1e-11, atol=0)


@pytest.mark.parametrize("solver", LINEAR)
@pytest.mark.parametrize("steps", [1, 9])
def test_covariance_of_the_stages_of_stiff_modes(solver: str, steps: int):
    """Cov of the noise at two nodes c < d of a step: e^{−k²(d−c)h} Var(c), in every mode, from the
    numbers that a run uses.
    """
    plan = compile_plan(heat(), solver, np.linspace(0, 1, steps + 1))
    rows = [row for row in plan.rows if row.step == 0]
    assert all(row.noise for row in rows)
    for first in rows:
        for second in rows:
            if first.target <= second.target:
                shared = zip(first.noise, second.noise, strict=False)  # of the earlier node
                found = sum(torch.as_tensor(a) * torch.as_tensor(b) for a, b in shared)
                exact = torch.exp(RATES * (second.target - first.target)) * heat_variance(
                    first.target
                )
                torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-17)


@pytest.mark.parametrize("solver", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stiff_modes_run(solver: str, dtype: torch.dtype):
    """4000 samples of the run itself have the variances, in single precision too; fixed seeds, 6
    standard errors.
    """
    x = torch.ones(4000, 65, dtype=dtype)
    end = integrate(
        heat(), nothing, x, [0.0, 0.01, 0.25, 1.0], solver, noise.Gaussian(range(4000))
    ).x
    assert end.dtype == dtype and torch.isfinite(end).all()
    centred = end.double() - torch.exp(RATES)
    error = 6 * math.sqrt(2 / 4000)
    torch.testing.assert_close(
        (centred**2).mean(0) / heat_variance(1.0),
        torch.ones(65, dtype=torch.float64),
        rtol=0,
        atol=error,
    )
    standard = centred / torch.sqrt(heat_variance(1.0))
    covariance = standard.T @ standard / 4000 - torch.eye(65)
    assert covariance.fill_diagonal_(0).abs().max() < 6 / math.sqrt(4000)


@pytest.mark.parametrize("solver", KINDS)
@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, 0.0)])
def test_modes_with_constant_F_are_exact(solver: str, span: tuple[float, float]):
    """Modes that decay, stand still (ρ = 0) and grow, with F = 1: x e^{Aδ} + b δ φ_1(Aδ)."""
    A = torch.tensor([[-40.0], [-1.0], [0.0], [1.0], [30.0]], dtype=torch.float64)
    b = torch.tensor([1.0, -2.0], dtype=torch.float64)
    sde = SemiLinearSDE.from_coefficients(A, b, span=span)
    delta = span[1] - span[0]
    x = integrate(
        sde,
        lambda x, t: torch.ones_like(x),
        torch.full((1, 5, 2), 0.5, dtype=torch.float64),
        np.linspace(*span, 4),
        solver,
    ).x
    gain = torch.where(A == 0, delta, torch.expm1(A * delta) / A)
    torch.testing.assert_close(x[0], 0.5 * torch.exp(A * delta) + b * gain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("solver", LINEAR)
def test_mode_without_rate_is_an_ordinary_polynomial_rule(solver: str):
    """ρ = 0: F = t is integrated exactly by every step of order 2 or more."""
    sde = SemiLinearSDE.from_coefficients(torch.zeros(1), span=(0.0, 2.0))
    x = integrate(
        sde, lambda x, t: t + 0 * x, torch.zeros(1, 1, dtype=torch.float64), [0.0, 0.7, 2.0], solver
    ).x
    first = 0.0 if solvers.get(solver).at(0, 2).order() == 1 else 0.7**2 / 2
    second = 1.3 * 0.7 if solvers.get(solver).at(1, 2).order() == 1 else (4 - 0.7**2) / 2
    expected = first + second
    assert x.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("g", [0.4, "0.4", lambda t: 0.4 + 0 * t])
@pytest.mark.parametrize("solver", KINDS)
def test_ornstein_uhlenbeck_law(g: object, solver: str):
    """dx = θ (m − x) dt + g dω at T = 2, with the mean level m as F: the exact law from any number
    of steps, by every route.
    """
    theta, level, T = 1.5, 0.8, 2.0
    sde = SemiLinearSDE.from_coefficients(-theta, theta, g, span=(0.0, T))
    for steps in (1, 5):
        plan = compile_plan(sde, solver, np.linspace(0, T, steps + 1))
        _, variance = moments(plan, torch.zeros(()), torch.tensor(0.1, dtype=torch.float64))
        expected = 0.1 * math.exp(-2 * theta * T) + 0.16 * (1 - math.exp(-2 * theta * T)) / (
            2 * theta
        )
        assert float(variance) == pytest.approx(expected, rel=1e-11)
        still = noise.Replay(torch.zeros(plan.normals, 1, 1))
        x = integrate(
            sde,
            lambda x, t: torch.full_like(x, level),
            torch.full((1, 1), -1.0, dtype=torch.float64),
            plan.grid,
            solver,
            still,
        ).x
        assert x.item() == pytest.approx(level + (-1 - level) * math.exp(-theta * T), rel=1e-11)


def test_samples_of_ornstein_uhlenbeck():
    sde = SemiLinearSDE.from_coefficients(-1.0, g=1.0, span=(0.0, 1.0))
    x = integrate(
        sde,
        nothing,
        torch.zeros(20000, 1),
        [0.0, 0.2, 1.0],
        "seeds-2",
        noise.Gaussian(range(20000)),
    ).x
    variance = (1 - math.exp(-2)) / 2
    assert x.mean().item() == pytest.approx(0.0, abs=5 * math.sqrt(variance / 20000))
    assert x.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / 20000))


@pytest.mark.parametrize("g", [1.0, "1+t", lambda t: np.exp(-t)])
@pytest.mark.parametrize("span", [(0.0, 2.0), (2.0, 0.0)])
def test_pure_noise_is_one_path(g: object, span: tuple[float, float]):
    """On a Brownian path, 10 and 320 steps of any solver give the same state; with F, they approach
    each other.
    """
    sde = SemiLinearSDE.from_coefficients("cos(2*t)" if g != 1.0 else -1.0, 1.0, g, span=span)
    x, path = (
        torch.full((40, 3), 0.3, dtype=torch.float64),
        noise.BrownianPath(range(40), resolution=2**14),
    )
    coarse, fine = (
        integrate(sde, nothing, x, np.linspace(*span, n + 1), s, path).x
        for n, s in ((10, "seeds-1"), (320, "seeds-3"))
    )
    torch.testing.assert_close(coarse, fine, rtol=1e-9, atol=1e-9)
    assert (coarse - x).abs().max() > 0.05
    F = lambda x, t: torch.sin(x)  # noqa: E731
    ends = [
        integrate(sde, F, x, np.linspace(*span, n + 1), "seeds-2", path).x for n in (10, 40, 160)
    ]
    distances = [(a - b).square().mean().sqrt() for a, b in pairwise(ends)]
    assert 0.2 < distances[1] / distances[0] < 0.4  # strong order 1


def test_solution():
    sde = SemiLinearSDE.from_coefficients(-1.0, g=0.2, span=(0.0, 1.0))
    x = torch.ones(3, 2, dtype=torch.float64)
    grid = [0.0, 0.4, 1.0]
    kept = integrate(sde, nothing, x, grid, "seeds-3", noise.Gaussian([0, 1, 2]), save=True)
    assert (
        kept.states is not None and kept.states.shape == (3, 3, 2) and kept.times.tolist() == grid
    )
    assert (
        torch.equal(kept.states[0], x)
        and torch.equal(kept.states[-1], kept.x)
        and kept.plan.steps == 2
    )
    shorter = integrate(sde, nothing, x, grid[:2], "seeds-3", noise.Gaussian([0, 1, 2]))
    torch.testing.assert_close(shorter.x, kept.states[1], rtol=1e-15, atol=0)
    plain = integrate(sde, nothing, x, grid, "seeds-3", noise.Gaussian([0, 1, 2]))
    assert plain.states is None and torch.equal(plain.x, kept.x)


def test_progress(capsys: pytest.CaptureFixture[str]):
    sde = SemiLinearSDE.from_coefficients(-1.0, span=(0.0, 1.0))
    integrate(sde, nothing, torch.ones(1, 1), [0.0, 0.5, 1.0], "seeds-2", progress=True)
    shown = capsys.readouterr().err
    assert "seeds-2" in shown and "2/2" in shown


def test_gradients_flow_through_F():
    """A learned F can be trained through the solver."""
    sde = SemiLinearSDE.from_coefficients(torch.tensor([-1.0, -3.0]), span=(0.0, 1.0))
    factor = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def end(value: Tensor) -> Tensor:
        F = lambda x, t: value * torch.cos(x)  # noqa: E731
        return integrate(
            sde, F, torch.ones(1, 2, dtype=torch.float64), np.linspace(0, 1, 6), "seeds-2"
        ).x.sum()

    end(factor).backward()
    with torch.no_grad():
        slope = (end(factor + 1e-6) - end(factor - 1e-6)) / 2e-6
    assert factor.grad is not None and factor.grad.item() == pytest.approx(slope.item(), rel=1e-7)


# ---- refusals: before F is called


def forbidden(x: Tensor, t: Tensor) -> Tensor:
    raise AssertionError("F was called")


def test_noise_must_be_given():
    sde = SemiLinearSDE.from_coefficients(-1.0, g=1.0, span=(0.0, 1.0))
    with pytest.raises(ValueError, match="uses 2 Gaussians per component: give a noise source"):
        integrate(sde, forbidden, torch.ones(1, 1), [0.0, 0.5, 1.0], "seeds-1")


@pytest.mark.parametrize("shape", [(2, 3), (2, 1), (5,), (2, 5, 1)])
def test_diagonal_coefficients_must_fit_the_state(shape: tuple[int, ...]):
    sde = SemiLinearSDE.from_coefficients(-torch.ones(5), span=(0.0, 1.0))
    with pytest.raises(
        ValueError, match=r"have shape \(5,\), which does not broadcast against the event"
    ):
        integrate(sde, forbidden, torch.ones(shape), [0.0, 1.0])


@pytest.mark.parametrize(
    ("grid", "message"),
    [([0.0], "at least 2"), ([0.0, math.nan], "finite"), ([1.0, 0.0], "must increase")],
)
def test_bad_grids(grid: list[float], message: str):
    sde = SemiLinearSDE.from_coefficients(-1.0, span=(0.0, 1.0))
    with pytest.raises(ValueError, match=message):
        integrate(sde, forbidden, torch.ones(1, 1), grid)


def test_states_that_cannot_be_integrated():
    sde = SemiLinearSDE.from_coefficients(-1.0, span=(0.0, 1.0))
    with pytest.raises(TypeError, match="floating-point"):
        integrate(sde, forbidden, torch.ones(1, 1, dtype=torch.int64), [0.0, 1.0])
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 2"):
        integrate(sde, forbidden, torch.tensor([[1.0, math.nan]]), [0.0, 1.0])
    with pytest.raises(FloatingPointError, match=r"in step 2 of 2, which starts at t = 0\.5"):
        integrate(
            sde, lambda x, t: x / (float(t) < 0.4), torch.ones(1, 1), [0.0, 0.5, 1.0], "seeds-1"
        )
