"""GITS and OSS, against their definitions step by step."""

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from expint import grids, sample
from expint.noise import initial_state, per_sample
from expint.runs import Reparametrized
from expint.schedules import EDM, VP, Flow, Schedule
from expint.targets import GaussianMixture
from expint.tuning import gits_grid, oss_grid
from tests.toy_models import forbidden

torch.set_num_threads(1)
GRIDS = {"gits": gits_grid, "oss": oss_grid}


def target(schedule: Schedule) -> GaussianMixture:
    return GaussianMixture([[-1.0, 0.2, 0.0], [0.8, 0.6, 0.5]], 0.1, [0.4, 0.6], schedule)


def euler(x: Tensor, high: Tensor, low: Tensor, denoiser: Any) -> Tensor:
    """Of dx/dσ = (x − D)/σ."""
    return x + (low - high) * (x - denoiser(x, high)) / high


def path(levels: Tensor, batch: int, solver: str) -> list[Tensor]:
    """The same paths by sample, one fewer step at a time."""
    model = target(EDM())
    noise = initial_state(per_sample(0, batch), (3,), torch.float32, torch.device("cpu"))
    x = noise * float(levels[0])
    ends = range(2, len(levels) + 1)
    parts = [sample(model, x, solver, grid=levels[:n], progress=False) for n in ends]
    return [part.double() for part in (x, *parts)]


def across(states: list[Tensor], at: Tensor) -> Tensor:
    """Mean distance from the line between the ends of the paths."""
    start, end = states[0], states[-1]
    line = (end - start) / (end - start).norm(dim=1, keepdim=True)
    away = end - at
    return (away - (away * line).sum(1, keepdim=True) * line).norm(dim=1).mean()


def test_gits_is_the_least_sum_of_deviations_by_brute_force():
    """Deviation of one Euler step less that of the teacher's path, over all grids of 4 steps from
    10 noise levels."""
    levels = grids.karras(EDM(), 9, final="none", start=20.0, stop=0.05)
    model = target(EDM())
    states = path(levels, 5, "ipndm")
    own = [float(across(states, x)) for x in states[:-1]] + [0.0]
    cost = {
        (i, j): float(
            across(states, euler(states[i].float(), levels[i], levels[j], model).double())
        )
        - own[j]
        for i, j in itertools.combinations(range(10), 2)
    }
    for coefficient in (1.15, 0.7):

        def total(way: tuple[int, ...], factor: float = coefficient) -> float:
            return sum(factor**k * cost[pair] for k, pair in enumerate(itertools.pairwise(way)))

        ways = [(0, *way, 9) for way in itertools.combinations(range(1, 9), 3)]
        found = gits_grid(
            EDM(), 4, model, (5, 3), coefficient=coefficient, points=10, start=20.0, stop=0.05,
            final="none",
        )  # fmt: skip
        torch.testing.assert_close(found, levels[list(min(ways, key=total))], rtol=1e-9, atol=0)


def test_oss_keeps_the_state_nearest_to_the_teachers():
    """The recursion written out: after k steps at level j the state is the best of those from any
    level reached after k − 1 steps."""
    levels = grids.karras(EDM(), 7, final="none", start=20.0, stop=0.05)
    model, steps, last = target(EDM()), 3, 7
    states = path(levels, 4, "ddim")

    def best(k: int, j: int) -> tuple[float, Tensor, tuple[int, ...]]:
        if k == 0:
            return (0.0, states[0], (0,)) if j == 0 else (math.inf, states[0], ())
        found = []
        for i in range(k - 1, j):
            error, z, way = best(k - 1, i)
            if error < math.inf:
                new = euler(z.float(), levels[i], levels[j], model).double()
                found.append((float((new - states[j]).square().mean()), new, (*way, j)))
        return min(found, key=lambda entry: entry[0]) if found else (math.inf, states[0], ())

    way = best(steps, last)[2]
    found = oss_grid(EDM(), steps, model, (4, 3), points=8, start=20.0, stop=0.05, final="none")
    torch.testing.assert_close(found, levels[list(way)], rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("schedule", [EDM(), VP(), Flow()], ids=["edm", "vp", "flow"])
def test_length_order_and_ends(name: str, schedule: Schedule):
    model = Reparametrized(target(schedule), "v")
    make = partial(GRIDS[name], model=model, shape=(4, 3), points=12)
    for steps, final in itertools.product((1, 2, 6), grids.FINALS):
        if (steps, final) == (1, "denoise"):
            continue
        times = make(schedule, steps, final=final)
        assert times.shape == (steps + 1,) and times.dtype == torch.float64
        assert torch.equal(grids.check(schedule, times), times)
        assert times[0] == schedule.sampling_range[0]
        if final == "none":
            assert times[-1] == schedule.sampling_range[1]
        else:
            assert schedule.sigma(times[-1].item()) == 0.0


@pytest.mark.parametrize("name", GRIDS)
def test_schedules_with_the_same_noise_levels_have_the_same_grid(name: str):
    """z = x/α obeys one equation on all schedules, and so do D and the teacher's levels."""
    ends = [
        {"start": schedule.t_of_sigma(20.0), "stop": schedule.t_of_sigma(0.05), "final": "none"}
        for schedule in (EDM(), Flow())
    ]
    one, other = (
        schedule.sigma(GRIDS[name](schedule, 4, target(schedule), (6, 3), points=14, **end))
        for schedule, end in zip((EDM(), Flow()), ends, strict=True)
    )
    torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


def test_the_seed_decides():
    model = target(EDM())
    one, same, other = (
        gits_grid(EDM(), 5, model, (3, 3), seed=seed, points=40) for seed in (0, 0, 8)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gits", {"coefficient": 0.0}, "coefficient of GITS must be > 0 and finite, got 0"),
        ("gits", {"points": 5}, "integer number of points > 5, got 5"),
        ("oss", {"points": 9.0}, r"integer number of points > 5, got 9\.0"),
        ("oss", {"final": "clean"}, "Unknown final='clean'"),
        ("oss", {"model": forbidden(VP())}, "the model's schedule is VP.*: give the model's own"),
    ],
)
def test_refused(name: str, settings: dict[str, Any], message: str):
    arguments: dict[str, Any] = {"model": forbidden(EDM()), "shape": (2, 3)} | settings
    with pytest.raises(ValueError, match=message):
        GRIDS[name](EDM(), 5, **arguments)
