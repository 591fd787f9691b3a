"""Stiffness: spectra against closed forms and against the full Jacobian, rates against the table,
steps against the clocks, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_models import FunctionModel, forbidden

from expint import execute, plan_sampling, reverse_sde, schedules, stiffness
from expint.noise import initial_state, per_sample
from expint.spectra import CLOCKS, StiffnessStudy
from expint.targets import Gaussian, GaussianMixture

VARIANCES = [1.0, 0.3, 0.01]
FORMS = ("data", "noise", "precond", "log-sigma", "sigma")
EXACT: dict[str, Any] = {"dtype": torch.float64, "states": 3}


def column(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(found: Any, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(column(found), expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", params=[("vp", 1.0), ("vp", 0.0), ("edm", 0.6)], ids=str)
def gaussian(request: pytest.FixtureRequest) -> tuple[StiffnessStudy, float, Any]:
    name, ell = request.param
    schedule = schedules.get(name)
    target = Gaussian([0.5] * 3, VARIANCES, schedule)
    found = stiffness(target, "karras", forms=FORMS, ell=ell, sigma_data=0.5, **EXACT)
    return found, ell, schedule


def test_gaussian_spectrum_is_exact(gaussian: tuple[StiffnessStudy, float, Any]):
    """α ∂D/∂x of N(·, v) data is v/(v + σ²)."""
    study, _, schedule = gaussian
    sigma, v = column(study.sigmas), column(VARIANCES)
    g = v / (v + sigma[:, None] ** 2)
    close(study.low, g.amin(1))
    close(study.high, g.amax(1))
    close(study.imaginary, torch.zeros_like(sigma))
    close(study.sigmas, schedule.sigma(column(study.times)))


def test_rates_are_those_of_the_table(gaussian: tuple[StiffnessStudy, float, Any]):
    """The table of the module, at both ends of the spectrum; d log α by a central difference."""
    study, ell, schedule = gaussian
    sigma, h, p = column(study.sigmas), column(study.steps), 1.0 + ell**2
    low, high, skip = column(study.low), column(study.high), 0.25 / (sigma**2 + 0.25)
    lam = -sigma.log()
    inside = lam.clamp(min=float(lam[0]) + 1e-3)  # the first one is at the end of the domain
    after, before = (schedule.log_alpha(schedule.t_of_lam(inside + d)) for d in (1e-4, -1e-4))
    fall = (after - before) / 2e-4  # d log α/dλ
    linear = {"data": fall - p, "noise": fall, "precond": fall - p * (1.0 - skip), "sigma": fall}
    of_f = {
        "data": lambda g: p * g,
        "noise": lambda g: -p * (1.0 - g),
        "sigma": lambda g: -p * (1.0 - g),
        "precond": lambda g: p * (g - skip),
        "log-sigma": lambda g: fall - p * (1.0 - g),
    }
    for form, rate in of_f.items():
        part = study.part(form)
        expected = (linear.get(form, 0.0 * h), rate(low), rate(high))
        radius = torch.maximum(rate(low).abs(), rate(high).abs())
        found = (part.linear, part.low, part.high, part.radius)
        for values, wanted in zip(found, (*expected, radius), strict=True):
            close(values[1:], (h * wanted)[1:], 1e-6)
        assert part.ideal == pytest.approx(sum(part.radius) / len(h))
        assert part.peak >= part.ideal


def test_equal_steps_in_a_clock(gaussian: tuple[StiffnessStudy, float, Any]):
    """Rates are those of the plan's steps; the steps in λ are those of the clock, to first
    order."""
    study, ell, schedule = gaussian
    lam, n = -column(study.sigmas).log(), len(study.times)
    inside = lam.clamp(min=float(lam[0]) + 1e-3)
    end = lam[-1] + study.steps[-1]
    sde = reverse_sde(schedule, "precond", ell, sigma_data=0.5)
    clocks = {
        "lambda": lambda lam: lam,
        "time": lambda lam: -schedule.t_of_lam(lam),
        "sigma": lambda lam: -torch.exp(-lam),
        "arctan": lambda lam: -torch.arctan(torch.exp(-lam) / 0.5),
        "own": lambda lam: sde.clock(schedule.t_of_lam(lam)),
    }
    assert set(clocks) == {*CLOCKS} - {"plan"}
    rate = column(study.part("precond").radius) / column(study.steps)
    for name, clock in clocks.items():
        speed = (clock(inside + 1e-5) - clock(inside - 1e-5)) / 2e-5
        step = (clock(end) - clock(lam[0])) / n / speed
        close(study.part("precond", name).radius[1:], (rate * step)[1:], 1e-5)
        assert study.part("precond", name).ideal == study.part("precond").ideal


def mixture(schedule: Any) -> GaussianMixture:
    means = [[1.0, 0.0, 0.3], [-1.0, 0.4, 0.0], [0.2, -0.7, 1.0]]
    return GaussianMixture(means, 0.2, [1.0, 2.0, 3.0], schedule)


def rotating(x: Tensor, t: Any) -> Tensor:
    """A denoiser whose Jacobian is not symmetric."""
    return torch.sin(x) + 0.8 * torch.roll(x, 1, dims=1) * x.cos()


@pytest.mark.parametrize("kind", ["mixture", "rotating", "no forward mode"])
def test_against_the_full_jacobian(kind: str):
    """autograd's Jacobian at the same states, its eigenvalues by LAPACK. Central differences in
    float64 are as good as 1e-6."""
    schedule = schedules.VP()
    model: Any = mixture(schedule)
    if kind == "rotating":
        model = FunctionModel(schedule, "data", rotating)
    inner, tolerance = model, 1e-9
    if kind == "no forward mode":
        model, tolerance = FunctionModel(schedule, "data", lambda x, t: Opaque.apply(x, t)), 1e-6
        Opaque.inner = inner
    plan = plan_sampling(schedule, "seeds-1", steps=6, ell=0.0)
    study = stiffness(model, plan, shape=(3,), krylov=5, forms=["noise"], **EXACT)
    states = path_of(plan, model, n=3)
    assert len(states) == len(study.times)
    for k, (t, x) in enumerate(states):
        full = torch.func.vmap(torch.func.jacrev(lambda y, t=t: inner(y[None], t)[0]))(x)
        values = torch.linalg.eigvals(full) * schedule.alpha(t)
        assert study.low[k] == pytest.approx(values.real.min().item(), rel=tolerance, abs=tolerance)
        assert study.high[k] == pytest.approx(values.real.max().item(), rel=tolerance)
        imaginary = values.imag.abs().max().item()
        assert study.imaginary[k] == pytest.approx(imaginary, rel=tolerance, abs=tolerance)
        radius = 1.0 * (1.0 - values).abs().max().item() * study.steps[k]  # p = 1
        assert study.part("noise").radius[k] == pytest.approx(radius, rel=tolerance)
    if kind == "rotating":
        assert max(study.imaginary) > 0.05


class Opaque(torch.autograd.Function):
    """Without a rule for forward mode."""

    inner: Any = None

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor) -> Tensor:  # pyright: ignore
        return Opaque.inner(x, t)


def path_of(plan: Any, model: Any, n: int) -> list[tuple[Tensor, Tensor]]:
    """Time and state at the start of each step but the last."""
    x = initial_state(per_sample(0, n), (3,), torch.float64)
    found = [x * plan.sde.diffusion.schedule.std(plan.grid[0])]
    execute(plan, model, found[0], callback=lambda step, nfe, t, x, d: found.append(x))
    return list(zip(plan.grid[:-2], found, strict=False))


def test_the_trace_is_hutchinsons():
    """Mean of vᵀJv/vᵀv over directions v is trace over dimension: here half of 1/(1 + σ²), with a
    standard error over 4000 states of 0.3 %."""
    schedule = schedules.EDM()
    target = Gaussian([0.0] * 20, [1.0] * 10 + [0.0] * 10, schedule)
    x = target.sample(4000, 1.0)
    study = stiffness(target, [1.0, 0.5], states=x, krylov=4, forms=["data"], clocks=["plan"])
    assert study.mean[0] == pytest.approx(0.25, rel=0.015)
    assert study.mean[0] != study.high[0]


def test_ritz_values_lie_within_the_spectrum_and_reach_its_ends():
    """Few Krylov vectors in 64 dimensions: within the range, the upper end to a thousandth."""
    target = Gaussian([0.0] * 64, torch.logspace(-3, 0, 64), schedules.EDM())
    x = target.sample(3, 1.0)
    study = stiffness(target, [1.0, 0.5, 0.3], states=x, krylov=20, forms=["data"])
    v, sigma = target.variances, column(study.sigmas)[:, None]
    g = v / (v + sigma**2)
    high, low = column(study.high), column(study.low)
    assert (high <= g.amax(1) + 1e-12).all()
    assert (low >= g.amin(1) - 1e-12).all()
    assert (high > 0.999 * g.amax(1)).all()


def test_isotropic_data_end_the_krylov_space_early():
    target = Gaussian([0.0] * 8, 0.25, schedules.EDM())
    study = stiffness(target, [1.0, 0.5], states=target.sample(4, 1.0), forms=["data"])
    assert study.low[0] == pytest.approx(0.2, rel=1e-5)
    assert study.high[0] == pytest.approx(0.2, rel=1e-5)


def test_least_stiff_table_picture_and_json(tmp_path: Any):
    target = Gaussian([0.0] * 3, VARIANCES, schedules.EDM())
    study = stiffness(target, "karras", sigma_data=0.5)
    least = study.least()
    assert least.peak == min(part.peak for part in study.parts)
    assert {part.form for part in study.parts} == {"data", "noise", "precond", "log-sigma"}
    for text in (study.table(), study.table(markdown=True)):
        assert "precond F" in text
        assert "arctan" in text
    study.plot(tmp_path / "it.svg")
    assert '"parts"' in study.to_json()
    with pytest.raises(KeyError):
        study.part("data", "no clock")


def test_ends_at_infinity_are_left_out():
    """Flow matching starts at σ = ∞ and ends at 0: both steps have no rate."""
    study = stiffness(Gaussian([0.0], 1.0, schedules.Flow()), "uniform_time")
    assert all(math.isfinite(sigma) for sigma in study.sigmas)
    assert all(math.isfinite(step) for step in study.steps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": 0}, "states must be a positive integer"),
        ({"krylov": 1.5}, "krylov must be a positive integer"),
        ({"forms": "data"}, "sequence of names"),
        ({"forms": []}, "sequence of names"),
        ({"forms": ["datum"]}, "datum"),
        ({"clocks": ["lamda"]}, "lambda"),
        ({"forms": ["precond"]}, "sigma_data"),
        ({"ell": -1.0}, "ell"),
        ({"sigma_data": -1.0, "clocks": ["arctan"]}, "sigma_data"),
        ({"shape": None}, "shape"),
        ({"plan": [0.01, 0.0]}, "no step between finite noise levels"),
        ({"plan": "no such grid"}, "no such grid"),
        ({"plan": "er-sde"}, "noise scale in place of ell"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_the_first_evaluation(change: dict[str, Any], message: str):
    model = forbidden(schedules.EDM())
    given = {"plan": [1.0, 0.5], "shape": (2,), **change}
    if given["plan"] == "er-sde":
        given["plan"] = plan_sampling(model.schedule, "er-sde-1", steps=4)
    with pytest.raises(ValueError, match=message):
        stiffness(model, **given)


def test_a_derivative_that_is_not_finite():
    model = FunctionModel(schedules.EDM(), "data", lambda x, t: (x - x.detach()).abs().sqrt())
    with pytest.raises(FloatingPointError, match="derivative"):
        stiffness(model, [1.0, 0.5], states=torch.ones(3, 2))
