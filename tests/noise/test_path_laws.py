"""The law of Brownian paths at their defaults: what ordinary runs are given, and what a path that
remembers answers in any order, with the tests of torchsde's own suite among them (normality,
variance, covariance, additivity, consistency under refinement)."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from scipy import stats
from test_brownian import (
    CROSSING,
    LEVEL,
    POSITIVE,
    all_queries,
    ask,
    by_chen,
    clock,
    exact_covariance,
    recombined,
    shuffled,
    worst_p_value,
)
from torch import Tensor

from expint import compile_plan, plan_sampling
from expint.equations import SemiLinearSDE
from expint.noise import BrownianPath, RememberingPath, SubstepNoise, UnionPath
from expint.noise.paths.path import PathSource
from expint.schedules import EDM, VP

PATHS: dict[str, Callable[[Sequence[int]], PathSource]] = {
    "BrownianPath": BrownianPath,
    "without integrals": lambda seeds: BrownianPath(seeds, integral=False),
    "RememberingPath": RememberingPath,
}


def ornstein_uhlenbeck():
    sde = SemiLinearSDE.from_coefficients(-1.0, 1.0, 1.0, span=(0.0, 1.0))
    return compile_plan(sde, "seeds-1", torch.linspace(0, 1, 1001, dtype=torch.float64))


RUNS = {
    "seeds-3 karras 50": lambda: plan_sampling(EDM(), "seeds-3", steps=50, grid="karras"),
    "seeds-1 uniform lambda 1000": lambda: plan_sampling(
        VP(), "seeds-1", steps=1000, grid="uniform_lambda"
    ),
    "seeds-1 noise form 200": lambda: plan_sampling(EDM(), "seeds-1", steps=200, form="noise"),
    "Ornstein-Uhlenbeck 1000": ornstein_uhlenbeck,
    "seeds-sra karras 60": lambda: plan_sampling(EDM(), "seeds-sra", steps=60, grid="karras"),
}


# A path without integrals is refused by runs that use them.
FITTING = [(r, p) for r in RUNS for p in PATHS if (r, p[:7]) != ("seeds-sra karras 60", "without")]


@pytest.mark.parametrize(("run", "name"), FITTING)
def test_normals_of_ordinary_runs(run: str, name: str):
    """n = 4000 of each normal: unit variance, in the mean over the run and one by one, and no
    correlation with the next two, at the corrected level 1e-6; an error of a tenth in one variance
    is 4.5 sigma, one of 2 % in all of them more than 5.
    """
    n, asked = 4000, RUNS[run]().run
    stream = PATHS[name]([5]).stream(torch.empty(1, n), asked)
    found = torch.stack([z[0].clone() for substep in asked for z in stream.normals(substep)])
    scores = [(found.square().mean(1) - 1) * math.sqrt(n / 2)]
    scores += [(found[k:] * found[:-k]).mean(1) * math.sqrt(n) for k in (1, 2)]
    together = torch.cat([part.sum(0, keepdim=True) / math.sqrt(len(part)) for part in scores])
    joined = torch.cat([*scores, together]).abs()
    assert 2 * stats.norm.sf(float(joined.max())) * len(joined) > LEVEL


@pytest.mark.parametrize("taus", [POSITIVE, CROSSING, (1.0, 1 + 1e-6, 1.5, 1.5 + 1e-6, 3.0)])
@pytest.mark.parametrize("name", ["BrownianPath", "RememberingPath"])
def test_joint_law_in_random_order(name: str, taus: tuple[float, ...]):
    """n = 131072 of increments and integrals over neighbouring times, after all of their unions
    were asked for in random order; every union is the sum of its parts, to 1e-10.
    """
    like, queries = torch.empty(1, 131072, dtype=torch.float64), shuffled(all_queries(taus), 4)
    path = PATHS[name]([5])
    answers = ask(path, like, queries * 2)
    cells = list(itertools.pairwise(taus))
    parts = torch.stack([part for query in cells for part in answers[query]])
    assert worst_p_value(parts[:, 0], exact_covariance(taus, cells)) > LEVEL
    for query, answer in answers.items():
        expected = torch.einsum("ak,kbe->abe", by_chen(taus, query), parts)
        for found, wanted in zip(answer, expected, strict=True):
            size = float(wanted.abs().max())
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10 * size)
    first = answers[queries[0]][1] / (queries[0][1] - queries[0][0]) ** 1.5 * math.sqrt(3)
    assert stats.kstest(first[0].numpy(), "norm").pvalue > LEVEL


@pytest.mark.parametrize("integral", [True, False])
def test_paths_of_different_resolutions_agree_at_common_ends_of_leaves(integral: bool):
    """Bitwise, in W; the integrals over whole leaves to 1e-12. Inside a leaf they differ."""
    like = torch.empty(2, 5, dtype=torch.float64)
    ends = clock(*(math.exp(k / 4) for k in (-9, -2, 0, 1, 6)))
    coarse, fine = (
        BrownianPath([1, 2], resolution, integral=integral).open(like) for resolution in (4, 2**12)
    )
    assert torch.equal(coarse.increments(ends).clone(), fine.increments(ends))
    if integral:
        torch.testing.assert_close(
            coarse.increments(ends, True)[1], fine.increments(ends, True)[1], rtol=1e-12, atol=1e-12
        )
    inside = clock(1.0, 1.1)
    assert not torch.allclose(coarse.increments(inside), fine.increments(inside))


def test_a_run_chooses_the_leaves_that_its_times_need():
    """At most two in each, so that few Gaussians are drawn: the path is that of a stated resolution
    at the ends of its leaves, here every second time, and not between them. A run that is part of
    another sees the same path at one stated resolution.
    """
    like = torch.empty(1, 7, dtype=torch.float64)
    scales = torch.linspace(-3, 3, 25, dtype=torch.float64)
    scales[1::2] += 0.07
    times = torch.exp(scales)

    def normals(path: BrownianPath, taus: Tensor) -> Tensor:
        run = [SubstepNoise(1, True, pair) for pair in taus.unfold(0, 2, 1)]
        stream = path.stream(like, run)
        found = [[z.clone() for z in stream.normals(substep)] for substep in run]
        return torch.stack([torch.stack(pair) for pair in found])

    def steps(path: BrownianPath) -> Tensor:
        return normals(path, times)[:, 0] * times.diff().sqrt()[:, None, None]

    own, stated = steps(BrownianPath([1])), steps(BrownianPath([1], 4))
    torch.testing.assert_close(own[::2] + own[1::2], stated[::2] + stated[1::2])
    assert not torch.isclose(own, stated).any()
    times *= 1.01  # inside leaves
    whole, fine = (
        BrownianPath([1], 8).open(like).increments(times[::2]),
        steps(BrownianPath([1], 8)),
    )
    torch.testing.assert_close(fine[::2] + fine[1::2], whole, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="resolution=4 or more"):
        normals(BrownianPath([1], 2), times)
    with pytest.raises(ValueError, match=r"carries no integrals.*integral=True"):
        normals(BrownianPath([1], integral=False), times)


def test_too_many_times_in_one_leaf_are_refused():
    opened = BrownianPath([1], 1).open(torch.empty(1, 2))
    with pytest.raises(ValueError, match=r"More than 64 times.*State a finer resolution"):
        opened.increments(torch.linspace(1.1, 1.2, 80, dtype=torch.float64))


def test_normals_on_a_diagonal_clock_of_one_run():
    """n = 40000: four columns with rates from 1 to 30, each with the law of its own increments and
    integrals, for both paths."""
    rates, n = clock(1.0, 2.0, 5.0, 30.0), 40000
    times = torch.expm1(2 * rates * torch.linspace(0, 1, 21, dtype=torch.float64)[:, None])
    run = [SubstepNoise(1, True, pair) for pair in times.unfold(0, 2, 1).transpose(1, 2)]
    for make in (BrownianPath, RememberingPath):
        stream = make([3]).stream(torch.empty(1, n, 4, dtype=torch.float64), run)
        found = torch.stack([torch.stack(list(stream.normals(s))).clone() for s in run])
        samples = found[:, :, 0].permute(0, 1, 3, 2).reshape(-1, n)
        assert worst_p_value(samples, torch.eye(len(samples), dtype=torch.float64)) > LEVEL


@pytest.mark.parametrize(
    "make", [lambda: BrownianPath([3, 4], 64), lambda: RememberingPath([3, 4])]
)
def test_two_grids_on_a_diagonal_clock_see_one_path(make: Callable[[], PathSource]):
    """The increments and integrals of a coarse run are those of the fine one, mode by mode, to
    1e-11, also where a mode stands still."""
    rates = clock(0.0, 1.0, 5.0, 30.0)
    times = 0.5 + torch.expm1(2 * rates * torch.linspace(0, 1, 21, dtype=torch.float64)[:, None])
    path, like = make(), torch.empty(2, 5, 4, dtype=torch.float64)

    def asked(taus: Tensor) -> list[tuple[Tensor, Tensor]]:
        run = [SubstepNoise(1, True, pair) for pair in taus.unfold(0, 2, 1).transpose(1, 2)]
        stream = path.stream(like, run)
        return [recombined(stream.normals(s), t) for s in run if (t := s.times) is not None]

    fine, coarse = asked(times), asked(times[::2])
    for k, ((w,), u) in enumerate(coarse):
        ((first,), early), ((second,), late) = fine[2 * k : 2 * k + 2]
        torch.testing.assert_close(first + second, w, rtol=0, atol=1e-11 * float(w.abs().max()))
        whole = early + late + first * (times[2 * k + 2] - times[2 * k + 1])
        torch.testing.assert_close(whole, u, rtol=0, atol=1e-11 * float(u.abs().max()))
        assert not w[..., 0].any() and w[..., 1:].all()


def test_a_remembering_path_keeps_what_it_said():
    """In all runs of one object, bit for bit, until new times come between; a sample does not
    depend on its batch; another object begins anew.
    """
    like = torch.empty(3, 40, dtype=torch.float64)
    path, taus = RememberingPath([4, 5, 6]), clock(-2.0, 0.3, 0.35, 0.7, 90.0)
    first = [part.clone() for part in path.open(like).increments(taus, True)]
    again = path.open(like).increments(taus, True)
    assert all(map(torch.equal, first, again))
    alone = RememberingPath([5]).open(like[:1]).increments(taus, True)
    assert torch.equal(alone[0][:, 0], first[0][:, 1]) and torch.equal(alone[1][0], first[1][1])
    path.open(like).increments(clock(-2.0, 0.31, 0.6), True)
    for kept, now in zip(first, path.open(like).increments(taus, True), strict=True):
        torch.testing.assert_close(now, kept, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="no value at τ = inf"):
        path.open(like).increments(clock(1.0, math.inf))


def test_a_remembering_path_is_stable_at_close_times():
    """float32, times 1e-6 apart inside a long interval whose integral was asked for first: the
    variance of increment and residual within 5 sigma, where a difference of values is off by a
    tenth and more.
    """
    n = 200000
    opened = RememberingPath([3]).open(torch.empty(1, n))
    opened.increments(clock(1.0, 64.0), True)
    for start in (1.5, 20.0, 63.0):
        w, u = opened.increments(clock(start, start * (1 + 1e-6)), True)
        length = start * (1 + 1e-6) - start
        rest = (u.double() - length * w[0].double() / 2) / math.sqrt(length**3 / 12)
        for z in (w.double() / math.sqrt(length), rest):
            assert abs(float(z.square().mean()) - 1) < 5 * math.sqrt(2 / n)


def test_a_union_path_of_one_time_has_no_increments():
    """All substeps of a run without noise have one noise time."""
    like, taus = torch.empty(2, 3), clock(1.5, 1.5)
    increments, integral = UnionPath([0, 1], taus).open(like).increments(taus, True)
    assert not increments.any() and not integral.any()
    substep = SubstepNoise(1, True, taus)
    for normal in UnionPath([0, 1], taus).stream(like, [substep]).normals(substep):
        assert not normal.any()
