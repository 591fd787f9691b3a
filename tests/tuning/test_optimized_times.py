"""The bound of optimized time steps and its grid, against the formula and the authors' results."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from expint import grids
from expint.plans import compile_plan
from expint.schedules import EDM, VE, VP, Flow, Schedule
from expint.solvers import get
from expint.tuning import dmn_bound, dmn_grid

torch.set_num_threads(1)
# What the authors' implementation (github.com/scxue/DM-NonUniform, from equal steps in t) gives for
# the linear VP schedule from t = 1 to 0.001: λ between the ends. To five steps there is one
# minimum.
AUTHORS = {
    2: (-0.19457527,),
    3: (-1.15806656, 0.26066236),
    4: (-1.99115980, -0.79098555, 0.88994724),
    5: (-2.18182643, -1.21582256, -0.25779322, 1.06463075),
    8: (-3.55983667, -2.77696200, -2.29131929, -1.31184364, -0.39155337, 0.49728580, 1.54811784),
}
every_schedule = pytest.mark.parametrize("schedule", [EDM(), VP(), VE(), Flow()], ids=str)


def error(lam: float, power: float = 2.0) -> float:
    """ε̃ of a schedule with ᾱ² = 1/(1 + e^{−2λ})."""
    return (1 + math.exp(2 * lam)) ** (-power / 2) * math.sqrt(1 + math.exp(-2 * lam))


def levels(*lams: float) -> Tensor:
    """Times of EDM, which are σ = e^{−λ}."""
    return torch.exp(-torch.tensor(lams, dtype=torch.float64))


def test_three_steps_by_hand():
    """Orders 1, 2 and 1; the middle step by ∫ e^λ (λ − λ_1) dλ = e^λ (λ − λ_1 − 1)."""
    a, b, c, d = lams = (-2.0, -0.5, 0.4, 3.0)
    first = math.exp(c) * (c - b - 1) + math.exp(b)  # ∫ e^λ (λ − b)
    ahead, behind = math.exp(c) - math.exp(b) + first / (b - a), -first / (b - a)
    for power in (1.0, 2.0):
        expected = (
            error(a, power) * (math.exp(b) - math.exp(a))
            + math.hypot(error(b, power) * ahead, error(a, power) * behind)
            + error(c, power) * (math.exp(d) - math.exp(c))
        )
        found = dmn_bound(EDM(), levels(*lams), power=power)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("order", [2, 3])
def test_the_weights_are_those_of_the_plan(order: int):
    """Of each step's own weights, taken to the end by the scales of the steps after it."""
    lams = (-3.0, -2.2, -1.6, -0.7, 0.1, 0.5, 1.4, 2.6)
    method = get(f"seeds-ab{order}", lower_order_final=True)
    method = replace(method, ratio_limit=math.inf)
    plan = compile_plan(method.equation(EDM(), "data", 0.0), method, levels(*lams))
    alone, sums = 0.0, [0.0] * 7
    for k, row in enumerate(plan.rows):
        later = math.exp(lams[-1]) * math.prod(float(after.scale) for after in plan.rows[k + 1 :])
        parts = {j: float(w) * later * error(lams[j]) for j, w in row.weights}
        if k < 3:
            alone += math.hypot(*parts.values())
            continue
        for j, part in parts.items():
            sums[j] += part
    expected = alone + sum(map(abs, sums))
    assert dmn_bound(EDM(), levels(*lams), order) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", [2, 3, 4, 5])
def test_the_authors_noise_levels(steps: int):
    found = VP().lam(dmn_grid(VP(), steps, final="none"))[1:-1]
    expected = torch.tensor(AUTHORS[steps], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_from_several_grids_the_bound_is_no_larger_than_the_authors():
    """At eight steps their search depends on its start; the bound of their grid is 18.59."""
    times = dmn_grid(VP(), 8, final="none")
    inner = VP().t_of_lam(torch.tensor(AUTHORS[8], dtype=torch.float64))
    theirs = dmn_bound(VP(), torch.cat([times[:1], inner, times[-1:]]))
    assert theirs == pytest.approx(18.5876, abs=1e-3)
    assert dmn_bound(VP(), times) < 0.95 * theirs


@every_schedule
@pytest.mark.parametrize(("steps", "order"), [(5, 1), (6, 2), (10, 3), (20, 3), (7, 4)])
def test_it_falls_and_beats_the_grids_it_began_with(schedule: Schedule, steps: int, order: int):
    times = dmn_grid(schedule, steps, order)
    assert times.shape == (steps + 1,) and times.dtype == torch.float64
    assert (schedule.sigma(times).diff() < 0).all() and schedule.sigma(times[-1]) == 0.0
    found = dmn_bound(schedule, times, order)
    for name in ("uniform_lambda", "karras", "cosine"):
        own = grids.get(name)(schedule, steps, final="none")
        assert found < 0.99 * dmn_bound(schedule, own, order)


def test_the_last_step_goes_on_to_zero_and_ends_are_kept():
    whole = dmn_grid(VP(), 6, start=0.9, stop=0.01, final="none")
    assert whole[0] == 0.9 and whole[-1] == 0.01
    denoised = dmn_grid(VP(), 6, start=0.9, stop=0.01)
    torch.testing.assert_close(denoised[:-1], whole[:-1])


def test_one_order_more_is_another_grid():
    first, third = dmn_grid(EDM(), 8, 1), dmn_grid(EDM(), 8, 3)
    assert (first[1:-1] / third[1:-1]).log().abs().max() > 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 5}, r"order of the bound .*5"),
        ({"order": 0}, r"order of the bound .*0"),
        ({"power": -1.0}, "power of the error must be >= 0 and finite, got -1"),
        ({"power": math.inf}, "power of the error"),
        ({"power": "two"}, "power of the error"),
    ],
)
def test_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        dmn_grid(EDM(), 5, **options)
    with pytest.raises(ValueError, match=message):
        dmn_bound(EDM(), grids.karras(EDM(), 5), **options)
