"""Noise scales, and what ℓ, η, windows and churn are in terms of them."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import quadrature
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from solver_kinds import ONE_STEP
from torch import Tensor
from toy_models import mixture, wavy

from expint import Plan, compile_plan, execute, grids, noise, reverse_sde
from expint.equations import noise_scales
from expint.equations.noise_scales import (
    NoiseScale,
    ell_from_churn,
    ell_from_eta,
    eta_from_ell,
    noise_scale,
    noise_scale_from_ell,
    window,
)
from expint.equations.step_scales import noise_scale_from_eta
from expint.schedules import EDM, VE, VP, Flow, Schedule

ER_SDE = json.loads(
    (Path(__file__).resolve().parents[1] / "data" / "er_sde_1.json").read_text(encoding="utf-8")
)
X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)
SCHEDULES = [VP(), VE(), EDM()]


def exp_growth(power: float) -> Callable[[Tensor], Tensor]:
    """ℓ² of φ = σ (e^{σ^p} + 10)."""
    return lambda sigma: (
        power * sigma**power * torch.exp(sigma**power) / (torch.exp(sigma**power) + 10.0)
    )


# ℓ² = d log φ / d log σ − 1, by hand from the published functions.
ELL_SQUARED: dict[str, Callable[[Tensor], Tensor]] = {
    "ode": torch.zeros_like,
    "sde": torch.ones_like,
    "power-1.5": lambda sigma: torch.full_like(sigma, 0.5),
    "power-2.5": lambda sigma: torch.full_like(sigma, 1.5),
    "log": lambda sigma: (
        150.0 * sigma**1.5 / ((1 + 100 * sigma**1.5) * torch.log1p(100 * sigma**1.5)) - 0.1
    ),
    "exp-0.3": exp_growth(0.3),
    "exp-linear": exp_growth(1.0),
}
PUBLISHED: dict[str, Callable[[float], float]] = {
    "ode": lambda sigma: sigma,
    "sde": lambda sigma: sigma**2,
    "power-1.5": lambda sigma: sigma**1.5,
    "power-2.5": lambda sigma: sigma**2.5,
    "log": lambda sigma: sigma**0.9 * math.log10(1 + 100 * sigma**1.5),
    "exp-0.3": lambda sigma: sigma * (math.exp(sigma**0.3) + 10),
    "exp-linear": lambda sigma: sigma * (math.exp(sigma) + 10),
}


@dataclass(frozen=True)
class VaryingSDE:
    """dx = [A x + b D] dt + ℓ g dω with ℓ² a function of σ; integrals by quadrature, as in
    `quadrature.ReverseSDE`.
    """

    schedule: Schedule
    ell_squared: Callable[[Tensor], Tensor]

    def drift(self, t: Tensor) -> Tensor:
        pull = (
            0.5
            * (1 + self.ell_squared(self.schedule.sigma(t)))
            * self.schedule.diffusion_squared(t)
            / self.schedule.std(t) ** 2
        )
        return self.schedule.drift(t) + pull

    def factor(self, t: Tensor) -> Tensor:
        return (self.schedule.drift(t) - self.drift(t)) * self.schedule.alpha(t)

    def transition(self, s: float | Tensor, t: float) -> Tensor:
        return torch.exp(quadrature.integrate(self.drift, s, t))

    def response(self, s: float, t: float, F: Callable[[Tensor], Tensor]) -> float:
        return float(
            quadrature.integrate(lambda u: self.transition(u, t) * self.factor(u) * F(u), s, t)
        )

    def variance(self, s: float, t: float) -> float:
        def rate(u: Tensor) -> Tensor:
            return (
                self.transition(u, t) ** 2
                * self.ell_squared(self.schedule.sigma(u))
                * self.schedule.diffusion_squared(u)
            )

        return float(quadrature.integrate(rate, t, s))


def agrees_with_quadrature(
    schedule: Schedule,
    scale: NoiseScale | str,
    ell_squared: Callable[[Tensor], Tensor],
    s: float,
    t: float,
):
    """Propagator, weight of F and noise between σ = s and σ = t, to 1e-12 of the quadrature."""
    sde, exact = reverse_sde(schedule, noise_scale=scale), VaryingSDE(schedule, ell_squared)
    s, t = schedule.t_of_sigma(s), schedule.t_of_sigma(t)
    assert float(sde.propagator(t) / sde.propagator(s)) == pytest.approx(
        float(exact.transition(s, t)), rel=1e-12
    )
    mu_s, mu_t = (float(sde.clock(torch.tensor(v, dtype=torch.float64))) for v in (s, t))
    for degree in range(3):
        moment, _ = integrate.quad(
            lambda mu, k=degree: math.exp(float(sde.rho) * (mu - mu_s)) * (mu - mu_s) ** k,
            mu_s,
            mu_t,
            epsabs=0,
            epsrel=1e-13,
        )
        engine = (
            float(sde.kappa) * float(sde.propagator(t)) * math.exp(float(sde.rho) * mu_s) * moment
        )
        expected = exact.response(s, t, lambda u, k=degree: (sde.clock(u) - mu_s) ** k)
        assert engine == pytest.approx(expected, rel=1e-12)
    variance = 0.0
    if sde.is_stochastic:
        logs = [torch.tensor(v, dtype=torch.float64) for v in (s, t)]
        variance = float(torch.exp(sde.noise.log_variance(*logs, sde.log_propagator(logs[1]))))
    assert variance == pytest.approx(exact.variance(s, t), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("name", noise_scales.noise_scale_names())
def test_named_noise_scales_against_quadrature(schedule: Schedule, name: str):
    agrees_with_quadrature(schedule, name, ELL_SQUARED[name], 3.0, 0.4)


@pytest.mark.parametrize("name", noise_scales.noise_scale_names())
def test_named_noise_scales_as_published(name: str):
    """φ itself, up to the constant factor that nothing depends on, and its inverse."""
    scale = noise_scale(name)
    ratios = [
        float(scale(sigma)) / PUBLISHED[name](sigma) for sigma in (0.002, 0.1, 1.0, 12.0, 80.0)
    ]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-12)
    log_sigma = torch.linspace(-6, 4, 21, dtype=torch.float64)
    torch.testing.assert_close(
        scale.log_sigma(scale.log_phi(log_sigma)), log_sigma, rtol=1e-13, atol=1e-13
    )


def rows(plan: Plan) -> Tensor:
    """Scale, noise standard deviation and weights of every row."""
    columns = [
        [row.scale, plan.noise_std(row), *(w for _, w in row.weights), row.time, row.target]
        for row in plan.rows
    ]
    return torch.tensor([float(value) for line in columns for value in line], dtype=torch.float64)


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-2", "seeds-3"])
@pytest.mark.parametrize("ell", [0.0, 0.3, 1.0, 1.7])
def test_a_power_is_the_data_form(solver: str, ell: float):
    """φ = σ^(1+ℓ²), given as a name, a function or through ℓ(λ)."""
    scales: list[NoiseScale | str | Callable[[Tensor], Tensor]] = [
        noise_scale_from_ell(lambda lam: ell)
    ]
    scales += [{0.0: "ode", 1.0: "sde"}.get(ell, lambda sigma: sigma ** (1 + ell**2))]
    for schedule in SCHEDULES:
        grid = grids.uniform_lambda(schedule, 5)
        expected = rows(compile_plan(reverse_sde(schedule, "data", ell), solver, grid))
        for scale in scales:
            plan = compile_plan(reverse_sde(schedule, noise_scale=scale), solver, grid)
            torch.testing.assert_close(rows(plan), expected, rtol=1e-10, atol=1e-15)
            assert (plan.normals > 0) == (ell > 0)


# ---- ℓ as a function of λ, windows


def test_ell_that_varies_smoothly():
    scale = noise_scale_from_ell(lambda lam: lam.abs(), breaks=[0.0])
    u = torch.linspace(-4, 4, 33, dtype=torch.float64)
    torch.testing.assert_close(
        scale.log_excess(u) - scale.log_excess(torch.zeros_like(u)),
        u**3 / 3,
        rtol=1e-13,
        atol=1e-11,
    )
    agrees_with_quadrature(
        VP(),
        noise_scale_from_ell(torch.sin, lam_range=(0.0, 3.0)),
        lambda s: torch.log(s).sin() ** 2,
        0.9,
        0.2,
    )


def test_ell_that_jumps():
    """Three values of ℓ: within each piece the data form with that value."""

    def ell(lam: Tensor) -> Tensor:
        return torch.where(lam < -1.0, 0.0, torch.where(lam < 1.0, 1.25, 0.5))

    scale = noise_scale_from_ell(ell, breaks=[-1.0, 1.0])
    u = torch.linspace(-3, 3, 25, dtype=torch.float64)
    lam = -u
    integral = 1.25**2 * (lam.clamp(-1, 1) + 1) + 0.25 * (lam - 1).clamp(min=0)
    torch.testing.assert_close(
        scale.log_excess(u) - scale.log_excess(u[-1:]), -integral, rtol=1e-12, atol=1e-12
    )
    sde = reverse_sde(EDM(), noise_scale=scale)
    for sigmas, value in (([20.0, 3.0], 0.0), ([2.0, 0.5], 1.25), ([0.3, 0.1], 0.5)):
        expected = rows(compile_plan(reverse_sde(EDM(), "data", value), "seeds-3", sigmas))
        torch.testing.assert_close(
            rows(compile_plan(sde, "seeds-3", sigmas)), expected, rtol=1e-10, atol=1e-12
        )


def test_breaks_matter():
    """A jump that is not given as a break is refused, not integrated wrongly."""

    def ell(lam: Tensor) -> Tensor:
        return torch.where(lam < 0.77, 0.0, 1.0)

    u = torch.tensor([-2.0, -0.5], dtype=torch.float64)
    values = noise_scale_from_ell(ell, breaks=[0.77]).log_excess(u)
    torch.testing.assert_close(
        values[1] - values[0], torch.tensor(1.23, dtype=torch.float64), rtol=1e-12, atol=0
    )
    with pytest.raises(ValueError, match=r"near t = 0\.77 .* as one of `breaks`"):
        noise_scale_from_ell(ell)


def test_ell_is_constant_beyond_its_range():
    scale = noise_scale_from_ell(lambda lam: 1.0 + 0.1 * lam, lam_range=(-2.0, 2.0))
    u = torch.tensor([-5.0, -4.0, 4.0, 5.0], dtype=torch.float64)
    excess = scale.log_excess(u)
    assert float(excess[1] - excess[0]) == pytest.approx(1.2**2, rel=1e-6)
    assert float(excess[3] - excess[2]) == pytest.approx(0.8**2, rel=1e-6)


def test_window_adds_noise_inside_and_none_outside():
    schedule, scale = EDM(), window(0.8, 0.1, 10.0)
    plan = compile_plan(
        reverse_sde(schedule, noise_scale=scale), "seeds-1", [80.0, 20.0, 10.0, 1.0, 0.1, 0.02]
    )
    ode, inside = (
        compile_plan(reverse_sde(schedule, "data", ell), "seeds-1", plan.grid) for ell in (0.0, 0.8)
    )
    stds = [float(plan.noise_std(row)) for row in plan.rows]
    assert stds[0] == stds[1] == stds[4] == 0.0
    for k, row in enumerate(plan.rows):
        other = (inside if k in (2, 3) else ode).rows[k]
        assert row.scale == pytest.approx(other.scale, rel=1e-12)
        assert stds[k] == pytest.approx(
            float(inside.noise_std(inside.rows[k])) if k in (2, 3) else 0.0, rel=1e-12
        )


@pytest.mark.parametrize("solver", ONE_STEP)
def test_window_is_a_jump_of_ell(solver: str):
    scale = noise_scale_from_ell(
        lambda lam: torch.where((lam > -1) & (lam < 2), 1.25, 0.0), breaks=[-1.0, 2.0]
    )
    grid = grids.karras(EDM(), 9)
    plans = [
        compile_plan(reverse_sde(EDM(), noise_scale=s), solver, grid)
        for s in (scale, window(1.25, math.exp(-2), math.exp(1)))
    ]
    assert torch.isfinite(rows(plans[1])).all()
    torch.testing.assert_close(rows(plans[0]), rows(plans[1]), rtol=1e-9, atol=1e-12)
    result = [execute(plan, wavy(EDM()), X, noise.Gaussian([1, 2])) for plan in plans]
    torch.testing.assert_close(result[0], result[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "scale",
    [window(1.0, 0.1, 3.0), window(1.0, 0.1, 0.5), "exp-0.3", "ode"],
    ids=["in", "out", "exp", "ode"],
)
def test_start_at_infinite_sigma(scale: NoiseScale | str):
    """The first step from σ = ∞ is the limit of those from large σ, also where a window leaves the
    start without noise.
    """
    schedule = Flow()
    sde = reverse_sde(schedule, noise_scale=scale)
    limit, near = (compile_plan(sde, "seeds-1", [t, 0.5]) for t in (1.0, 1.0 - 1e-10))
    for name in ("scale", "weights"):
        a, b = (np.atleast_2d(getattr(plan.rows[0], name))[:, -1] for plan in (limit, near))
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    stds = [float(plan.noise_std(plan.rows[0])) for plan in (limit, near)]
    assert stds[0] == pytest.approx(stds[1], rel=1e-6, abs=1e-12)
    assert torch.isfinite(execute(limit, wavy(schedule), X, noise.BrownianPath([0, 1]))).all()


# ---- η, churn


def ddim(
    model: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    x: Tensor,
    grid: Tensor,
    etas: list[float],
    z: Tensor,
):
    """DDIM as in the paper, eqs. (12) and (16): ᾱ_t its cumulative product, σ_t(η) its standard
    deviation.
    """
    for k, (s, t) in enumerate(pairwise(grid.tolist())):
        bar_s, bar_t = float(schedule.alpha(s)) ** 2, float(schedule.alpha(t)) ** 2
        std = etas[k] * math.sqrt((1 - bar_t) / (1 - bar_s)) * math.sqrt(1 - bar_s / bar_t)
        x0 = model(x, torch.tensor(s, dtype=torch.float64))
        eps = (x - math.sqrt(bar_s) * x0) / math.sqrt(1 - bar_s)
        x = math.sqrt(bar_t) * x0 + math.sqrt(1 - bar_t - std**2) * eps + std * z[k]
    return x


def ddim_and_ours(etas: list[float], scale_etas: float | list[float]) -> tuple[Tensor, Tensor]:
    schedule = VP()
    grid = grids.uniform_time(schedule, len(etas), final="none")
    z = torch.randn(
        len(etas), *X.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    plan = compile_plan(
        reverse_sde(schedule, noise_scale=noise_scale_from_eta(schedule, grid, scale_etas)),
        "seeds-1",
        grid,
    )
    model = wavy(schedule)
    ours = execute(plan, model, X, noise.Replay(z) if plan.normals else None)
    return ours, ddim(model, schedule, X, grid, etas, z)


@pytest.mark.parametrize(
    "etas", [[0.0, 0.4, 0.9, 1.0, 0.2, 0.0, 1.0], [0.7] * 7, [1.0] * 7, [0.0] * 7]
)
def test_ddim_with_eta_per_step(etas: list[float]):
    ours, theirs = ddim_and_ours(etas, etas[0] if len(set(etas)) == 1 else etas)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_another_eta_is_another_result():
    ours, theirs = ddim_and_ours([0.7] * 7, 0.69)
    assert (ours - theirs).abs().max() > 1e-4


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-2", "seeds-3"])
def test_eta_one_is_ell_one_and_eta_zero_the_ode(solver: str):
    schedule = VP()
    grid = grids.uniform_lambda(schedule, 6)
    for value in (0.0, 1.0):
        scale = noise_scale_from_eta(schedule, grid, value)
        assert scale.has_noise == (value > 0)
        plans = [
            compile_plan(reverse_sde(schedule, **how), solver, grid)
            for how in ({"ell": value}, {"noise_scale": scale})
        ]  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(rows(plans[1]), rows(plans[0]), rtol=1e-10, atol=1e-14)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(eta=st.floats(0.01, 1.0), sigma=st.floats(1e-3, 1e2), ratio=st.floats(0.01, 0.99))
def test_ell_and_eta_are_inverse(eta: float, sigma: float, ratio: float):
    ell = ell_from_eta(eta, sigma, ratio * sigma)
    assert float(eta_from_ell(ell, sigma, ratio * sigma)) == pytest.approx(eta, rel=1e-9)
    # The noise of a data-form step of constant ℓ is DDIM's.
    plan = compile_plan(reverse_sde(EDM(), "data", float(ell)), "seeds-1", [sigma, ratio * sigma])
    assert float(plan.noise_std(plan.rows[0])) == pytest.approx(
        eta * ratio * sigma * math.sqrt(1 - ratio**2), rel=1e-9
    )


@settings(deadline=None, derandomize=True, max_examples=40)
@given(ell=st.floats(0.0, 3.0), ratio=st.floats(0.05, 0.99))
def test_every_ell_has_an_eta(ell: float, ratio: float):
    eta = eta_from_ell(ell, 1.0, ratio)
    assert 0 <= float(eta) <= (1 - ratio**2) ** -0.5 and (float(eta) <= 1.0 + 1e-12) == (ell <= 1.0)


def test_churn_is_ell_in_the_limit_of_small_steps():
    """The variance under a linear denoiser that is *not* the exact one (so that the noise level
    matters): EDM's sampler with churn γ per step, and ours with ℓ = √(γ/h).
    """

    def slope(sigma: float) -> float:  # D = slope · x
        return 0.3 / (1 + sigma**2)

    differences = []
    for steps in (200, 400, 800):
        sigmas = np.geomspace(5.0, 0.05, steps + 1)
        h = math.log(sigmas[0] / sigmas[1])
        ell = 0.7
        gamma = ell**2 * h
        assert float(ell_from_churn(gamma, h)) == pytest.approx(ell, rel=1e-14)
        plan = compile_plan(reverse_sde(EDM(), "data", ell), "seeds-1", sigmas)
        churned = ours = ode = 30.0
        for row, (s, t) in zip(plan.rows, pairwise(sigmas), strict=True):
            raised = s * (1 + gamma)  # algorithm 2 of EDM, S_noise = 1
            churned = (1 + (1 - slope(raised)) * (t - raised) / raised) ** 2 * (
                churned + raised**2 - s**2
            )
            ode *= (1 + (1 - slope(s)) * (t - s) / s) ** 2
            ours = (float(row.scale) + float(row.weights[0][1]) * slope(s)) ** 2 * ours + float(
                plan.noise_std(row)
            ) ** 2
        differences.append(abs(churned / ours - 1))
        assert abs(ode / ours - 1) > 0.1
    assert differences[-1] < 0.01
    np.testing.assert_allclose([a / b for a, b in pairwise(differences)], 2.0, rtol=0.05)


# ---- what is refused


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (
            torch.sqrt,
            r"phi/sigma decreases at sigma = 0\.00\d+, which would need noise of negative variance",
        ),
        (lambda sigma: sigma - 0.5, r"phi is not positive and finite at sigma = 0\.00\d+\."),
        (lambda sigma: sigma * (2 + torch.sin(sigma)), r"phi does not increase at sigma = 2\.6\d+"),
        (lambda sigma: 1 / sigma, r"phi does not increase at sigma = 0\.00\d+\."),
        (
            lambda sigma: sigma**2 / torch.where(sigma < 3.0, 1.0, 0.0),
            r"phi is not positive and finite at sigma = 3\.\d+\.",
        ),
    ],
    ids=["sqrt", "negative", "wavy", "falling", "infinite"],
)
def test_inadmissible_noise_scale(scale: Callable[[Tensor], Tensor], message: str):
    with pytest.raises(ValueError, match=message):
        reverse_sde(EDM(), noise_scale=scale)


def test_inadmissible_only_outside_the_sampling_range_is_no_matter():
    scale = noise_scale(lambda sigma: sigma * torch.where(sigma < 500, 1.0, 0.5))
    reverse_sde(EDM(), noise_scale=scale)
    with pytest.raises(ValueError, match="at sigma = 49"):
        reverse_sde(Flow(), noise_scale=scale)


@pytest.mark.parametrize(("eta", "level"), [(3.0, "0.5"), ([0.5, 1.2, 0.0], "0.1"), (-0.1, "0.5")])
def test_inadmissible_eta(eta: float | list[float], level: str):
    with pytest.raises(
        ValueError, match=rf"eta = .* is inadmissible for the step to sigma = {re.escape(level)}"
    ):
        noise_scale_from_eta(EDM(), [1.0, 0.5, 0.1, 0.05], eta)


def test_number_of_etas():
    with pytest.raises(
        ValueError, match="one for each of the 2 steps with finite sigma; got 3 values"
    ):
        noise_scale_from_eta(EDM(), [1.0, 0.5, 0.1, 0.0], [0.1, 0.1, 0.1])


@pytest.mark.parametrize("arguments", [(-1.0, 0.1, 1.0), (1.0, 1.0, 0.1), (1.0, 0.0, 1.0)])
def test_window_out_of_order(arguments: tuple[float, float, float]):
    with pytest.raises(ValueError, match="0 < sigma_low < sigma_high"):
        window(*arguments)


def test_other_refusals():
    with pytest.raises(ValueError, match=r"Unknown noise scale 'exp-0.2'; nearest: \['exp-0.3'"):
        reverse_sde(EDM(), noise_scale="exp-0.2")
    with pytest.raises(TypeError, match=r"a name, a function phi.* got float"):
        reverse_sde(EDM(), noise_scale=1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="goes with form='data'"):
        reverse_sde(EDM(), "noise", noise_scale="sde")
    with pytest.raises(ValueError, match="must be >= 0, got -1"):
        noise_scale_from_ell(lambda lam: torch.where(lam > 0, -1.0, 1.0))


# ---- another program


def er_sde(name: str) -> float:
    """Distance to the ER-SDE authors' solver, which adds no noise in the step that reaches its last
    σ > 0.
    """
    z = torch.tensor(ER_SDE["noise"], dtype=torch.float64)
    z[6] = 0.0
    plan = compile_plan(reverse_sde(EDM(), noise_scale=name), "seeds-1", ER_SDE["sigmas"])
    result = execute(
        plan, mixture(EDM()), torch.tensor(ER_SDE["x_init"], dtype=torch.float64), noise.Replay(z)
    )
    return float((result - torch.tensor(ER_SDE["x_final"], dtype=torch.float64)).abs().max())


def test_replay_of_er_sde():
    assert er_sde("exp-0.3") < 1e-12
    assert er_sde("power-1.5") > 1e-2
