"""Forms without an exponential: explicit steps in t, σ², log σ and σ, against formulas written by
hand.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from quadrature import ReverseSDE, integrate
from toy_models import Recorder, mixture

from expint import compile_plan, execute, plan_sampling, reverse_sde, sample, solvers
from expint.convergence import Problem, fitted_order, gaussian_moments
from expint.noise import Replay
from expint.schedules import EDM, VP, Discrete, Flow, Schedule
from expint.schedules.tables import linear_betas, rescale_zero_terminal_snr
from expint.solvers import edm_stochastic, euler_maruyama
from expint.targets import Gaussian

torch.set_num_threads(1)
X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)
EXPLICIT = ("time", "variance", "log-sigma")
SCHEDULES = {"vp": VP(), "edm": EDM(), "flow": Flow()}
every_explicit = pytest.mark.parametrize("form", EXPLICIT)
every_form = pytest.mark.parametrize("form", [*EXPLICIT, "sigma"])
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_ell = pytest.mark.parametrize("ell", [0.0, 0.6, 1.0])


def as64(value: Any) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def interval(schedule: Schedule) -> tuple[float, float]:
    return schedule.t_of_sigma(2.0), schedule.t_of_sigma(0.9)


def variable(form: str, schedule: Schedule) -> Callable[[torch.Tensor], torch.Tensor]:
    """What the step is explicit in."""
    sigma: Callable[[torch.Tensor], torch.Tensor] = lambda t: schedule.std(t) / schedule.alpha(t)  # noqa: E731
    return {
        "time": lambda t: t,
        "variance": lambda t: sigma(t) ** 2,
        "log-sigma": lambda t: torch.log(sigma(t)),
        "sigma": sigma,
    }[form]


def speed(form: str, schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
    """dv/dt of that variable v: d(σ²)/dt = g²/α²."""
    rate = schedule.diffusion_squared(t) / schedule.alpha(t) ** 2
    sigma = schedule.std(t) / schedule.alpha(t)
    return {
        "time": as64(1.0),
        "variance": rate,
        "log-sigma": rate / (2 * sigma**2),
        "sigma": rate / (2 * sigma),
    }[form]


@every_explicit
@every_schedule
@every_ell
def test_first_order_step_is_euler_maruyama(form: str, schedule: Schedule, ell: float):
    """x_s + Δv [f x − ½ (1 + ℓ²) g² score]_s/(dv/dt)_s + noise of variance ∫ ℓ² g² dt."""
    s, t = interval(schedule)
    model = mixture(schedule)
    z = torch.tensor([[[1.0, -0.5], [0.2, 2.0]]], dtype=torch.float64)
    found = execute(
        compile_plan(reverse_sde(schedule, form, ell), "euler-maruyama", [s, t]),
        model,
        X,
        Replay(z),
    )
    start, v = as64(s), variable(form, schedule)
    score = (schedule.alpha(start) * model(X, start) - X) / schedule.std(start) ** 2
    drift = (
        schedule.drift(start) * X - 0.5 * (1 + ell**2) * schedule.diffusion_squared(start) * score
    )
    variance = integrate(lambda u: ell**2 * schedule.diffusion_squared(u), t, s)
    by_hand = (
        X
        + (v(as64(t)) - v(start)) / speed(form, schedule, start) * drift
        + torch.sqrt(variance) * z[0]
    )
    torch.testing.assert_close(found, by_hand, rtol=1e-10, atol=1e-10)


@every_schedule
@every_ell
def test_first_order_step_in_sigma(schedule: Schedule, ell: float):
    """x_t/α_t = x_s/α_s + (1 + ℓ²) (σ_t − σ_s) ε + ℓ √(σ_s² − σ_t²) z: the linear part stays
    exact.
    """
    s, t = interval(schedule)
    model = mixture(schedule)
    z = torch.tensor([[[1.0, -0.5], [0.2, 2.0]]], dtype=torch.float64)
    found = execute(
        compile_plan(reverse_sde(schedule, "sigma", ell), "seeds-1", [s, t]), model, X, Replay(z)
    )
    epsilon = (X - schedule.alpha(s) * model(X, s)) / schedule.std(s)
    plain = (
        X / schedule.alpha(s)
        + (1 + ell**2) * (0.9 - 2.0) * epsilon
        + ell * math.sqrt(2.0**2 - 0.9**2) * z[0]
    )
    torch.testing.assert_close(found, schedule.alpha(t) * plain, rtol=1e-11, atol=1e-11)


@every_form
@every_schedule
@pytest.mark.parametrize("ell", [0.3, 1.0])
def test_noise_clock(form: str, schedule: Schedule, ell: float):
    """a_t² (τ_t − τ_s) = ∫ Φ² ℓ² g² dt, over wide and narrow intervals; the clock of a step and of
    the whole agree.
    """
    sde = reverse_sde(schedule, form, ell)
    for high, low in ((4.0, 0.1), (1.0, 0.99), (0.2, 0.05)):
        s, t = as64(schedule.t_of_sigma(high)), as64(schedule.t_of_sigma(low))
        if form == "sigma":
            exact = ReverseSDE(schedule, "noise", ell).covariance(float(s), float(t), float(t))
        else:
            exact = integrate(lambda u: ell**2 * schedule.diffusion_squared(u), t, s)
        of_step = torch.exp(sde.noise.log_variance(s, t, sde.log_propagator(t)))
        of_clock = sde.propagator(t) ** 2 * (sde.noise_clock(t) - sde.noise_clock(s))
        assert float(of_step) == pytest.approx(float(exact), rel=1e-10)
        assert float(of_clock) == pytest.approx(float(exact), rel=1e-8)
    assert not reverse_sde(schedule, form, 0.0).is_stochastic


@every_explicit
@every_schedule
@every_ell
def test_rates_against_finite_differences(form: str, schedule: Schedule, ell: float):
    """F = dx/dμ = [x d log α + (1 + ℓ²) (x − αD) d log σ]/dμ."""
    sde = reverse_sde(schedule, form, ell)
    assert sde.diffusion.rate is not None and sde.diffusion.prediction == "rate"
    t = schedule.t_of_sigma(torch.tensor([3.0, 1.1, 0.4], dtype=torch.float64))
    on_x, on_data = sde.diffusion.rate(t)
    step = 1e-5 * t

    def change(function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:  # of fourth order
        near, far = (
            function(t + step) - function(t - step),
            function(t + 2 * step) - function(t - 2 * step),
        )
        return (8 * near - far) / 12

    clock = change(sde.clock)
    growth, sigma = (
        change(lambda u: torch.log(schedule.alpha(u))) / clock,
        -change(schedule.lam) / clock,
    )
    torch.testing.assert_close(on_x, growth + (1 + ell**2) * sigma, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        on_data, -(1 + ell**2) * sigma * schedule.alpha(t), rtol=1e-7, atol=1e-9
    )


@every_form
@every_schedule
def test_clock_increases_and_has_its_inverse(form: str, schedule: Schedule):
    sde, v = reverse_sde(schedule, form, 1.0), variable(form, schedule)
    t = schedule.t_of_sigma(torch.logspace(1.0, -1.5, 60, dtype=torch.float64))
    mu = sde.clock(t)
    assert (mu.diff() > 0).all()
    torch.testing.assert_close(-mu, v(t), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(sde.clock.time(mu), t, rtol=1e-9, atol=0)


@every_form
@pytest.mark.parametrize(("solver", "order"), [("seeds-1", 1), ("seeds-2", 2)])
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_the_law_is_that_of_the_other_forms(form: str, solver: str, order: int, ell: float):
    """Variance on Gaussian data: it has the classical order of the scheme (that of the midpoint in
    σ is 3 on this grid).
    """
    target = Gaussian([0.7], [0.3], VP())
    problem = Problem(target, form, ell, sigmas=(3.0, 0.3))
    exact = target.moments(problem.grid(1)[-1])[1]
    steps = (80, 160, 320)
    errors = [
        float((gaussian_moments(problem.plan(solver, n), target)[1] - exact).abs()) for n in steps
    ]
    found = fitted_order(steps, errors)
    assert found == pytest.approx(3 if (form, solver) == ("sigma", "seeds-2") else order, abs=0.15)


@pytest.mark.parametrize("form", EXPLICIT)
def test_euler_maruyama_by_name(form: str):
    tableau = euler_maruyama(form)
    assert (tableau.form, tableau.ell, tableau.deterministic_order, tableau.strong_order) == (
        form,
        1.0,
        1,
        1,
    )
    found, again = (
        sample(
            mixture(VP()), (2, 2), solver, steps=6, form=other, progress=False, dtype=torch.float64
        )
        for solver, other in ((tableau, None), ("seeds-1", form))
    )
    torch.testing.assert_close(found, again, rtol=0, atol=0)


def test_reverse_diffusion_is_the_predictor_of_song_et_al_in_ve():
    """x + (σ_s² − σ_t²) score + √(σ_s² − σ_t²) z."""
    schedule, model = EDM(), mixture(EDM())
    z = torch.tensor([[[1.0, -0.5], [0.2, 2.0]]], dtype=torch.float64)
    step = 3.0**2 - 1.0**2
    by_hand = X + step * (model(X, 3.0) - X) / 3.0**2 + math.sqrt(step) * z[0]
    tableau = solvers.get("reverse-diffusion")
    plan = compile_plan(reverse_sde(schedule, tableau.form, tableau.ell), tableau, [3.0, 1.0])
    torch.testing.assert_close(execute(plan, model, X, Replay(z)), by_hand, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("schedule", [EDM(), VP()], ids=["edm", "vp"])
@pytest.mark.parametrize("s_churn", [0.0, 1.0])
def test_heun_in_sigma_is_algorithm_2_of_edm(schedule: Schedule, s_churn: float):
    """Written by hand in z = x/α with d = (z − D)/σ; no correction where the step ends at σ = 0."""
    sigmas = [6.0, 2.5, 1.0, 0.3, 0.0]
    grid = [schedule.t_of_sigma(sigma) for sigma in sigmas[:-1]] + [schedule.t_of_lam(math.inf)]
    recorder = Recorder(mixture(schedule))
    generator = torch.Generator().manual_seed(2)
    normals = torch.randn(4, *X.shape, dtype=torch.float64, generator=generator)

    def denoised(z: torch.Tensor, sigma: float) -> torch.Tensor:
        t = schedule.t_of_sigma(sigma)
        return mixture(schedule)(schedule.alpha(t) * z, t)

    z, used, calls = X / schedule.alpha(grid[0]), 0, 0
    for sigma, following in pairwise(sigmas):
        inside = s_churn > 0 and 0.5 <= sigma <= 5.0
        raised = sigma * (1 + min(s_churn / 4, math.sqrt(2) - 1)) if inside else sigma
        if inside:
            z = z + math.sqrt(raised**2 - sigma**2) * 1.01 * normals[used]
            used += 1
        d = (z - denoised(z, raised)) / raised
        end = z + (following - raised) * d
        calls += 1
        if following > 0:
            slope = (end - denoised(end, following)) / following
            end = z + (following - raised) * 0.5 * (d + slope)
            calls += 1
        z = end
    tableau = edm_stochastic(s_churn, 0.5, 5.0, 1.01)
    plan = compile_plan(reverse_sde(schedule, "sigma", 0.0), tableau, grid)
    found = execute(plan, recorder, X, Replay(normals))
    torch.testing.assert_close(found, schedule.alpha(grid[-1]) * z, rtol=1e-9, atol=1e-9)
    assert len(recorder.times) == plan.nfe == calls and plan.normals == used


# --- Ends


@every_form
@every_schedule
@every_ell
def test_the_step_to_zero_noise_is_the_denoiser(form: str, schedule: Schedule, ell: float):
    s, clean = schedule.t_of_sigma(0.3), schedule.t_of_lam(math.inf)
    plan = compile_plan(reverse_sde(schedule, form, ell), "seeds-2", [s, clean])
    assert (plan.nfe, plan.normals) == (1, 0)
    torch.testing.assert_close(
        execute(plan, mixture(schedule), X), schedule.alpha(clean) * mixture(schedule)(X, s)
    )


@every_form
@every_ell
def test_the_step_from_infinite_noise(form: str, ell: float):
    """As in every other form: α_t D + σ̄_t z with noise, α_t D + (σ̄_t/σ̄_s) x without."""
    schedule, model = Flow(), mixture(Flow())
    z = torch.tensor([[[1.0, -0.5], [0.2, 2.0]]], dtype=torch.float64)
    plan = compile_plan(reverse_sde(schedule, form, ell), "seeds-2", [1.0, 0.6])
    kept = 0.6 * (z[0] if ell > 0 else X)
    torch.testing.assert_close(
        execute(plan, model, X, Replay(z)), 0.4 * model(X, 1.0) + kept, rtol=1e-12, atol=1e-12
    )


@every_form
@every_schedule
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_samples_from_end_to_end(form: str, schedule: Schedule, ell: float):
    """Both ends in one run, and the mean and standard deviation of 1500 samples within 5 standard
    errors and the bias.
    """
    target = Gaussian([0.7], [0.3], schedule)
    found = sample(
        target,
        (1500, 1),
        "seeds-2",
        steps=80,
        grid=None if isinstance(schedule, Flow) else "uniform_lambda",
        form=form,
        ell=ell,
        progress=False,
        dtype=torch.float64,
    )
    assert float(found.mean()) == pytest.approx(0.7, abs=0.08 + 0.02)
    assert float(found.std()) == pytest.approx(math.sqrt(0.3), rel=0.1 + 0.02)


def test_a_derivative_is_not_known_in_the_explicit_forms():
    for form in EXPLICIT:
        method = replace(solvers.taylor2(), form=form)
        with pytest.raises(ValueError, match="needs a derivative of F that"):
            compile_plan(reverse_sde(VP(), form, 0.0), method, [0.9, 0.1])


@pytest.mark.parametrize("form", ["time", "variance", "log-sigma"])
def test_a_table_that_starts_at_infinite_noise(form: str):
    """Zero terminal signal: the noise clock is finite there, and the run is that of any table."""
    table = Discrete(rescale_zero_terminal_snr(Discrete.from_betas(linear_betas()).alphas_cumprod))
    plan = plan_sampling(table, "seeds-1", form=form, steps=4)
    numbers = [
        n for row in plan.rows for n in (row.scale, *row.noise, *(w for _, w in row.weights))
    ]
    assert all(math.isfinite(n) for n in numbers) and plan.nfe == 4
