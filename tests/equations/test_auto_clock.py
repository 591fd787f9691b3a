"""The clock that the generic route chooses by itself."""

import pytest
import torch

from expint import SemiLinearSDE
from expint.equations.noise_scales import ell_from_eta

SPANS = [(0.0, 1.5), (2.0, 0.5)]


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("rate", [-3.0, -0.4, 0.8, 2.5])
@pytest.mark.parametrize("clock", ["auto", "exponential"])
def test_it_continues_an_exponential_weight(rate: float, span: tuple[float, float], clock: str):
    """A = rate, written as a function: C is a multiple of the weight e^(−rate t), so that μ = log C
    is |rate| times the time that has passed, as for constant coefficients."""
    sde = SemiLinearSDE.from_coefficients(lambda t: rate + 0.0 * t, 0.7, span=span, clock=clock)
    times = torch.linspace(*span, 7, dtype=torch.float64)
    passed = (times - span[0]).abs()
    mu = sde.clock(times)
    torch.testing.assert_close(mu - mu[0], abs(rate) * passed, rtol=1e-6, atol=1e-8)
    assert abs(float(sde.rho)) == 1.0


@pytest.mark.parametrize("span", SPANS)
def test_where_the_weight_hardly_grows_it_is_the_integral(span: tuple[float, float]):
    """ "auto" is the linear clock there; "exponential" takes as base what the whole span adds."""
    times = torch.linspace(*span, 7, dtype=torch.float64)
    passed, length = (times - span[0]).abs(), abs(span[1] - span[0])
    linear, exponential = (
        SemiLinearSDE.from_coefficients(0.0, lambda t: 2.0 + 0.0 * t, span=span, clock=clock)
        for clock in ("auto", "exponential")
    )
    assert float(linear.rho) == 0.0
    torch.testing.assert_close(linear.clock(times), 2.0 * passed, rtol=1e-12, atol=1e-12)
    expected = torch.log(2.0 * (length + passed))
    torch.testing.assert_close(exponential.clock(times), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, 0.0)])
def test_noise_that_vanishes_at_both_ends_is_noise(span: tuple[float, float]):
    """g = t(1 − t): τ grows by ∫ g² = 1/30 over the span."""
    sde = SemiLinearSDE.from_coefficients(0.0, 1.0, "t*(1-t)", span=span)
    assert sde.is_stochastic
    tau = sde.noise_clock(list(span))
    assert float(tau[1] - tau[0]) == pytest.approx(1 / 30, rel=1e-10)


@pytest.mark.parametrize("time", [-0.01, 2.01])
def test_times_outside_the_span_are_refused(time: float):
    sde = SemiLinearSDE.from_coefficients(-1.0, 1.0, 0.5, span=(0.0, 2.0))
    with pytest.raises(ValueError, match="is outside the span from 0 to 2 of the coefficients"):
        sde.check_grid(sorted([time, 1.0]))


def test_a_time_that_is_repeated_is_refused():
    sde = SemiLinearSDE.from_coefficients(-1.0, 1.0, 0.5, span=(0.0, 2.0))
    with pytest.raises(ValueError, match=r"must increase along the grid, but between grid\[1\]"):
        sde.check_grid([0.0, 1.0, 1.0, 2.0])


def test_an_eta_that_leaves_no_state_is_refused():
    """η² (1 − σ_t²/σ_s²) = 1 exactly, for which ℓ would be infinite."""
    assert float(ell_from_eta(1.249, 5.0, 3.0)) > 1.0
    with pytest.raises(ValueError, match=r"eta = 1\.25 is inadmissible for the step to sigma = 3"):
        ell_from_eta(1.25, 5.0, 3.0)
