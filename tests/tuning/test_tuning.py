"""Tuned plans: the numbers that are moved, what is minimised, and the search."""

import math
import warnings
from dataclasses import replace

import pytest
import torch

import expint
from diffusion_adapters import load
from expint.convergence import gaussian_moments
from expint.metrics import gaussian_wasserstein
from expint.schedules import EDM, VP, Flow
from expint.solvers import get
from expint.soundness import warn_of
from expint.targets import Gaussian, GaussianMixture
from expint.tuning import GaussianObjective, SampleObjective, random_features, tune
from expint.tuning.objective import HELD_OUT, SEARCH, bottleneck_features
from expint.tuning.parameters import FEW, Numbers, Tunable

DATA = Gaussian([0.0] * 4, [0.003, 0.03, 0.3, 1.0], EDM())
EXACT = GaussianObjective(DATA)
MODES = GaussianMixture([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], 0.1, [1.0, 1.0, 2.0], VP())


def tunable(schedule=None, solver="seeds-ab2", steps=6, bounds=(0.0, 2.0), grid="uniform_lambda"):
    schedule = schedule or EDM()
    times = expint.grids.get(grid)(schedule, steps, stop=float(schedule.t_of_sigma(0.1)))
    return Tunable(schedule, get(solver), times, bounds)


# --- the numbers


@pytest.mark.parametrize("schedule", [EDM(), VP(), Flow()], ids=str)
def test_the_first_numbers_are_the_grid(schedule):
    own = tunable(schedule)
    plan = own.plan(own.start(1.0))
    torch.testing.assert_close(
        schedule.lam(plan.grid)[1:-1], schedule.lam(own.grid)[1:-1], rtol=1e-9, atol=1e-9
    )
    assert plan.grid[0] == own.grid[0] and plan.grid[-1] == own.grid[-1]


def test_few_numbers_that_are_zero_move_nothing():
    own = tunable()
    start = own.start(0.7)
    for moved, same in zip(own.moved(start, torch.zeros(FEW).double()), start, strict=True):
        assert torch.equal(moved, same)


def test_each_of_the_few_numbers_moves_what_it_says():
    own = tunable()
    start = own.start(0.7)
    for i in range(FEW):
        by = torch.zeros(FEW, dtype=torch.float64)
        by[i] = 0.1
        changed = [not torch.equal(a, b) for a, b in zip(own.moved(start, by), start, strict=True)]
        assert changed == [i < 3, i == 3, i == 4]


def test_ell_stays_within_its_bounds():
    own = tunable(bounds=(0.3, 1.2))
    start = own.start(1.0)
    plan = own.plan(
        Numbers(start.gaps, torch.tensor([-1.0, 0.5, 3.0, 1.0, 0.3]).double(), start.factors)
    )
    scale = plan.sde.diffusion.noise_scale
    assert [math.sqrt(square) for _, _, square in scale.pieces] == pytest.approx(
        [0.3, 0.5, 1.2, 1.0, 0.3]
    )


def test_one_ell_for_all_is_the_data_form_itself():
    own = tunable(bounds=(1.0, 1.0))
    plan = own.plan(own.start(1.0))
    assert plan.sde.diffusion.ell == 1.0
    assert plan.factors == ()


# --- what is minimised


@pytest.mark.parametrize(
    ("solver", "ell"), [("seeds-ab2", 1.0), ("seeds-3", 0.5), ("unipc-2", 0.0)]
)
def test_gaussian_objective_is_the_exact_distance(solver, ell):
    plan = expint.plan_sampling(DATA.schedule, solver, nfe=8, ell=ell)
    own = gaussian_wasserstein(*gaussian_moments(plan, DATA), *DATA.moments())
    assert float(EXACT.of(plan, 0)) == pytest.approx(float(own) ** 2, rel=1e-8)


def test_the_gaussian_objective_sees_the_mean():
    """Of a form that does not keep it, unlike the exponential ones."""
    data = Gaussian([3.0, -2.0], [0.2, 0.4], VP())
    plan = expint.plan_sampling(data.schedule, "euler-maruyama", nfe=8)
    own = gaussian_wasserstein(*gaussian_moments(plan, data), *data.moments())
    mean = gaussian_moments(plan, data)[0] - data.moments()[0]
    assert float(mean.abs().max()) > 1e-3
    assert float(GaussianObjective(data).of(plan, 0)) == pytest.approx(float(own) ** 2, rel=1e-8)


def test_gradients_through_the_gaussian_objective():
    """Against central differences, in every number."""
    own = tunable()
    start = own.start(0.8)
    sizes = [len(part) for part in start]

    def value(flat):
        return EXACT.of(own.plan(Numbers(*flat.split(sizes))), 0)

    point = torch.cat(list(start))
    leaf = point.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    for i in range(len(point)):
        step = torch.zeros_like(point)
        step[i] = 1e-5
        numeric = float(value(point + step) - value(point - step)) / 2e-5
        assert float(gradient[i]) == pytest.approx(numeric, rel=1e-4, abs=1e-9)


def objective(**options):
    return SampleObjective(MODES, (2,), MODES.sample(1200, seed=9), **options)


def test_gradients_through_samples_and_checkpoints():
    own = tunable(VP(), bounds=(0.3, 2.0))
    distance = objective()
    start = own.start(1.0)
    leaves = Numbers(*(part.clone().requires_grad_(True) for part in start))
    distance.of(own.plan(leaves), 200).backward()
    assert distance.cost == 200 * 6 * 4
    for k, i in ((0, 2), (1, 3), (2, 4)):
        moved = [part.clone() for part in start]
        values = []
        for sign in (1, -1):
            moved[k] = start[k].clone()
            moved[k][i] += sign * 1e-3
            values.append(float(distance.of(own.plan(Numbers(*moved)), 200)))
        numeric = (values[0] - values[1]) / 2e-3
        assert float(leaves[k].grad[i]) == pytest.approx(numeric, rel=0.05, abs=1e-4)


def test_trials_see_the_same_samples_and_the_held_out_ones_are_others():
    plan = expint.plan_sampling(MODES.schedule, "seeds-ab2", nfe=6)
    distance = objective()
    assert distance.of(plan, 100) == distance.of(plan, 100)
    assert distance.samples(plan, 100, SEARCH)[:50].equal(distance.samples(plan, 50, SEARCH))
    assert distance.samples(plan, 100, SEARCH)[50:].equal(distance.samples(plan, 50, SEARCH, 50))
    assert not distance.samples(plan, 50, SEARCH).equal(distance.samples(plan, 50, HELD_OUT))


def test_local_width_counts():
    """Samples whose modes are half as wide, or a fifth of which lie between modes: at n = 600 their
    distances are ten standard deviations (of those of exact samples) away."""
    (side,) = objective()._halves[SEARCH]
    exact = [float(side.distance(MODES.sample(600, seed=20 + i).float())) for i in range(6)]
    centres = MODES.means.float()
    samples = MODES.sample(600, seed=50).float()
    centre = centres[torch.cdist(samples, centres).argmin(1)]
    narrow = centre + 0.5 * (samples - centre)
    stray = samples.clone()
    stray[::5] = 0.3
    spread = torch.tensor(exact).std()
    for wrong in (narrow, stray):
        assert float(side.distance(wrong)) > max(exact) + 10 * spread


def test_images_have_three_views():
    images = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    class Model:
        schedule, prediction = EDM(), "data"

        def __call__(self, x, t):
            return x

    distance = SampleObjective(Model(), (1, 8, 8), images)
    assert (
        len(distance._views) == 3 and distance.cost == 0
    )  # no layers, no evaluations for features
    assert (
        distance._views[1](torch.ones(1, 1, 8, 8)).abs().max() < 1e-6
    )  # nothing finer in a constant
    assert random_features(1)(images).shape == (64, 1024)
    assert random_features(1)(images).equal(random_features(1)(images))
    own = SampleObjective(Model(), (1, 8, 8), images, features=lambda x: x.mean((2, 3)))
    assert own._views[2](images).shape == (64, 1)


def test_a_compiled_network_has_the_same_features():
    """Though hooks see no layers of it."""
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    model = load("digits-edm")
    plain = bottleneck_features(model, (1, 8, 8))
    assert plain is not None
    expected = plain(images)
    model.network = torch.compile(model.network, backend="eager")
    for _ in range(2):
        model(images, 1.0)  # compiled here, and once more for another run
        features = bottleneck_features(model, (1, 8, 8))
        assert features is not None and features(images).equal(expected)


# --- the search


@pytest.mark.parametrize("ell", [0.0, (0.3, 2.0)], ids=str)
def test_tuned_on_gaussian_data(ell):
    """At most a third of the distance of the best of several fixed plans; exact, no samples."""
    solver = "unipc-2" if ell == 0.0 else "seeds-ab2"
    plan = tune(DATA, 6, solver=solver, ell=ell, loss=EXACT, progress=False)
    fixed = [
        float(EXACT.of(expint.plan_sampling(EDM(), solver, nfe=6, grid=grid, ell=own), 0))
        for solver in ("seeds-1", "seeds-ab2", "seeds-ab3", "unipc-2", "sa-solver", "dpmpp-2m-sde")
        for grid in (None, "uniform_lambda", "karras")
        for own in ([0.0] if ell == 0.0 else [0.3, 0.6, 1.0])
    ]
    assert plan.nfe <= 6
    assert math.sqrt(float(EXACT.of(plan, 0))) <= math.sqrt(min(fixed)) / 3.0
    assert plan.about["distance"] == pytest.approx(float(EXACT.of(plan, 0)))
    if ell:
        assert all(square >= 0.3**2 for *_, square in plan.sde.diffusion.noise_scale.pieces)
    assert not any(isinstance(w, torch.Tensor) for row in plan.rows for _, w in row.weights)


def test_tuned_on_samples_and_the_same_again():
    data = MODES.sample(400, seed=9)
    options = {"solver": "seeds-ab2", "ell": (0.3, 2.0), "reference": data, "budget": 80_000}
    again = [tune(MODES, 5, **options, progress=False) for _ in range(2)]
    assert again[0].grid.equal(again[1].grid)
    distance = objective(seed=5)
    default = expint.plan_sampling(MODES.schedule, nfe=5, ell=1.0)
    assert distance.of(again[0], 600, HELD_OUT) < distance.of(default, 600, HELD_OUT)
    assert again[0].about["evaluations"] <= 80_000


def test_a_model_without_gradients_and_one_on_a_table():
    """The search by few numbers needs none; times of a table stay entries of it."""

    class Detached:
        schedule, prediction, shape = MODES.schedule, "data", (2,)

        def __call__(self, x, t):
            return MODES(x.detach(), t).detach()

    plan = tune(
        Detached(),
        5,
        solver="seeds-ab2",
        reference=MODES.sample(200, seed=9),
        budget=20_000,
        progress=False,
    )
    assert plan.nfe == 5

    table = expint.schedules.Discrete(torch.linspace(0.9999, 0.97, 200).double().cumprod(0))
    own = GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], 0.1, [1.0, 1.0], table)

    class OnTable:
        schedule, prediction, shape = table, "data", (2,)

        def round_time(self, t):
            return t.round()

        def __call__(self, x, t):
            assert float(t) == round(float(t))
            return own(x, t)

    plan = tune(
        OnTable(),
        5,
        solver="seeds-ab2",
        reference=own.sample(200, seed=9),
        budget=20_000,
        progress=False,
    )
    assert plan.times.round().equal(plan.times)


def test_a_tuned_plan_is_not_warned_of():
    """It was measured on a network; without a distance it would be."""
    plan = expint.plan_sampling(EDM(), "heun", nfe=5)
    with pytest.warns(expint.PlanWarning):
        warn_of(replace(plan, about={"network": "x"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of(replace(plan, about={"distance": 1.0}))


def test_a_reference_of_its_own():
    """Without a reference the model's own samples are drawn, and counted."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = tune(MODES, 4, solver="seeds-ab2", budget=40_000, progress=False)
    assert plan.solver == "seeds-ab2"
    assert plan.about["evaluations"] > 64 * 50 + 10_000


def test_refusals():
    def never(x, t):
        raise AssertionError("the model was called")

    class Model:
        schedule, prediction, shape = EDM(), "data", (2,)
        __call__ = staticmethod(never)

    class Shapeless:
        schedule, prediction = EDM(), "data"
        __call__ = staticmethod(never)

    for wrong in (-1.0, (1.0, 0.5), (0.0, math.inf), "any", (1.0,), None):
        with pytest.raises(ValueError, match=r"ell is a number >= 0, a pair"):
            tune(Model(), 5, ell=wrong, progress=False)
    with pytest.raises(ValueError, match="nfe is a positive number"):
        tune(Model(), 0, progress=False)
    with pytest.raises(ValueError, match="nfe=2 is too small for 'seeds-3'"):
        tune(Model(), 2, solver="seeds-3", progress=False)
    for solver in ("heun", "er-sde-2", "taylor-2"):
        with pytest.raises(ValueError, match="is not for the data form without derivatives"):
            tune(Model(), 8, solver=solver, progress=False)
    with pytest.raises(TypeError, match="loss is a function that makes features"):
        tune(Model(), 5, loss=3, progress=False)
    with pytest.raises(ValueError, match="budget is at least"):
        tune(Model(), 5, budget=10, progress=False)
    with pytest.raises(ValueError, match=r"give shape="):
        tune(Shapeless(), 5, progress=False)
    good = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    for wrong in (good[:3], good[:, :1], good * math.nan, good.long(), torch.ones(10, 2)):
        with pytest.raises(ValueError, match="at least 4 samples of shape"):
            tune(Model(), 5, reference=wrong, shape=(2,), progress=False)
    with pytest.raises(ValueError, match="got -1"):
        tune(Model(), 5, seed=-1, progress=False)

    class Broken:
        schedule, prediction, shape = EDM(), "data", (2,)

        def __call__(self, x, t):
            return x * float("nan")

    with pytest.raises(FloatingPointError, match=r"No plan of .* gives a finite distance"):
        tune(
            Broken(),
            5,
            solver="seeds-ab2",
            reference=torch.randn(20, 2),
            budget=10_000,
            progress=False,
        )
