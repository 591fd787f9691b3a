"""Every form against quadrature of the reverse SDE from which it is derived."""

import math

import numpy as np
import pytest
import torch
from quadrature import ReverseSDE, interval
from scipy import integrate

from expint import SemiLinearSDE, plan_sampling, reverse_sde, schedules
from expint.equations.forms import EXPONENTIAL
from expint.equations.sde import NoiseClock

ELLS = (0.0, 0.3, 1.0, 1.7)
SIGMA_DATA = 0.7

every_case = pytest.mark.parametrize(
    ("form", "schedule", "ell"),
    [
        (form, schedules.get(name), ell)
        for form in EXPONENTIAL
        for name in schedules.names()
        for ell in ELLS
    ],
    ids=lambda value: (
        value
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else type(value).__name__
    ),
)


def pair(form: str, schedule: schedules.Schedule, ell: float) -> tuple[SemiLinearSDE, ReverseSDE]:
    sde = reverse_sde(schedule, form, ell, sigma_data=SIGMA_DATA)
    return sde, ReverseSDE(schedule, sde.diffusion.prediction, ell, SIGMA_DATA)


def as_tensor(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@every_case
def test_propagator(form: str, schedule: schedules.Schedule, ell: float):
    sde, reference = pair(form, schedule, ell)
    s, t = interval(schedule)
    assert float(sde.propagator(t) / sde.propagator(s)) == pytest.approx(
        float(reference.transition(s, t)), rel=1e-11
    )


@every_case
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_weight_of_F(form: str, schedule: schedules.Schedule, ell: float, degree: int):
    """κ a_t ∫ e^{ρμ} F dμ = ∫ Φ(t, u) b(u) F(u) du for F a polynomial in the clock: this ties
    together a, μ, ρ and κ.
    """
    sde, reference = pair(form, schedule, ell)
    s, t = interval(schedule)
    mu_s, mu_t = sde.clock(as_tensor(s)), sde.clock(as_tensor(t))

    def moment(mu: float) -> float:
        return math.exp(float(sde.rho) * mu) * (mu - float(mu_s)) ** degree

    value, _ = integrate.quad(moment, float(mu_s), float(mu_t), epsabs=0, epsrel=1e-12)
    engine = float(sde.kappa) * float(sde.propagator(t)) * value
    expected = reference.response(s, t, lambda u: (sde.clock(u) - mu_s) ** degree)
    assert engine == pytest.approx(float(expected), rel=1e-10)


@every_case
def test_noise_clock(form: str, schedule: schedules.Schedule, ell: float):
    """a_t² (τ_t − τ_s) = ∫ Φ(t, u)² ℓ² g(u)² du; and nothing at ℓ = 0."""
    sde, reference = pair(form, schedule, ell)
    s, t = interval(schedule)
    variance = sde.propagator(t) ** 2 * (sde.noise_clock(t) - sde.noise_clock(s))
    assert sde.is_stochastic == (ell > 0)
    if ell == 0:
        assert variance == 0.0
        assert sde.noise is None
        return
    assert float(variance) == pytest.approx(float(reference.covariance(s, t, t)), rel=1e-10)
    first, last = as_tensor(s), as_tensor(t)
    logs = torch.exp(sde.noise.log_variance(first, last, sde.log_propagator(last)))
    assert float(logs) == pytest.approx(float(variance), rel=1e-12)


@every_case
def test_clock_increases_and_has_its_inverse(form: str, schedule: schedules.Schedule, ell: float):
    sde, _ = pair(form, schedule, ell)
    low, high = schedule.t_of_sigma(0.01), schedule.t_of_sigma(20.0)
    t = torch.linspace(high, low, 101, dtype=torch.float64)
    mu = sde.clock(t)
    assert (mu[1:] > mu[:-1]).all()
    torch.testing.assert_close(sde.clock.time(mu), t, rtol=1e-9, atol=0)


@pytest.mark.parametrize("m", [0.0, 0.09, 0.5, 1.0, 2.0, 2.89, 4.0])
@pytest.mark.parametrize("sd", [0.3, 1.0, 2.5])
def test_clock_of_the_preconditioned_form(m: float, sd: float):
    """C(σ) = σd^(−ℓ²) ∫_0^{arctan(σ/σd)} cos^{ℓ²}θ dθ to 1e-12, from far below to far above σ_d."""
    sde = reverse_sde(schedules.EDM(), "precond", math.sqrt(m), sigma_data=sd)
    for sigma in (1e-5, 0.01, 0.2, 0.9 * sd, 1.1 * sd, 7.0, 300.0, 1e4):
        value, _ = integrate.quad(
            lambda x: np.cos(x) ** m, 0.0, math.atan(sigma / sd), epsabs=0, epsrel=3e-14
        )
        # The code's clock is −log(C/C(∞)), with C(∞) in κ: the weight κ e^{−μ} is that of μ = −log
        # C, κ = 1 + ℓ².
        weight = sde.kappa * math.exp(-float(sde.clock(as_tensor(sigma))))
        assert weight == pytest.approx((1 + m) * value * sd**-m, rel=1e-12)
        assert float(sde.clock.time(sde.clock(as_tensor(sigma)))) == pytest.approx(sigma, rel=1e-13)


@pytest.mark.parametrize("ell", [0.0, 0.3, 1.0])
def test_inverse_of_the_preconditioned_clock_is_differentiable(ell: float):
    clock = reverse_sde(schedules.EDM(), "precond", ell, sigma_data=0.5).clock
    mu = clock(torch.tensor([20.0, 0.5, 0.01], dtype=torch.float64)).requires_grad_(True)
    assert torch.autograd.gradcheck(clock.time, mu)


def test_clock_of_the_preconditioned_form_as_written():
    sigma, sd = torch.logspace(-3, 2, 30, dtype=torch.float64), 0.5
    ode = reverse_sde(schedules.EDM(), "precond", 0.0, sigma_data=sd)
    torch.testing.assert_close(
        ode.kappa * torch.exp(-ode.clock(sigma)), torch.atan(sigma / sd), rtol=1e-13, atol=0
    )
    sde = reverse_sde(schedules.EDM(), "precond", 1.0, sigma_data=sd)
    expected = 2 * sigma / (sd * torch.sqrt(sigma**2 + sd**2))
    torch.testing.assert_close(
        sde.kappa * torch.exp(-sde.clock(sigma)), expected, rtol=1e-13, atol=0
    )


def test_defaults_are_the_reverse_sde_in_the_data_form():
    sde = reverse_sde(schedules.VP())
    assert sde.diffusion.prediction == "data" and sde.is_stochastic and sde.rho == 2.0
    assert "data form, ell=1" in repr(sde)


def test_unknown_form_tells_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown form 'nois'; nearest: \['noise'"):
        reverse_sde(schedules.VP(), "nois")


@pytest.mark.parametrize("ell", [-0.1, float("inf"), float("nan")])
@pytest.mark.parametrize("form", EXPONENTIAL)
def test_ell_out_of_range(form: str, ell: float):
    if form == "data" and ell == float("inf"):  # the limit, which exists in this form only
        return
    with pytest.raises(ValueError, match=rf"ell .* must be a finite number >= 0, got {ell}"):
        reverse_sde(schedules.VP(), form, ell, sigma_data=1.0)


@pytest.mark.parametrize("ell", [1.1e4, 1e155, 1e200, 10**200])
def test_huge_ell_is_refused_with_the_limit(ell: float):
    for of in (
        lambda: reverse_sde(schedules.EDM(), ell=ell),
        lambda: plan_sampling(schedules.EDM(), nfe=6, ell=ell),
    ):
        with pytest.raises(ValueError, match=r"10000 the largest"):
            of()
    with pytest.raises(ValueError, match=r"in every step, at most 10000, got"):
        plan_sampling(schedules.EDM(), nfe=6, ell=[1.0, 1.0, float(ell), 1.0, 1.0])
    with pytest.raises(ValueError, match=r"too large for the form 'precond'.* use form='data'"):
        reverse_sde(schedules.EDM(), "precond", 100.0, sigma_data=0.5)


@pytest.mark.parametrize("schedule", [schedules.EDM(), schedules.Flow()], ids=str)
def test_the_largest_ell_draws_all_noise_anew(schedule: schedules.Schedule):
    """Every step but the last gives αD + σ̄z, and so does one from σ = ∞; to eight digits, as the
    noise time is e^{2ℓ²λ}."""
    for ell in (20.0, 1e4):
        plan = plan_sampling(schedule, "seeds-1", steps=6, ell=ell)
        for row in plan.rows[:-1]:
            assert abs(row.scale) < 1e-30
            assert plan.noise_std(row) == pytest.approx(float(schedule.std(row.target)), rel=1e-7)
            assert row.weights[0][1] == pytest.approx(float(schedule.alpha(row.target)), rel=1e-7)


@pytest.mark.parametrize("sigma_data", [None, 0.0, -1.0])
def test_preconditioned_form_needs_sigma_data(sigma_data: float | None):
    with pytest.raises(
        ValueError, match=rf"needs sigma_data > 0, the network's own, got {sigma_data}"
    ):
        reverse_sde(schedules.EDM(), "precond", sigma_data=sigma_data)


def test_sign_of_the_noise_clock():
    with pytest.raises(ValueError, match="1 or -1, got 0"):
        NoiseClock(torch.neg, 0)
