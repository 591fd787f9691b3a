"""Adaptive steps: the published algorithms step by step, one path for all trials, errors in
proportion to the tolerance.
"""

import math
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_models import FunctionModel, Recorder, constant, forbidden, mixture, wavy

import expint
from expint import Adaptive, AdaptiveReport, compile_plan, reverse_sde
from expint.adaptive import EmbeddedPair, StepControl, embedded_pairs, get_pair
from expint.adaptive.steps import pair_plan
from expint.noise import (
    BrownianPath,
    Gaussian,
    Rademacher,
    Replay,
    SubstepNoise,
    UnionPath,
    per_sample,
)
from expint.noise.paths.path import PathSource
from expint.runs import Run, drive, execute
from expint.schedules import EDM, VP, Flow, Schedule
from expint.solvers import churn, get, seeds1, seeds2, seeds3, seeds_sra

F64 = {"dtype": torch.float64}
NAMES = sorted(embedded_pairs())
SETTINGS = ("rtol", "atol", "first_step", "safety", "limits", "norm", "max_nfe")


def sample(
    model: Any, shape: Any, solver: Any = "seeds-23", **options: Any
) -> tuple[Tensor, AdaptiveReport]:
    """Samples, and how they came about."""
    steps = Adaptive(**{name: options.pop(name) for name in SETTINGS if name in options})
    assert steps.report is None
    samples = expint.sample(model, shape, solver, steps=steps, progress=False, **options)
    assert steps.report is not None
    return samples, steps.report


def start_of(schedule: Schedule, batch: int = 6, dim: int = 2) -> Tensor:
    std = float(schedule.std(schedule.sampling_range[0]))
    return std * expint.noise.initial_state(range(batch), (dim,), torch.float64)


def exact_ode(target: Any, x: Tensor, s: float, t: float) -> Tensor:
    """The probability flow of Gaussian data: x keeps its place in units of the standard
    deviation.
    """
    (m0, v0), (m1, v1) = target.moments(s), target.moments(t)
    return m1 + torch.sqrt(v1 / v0) * (x - m0)


@dataclass
class Spy(PathSource):
    """A path that remembers what it was asked and what it answered."""

    path: BrownianPath
    asked: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def check(self, like: Tensor, substep: SubstepNoise) -> None:
        self.path.check(like, substep)

    def open(self, like: Tensor, run: Any = ()) -> "Spy":
        self.inner = self.path.open(like)
        return self

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        answer = self.inner.increments(taus)
        self.asked.append((taus.clone(), answer.clone()))
        return answer


@dataclass
class Redrawn(PathSource):
    """What a rejected step must not do: increments that are new each time they are asked for."""

    seeds: list[int]

    def check(self, like: Tensor, substep: SubstepNoise) -> None:
        pass

    def open(self, like: Tensor, run: Any = ()) -> "Redrawn":
        self.inner = Gaussian(self.seeds).stream(like, [SubstepNoise(10_000)])
        return self

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        normals = torch.stack(list(self.inner.normals(SubstepNoise(len(taus) - 1))))
        return normals * taus.diff().sqrt()[:, None, None]


# --- one path, and the plans of fixed grids


@pytest.mark.parametrize(
    ("name", "schedule", "form", "ell"),
    [
        ("seeds-12", VP(), None, None),
        ("seeds-23", EDM(), "noise", 1.0),
        ("seeds-23", VP(), "data", 0.5),
        ("seeds-23", EDM(), None, 0.0),
        ("dpm-solver-12", VP(), None, None),
        ("dpm-solver-23", EDM(), None, None),
        ("ggf", VP(), None, None),
        ("seeds-23", Flow(), None, None),
    ],
)
def test_the_accepted_times_as_a_grid_give_the_same_samples(
    name: str, schedule: Schedule, form: str | None, ell: float | None
):
    pair, target, x = get_pair(name), mixture(schedule), start_of(schedule)
    path = BrownianPath(range(6), resolution=2**20)
    control = {"first_step": 0.7, "safety": 0.99}
    if form == "noise":  # which takes many steps on a path
        control |= {"rtol": 0.1, "atol": 0.1}
    samples, report = sample(target, x, pair, form=form, ell=ell, noise=path, **control)
    assert report.rejected >= 2
    assert len(report.times) == report.accepted + 2 + (schedule == Flow())
    sde = reverse_sde(schedule, form or pair.high.form, pair.high.ell if ell is None else ell)
    plain = execute(
        compile_plan(sde, pair.high, report.times), target, x, path if sde.is_stochastic else None
    )
    torch.testing.assert_close(samples, plain, rtol=1e-9, atol=1e-9)


def test_rejected_steps_meet_the_same_path():
    schedule = VP()
    spy = Spy(BrownianPath(range(6), resolution=256))
    _, report = sample(
        mixture(schedule), start_of(schedule), noise=spy, first_step=1.0, safety=0.99
    )
    assert report.rejected > 20
    # A step asks for its three intervals one after the other.
    assert len(spy.asked) == 3 * (report.accepted + report.rejected)
    known = spy.path.open(start_of(schedule))
    for taus, answer in spy.asked:
        torch.testing.assert_close(answer, known.increments(taus), rtol=1e-12, atol=1e-12)
    starts = [float(taus[0]) for taus, _ in spy.asked[::3]]
    assert sum(a == b for a, b in pairwise(starts)) == report.rejected


@pytest.mark.parametrize("form", ["data", "noise"])
def test_pure_noise_ends_at_the_same_point_of_the_path_whatever_the_steps(form: str):
    schedule, path = EDM(), BrownianPath(range(6), resolution=64)
    x = start_of(schedule)
    model = constant(schedule, form, 0.0)
    ends, counts = [], set()
    for first, limits in ((0.01, (0.2, 1.1)), (0.3, (0.2, 2.0)), (1.0, (0.2, 5.0))):
        samples, report = sample(
            model,
            x,
            "seeds-23",
            form=form,
            noise=path,
            first_step=first,
            limits=limits,
            final="none",
        )
        ends.append(samples)
        counts.add(report.accepted)
    assert len(counts) == 3
    sde = reverse_sde(schedule, form)
    s, t = (torch.tensor(v, dtype=torch.float64) for v in schedule.sampling_range)
    (whole,) = path.open(x).increments(sde.noise_clock(torch.stack([s, t])))
    expected = sde.propagator(t) / sde.propagator(s) * x + sde.propagator(t) * whole
    for end in ends:
        torch.testing.assert_close(end, expected, rtol=1e-10, atol=1e-10)


def test_rejections_leave_the_law_alone_and_drawing_anew_would_not():
    """Large noise is rejected, by a model too small to matter itself.

    Drawn anew, the noise would lose most of its variance.
    """
    schedule = EDM(sigma_min=3.0, sigma_max=4.0)
    pair = EmbeddedPair("late", seeds2(0.9), seeds1())
    model = FunctionModel(schedule, "data", lambda x, t: 1e-3 * x)
    sde = reverse_sde(schedule)
    s, t = (torch.tensor(v, dtype=torch.float64) for v in schedule.sampling_range)
    # Not zero, which is no state of pure noise and is warned about.
    factor, x = sde.propagator(t), torch.full((1, 1), 1e-6, dtype=torch.float64)
    std = float(factor * torch.sqrt(sde.noise_clock(t) - sde.noise_clock(s)))
    ((_, _), (_, weight)) = pair_plan(sde, pair, 4.0, 3.0).rows[-2].weights
    control = {
        "rtol": 0.0,
        "atol": 1e-3 * abs(float(weight)) * 0.25 * std,
        "first_step": 1.0,
        "limits": (0.8, 1.01),
    }

    def ends(source: Any, runs: int) -> tuple[Tensor, int]:
        results = [
            sample(model, x, pair, **control, noise=source(n), final="none") for n in range(runs)
        ]
        return torch.cat([samples for samples, _ in results]).flatten(), sum(
            report.rejected for _, report in results
        )

    runs = 40
    kept, rejected = ends(lambda n: BrownianPath([n], resolution=1024), runs)
    assert rejected > 3 * runs
    (whole,) = (
        BrownianPath(range(runs), resolution=1024)
        .open(x.expand(runs, 1))
        .increments(sde.noise_clock(torch.stack([s, t])))
    )
    torch.testing.assert_close(kept, factor * whole.flatten(), rtol=0, atol=2e-3 * std)
    assert abs(float((kept / std).square().mean()) - 1.0) < 5 * math.sqrt(2 / runs)
    runs = 160
    redrawn, _ = ends(lambda n: Redrawn([n]), runs)
    assert float((redrawn / std).square().mean()) < 1.0 - 5 * math.sqrt(2 / runs)


def test_the_variance_of_gaussian_data_is_exact_after_many_rejections():
    target = expint.targets.Gaussian([0.5, -1.0], [0.3, 2.0], VP())
    n = 400
    x = target.sample(n, VP().sampling_range[0], seed=7)
    samples, report = sample(
        target,
        x,
        "seeds-23",
        rtol=0.03,
        atol=0.03,
        first_step=2.0,
        safety=0.99,
        seeds=range(n),
        final="none",
    )
    assert report.rejected > 20
    mean, variance = target.moments(VP().sampling_range[1])
    found = samples.var(0)
    assert ((samples.mean(0) - mean).abs() < 5 * torch.sqrt(variance / n)).all()
    assert ((found / variance - 1.0).abs() < 5 * math.sqrt(2 / n)).all()


# --- accuracy


@pytest.mark.parametrize(
    ("name", "least"),
    [("dpm-solver-12", 0.4), ("dpm-solver-23", 0.55), ("seeds-12", 0.4), ("seeds-23", 0.55)],
)
def test_the_error_of_the_ode_follows_the_tolerance(name: str, least: float):
    """E is kept near 1, so that the local error, O(h^k), is the tolerance and the global one,
    O(h^(k−1)), tol^((k−1)/k).
    """
    schedule, x = VP(), start_of(VP())
    target = mixture(schedule)
    grid = expint.grids.get("uniform_lambda")(schedule, 600, final="none")
    reference = execute(compile_plan(reverse_sde(schedule, "data", 0.0), seeds3(), grid), target, x)
    errors = []
    tolerances = [1e-2 * 2.0**-k for k in range(0, 9, 2)]
    for tolerance in tolerances:
        samples, _ = sample(target, x, name, ell=0.0, rtol=tolerance, atol=tolerance, final="none")
        errors.append(float((samples - reference).abs().max()))
    slope = math.log(errors[0] / errors[-1]) / math.log(tolerances[0] / tolerances[-1])
    assert least < slope < 1.4, errors
    assert errors[-1] < 5 * tolerances[-1] ** least


@cache
def on_64_paths() -> tuple[Any, Tensor, BrownianPath, Tensor]:
    """A target, a start, a path, and the solution there by 600 steps: within 0.0014 of that by
    1500, where the least error below is 0.0056, so that the slope moves by 0.01."""
    schedule, x = VP(t_min=0.02), start_of(VP(), batch=64)
    target, path = mixture(schedule), BrownianPath(range(64), resolution=2**12)
    grid = expint.grids.get("uniform_lambda")(schedule, 600, final="none")
    plan = compile_plan(reverse_sde(schedule), seeds3(), grid)
    return target, x, path, execute(plan, target, x, path)


@pytest.mark.parametrize("name", ["seeds-12", "seeds-23"])
def test_the_error_on_one_path_follows_the_tolerance(name: str):
    """With noise the local error is O(h^(3/2)) and the strong one O(h): tol^(2/3). The median over
    64 paths: a few change mode, which rules the mean."""
    target, x, path, reference = on_64_paths()
    errors, tolerances = [], [0.2, 0.05, 0.0125]
    for tolerance in tolerances:
        samples, _ = sample(
            target, x, name, rtol=tolerance, atol=tolerance, noise=path, final="none"
        )
        errors.append(float((samples - reference).square().sum(1).sqrt().median()))
    slope = math.log(errors[0] / errors[-1]) / math.log(tolerances[0] / tolerances[-1])
    assert 0.45 < slope < 1.15, (
        errors
    )  # coarse steps, whose error is not yet from the noise, gain more


@pytest.mark.parametrize("schedule", [VP(), EDM()])
def test_a_tight_tolerance_gives_the_exact_ode(schedule: Schedule):
    target = expint.targets.Gaussian([0.5, -1.0], [0.3, 2.0], schedule)
    x = start_of(schedule)
    samples, _ = sample(target, x, "dpm-solver-23", rtol=1e-8, atol=1e-8, final="none")
    expected = exact_ode(target, x, *schedule.sampling_range)
    torch.testing.assert_close(samples, expected, rtol=0, atol=2e-6)
    coarse, _ = sample(target, x, "dpm-solver-23", final="none")
    assert float((coarse - expected).abs().max()) > 1e-4


# --- the published algorithms


def test_the_estimate_of_dpm_solver_12_is_that_of_its_formulas():
    schedule = VP()
    model = wavy(schedule, "noise")
    s, t = 0.6, 0.5
    h = schedule.lam(t) - schedule.lam(s)
    middle = schedule.t_of_lam(schedule.lam(s) + 0.5 * h)
    x = start_of(schedule)
    first = model(x, s)
    u = (
        schedule.alpha(middle) / schedule.alpha(s) * x
        - schedule.std(middle) * math.expm1(0.5 * h) * first
    )
    second = model(u, middle)
    low = schedule.alpha(t) / schedule.alpha(s) * x - schedule.std(t) * math.expm1(h) * first
    high = schedule.alpha(t) / schedule.alpha(s) * x - schedule.std(t) * math.expm1(h) * second
    plan, made = pair_plan(reverse_sde(schedule, "noise", 0.0), get_pair("dpm-solver-12"), s, t), {}
    run = Run(plan, model, x, None, made.__setitem__)
    drive(run, model)
    assert run.nfe == plan.nfe == 2
    torch.testing.assert_close(run.x, high, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(made[1], high - low, rtol=1e-10, atol=1e-13)


def dpm_solver_adaptive(
    model: Any, schedule: Schedule, x: Tensor, order: int, rtol: float, atol: float
) -> tuple[Tensor, list[float]]:
    """The adaptive solver of DPM-Solver's appendix C, written from its formulas: steps of h in λ,
    r1 = 1/3 and r2 = 2/3.
    """

    def at(s: float, r: float, h: float) -> float:
        return schedule.t_of_lam(schedule.lam(s) + r * h)

    def linear(s: float, t: float) -> float:
        return schedule.alpha(t) / schedule.alpha(s)

    start, end = schedule.sampling_range
    s, h, before, times = start, 0.05, x, [start]
    while s < start + 1 and s > end * (1 + 1e-12):
        h = min(h, schedule.lam(end) - schedule.lam(s))
        t = schedule.t_of_lam(schedule.lam(s) + h)
        e0, std, grow = model(x, s), schedule.std(t), math.expm1(h)
        if order == 2:
            m = at(s, 0.5, h)
            low = linear(s, t) * x - std * grow * e0
            u = linear(s, m) * x - schedule.std(m) * math.expm1(0.5 * h) * e0
            high = linear(s, t) * x - std * grow * model(u, m)
        else:
            m1, m2 = at(s, 1 / 3, h), at(s, 2 / 3, h)
            u = linear(s, m1) * x - schedule.std(m1) * math.expm1(h / 3) * e0
            d1 = model(u, m1) - e0
            low = linear(s, t) * x - std * grow * e0 - 1.5 * std * grow * d1
            z = 2 * h / 3
            u = linear(s, m2) * x - schedule.std(m2) * (
                math.expm1(z) * e0 + 2 * (math.expm1(z) / z - 1) * d1
            )
            d2 = model(u, m2) - e0
            high = linear(s, t) * x - std * grow * e0 - 1.5 * std * (grow / h - 1) * d2
        delta = torch.clamp(rtol * torch.maximum(low.abs(), before.abs()), min=atol)
        error = float(((high - low) / delta).square().mean(1).sqrt().max())
        if error <= 1:
            x, s, before = high, t, low
            times.append(s)
        h = 0.9 * h * error ** (-1 / order)
    return x, times


@pytest.mark.parametrize("order", [2, 3])
def test_dpm_solver_adaptive_is_the_published_algorithm(order: int):
    schedule, x = VP(), start_of(VP())
    model = wavy(schedule, "noise")
    expected, times = dpm_solver_adaptive(model, schedule, x, order, rtol=0.01, atol=0.005)
    name = f"dpm-solver-{order - 1}{order}"
    samples, report = sample(model, x, name, rtol=0.01, atol=0.005, final="none")
    assert report.rejected > 0
    torch.testing.assert_close(
        report.times, torch.tensor(times, dtype=torch.float64), rtol=1e-8, atol=0
    )
    torch.testing.assert_close(samples, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_gotta_go_fast_is_the_published_algorithm(norm: float):
    """Algorithm 1 with g constant, where √h g z is the increment of the path; a rejected step looks
    the path up again.
    """
    rate = 8.0
    schedule, batch = VP(beta_d=1e-12, beta_min=rate), 5
    target, x = mixture(schedule), start_of(schedule, batch)
    spy = Spy(BrownianPath(range(batch), resolution=1024))
    samples, report = sample(target, x, "ggf", noise=spy, norm=norm, final="none")
    assert report.rejected > 0

    def drift(x: Tensor, t: float) -> Tensor:  # −f + g² score
        score = (schedule.alpha(t) * target(x, t) - x) / schedule.std(t) ** 2
        return 0.5 * rate * x + rate * score

    # The trial times are taken from the run: a path is so rough that rounding in h would soon
    # change all later steps.
    t, end = schedule.sampling_range
    h, before, y, times = 0.01, x, x, [t]
    for taus, (noise,) in spy.asked:
        asked = (-taus / rate).tolist()
        assert asked == pytest.approx([t, max(t - h, end)], rel=1e-9)
        after = asked[1]
        h = t - after
        euler = y + h * drift(y, t) + noise
        other = y + h * drift(euler, after) + noise
        improved = 0.5 * (euler + other)
        delta = torch.clamp(0.02 * torch.maximum(euler.abs(), before.abs()), min=0.0078)
        ratio = ((euler - improved) / delta).abs()
        error = float((ratio.amax(1) if norm == math.inf else ratio.square().mean(1).sqrt()).max())
        if error <= 1:
            y, t, before = improved, after, euler
            times.append(t)
        h = 0.9 * h * error**-0.9
    torch.testing.assert_close(
        report.times, torch.tensor(times, dtype=torch.float64), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(samples, y, rtol=1e-6, atol=1e-6)


# --- accounting


@pytest.mark.parametrize("name", NAMES)
def test_every_evaluation_is_counted_and_that_of_a_rejected_start_is_kept(name: str):
    schedule, model = VP(), Recorder(mixture(VP()))
    told: list[tuple[int, int, float]] = []

    def callback(step: int, nfe: int, t: float, x: Tensor, denoised: Tensor) -> None:
        assert x.shape == denoised.shape == (6, 2)
        told.append((step, nfe, t))

    _, report = sample(model, start_of(schedule), name, first_step=0.5, callback=callback)
    n = get_pair(name).evaluations
    assert report.rejected > 0
    assert (
        report.nfe
        == len(model.times)
        == n * (report.accepted + report.rejected) - report.rejected + 1
    )
    assert model.times[-1] == schedule.sampling_range[1]
    assert [step for step, _, _ in told] == list(range(1, report.accepted + 2))
    assert [t for _, _, t in told] == report.times[1:].tolist()
    assert told[-1][1] == report.nfe
    assert all(error <= 1.0 for error in report.errors)


def test_it_ends_with_the_denoiser_at_the_last_noise_level():
    schedule, target, x = EDM(), mixture(EDM()), start_of(EDM())
    plain, before = sample(target, x, "dpm-solver-23", final="none")
    ended, after = sample(target, x, "dpm-solver-23")
    assert after.times[-1] == 0.0
    assert after.nfe == before.nfe + 1
    torch.testing.assert_close(after.times[:-1], before.times, rtol=0, atol=0)
    torch.testing.assert_close(
        ended, target(plain, schedule.sampling_range[1]), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(("ell", "form"), [(0.0, "noise"), (1.0, "data")])
def test_a_start_at_infinite_sigma_goes_on_from_a_finite_one(ell: float, form: str):
    schedule = Flow()
    target = expint.targets.Gaussian([0.5, -1.0], [0.3, 2.0], schedule)
    n = 100
    samples, report = sample(
        target, (n, 2), "seeds-23", ell=ell, form=form, rtol=0.1, atol=0.1, final="none", **F64
    )
    assert report.times[0] == 1.0
    assert schedule.sigma(float(report.times[1])) == pytest.approx(80.0)
    mean, variance = target.moments(schedule.sampling_range[1])
    assert ((samples.mean(0) - mean).abs() < 5 * torch.sqrt(variance / n)).all()
    assert ((samples.var(0) / variance - 1.0).abs() < 5 * math.sqrt(2 / n) + 0.01).all()


def test_the_worst_sample_decides():
    schedule, target = VP(), mixture(VP())
    x = start_of(schedule, batch=6)
    _, together = sample(target, x, "dpm-solver-12")
    alone = [sample(target, x[i : i + 1], "dpm-solver-12")[1].accepted for i in range(6)]
    assert together.accepted >= max(alone)
    assert len(set(alone)) > 1


def test_dtype_and_seeds():
    target = mixture(VP())
    first, _ = sample(target, (3, 2), seed=4)
    assert first.dtype == torch.float32
    again, _ = sample(target, (3, 2), seeds=per_sample(4, 3))
    assert torch.equal(first, again)
    assert not torch.equal(first, sample(target, (3, 2), seed=5)[0])
    half, _ = sample(target, (3, 2), "dpm-solver-12", dtype=torch.bfloat16, rtol=0.2, atol=0.1)
    assert half.dtype == torch.bfloat16
    assert not half.requires_grad


# --- the control


def test_the_error_is_measured_in_units_of_the_tolerance():
    control = StepControl(rtol=0.1, atol=0.01)
    low = torch.tensor([[1.0, 0.0], [2.0, -4.0]], dtype=torch.float64)
    before = torch.tensor([[0.5, 0.0], [-3.0, 1.0]], dtype=torch.float64)
    difference = torch.tensor([[0.1, 0.02], [0.0, 0.2]], dtype=torch.float64)
    assert float(control.error(difference, low, before)) == pytest.approx(
        math.sqrt((1.0 + 4.0) / 2)
    )
    assert float(
        StepControl(0.1, 0.01, norm=math.inf).error(difference, low, before)
    ) == pytest.approx(2.0)


def test_the_control_multiplies_the_step():
    plain = StepControl()
    assert plain.factor(0.25, 1.0, 2.0) == pytest.approx(0.9 * 2.0)
    assert plain.factor(4.0, 0.1, 2.0) == pytest.approx(0.9 / 2.0)
    assert StepControl(exponent=0.9).factor(0.1, 1.0, 2.0) == pytest.approx(0.9 * 10**0.9)
    damped = StepControl(integral=0.3, proportional=0.4, limits=(0.2, 5.0))
    assert damped.factor(0.25, 0.5, 2.0) == pytest.approx(0.9 * 0.25**-0.35 * 0.5**0.2)
    assert damped.factor(4.0, 0.5, 2.0) == pytest.approx(0.9 / 2.0)
    assert damped.factor(0.0, 1.0, 2.0) == 5.0
    assert damped.factor(1e9, 1.0, 2.0) == 0.2
    assert damped.factor(0.25, 0.0, 2.0) > 0.2


@pytest.mark.parametrize("name", NAMES)
def test_pairs_share_their_evaluations(name: str):
    pair = embedded_pairs()[name]
    assert pair.name == name
    assert pair.high.deterministic_order == pair.low.deterministic_order + 1
    assert len(pair.method.tableau.stages) == pair.evaluations + 1
    assert pair.source
    plan = pair_plan(reverse_sde(VP(), pair.high.form, 1.0), pair, 0.6, 0.5)
    assert plan.nfe == pair.evaluations
    error = plan.rows[-2]
    assert error.noise == ()
    assert sum(float(w) for _, w in error.weights) == pytest.approx(
        0.0, abs=1e-12
    )  # a constant F has no error


def test_other_pairs_can_be_made():
    pair = EmbeddedPair("mine", seeds3(), seeds1())
    _, report = sample(mixture(VP()), (4, 2), pair, rtol=0.1, atol=0.1, **F64)
    assert report.accepted > 5
    with pytest.raises(ValueError, match=r"must be the first ones of 'seeds-3'"):
        EmbeddedPair("wrong", seeds3(), seeds2())
    with pytest.raises(ValueError, match="one-step schemes with the ordinary noise"):
        EmbeddedPair("wrong", seeds_sra(), seeds1())


def test_a_pair_takes_names_methods_and_tableaus_and_is_known_by_its_high_scheme():
    target, x = mixture(VP()), start_of(VP())
    expected, _ = sample(target, x, "seeds-12", rtol=0.1, atol=0.1)
    assert torch.equal(sample(target, x, "seeds-2", rtol=0.1, atol=0.1)[0], expected)
    for high, low in (
        ("seeds-2", "seeds-1"),
        (get("seeds-2"), get("seeds-1")),
        (seeds2(), seeds1()),
    ):
        pair = EmbeddedPair("mine", high, low, control=get_pair("seeds-12").control)  # type: ignore[arg-type]
        assert pair.high == get("seeds-2") and pair.low == get("seeds-1")
        assert torch.equal(sample(target, x, pair, rtol=0.1, atol=0.1)[0], expected)


def test_the_report_is_of_the_latest_run():
    steps, target, run = Adaptive(rtol=0.1, atol=0.1), mixture(VP()), {"progress": False}
    expint.sample(target, (3, 2), steps=steps, **run)
    first = steps.report
    expint.sample(target, (3, 2), steps=steps, **run)
    second = steps.report
    assert first and second and first is not second and torch.equal(first.times, second.times)
    with pytest.raises(ValueError, match="Unknown form"):
        expint.sample(target, (3, 2), steps=steps, form="date", **run)
    assert steps.report is None


# --- what is refused


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"solver": "seeds-1"},
            ValueError,
            "Unknown adaptive solver 'seeds-1'.*others go with steps of given length",
        ),
        ({"solver": 3}, TypeError, "a name or an EmbeddedPair, got int"),
        ({"nfe": 20}, ValueError, "Adaptive steps choose the grid .*leave out nfe"),
        ({"grid": [0.7, 0.1]}, ValueError, "Adaptive steps choose the grid .*leave out grid"),
        ({"noise_scale": "sde"}, ValueError, "leave out noise_scale"),
        ({"eta": 1.0}, ValueError, "leave out eta"),
        ({"operations": [churn(5.0)]}, ValueError, "no operations: leave out operations"),
        (
            {"rtol": -0.1},
            ValueError,
            r"rtol of the step control must be a finite number >= 0, got -0.1",
        ),
        ({"rtol": "small"}, ValueError, "rtol .* got 'small'"),
        ({"atol": 0.0}, ValueError, r"atol .* > 0.* got 0.0"),
        ({"first_step": 0.0}, ValueError, "first_step"),
        ({"safety": 1.0}, ValueError, "0 < safety < 1, got 1.0"),
        ({"limits": (2.0, 3.0)}, ValueError, r"least < 1 < greatest, got \(2.0, 3.0\)"),
        ({"limits": 2.0}, ValueError, "limits"),
        ({"norm": 1.0}, ValueError, "2 .* or infinity"),
        ({"final": "clean"}, ValueError, "final='clean'"),
        ({"ell": -1.0}, ValueError, "ell"),
        ({"form": "date"}, ValueError, "form"),
        ({"max_nfe": 0}, ValueError, "max_nfe"),
        ({"max_nfe": 2.5}, ValueError, "max_nfe"),
        ({"callback": 3}, TypeError, "callback"),
        ({"seeds": [1, 2]}, ValueError, "one seed per sample"),
        (
            {"noise": Gaussian([0, 1, 2])},
            ValueError,
            "Gaussian noise cannot serve adaptive steps.*bias the law",
        ),
        ({"noise": Rademacher([0, 1, 2])}, ValueError, "Rademacher noise cannot serve"),
        ({"noise": Replay(torch.zeros(9, 3, 2))}, ValueError, "Replay noise cannot serve"),
        ({"noise": UnionPath([0, 1, 2], [1.0, 2.0])}, ValueError, "UnionPath noise cannot serve"),
        ({"noise": BrownianPath([0, 1])}, ValueError, "one seed per sample"),
        ({"noise": 3}, TypeError, "noise source"),
        ({"shape": (0, 2)}, ValueError, "positive integers"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_evaluation(
    settings: dict[str, Any], error: type[Exception], message: str
):
    arguments = {"shape": (3, 2)} | settings
    with pytest.raises(error, match=message):
        sample(forbidden(VP()), **arguments)


def test_models_and_schedules_that_do_not_fit_are_refused():
    rounding = forbidden(VP())
    rounding.round_time = lambda t: t  # pyright: ignore
    with pytest.raises(ValueError, match="timesteps='interpolate'"):
        sample(rounding, (3, 2))
    for settings in ({"solver": "ggf"}, {"form": "noise"}):
        with pytest.raises(ValueError, match="at sigma = infinity: use form='data'"):
            sample(forbidden(Flow()), (3, 2), **settings)
    with pytest.raises(TypeError, match="A model is a callable"):
        sample(lambda x, t: x, (3, 2))


def test_fresh_noise_is_no_matter_without_noise():
    _, report = sample(mixture(VP()), (3, 2), "dpm-solver-12", noise=Gaussian([0, 1, 2]), **F64)
    assert report.accepted > 0


def test_what_cannot_be_done_is_told():
    schedule = VP()
    with pytest.raises(
        RuntimeError, match=r"max_nfe=20 .* steps were accepted .*t = .*raise max_nfe"
    ):
        sample(mixture(schedule), (3, 2), max_nfe=20)
    calls = iter(range(10**6))
    restless = FunctionModel(
        schedule, "data", lambda x, t: torch.full_like(x, float((-1) ** next(calls)))
    )
    with pytest.raises(RuntimeError, match="below rounding"):
        sample(restless, (3, 2), "dpm-solver-12", rtol=1e-40, atol=1e-40, **F64)
    broken = FunctionModel(
        schedule, "data", lambda x, t: x / 0.0 if float(t) < 0.5 else torch.zeros_like(x)
    )
    with pytest.raises(FloatingPointError, match=r"in a step from t = .* \(sigma = "):
        sample(broken, (3, 2))


def test_a_sample_that_is_not_finite_is_named():
    def second_alone(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(torch.arange(3)[:, None] == 1, math.nan, 0.0 * x)

    with pytest.raises(FloatingPointError, match=r"The state, in sample 1 of 3, became NaN"):
        sample(FunctionModel(VP(), "data", second_alone), (3, 2))


def test_options_at_their_defaults_are_not_refused():
    default = {"nfe": None, "grid": None, "noise_scale": None, "eta": None, "operations": ()}
    options = {"steps": Adaptive(), "progress": False}
    model, x = mixture(VP()), start_of(VP())
    one, other = (expint.sample(model, x, "seeds-23", **options, **more) for more in ({}, default))
    torch.testing.assert_close(one, other, rtol=0.0, atol=0.0)
    with pytest.raises(TypeError, match="Unknown option 'stepz'"):
        expint.sample(model, x, "seeds-23", **options, stepz=3)
    with pytest.raises(TypeError, match="no plan before it"):
        expint.plan_sampling(VP(), "seeds-3", steps=Adaptive())
    with pytest.raises(TypeError, match="no plan before it"):
        expint.begin_sampling(model, (3, 2), "seeds-3", steps=Adaptive())


def test_a_report_has_the_path_that_its_times_need():
    """Without a stated resolution, and without a path at all: the run on the accepted times would
    fit leaves of its own."""
    target = expint.targets.GaussianMixture([[1.0, -1.0], [-2.0, 0.5]], 0.3, None, EDM())
    options: Any = {"progress": False, "dtype": torch.float64}
    for noise in (None, BrownianPath(range(3))):
        steps = Adaptive(rtol=0.05, atol=0.05)
        samples = expint.sample(target, (3, 2), "seeds-23", steps=steps, noise=noise, **options)
        assert steps.report is not None
        grid, seen = steps.report.times, steps.report.noise
        again = expint.sample(target, (3, 2), "seeds-3", grid=grid, noise=seen, **options)
        torch.testing.assert_close(again, samples, rtol=1e-9, atol=1e-9)
    expint.sample(target, (3, 2), "seeds-23", steps=steps, ell=0.0, **options)
    assert steps.report.noise is None
