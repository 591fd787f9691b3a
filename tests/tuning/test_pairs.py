"""Plans beside fine solutions of their own equation, pair by pair."""

import math

import pytest
import torch

import expint
from expint.schedules import EDM
from expint.targets import GaussianMixture
from expint.tuning import SampleObjective, stages, tune
from expint.tuning.network_grids import times_from_paths
from expint.tuning.objective import HELD_OUT, SEARCH, UNIT, Side
from expint.tuning.pairs import PRICE, ell_of
from expint.tuning.pathwise import Paths

MODES = GaussianMixture([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], 0.3, [1.0, 1.0, 2.0], EDM())


def pairs(count=400):
    return Paths(MODES, (2,), None, 0, {SEARCH: count, HELD_OUT: count})


def default(nfe, ell, solver="seeds-ab2"):
    return expint.plan_sampling(MODES.schedule, solver, nfe=nfe, ell=ell)


# --- the distance


def test_shares_are_those_of_the_u_statistic():
    """Against its definition, over all pairs of different samples; and 0 for the samples
    themselves."""
    fine, samples = MODES.sample(30, seed=1).double(), MODES.sample(30, seed=2).double()
    side = Side(fine, local=False)

    def d(a, b):
        return float((a - b).norm())

    total, own = torch.zeros(20, dtype=torch.float64), 0.0
    for i in range(20):
        for j in set(range(20)) - {i}:
            x, y, v, w = samples[i], fine[5 + i], samples[j], fine[5 + j]
            total[i] += d(x, w) + d(y, v) - d(x, v) - d(y, w)
            own += d(y, w) / 20
    expected = total / own * UNIT / 2.0
    torch.testing.assert_close(side.paired(samples[:20], 5), expected, rtol=1e-9, atol=1e-9)
    assert side.paired(fine[5:25], 5).abs().max() < 1e-9


def test_the_distance_has_no_bias():
    """Of independent samples of one law, in 200 trials of 40 pairs: within 5 standard errors of
    0. With the pairs' own distances it would be 20 above."""
    trials = torch.stack(
        [
            Side(MODES.sample(40, seed=2 * k), local=False)
            .paired(MODES.sample(40, seed=2 * k + 1), 0)
            .mean()
            for k in range(200)
        ]
    )
    assert abs(float(trials.mean())) < 5.0 * float(trials.std()) / math.sqrt(len(trials))


@pytest.mark.parametrize("ell", [0.0, 0.5, 1.0])
def test_a_plan_and_its_solutions_have_their_paths_in_common(ell):
    """With 30 evaluations they differ by less than a fifth of what independent ones do (measured:
    0.004, 0.06 and 0.16); with noise of their own by as much as those."""
    own = pairs(200)
    fine = own.solutions(ell, SEARCH)[0]
    apart = (fine - fine.roll(1, 0)).square().mean().sqrt()
    samples = own.samples(default(30, ell), 200, SEARCH, path=ell > 0.0)
    assert (samples - fine).square().mean().sqrt() < 0.2 * apart
    if ell:
        fresh = own.samples(default(30, ell), 200, SEARCH)
        assert (fresh - fine).square().mean().sqrt() > 0.8 * apart


@pytest.mark.parametrize(("ell", "share"), [(0.0, 0.01), (0.5, 0.1), (1.0, 0.5)])
def test_small_errors_show_on_few_samples(ell, share):
    """Five blocks of 80 pairs scatter by less than this share of what as many samples beside a
    reference do (measured: 0.001, 0.03 and 0.2, in the same unit)."""
    own, plan = pairs(), default(30, ell)
    reference = SampleObjective(MODES, (2,), MODES.sample(800, seed=9))
    scatter = [
        float(torch.tensor([float(by.of(plan, 80, SEARCH, 80 * k)) for k in range(5)]).std())
        for by in (own, reference)
    ]
    assert scatter[0] < share * scatter[1] * (1 / 80 + 1 / 400) * UNIT / 2.0


def test_its_standard_error_is_that_of_blocks():
    """Within a factor of two, of ten blocks of 40 pairs; it is added to what is above 0."""
    own, plan = pairs(), default(8, 1.0)
    views = own._seen(own.samples(plan, 400, SEARCH, path=True))
    blocks, errors = [], []
    for k in range(10):
        part = slice(40 * k, 40 * k + 40)
        sides = zip(own.solutions(1.0, SEARCH)[1], views, strict=True)
        shares = torch.stack([side.paired(view[part], 40 * k) for side, view in sides]).mean(0)
        blocks.append(float(shares.mean()))
        errors.append(float(own.of(plan, 40, SEARCH, 40 * k)) - max(blocks[-1], 0.0))
        assert errors[-1] == pytest.approx(2.0 * float(shares.std()) / math.sqrt(40), rel=1e-3)
    scatter = float(torch.tensor(blocks).std())
    assert min(blocks) < 0.0 < max(blocks)
    assert 0.5 * scatter < sum(errors) / 10 < 2.0 * scatter


def test_a_noise_scale_has_no_solutions():
    plan = expint.plan_sampling(MODES.schedule, "seeds-1", steps=6, noise_scale="log")
    with pytest.raises(ValueError, match="no solutions for a noise scale"):
        ell_of(plan)


# --- the search


@pytest.mark.parametrize("solver", ["auto", "seeds-ab2"])
@pytest.mark.parametrize("ell", [0.0, (0.3, 2.0)], ids=str)
def test_what_a_search_says_it_cost_is_what_it_called(solver, ell):
    """To the evaluation; the budget is kept to 5 %, for its parts have least sizes."""
    called = 0

    class Counted:
        schedule, prediction, shape = MODES.schedule, "data", (2,)

        def __call__(self, x, t):
            nonlocal called
            called += len(x)
            return MODES(x, t)

    about = tune(Counted(), 5, solver=solver, ell=ell, budget=60_000, progress=False).about
    assert about["evaluations"] == called <= 1.05 * 60_000


def test_every_solver_is_tried_on_the_grids_for_few_steps(monkeypatch):
    """At the ℓ nearest to 1, beside solutions, on a third of the pairs, and the twelve nearest on
    all of them; grids with another end are begun with alone. Those from paths are of the steps of
    the solvers with one evaluation in each."""
    tried, sizes, value = set(), [], stages.Search._value

    def noted(self, entry, count, part=SEARCH, of=None):
        if part == SEARCH and entry[1].bounds == (1.0, 1.0):
            tried.add(entry[0])
        sizes.extend([count] * (part == SEARCH))
        return value(self, entry, count, part, of)

    monkeypatch.setattr(stages.Search, "_value", noted)
    monkeypatch.setitem(stages.SHARES, "grids", 0.2)
    tune(MODES, 6, ell=(0.3, 2.0), budget=12_000, progress=False)
    solvers = ("seeds-ab2", "seeds-ab3", "sa-solver", "seeds-3")
    expected = {f"{one}, {grid}" for one in solvers for grid in ("default", "dmn", "ays_sd15")}
    expected |= {f"{one}, {grid}" for one in solvers[:3] for grid in ("gits", "oss")}
    assert expected <= tried and not any(name.endswith(("0.1", "0.03")) for name in tried)
    assert not {"seeds-3, gits", "seeds-3, oss"} & tried  # three times the evaluations
    assert sizes.count(max(sizes)) == 12 and set(sizes) == {max(sizes), max(sizes) // 3}


@pytest.mark.parametrize("name", ["gits", "oss"])
def test_a_grid_from_paths_is_the_one_of_its_function(name):
    """Of 4 paths where the evaluations are just enough for them, which are counted; else none."""
    own = pairs()
    each = 60 + (name == "oss") * (1 + 5 * 55)
    grid = {"gits": expint.tuning.gits_grid, "oss": expint.tuning.oss_grid}[name]
    expected = grid(MODES.schedule, 6, MODES, (4, 2), seed=own.seed * 3 + SEARCH)
    assert times_from_paths(name, 6, 4 * each, own) == expected.tolist()
    assert own.cost == 4 * each
    assert times_from_paths(name, 6, 4 * each - 1, own) == []
    assert times_from_paths(name, 61, 1e9, own) == times_from_paths(name, 1, 1e9, own) == []


@pytest.mark.parametrize(("gain", "taken"), [(0.3 * PRICE, 1.0), (0.5 * PRICE, 0.6)])
def test_another_ell_has_its_price(monkeypatch, gain, taken):
    """Where a network is imperfect the law of another ℓ is another."""

    def value(self, entry, count, part=SEARCH, of=None):
        return {0.6: 1.0 - gain, 1.0: 1.0}.get(entry[1].bounds[0], 2.0)

    monkeypatch.setattr(stages.Search, "_value", value)
    plan = tune(MODES, 5, solver="seeds-ab2", ell=(0.3, 2.0), budget=20_000, progress=False)
    assert ell_of(plan) == taken


def test_the_nearest_of_another_ell_is_tried_on_the_pairs_held_out(monkeypatch):
    """Where the three nearest by the search have one ℓ: few pairs are no reason to give up all
    others."""

    def value(self, entry, count, part=SEARCH, of=None):
        ell = entry[1].bounds[0]
        return 0.0 if ell == 0.6 and part == HELD_OUT else 0.5 if ell in (0.6, 1.0) else 2.0

    monkeypatch.setattr(stages.Search, "_value", value)
    plan = tune(MODES, 5, solver="seeds-ab2", ell=(0.3, 2.0), budget=20_000, progress=False)
    assert ell_of(plan) == 0.6
