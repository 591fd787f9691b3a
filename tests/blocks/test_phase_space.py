"""Critically damped diffusion, CLD and PSLD: kernels, the equation in its forms, orders on Gaussian
data without Monte Carlo, and the published samplers."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from expint import SemiLinearSDE, compile_plan, integrate, noise
from expint.phase_space import (
    GDDIM,
    Denoised,
    FromIsotropic,
    Mixture,
    block_moments,
    reverse_cld,
    split_score,
    sscs_plan,
)
from expint.schedules import CLD, EDM, PSLD
from expint.targets import GaussianMixture

CRITICAL, BOTH = CLD(), PSLD(8.0, 0.5, 4.5)  # the latter has noise on the position too
TIMES = torch.tensor([0.01, 0.1, 0.5, 1.0], dtype=torch.float64)


def test_kernel_is_the_forward_process_integrated():
    """Mean and covariance given (x_0, v_0) are those of the forward equation as blocks, with a
    double eigenvalue. β is constant, or 1 + 3t."""
    for cld in (CLD(3.0, 0.4, 0.1), CLD(lambda t: 1 + 3 * t, 0.25, 0.04), BOTH):
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


def gaussian(std: float = 0.5, cld: Any = CRITICAL) -> Mixture:
    return Mixture([[0.7]], std, cld)


def moments(form: str, ell: float, solver: str, steps: int, cld: Any = CRITICAL) -> list[Tensor]:
    """Mean and covariance at t = .05, and the exact ones."""
    target, end = gaussian(0.5, cld), END
    F = Denoised(cld, target, form, ell)
    m, C = target.law(cld.stop)
    plan = compile_plan(reverse_cld(cld, form, ell, end=end), solver, cld.grid(steps, end))
    found = block_moments(plan, lambda u, t: F(u[..., None], t)[..., 0], 0.7 * m, C)
    m, C = target.law(end)
    return [*found, 0.7 * m, C]


def error(form: str, ell: float, solver: str, steps: int, cld: Any = CRITICAL) -> float:
    """Largest error of the covariance, in units of the standard deviations."""
    _, found, _, exact = moments(form, ell, solver, steps, cld)
    std = exact.diagonal().sqrt()
    return ((found - exact) / std[:, None] / std).abs().max().item()


@pytest.mark.parametrize("cld", [CRITICAL, BOTH], ids=["CLD", "PSLD"])
@pytest.mark.parametrize(("solver", "order"), [("seeds-1", 1), ("seeds-2", 2), ("seeds-3", 3)])
def test_orders_without_noise(solver: str, order: int, cld: Any):
    few, many = (error("data", 0.0, solver, n, cld) for n in (40, 80))
    assert math.log2(few / many) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("ell", "cld"), [(0.5, CRITICAL), (1.0, BOTH), (1.5, CRITICAL)])
def test_marginals_of_the_reverse_sde_are_those_of_the_forward_process(ell: float, cld: Any):
    """At every ℓ the covariance tends to the forward one, with weak order 3 for linear F: 8 times
    per halving; the mean is exact to rounding at this number of steps."""
    few, many = (error("data", ell, "seeds-sra3", n, cld) for n in (24, 48))
    assert few < 0.05 and 6.0 < few / many < 13.0
    mean, _, exact, _ = moments("data", ell, "seeds-sra3", 24, cld)
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cld", [CRITICAL, BOTH], ids=["CLD", "PSLD"])
@pytest.mark.parametrize("ell", [0.0, 1.5])
def test_the_forms_are_one_equation(ell: float, cld: Any):
    """A u + B F is the same drift in all of them, and G the same."""
    t = torch.tensor(0.3, dtype=torch.float64)
    u = torch.tensor([[[0.4], [-0.2]], [[-1.0], [0.3]]], dtype=torch.float64)
    drifts, noises = [], []
    for form in ("data", "noise", "score", "drift"):
        sde = reverse_cld(cld, form, ell)
        assert sde.coefficients is not None
        A, B, G = sde.coefficients(t)
        drifts.append(A @ u + B @ Denoised(cld, gaussian(cld=cld), form, ell)(u, t))
        noises.append(G)
    gddim = GDDIM(cld, ell=ell)
    assert gddim.sde.coefficients is not None
    A, B, G = gddim.sde.coefficients(t)
    drifts.append(A @ u + B @ gddim(gaussian(cld=cld))(u, t))
    noises.append(G)
    for drift, noise_of in zip(drifts, noises, strict=True):
        torch.testing.assert_close(drift, drifts[0], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(noise_of, noises[0])


@pytest.mark.parametrize("cld", [CRITICAL, BOTH], ids=["CLD", "PSLD"])
def test_moments_are_those_of_an_explicit_recursion(cld: Any):
    """seeds-1 on Gaussian data: u ← (P + W K) u + w + N z with the plan's matrices, to 1e-10."""
    target, end, steps = gaussian(cld=cld), END, 30
    plan = compile_plan(reverse_cld(cld, end=end), "seeds-1", cld.grid(steps, end))
    mean, covariance = target.law(1.0)
    mean = 0.7 * mean
    for row in plan.rows:
        m, C = target.law(row.time)
        gain = 0.25 * (m @ torch.linalg.inv(C))
        P, W, N = (v.as_subclass(Tensor) for v in _matrices(row))
        step = P + W @ gain[None]
        mean = step @ mean + W[:, 0] * (0.7 - gain @ m * 0.7)
        covariance = step @ covariance @ step.mT + N @ N.mT
    found = moments("data", 1.0, "seeds-1", steps, cld)
    torch.testing.assert_close(found[0], mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(found[1], covariance, rtol=0, atol=1e-10)


def _matrices(row: Any) -> tuple[Any, Any, Any]:
    ((_, weight),) = row.weights
    return row.scale, weight, row.noise[0]


@pytest.mark.parametrize("cld", [CRITICAL, BOTH], ids=["CLD", "PSLD"])
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_one_point_is_exact_in_one_step(ell: float, cld: Any):
    """With data of one point D is constant: the data form has the exact law at any step."""
    target = Mixture([[0.7]], 0.0, cld)
    m, C = target.law(1.0)
    plan = compile_plan(reverse_cld(cld, ell=ell, end=0.1), "seeds-1", [1.0, 0.1])
    F = Denoised(cld, target)
    found = block_moments(plan, lambda u, t: F(u[..., None], t)[..., 0], 0.7 * m, C)
    m, C = target.law(0.1)
    torch.testing.assert_close(found[0], 0.7 * m, rtol=0, atol=1e-10)
    torch.testing.assert_close(found[1], C, rtol=0, atol=1e-10)


@pytest.mark.parametrize("prior", [None, [1.0, 3.0]])
def test_denoiser_is_the_posterior_mean(prior: Any):
    """Of two points, against Bayes' formula with the density of N(m x_0, Σ)."""
    target = Mixture([[-1.0], [0.5]], 0.0, CRITICAL, prior)
    u, t = torch.tensor([[[0.2], [-0.1]]], dtype=torch.float64), 0.3
    m, C = CRITICAL.kernel(t)
    law = torch.distributions.MultivariateNormal
    densities = [law(m * x, C).log_prob(u[0, :, 0]) for x in (-1.0, 0.5)]
    odds = torch.tensor(prior or [1.0, 1.0], dtype=torch.float64)
    weights = torch.softmax(torch.stack(densities) + odds.log(), 0)
    expected = weights @ torch.tensor([-1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(target(u, t)[0, 0, 0], expected)


@pytest.mark.parametrize("cld", [CRITICAL, BOTH], ids=["CLD", "PSLD"])
def test_a_denoiser_of_isotropic_noise_is_one_in_phase_space(cld: Any):
    """Of position and velocity one combination knows all of x_0: for a mixture in two dimensions,
    and for events of more axes."""
    means, prior = [[-1.0, 0.3], [0.5, 0.0], [0.0, 2.0]], [1.0, 2.0, 3.0]
    known = GaussianMixture(means, 0.2, prior, EDM())
    u = torch.tensor([[[0.2, 0.1], [-0.1, 0.4]]], dtype=torch.float64)
    made, exact = FromIsotropic(known, cld), Mixture(means, 0.2, cld, prior)
    for t in (0.003, 0.1, 0.9):
        torch.testing.assert_close(made(u, t), exact(u, t), rtol=1e-9, atol=1e-9)
    image = FromIsotropic(lambda z, sigma: z / (1.0 + sigma**2), cld)(
        torch.ones(3, 2, 1, 4, 4), 0.1
    )
    assert image.shape == (3, 1, 1, 4, 4) and image.dtype == torch.float32


def test_samples_of_a_mixture_have_its_weights():
    """4,000 samples of weights .1, .6 and .3, each count within 5 standard deviations; a fault of
    .06 in any is more than that."""
    weights = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    target = Mixture([[-1.0], [0.0], [1.0]], 0.0, CRITICAL, 2.0 * weights)
    x = target.start(4000, t=1e-6)[:, 0, 0]
    shares = torch.tensor([(x.sub(mean).abs() < 0.5).double().mean() for mean in (-1.0, 0.0, 1.0)])
    assert ((shares - weights).abs() < 5.0 * (weights * (1 - weights) / 4000).sqrt()).all()


def test_sscs_and_euler_maruyama_have_weak_order_one():
    """The kick of SSCS is a step of Euler's method, as its force depends on the velocity."""
    end = END

    def off(n: int, splitting: bool, cld: Any) -> float:
        target, form = gaussian(cld=cld), "score" if splitting else "drift"
        F = Denoised(cld, target, form, 1.0)
        grid = cld.grid(n, end, 2.0)
        if splitting:
            plan, F = sscs_plan(cld, grid), split_score(cld, F)
        else:
            plan = compile_plan(reverse_cld(cld, form, end=end), "seeds-1", grid)
        m, C = target.law(1.0)
        _, found = block_moments(plan, lambda u, t: F(u[..., None], t)[..., 0], 0.7 * m, C)
        return (found - target.law(end)[1]).abs().max().item()

    for splitting, cld in ((True, CRITICAL), (False, CRITICAL), (True, BOTH)):
        few, many = off(80, splitting, cld), off(160, splitting, cld)
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


@pytest.mark.parametrize("ell", [0.5, 1.0])
def test_the_stochastic_step_of_gddim_is_seeds_1_of_the_data_form(ell: float):
    """N(Ψ u + (Ψ̂ − Ψ) R ε, V) with the propagators Ψ of A and Ψ̂ of A + (1+λ²)/2 G Gᵀ Σ⁻¹ and the
    covariance V of the noise λ G dω under Ψ̂: mean and covariance, from ODEs of their own."""
    grid = [0.5, 0.2]
    s, t = torch.tensor(grid, dtype=torch.float64)
    u, target = gaussian().start(5, t=0.5), gaussian()
    hatted = reverse_cld(CRITICAL, "data", ell).blocks
    plain = reverse_cld(CRITICAL, "score", ell).blocks
    assert hatted is not None and plain is not None
    (hat, V), (psi, _) = (system.transition(s, t) for system in (hatted, plain))
    gddim = GDDIM(CRITICAL, entries=1000)
    shift = (hat - psi) @ gddim.root(s)
    mean = torch.einsum("ij,bjd->bid", psi, u)
    mean += torch.einsum("ij,bjd->bid", shift, gddim(target)(u, s))
    sde = reverse_cld(CRITICAL, ell=ell, end=0.2)
    (row,) = compile_plan(sde, "seeds-1", grid).rows
    P, W, N = (v.as_subclass(Tensor) for v in _matrices(row))
    found = torch.einsum("ij,bjd->bid", P, u) + torch.einsum("ij,bjd->bid", W, target(u, s))
    torch.testing.assert_close(found, mean, rtol=0, atol=1e-7)  # the spline of R
    torch.testing.assert_close(N @ N.mT, V, rtol=0, atol=1e-10)


def test_cholesky_root_is_not_exact_for_one_point_and_gddims_is():
    """Of the ODE, in one step from t = .5 to .05: the largest error of the covariance, in units of
    its entries."""
    point, start = Mixture([[0.7]], 0.0, CRITICAL), 0.5
    m, C = point.law(start)
    gddim, cholesky = (
        GDDIM(CRITICAL, end=END, entries=1000),
        Denoised(CRITICAL, point, "noise", 0.0),
    )
    errors = []
    for sde, F in (
        (gddim.sde, gddim(point)), (reverse_cld(CRITICAL, "noise", 0.0, end=END), cholesky),
    ):  # fmt: skip
        plan = compile_plan(sde, "seeds-1", [start, END])
        found = block_moments(plan, lambda u, t, F=F: F(u[..., None], t)[..., 0], 0.7 * m, C)[1]
        exact = point.law(END)[1]
        errors.append(((found - exact) / exact).abs().max().item())
    assert errors[0] < 1e-5 < 1.0 < errors[1]


def test_gddim_with_noise_keeps_the_marginals():
    """On Gaussian data at ℓ = .5 in the form with R: weak order 2 with seeds-sra."""
    gddim, target, errors = GDDIM(CRITICAL, ell=0.5, end=END, entries=1000), gaussian(), []
    F, (m, C) = gddim(target), target.law(1.0)
    for steps in (100, 200):
        plan = compile_plan(gddim.sde, "seeds-sra", CRITICAL.grid(steps, END))
        found = block_moments(plan, lambda u, t: F(u[..., None], t)[..., 0], 0.7 * m, C)[1]
        errors.append((found - target.law(END)[1]).abs().max().item())
    assert errors[1] < 1e-2 and 3.0 < errors[0] / errors[1] < 6.0


def test_psld_without_friction_of_the_position_is_cld():
    cld, same = CLD(3.0, 0.25, 0.1), PSLD(6.0, 0.0, 4.0, 0.1)
    for name in ("drift", "diffusion", "propagator", "conditional_covariance", "lam", "elapsed"):
        torch.testing.assert_close(getattr(cld, name)(TIMES), getattr(same, name)(TIMES))
    assert same.M == cld.M


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
        (lambda: Mixture([[1.0], [2.0]], 0.1, CRITICAL, [1.0]), "weights must be 2 positive"),
        (lambda: Mixture([[1.0], [2.0]], 0.1, CRITICAL, [1.0, 0.0]), "weights must be 2 positive"),
        (lambda: PSLD(Gamma=4.0, nu=1.0), "PSLD needs 0 <= Gamma < nu, got 4.0 and 1.0"),
        (lambda: PSLD(gamma=-1.0), "PSLD.gamma must be a positive number"),
    ],
)
def test_refusals(call: Any, words: str):
    with pytest.raises(ValueError, match=words):
        call()
