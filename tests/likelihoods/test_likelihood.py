"""Likelihoods along the ODE and by the bound, beside exact densities."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import expint
from expint import schedules
from expint.targets import Gaussian
from tests.toy_models import FunctionModel, forbidden, mixture

EDM, FLOW = schedules.EDM(), schedules.Flow()
LOG_2_PI = math.log(2.0 * math.pi)


def gaussian(schedule: Any = EDM) -> Gaussian:
    return Gaussian([1.0, -2.0], [0.25, 1.5], schedule)


def last(schedule: Any) -> float:
    return schedule.sampling_range[1]


def prior(target: Any) -> Any:
    """The exact density at the first time."""
    return lambda x: target.log_density(x, target.schedule.sampling_range[0])


def test_the_exact_trace_gives_the_exact_density():
    target = mixture(EDM)
    x0 = target.sample(10)
    found = expint.log_likelihood(target, x0, trace="exact", steps=160, prior=prior(target))
    exact = target.log_density(x0, last(EDM))
    assert (torch.tensor(found.nats) - exact).abs().max() < 1e-6
    assert found.levels is None and found.dimension == 2 and found.nfe == 640
    bits = torch.tensor(found.bits_per_dim, dtype=torch.float64)
    torch.testing.assert_close(bits, -exact / (2 * math.log(2)), atol=1e-6, rtol=0.0)


def test_without_a_prior_it_begins_with_noise():
    """Of Gaussian data the flow is affine: x_T = m + √((v + σ_T²)/(v + σ_e²)) (x_0 − m)."""
    target = gaussian()
    x0 = target.sample(5)
    first, end = (EDM.sigma(t) for t in EDM.sampling_range)
    scale = torch.sqrt((target.variances + first**2) / (target.variances + end**2))
    noise = target.mean + scale * (x0 - target.mean)
    exact = (-0.5 * (noise / first) ** 2 - math.log(first) - 0.5 * LOG_2_PI + scale.log()).sum(1)
    found = expint.log_likelihood(target, x0, trace="exact", steps=160)
    assert (torch.tensor(found.nats) - exact).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("schedule", "solver", "near"),
    [
        (EDM, "seeds-3", 0.02), (EDM, "unipc-3", 0.02), (EDM, "taylor-2", 0.1),
        (EDM, "deis-tab3", 0.2), (EDM, "er-sde-3", 0.1), (EDM, "euler-maruyama", 1.0),
        (FLOW, "pece-3", 0.1), (schedules.VP(), "etd-rk3b", 0.02),
    ],
)  # fmt: skip
def test_any_solver_of_the_ode(schedule: Any, solver: str, near: float):
    """The error falls with the steps: the rows of each method fit the augmented state, for any
    form, schedule, and noise end (the flow's is infinite)."""
    target = mixture(schedule)
    x0 = target.sample(4)
    exact = target.log_density(x0, last(schedule))
    errors = [
        (torch.tensor(found.nats) - exact).abs().max().item()
        for steps in (20, 60)
        for found in [expint.log_likelihood(target, x0, solver, trace="exact", steps=steps)]
    ]
    assert errors[1] < near and errors[1] < max(0.6 * errors[0], 0.02), errors


@pytest.mark.parametrize("trace", ["rademacher", "gaussian"])
def test_hutchinson_is_within_its_errors(trace: str):
    """The mean over 100 samples of 3 draws, within 5 of its standard errors; without the other
    half of the Jacobian's symmetric part (one probe for all components) it is off by far more."""
    target = mixture(EDM)
    x0 = target.sample(100)
    found = expint.log_likelihood(
        target, x0, steps=25, trace=trace, draws=3, prior=prior(target), seed=4
    )
    missing = torch.tensor(found.nats, dtype=torch.float64) - target.log_density(x0, last(EDM))
    error = torch.tensor(found.errors).square().sum().sqrt().item() / 100
    assert error < 0.1 and abs(missing.mean().item()) < 5.0 * error
    assert missing.std() > 1e-3  # it is an estimate


def test_levels_are_dequantised():
    """For N(0, v), E log p(x + u) = log p(x) − w²/24v with u uniform of width w; 100 draws."""
    w, target = 0.8, Gaussian([0.0], [1.0], EDM)
    x0 = torch.tensor([[-0.8], [0.0], [1.6]], dtype=torch.float64)
    found = expint.log_likelihood(
        target, x0.repeat(100, 1), trace="exact", steps=20, levels=w, batch=300, prior=prior(target)
    )
    exact = target.log_density(x0, last(EDM)) - w**2 / 24.0 + math.log(w)
    nats = torch.tensor(found.nats, dtype=torch.float64).reshape(100, 3)
    errors = nats.std(0) / 10.0
    assert ((nats.mean(0) - exact).abs() < 5.0 * errors).all() and (errors > 0).all()
    assert (errors < 0.04).all() and found.levels == w


def test_the_bound_is_tight_for_a_perfect_model():
    """Over the data −E log p is the entropy, to the noise of 1,000 draws; and for each sample the
    bound is on one side."""
    target = mixture(EDM)
    x0 = target.sample(1_000)
    found = expint.log_likelihood(target, x0, bound=True, steps=30, batch=1_000, seed=3)
    exact = target.log_density(x0)
    missing = torch.tensor(found.nats, dtype=torch.float64) - exact
    assert abs(missing.mean().item()) < 5.0 * missing.std().item() / math.sqrt(1_000) < 0.5
    each = expint.log_likelihood(target, x0[:3], bound=True, steps=30, draws=40)
    assert all(a < b + 5 * e for a, b, e in zip(each.nats, exact, each.errors, strict=False))
    flow = expint.log_likelihood(mixture(FLOW), x0, bound=True, steps=30, batch=1_000)
    assert abs(flow.mean - found.mean) < 5.0 * math.hypot(flow.mean_error, found.mean_error)


@pytest.mark.parametrize("bound", [False, True])
def test_a_sample_does_not_depend_on_its_batch(bound: bool):
    target = mixture(EDM)
    x0 = target.sample(5)
    options: Any = {"steps": 8, "levels": 0.1, "draws": 2, "bound": bound}
    whole = expint.log_likelihood(target, x0, seed=2, **options)
    parts = expint.log_likelihood(target, x0, seed=2, batch=2, **options)
    rest = expint.log_likelihood(target, x0[3:], seed=2, start=3, **options)
    torch.testing.assert_close(whole.nats, parts.nats, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(whole.nats[3:], rest.nats, atol=1e-9, rtol=1e-9)
    other = expint.log_likelihood(target, x0, seed=3, **options)
    assert all(a != b for a, b in zip(whole.nats, other.nats, strict=True))


def test_conditions_go_with_their_samples():
    means = torch.tensor([[0.0], [3.0]], dtype=torch.float64)

    def of(items: Any) -> FunctionModel:
        return FunctionModel(EDM, "data", lambda x, t: x * 0 + means[list(items)])

    found = expint.log_likelihood(
        forbidden(EDM), means, bound=True, steps=20, batch=1, conditioned=of, draws=2
    )
    assert found.nats[0] == pytest.approx(found.nats[1] + 0.5 * 9.0 / 80.0**2, abs=1e-9)


def test_bad_input_is_refused_before_any_evaluation():
    model, x0 = forbidden(EDM), torch.zeros(2, 2)
    for match, options in {
        "Unknown trace 'hutch'": {"trace": "hutch"},
        "draws must be a positive": {"draws": 0},
        "batch must be a positive": {"batch": 1.5},
        "levels is the distance": {"levels": -1.0},
        "adds noise": {"ell": 1.0},
        r"sigma = 0.*final='none'": {"final": "denoise"},
        "leave out the solver": {"bound": True, "solver": "seeds-2"},
        "all options but grid, nfe, steps": {"bound": True, "ell": 0.5},
        r"sigma > 0: final='none'": {"bound": True, "grid": [1.0, 0.5, 0.0]},
    }.items():
        with pytest.raises(ValueError, match=match):
            expint.log_likelihood(model, x0, **options)
    with pytest.raises(ValueError, match="NaN"):
        expint.log_likelihood(model, x0 * torch.nan)
    with pytest.raises(TypeError, match="float16"):
        expint.log_likelihood(model, x0.half())
    with pytest.raises(ValueError, match="3 seeds came for a batch of 2"):
        expint.log_likelihood(model, x0, seeds=[1, 2, 3])


def test_a_prior_of_another_shape_and_what_is_not_finite_are_named():
    target, x0 = gaussian(), torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"of shape \(2,\), got \(2, 2\)"):
        expint.log_likelihood(target, x0, steps=4, prior=lambda x: x)

    def nothing(x: Tensor) -> Tensor:
        return x[:, 0] * torch.nan

    with pytest.raises(FloatingPointError, match="likelihood became NaN"):
        expint.log_likelihood(target, x0, steps=4, prior=nothing)


def test_a_model_may_change_its_input():
    target = mixture(EDM)

    def zeroing(x: Tensor, t: Any) -> Tensor:
        output = target(x, t)
        x.zero_()
        return output

    model = FunctionModel(EDM, "data", zeroing)
    found = expint.log_likelihood(model, target.sample(3), trace="exact", steps=6)
    expected = expint.log_likelihood(target, target.sample(3), trace="exact", steps=6)
    assert found.nats == expected.nats
