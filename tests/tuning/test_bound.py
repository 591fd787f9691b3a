"""The bound of Align Your Steps from the mmse curve, and the grid that minimises it."""

import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize

from expint import SecondMoment, grids, mmse_curve, plan_sampling, sample
from expint.runs import Reparametrized
from expint.schedules import EDM, VP, Flow, Schedule
from expint.targets import Gaussian
from expint.tuning import MmseCurve, klub, klub_grid
from expint.tuning.cheapest import cheapest
from tests.toy_models import constant

torch.set_num_threads(1)
VARIANCE = 0.25


def gaussian_curve(v: float = VARIANCE, low: float = -7.0, high: float = 9.0) -> MmseCurve:
    """mmse = v σ²/(v + σ²), that is Γ = σ²/(v + σ²), which two noise levels hold exactly."""
    lams = (low, high)
    gamma = tuple(1.0 / (1.0 + v * math.exp(2.0 * lam)) for lam in lams)
    return MmseCurve(SecondMoment(lams, lams, gamma, (0.0, 0.0), 1, "any", "exact"))


def mmse(sigma: Any, v: float = VARIANCE) -> Any:
    return v * sigma**2 / (v + sigma**2)


def step_cost(a: float, b: float, c: float) -> float:
    """∫ from λ = a to b of (mmse_a − mmse_λ)/(σ + c)² dλ, by adaptive quadrature."""
    start = mmse(math.exp(-a))
    return quad(lambda x: (start - mmse(math.exp(-x))) / (math.exp(-x) + c) ** 2, a, b)[0]


@pytest.mark.parametrize("schedule", [EDM(), VP(), Flow()], ids=["edm", "vp", "flow"])
@pytest.mark.parametrize("prediction", ["noise", "v"])
def test_a_measured_curve_is_the_closed_form(schedule: Schedule, prediction: str):
    """At most 5 standard errors off at each of 12 noise levels, with 4000 draws: the errors are
    below 1.2 % of mmse, so that a factor of 1.06 in σ² is seen."""
    target = Gaussian([0.3] * 4, VARIANCE, schedule)
    model = Reparametrized(target, prediction)
    curve = mmse_curve(model, target.sample(2000), 12, draws=4000, batch=1999)
    assert len(curve.sigmas) == 12 and curve.moment.count == 4000
    for sigma, error in zip(curve.sigmas, curve.errors, strict=True):
        assert abs(float(curve(sigma)) - mmse(sigma)) < 5 * error
        assert 0 < error < 0.012 * mmse(sigma)


def test_a_curve_goes_between_its_points_exactly_for_gaussian_data():
    sigma = torch.logspace(-3, 2.5, 50, dtype=torch.float64)
    torch.testing.assert_close(gaussian_curve()(sigma), mmse(sigma), rtol=1e-7, atol=0)


def test_the_error_of_an_imperfect_network_is_measured_itself():
    """D = (x − σ ε)/1 with ε = 0 is D = x, whose error is σ² at every noise level; and one with
    twice that error is worse than D = x, which the curve then takes."""
    data = torch.zeros(500, 3)
    for value in (0.0, 3.0):
        curve = mmse_curve(constant(EDM(), "noise", value), data, [10.0, 0.1])
        for sigma, error in zip(curve.sigmas, curve.errors, strict=True):
            assert abs(float(curve(sigma)) - sigma**2) <= 5 * error


def test_file_is_that_of_the_second_moment(tmp_path: Path):
    target = Gaussian([0.0] * 2, VARIANCE, EDM())
    curve = mmse_curve(target, target.sample(50), 4, seed=3)
    curve.save(tmp_path / "curve.json")
    assert MmseCurve.load(tmp_path / "curve.json") == curve
    assert SecondMoment.load(tmp_path / "curve.json") == curve.moment
    with pytest.raises(ValueError, match="Cannot read a second moment"):
        MmseCurve.load(tmp_path / "other.json")


def test_a_flow_curve_starts_at_the_first_finite_noise_level():
    model = Gaussian([0.0] * 2, VARIANCE, Flow())
    for count in (1, 2, 5):
        curve = mmse_curve(model, torch.zeros(4, 2), count)
        assert len(curve.sigmas) == count
        assert curve.sigmas[0] == pytest.approx(grids.FIRST_SIGMA)
    assert len(mmse_curve(model, torch.zeros(4, 2), [0.9, 0.1]).sigmas) == 2


@pytest.mark.parametrize("c", [0.0, 0.05, 1.0])
def test_the_bound_is_its_integral(c: float):
    times = grids.karras(EDM(), 8, final="none")
    lam = EDM().lam(times).tolist()
    exact = sum(step_cost(a, b, c) for a, b in itertools.pairwise(lam))
    assert klub(EDM(), times, gaussian_curve(), c) == pytest.approx(exact, rel=1e-4)
    for ell in (0.5, 2.0):
        factor = (1 + ell**2) ** 2 / (4 * ell**2)
        found = klub(EDM(), times, gaussian_curve(), c, ell)
        assert found == pytest.approx(factor * exact, rel=1e-4)


def test_the_bound_is_what_monte_carlo_paths_give():
    """The step from σ = 2 to 0.5 of Gaussian data. The reverse SDE at ℓ = 1 is dx = 2 (D − x) dλ +
    √2 σ dω, so that Girsanov's ½ E|difference of the drifts|²/g² is that of 2 (D − D_s) over 2 σ².
    D_s and D_λ are drawn together, x_s = x_λ + noise, 200,000 pairs at each of 40 noise levels: the
    standard error is below .2 %, a fifth of what is allowed."""
    generator = torch.Generator().manual_seed(0)
    schedule, v = EDM(), VARIANCE
    high, low = 2.0, 0.5
    nodes, weights = np.polynomial.legendre.leggauss(40)
    a, b = -math.log(high), -math.log(low)
    total = 0.0
    for node, weight in zip(nodes, weights, strict=True):
        sigma = math.exp(-(a + (b - a) * (node + 1) / 2))
        x0, z1, z2 = torch.randn(3, 200_000, dtype=torch.float64, generator=generator)
        x = math.sqrt(v) * x0 + sigma * z1
        at_start = x + math.sqrt(high**2 - sigma**2) * z2
        increment = v / (v + sigma**2) * x - v / (v + high**2) * at_start
        drift = 2.0 * increment
        rate = 0.5 * drift.square().mean() / (2.0 * sigma**2)
        total += float(rate) * weight * (b - a) / 2
    assert klub(schedule, torch.tensor([high, low]), gaussian_curve()) == pytest.approx(
        total, rel=0.01
    )


@pytest.mark.parametrize("factor", [1.0, 0.3, 3.0])
def test_the_cheapest_way_is_that_of_brute_force(factor: float):
    generator = torch.Generator().manual_seed(1)
    for steps in range(1, 8):
        cost = torch.rand(9, 9, generator=generator, dtype=torch.float64)
        ways = [[0, *way, 8] for way in itertools.combinations(range(1, 8), steps - 1)]

        def total(way: list[int], cost: torch.Tensor = cost) -> float:
            pairs = enumerate(itertools.pairwise(way))
            return sum(factor**k * float(cost[i, j]) for k, (i, j) in pairs)

        assert cheapest(cost, steps, factor) == min(ways, key=total)
    for steps in (0, 9):
        with pytest.raises(ValueError, match=f"from 1 to 8, got {steps}"):
            cheapest(torch.zeros(9, 9), steps)


@pytest.mark.parametrize("c", [0.0, 0.1])
def test_the_grid_on_few_candidates_is_that_of_brute_force(c: float):
    """12 noise levels and 5 steps: all 210 grids, by quadrature of the closed form."""
    curve = gaussian_curve()
    found = klub_grid(EDM(), 5, curve, c, candidates=12, final="none", start=10.0, stop=0.1)
    lam = np.linspace(-math.log(10.0), -math.log(0.1), 12)
    cost = {(i, j): step_cost(lam[i], lam[j], c) for i, j in itertools.combinations(range(12), 2)}
    ways = [(0, *way, 11) for way in itertools.combinations(range(1, 11), 4)]
    best = min(ways, key=lambda way: sum(cost[pair] for pair in itertools.pairwise(way)))
    np.testing.assert_allclose(EDM().lam(found).numpy(), lam[list(best)], atol=1e-9)


@pytest.mark.parametrize("c", [0.0, 0.1, 1.0])
def test_the_grid_is_the_continuous_optimum_for_gaussian_data(c: float):
    """Against scipy's minimum over real noise levels of the closed form: the levels agree to the
    distance of the candidates, the bounds to its square."""
    steps, low, high = 6, -math.log(20.0), -math.log(0.05)

    def bound(inner: np.ndarray) -> float:
        lam = [low, *np.sort(inner), high]
        return sum(step_cost(a, b, c) for a, b in itertools.pairwise(lam))

    start = np.linspace(low, high, steps + 1)[1:-1]
    best = minimize(bound, start, method="Powell", options={"xtol": 1e-6, "ftol": 1e-12})
    found = klub_grid(EDM(), steps, gaussian_curve(), c, start=20.0, stop=0.05, final="none")
    lam = EDM().lam(found).numpy()
    np.testing.assert_allclose(lam[1:-1], np.sort(best.x), atol=1.5 * (high - low) / 999)
    assert klub(EDM(), found, gaussian_curve(), c) == pytest.approx(best.fun, rel=1e-4)


def test_a_finer_set_of_candidates_changes_nothing_that_matters():
    curve, low = gaussian_curve(), 0.01
    coarse, fine = (
        klub_grid(EDM(), 10, curve, 0.1, candidates=n, stop=low, final="none") for n in (400, 1600)
    )
    assert (EDM().lam(coarse) - EDM().lam(fine)).abs().max() < 1.5 * math.log(80 / low) / 399
    values = [klub(EDM(), times, curve, 0.1) for times in (coarse, fine)]
    assert values[0] == pytest.approx(values[1], rel=1e-3) and values[1] <= values[0] * (1 + 1e-6)


def test_no_named_grid_has_a_smaller_bound():
    curve = gaussian_curve()
    for steps in (3, 10):
        best = klub(EDM(), klub_grid(EDM(), steps, curve, 0.1, final="none"), curve, 0.1)
        for name in grids.names():
            if name in ("discrete", *grids.SPACINGS):
                continue
            times = grids.get(name)(EDM(), steps, final="none")
            assert best < klub(EDM(), times, curve, 0.1) * (1 + 1e-5), name


def test_a_larger_scale_moves_steps_to_higher_noise():
    levels = [
        EDM().sigma(klub_grid(EDM(), 10, gaussian_curve(), c))[5].item() for c in (0.0, 0.05, 0.5)
    ]
    assert levels[0] < levels[1] < levels[2]


@pytest.mark.parametrize("schedule", [EDM(), VP(), Flow()], ids=["edm", "vp", "flow"])
@pytest.mark.parametrize("final", grids.FINALS)
@pytest.mark.parametrize("steps", [2, 3, 12])
def test_length_order_and_ends(schedule: Schedule, final: str, steps: int):
    times = klub_grid(schedule, steps, gaussian_curve(), candidates=100, final=final)
    noise, data = schedule.sampling_range
    assert times.shape == (steps + 1,) and times.dtype == torch.float64 and times[0] == noise
    assert torch.equal(grids.check(schedule, times), times)
    if final == "none":
        assert times[-1] == data
    else:
        assert schedule.sigma(times[-1].item()) == 0.0
        inside = klub_grid(schedule, steps, gaussian_curve(), candidates=100, final="none")
        assert torch.equal(times[:-1], inside[:-1])
        if steps > 2:
            found = klub(schedule, times, gaussian_curve())
            assert found == pytest.approx(klub(schedule, inside, gaussian_curve()), rel=1e-9)


def test_one_step():
    for schedule in (EDM(), Flow()):
        times = klub_grid(schedule, 1, gaussian_curve(), candidates=20, final="none")
        assert tuple(times.tolist()) == schedule.sampling_range


def test_sampling_takes_a_builder_as_grid():
    target = Gaussian([0.0] * 2, VARIANCE, EDM())
    grid = partial(klub_grid, curve=gaussian_curve(), c=0.1)
    plan = plan_sampling(EDM(), nfe=9, grid=grid)
    assert plan.nfe == 9 and torch.equal(plan.grid, grid(EDM(), 9))
    x = sample(target, (4, 2), nfe=9, grid=grid, progress=False)
    listed = sample(target, (4, 2), grid=grid(EDM(), 9), progress=False)
    assert torch.equal(x, listed)


def test_a_curve_that_is_not_monotone_gives_a_bound_that_is_not_negative():
    lams = (-4.0, -1.0, 0.0, 4.0)
    moment = SecondMoment(lams, lams, (0.999, 0.9, 0.2, 0.1), (0.0,) * 4, 9, "EDM", "residual")
    curve = MmseCurve(moment)
    sigma = torch.exp(torch.tensor([1.0, 0.0]))
    assert curve(sigma)[0] < curve(sigma)[1]
    assert 0.0 <= klub(EDM(), torch.tensor([math.e, 1.0]), curve) < 0.1
    times = klub_grid(EDM(), 6, curve, start=50.0, stop=0.02)
    assert (times.diff() < 0).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"c": -0.1}, r"scale c of the weight .* must be >= 0, got -0\.1"),
        ({"c": math.nan}, "scale c of the weight"),
        ({"candidates": 6}, "needs an integer candidates > 6, got 6"),
        ({"candidates": 99.0}, r"needs an integer candidates > 6, got 99\.0"),
        ({"final": "clean"}, "Unknown final='clean'"),
        ({"stop": 90.0}, "start is above stop"),
        ({"curve": gaussian_curve(high=2.0)}, "measure it at times that reach as far"),
    ],
)
def test_refused(changed: dict[str, Any], message: str):
    settings: dict[str, Any] = {"curve": gaussian_curve()} | changed
    with pytest.raises(ValueError, match=message):
        klub_grid(EDM(), 6, **settings)


def test_what_is_no_curve_is_refused_with_the_way_to_one():
    for make in (lambda x: klub_grid(EDM(), 6, x), lambda x: klub(EDM(), torch.ones(2), x)):
        with pytest.raises(TypeError, match=r"expint\.mmse_curve\(model, data\).*MmseCurve\.load"):
            make(gaussian_curve().moment)
    with pytest.raises(TypeError, match=r"must be an expint\.SecondMoment, got 0\.5"):
        MmseCurve(0.5)  # pyright: ignore[reportArgumentType]
    for ell in (0.0, math.inf, True):
        with pytest.raises(ValueError, match="needs ell > 0"):
            klub(EDM(), torch.tensor([2.0, 1.0]), gaussian_curve(), ell=ell)
