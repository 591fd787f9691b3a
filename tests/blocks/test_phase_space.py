"""Critically-damped Langevin diffusion: kernels, the equation in its forms, orders on Gaussian data
without Monte Carlo, and the published splitting."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from expint import SemiLinearSDE, compile_plan, integrate, noise
from expint.phase_space import (
    GDDIM,
    Denoised,
    Mixture,
    block_moments,
    reverse_cld,
    split_score,
    sscs_plan,
)
from expint.schedules import CLD

CRITICAL = CLD()
TIMES = torch.tensor([0.01, 0.1, 0.5, 1.0], dtype=torch.float64)


def test_kernel_is_the_forward_process_integrated():
    """Mean and covariance given (x_0, v_0) are those of the forward equation as blocks, with a
    double eigenvalue. β is constant, or 1 + 3t."""
    for cld in (CLD(3.0, 0.4, 0.1), CLD(lambda t: 1 + 3 * t, 0.25, 0.04)):
        forward = SemiLinearSDE.from_blocks(cld.drift, None, cld.diffusion, span=(0.0, 1.0))
        assert forward.blocks is not None
        phi, q = forward.blocks.transition(torch.zeros_like(TIMES), TIMES)
        torch.testing.assert_close(cld.propagator(TIMES), phi, rtol=0, atol=1e-12)
        torch.testing.assert_close(cld.conditional_covariance(TIMES), q, rtol=1e-9, atol=1e-15)
        mean, covariance = cld.kernel(TIMES)
        start = torch.diag(torch.tensor([0.0, cld.gamma * cld.M], dtype=torch.float64))
        torch.testing.assert_close(mean, phi[..., 0], rtol=0, atol=1e-12)
        torch.testing.assert_close(covariance, phi @ start @ phi.mT + q, rtol=1e-9, atol=1e-15)


def test_limit_is_standard_normal_and_times_are_found():
    _, covariance = CLD(stop=300.0).kernel(300.0)
    limit = torch.diag(torch.tensor([1.0, 0.25], dtype=torch.float64))
    torch.testing.assert_close(covariance, limit, rtol=0, atol=1e-12)
    torch.testing.assert_close(CRITICAL.t_of_lam(CRITICAL.lam(TIMES)), TIMES)
    grid = CRITICAL.grid(10)
    assert grid[0] == 1.0 and grid[-1] == 1e-3 and (grid.diff() < 0).all()


END = 0.05


def gaussian(std: float = 0.5) -> Mixture:
    return Mixture([[0.7]], std, CRITICAL)


def moments(form: str, ell: float, solver: str, steps: int, std: float = 0.5) -> list[Tensor]:
    """Mean and covariance at t = .05, and the exact ones."""
    target, end = gaussian(std), END
    F = Denoised(CRITICAL, target, form, ell)
    m, C = target.law(CRITICAL.stop)
    plan = compile_plan(
        reverse_cld(CRITICAL, form, ell, end=end), solver, CRITICAL.grid(steps, end)
    )
    found = block_moments(plan, lambda u, t: F(u[..., None], t)[..., 0], 0.7 * m, C)
    m, C = target.law(end)
    return [*found, 0.7 * m, C]


def error(form: str, ell: float, solver: str, steps: int) -> float:
    """Largest error of the covariance, in units of the standard deviations."""
    _, found, _, exact = moments(form, ell, solver, steps)
    std = exact.diagonal().sqrt()
    return ((found - exact) / std[:, None] / std).abs().max().item()


@pytest.mark.parametrize(("solver", "order"), [("seeds-1", 1), ("seeds-2", 2), ("seeds-3", 3)])
def test_orders_without_noise(solver: str, order: int):
    few, many = (error("data", 0.0, solver, n) for n in (40, 80))
    assert math.log2(few / many) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("ell", [0.5, 1.0, 1.5])
def test_marginals_of_the_reverse_sde_are_those_of_the_forward_process(ell: float):
    """At every ℓ the covariance tends to the forward one, with weak order 3 for linear F: 8 times
    per halving; the mean is exact to rounding at this number of steps."""
    few, many = (error("data", ell, "seeds-sra3", n) for n in (24, 48))
    assert few < 0.05 and 6.0 < few / many < 13.0
    mean, _, exact, _ = moments("data", ell, "seeds-sra3", 24)
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ell", [0.0, 1.5])
def test_the_forms_are_one_equation(ell: float):
    """A u + B F is the same drift in all of them, and G the same."""
    t = torch.tensor(0.3, dtype=torch.float64)
    u = torch.tensor([[[0.4], [-0.2]], [[-1.0], [0.3]]], dtype=torch.float64)
    drifts, noises = [], []
    for form in ("data", "noise", "score", "drift"):
        sde = reverse_cld(CRITICAL, form, ell)
        assert sde.coefficients is not None
        A, B, G = sde.coefficients(t)
        drifts.append(A @ u + B @ Denoised(CRITICAL, gaussian(), form, ell)(u, t))
        noises.append(G)
    for drift, noise_of in zip(drifts, noises, strict=True):
        torch.testing.assert_close(drift, drifts[0], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(noise_of, noises[0])


def test_moments_are_those_of_an_explicit_recursion():
    """seeds-1 on Gaussian data: u ← (P + W K) u + w + N z with the plan's matrices, to 1e-10."""
    target, end, steps = gaussian(), END, 30
    plan = compile_plan(reverse_cld(CRITICAL, end=end), "seeds-1", CRITICAL.grid(steps, end))
    mean, covariance = target.law(1.0)
    mean = 0.7 * mean
    for row in plan.rows:
        m, C = target.law(row.time)
        gain = 0.25 * (m @ torch.linalg.inv(C))
        P, W, N = (v.as_subclass(Tensor) for v in _matrices(row))
        step = P + W @ gain[None]
        mean = step @ mean + W[:, 0] * (0.7 - gain @ m * 0.7)
        covariance = step @ covariance @ step.mT + N @ N.mT
    found = moments("data", 1.0, "seeds-1", steps)
    torch.testing.assert_close(found[0], mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(found[1], covariance, rtol=0, atol=1e-10)


def _matrices(row: Any) -> tuple[Any, Any, Any]:
    ((_, weight),) = row.weights
    return row.scale, weight, row.noise[0]


@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_one_point_is_exact_in_one_step(ell: float):
    """With data of one point D is constant: the data form has the exact law at any step."""
    target = Mixture([[0.7]], 0.0, CRITICAL)
    m, C = target.law(1.0)
    plan = compile_plan(reverse_cld(CRITICAL, ell=ell, end=0.1), "seeds-1", [1.0, 0.1])
    F = Denoised(CRITICAL, target)
    found = block_moments(plan, lambda u, t: F(u[..., None], t)[..., 0], 0.7 * m, C)
    m, C = target.law(0.1)
    torch.testing.assert_close(found[0], 0.7 * m, rtol=0, atol=1e-10)
    torch.testing.assert_close(found[1], C, rtol=0, atol=1e-10)


def test_denoiser_is_the_posterior_mean():
    """Of two points, against Bayes' formula with the density of N(m x_0, Σ)."""
    target = Mixture([[-1.0], [0.5]], 0.0, CRITICAL)
    u, t = torch.tensor([[[0.2], [-0.1]]], dtype=torch.float64), 0.3
    m, C = CRITICAL.kernel(t)
    law = torch.distributions.MultivariateNormal
    densities = [law(m * x, C).log_prob(u[0, :, 0]) for x in (-1.0, 0.5)]
    weights = torch.softmax(torch.stack(densities), 0)
    expected = weights @ torch.tensor([-1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(target(u, t)[0, 0, 0], expected)


def test_sscs_and_euler_maruyama_have_weak_order_one():
    """The kick of SSCS is a step of Euler's method, as its force depends on the velocity."""
    target, end = gaussian(), END

    def off(n: int, splitting: bool) -> float:
        form = "score" if splitting else "drift"
        F = Denoised(CRITICAL, target, form, 1.0)
        grid = CRITICAL.grid(n, end, 2.0)
        if splitting:
            plan, F = sscs_plan(CRITICAL, grid), split_score(CRITICAL, F)
        else:
            plan = compile_plan(reverse_cld(CRITICAL, form, end=end), "seeds-1", grid)
        m, C = target.law(1.0)
        _, found = block_moments(plan, lambda u, t: F(u[..., None], t)[..., 0], 0.7 * m, C)
        return (found - target.law(end)[1]).abs().max().item()

    for splitting in (True, False):
        few, many = off(80, splitting), off(160, splitting)
        assert math.log2(few / many) == pytest.approx(1.0, abs=0.1)


def test_gddim_is_exact_for_one_point_and_has_the_order_of_its_tableau():
    """ε is constant along the path of one point: one step of the ODE has the exact law. On Gaussian
    data two-step Adams-Bashforth has order 2. R Rᵀ is Σ at all times."""
    gddim = GDDIM(CRITICAL, end=END, entries=1000)
    torch.testing.assert_close(
        gddim.root(TIMES[1:]) @ gddim.root(TIMES[1:]).mT, CRITICAL.kernel(TIMES[1:])[1]
    )
    point, errors = Mixture([[0.7]], 0.0, CRITICAL), []
    for target, solver, steps in (
        (point, "seeds-1", 1), (gaussian(), "seeds-ab2", 60), (gaussian(), "seeds-ab2", 120),
    ):  # fmt: skip
        F, (m, C) = gddim(target), target.law(1.0)
        plan = compile_plan(gddim.sde, solver, CRITICAL.grid(steps, END))
        found = block_moments(plan, lambda u, t, F=F: F(u[..., None], t)[..., 0], 0.7 * m, C)[1]
        errors.append((found - target.law(END)[1]).abs().max().item())
    assert errors[0] < 1e-6  # the spline of R
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.2)


def test_samples_of_a_mixture_land_on_its_means():
    target = Mixture([[-1.0, 0.0], [1.0, 0.5]], 0.05, CRITICAL)
    u = target.start(200)
    F = Denoised(CRITICAL, target)
    grid, fresh = CRITICAL.grid(40), noise.Gaussian(range(200))
    end = integrate(reverse_cld(CRITICAL), F, u, grid, "seeds-2", fresh).x[:, 0]
    distance = (end[:, None] - target.means).norm(dim=-1).amin(1)
    assert distance.max() < 0.4 and 60 < int((end[:, 0] > 0).sum()) < 140


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: CLD(M=-1.0), "CLD.M must be a positive number, got -1.0"),
        (lambda: CLD(lambda t: t - 0.5), "beta must be positive"),
        (lambda: reverse_cld(CRITICAL, "v"), "form"),
        (lambda: reverse_cld(CRITICAL, ell=-1.0), "ell must be a finite number >= 0"),
        (lambda: reverse_cld(CRITICAL, end=0.0), "end must lie between 0 and 1"),
        (lambda: reverse_cld(CRITICAL, clock="tau"), "clock"),
        (lambda: Mixture([1.0], 0.1, CRITICAL), r"shape \(K, d\)"),
    ],
)
def test_refusals(call: Any, words: str):
    with pytest.raises(ValueError, match=words):
        call()
