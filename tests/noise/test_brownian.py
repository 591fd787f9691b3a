"""Brownian paths: one path for every order of queries, grid and batch, with the exact joint law of
increments and integrals.
"""

import hashlib
import importlib.util
import itertools
import math
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from toy_models import constant

from expint import compile_plan, plan_sampling, reverse_sde
from expint.noise import (
    AsTorchsde,
    BrownianPath,
    FromTorchsde,
    Gaussian,
    NoiseSource,
    Rademacher,
    Replay,
    SubstepNoise,
    UnionPath,
    initial_state,
)
from expint.noise.counter import Streams
from expint.noise.paths import brownian_tree
from expint.noise.paths.bridge import split
from expint.noise.paths.path import PathSource
from expint.runs import execute
from expint.schedules import EDM, VP

LEVEL = 1e-6  # of every statistical test, corrected for the number of its comparisons

# No two of these lie inside one leaf of 8 per e-fold.
POSITIVE = (0.05, 0.0731, 0.31, 0.9, 1.3, 2.1, 7.7)
CROSSING = (-3.3, -0.7, -0.01, 0.0, 0.02, 0.5, 2.0)
NEGATIVE = tuple(-math.exp(u / 12) for u in (9, 3, 1, -1, -5))
Query = tuple[float, float]


@pytest.fixture(autouse=True)
def one_thread():
    """Many short tensor operations: threads that wait for each other on a busy machine cost more
    than they bring.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clock(*taus: float) -> Tensor:
    return torch.tensor(taus, dtype=torch.float64)


def ask(
    source: PathSource, like: Tensor, queries: Sequence[Query]
) -> dict[Query, tuple[Tensor, Tensor]]:
    """(ΔW, U) over each interval, asked in the given order from one opened path."""
    opened = source.open(like)
    answers = {}
    for query in queries:
        increments, integral = opened.increments(clock(*query), space_time=True)
        answers[query] = increments[0].clone(), integral.clone()
    return answers


def recombined(normals: Sequence[Tensor], taus: Tensor) -> tuple[Tensor, Tensor]:
    """(ΔW, U) over the intervals between `taus`, (n + 1,) or (n + 1, *event), and over the whole,
    from the n normals of the increments and that of U:

        U = Σ_k (τ_n − (τ_{k−1} + τ_k)/2) ΔW_k + √(Σ_k (τ_k − τ_{k−1})³/12) z_U.
    """
    *steps, last = (normal.clone() for normal in normals)
    lengths, middles = taus.diff(dim=0), (taus[1:] + taus[:-1]) / 2
    increments = torch.stack([z * d.sqrt() for z, d in zip(steps, lengths, strict=True)])
    ahead = [(taus[-1] - m) * w for m, w in zip(middles, increments, strict=True)]
    return increments, torch.stack(ahead).sum(0) + ((lengths**3).sum(0) / 12).sqrt() * last


def drawn(source: NoiseSource, like: Tensor, taus: Tensor) -> tuple[Tensor, Tensor]:
    """(ΔW, U) from the normals of a run of one substep."""
    substep = SubstepNoise(len(taus) - 1, integral=True, nodes=taus)
    return recombined(source.stream(like, [substep]).normals(substep), taus)


def all_queries(taus: Sequence[float]) -> list[Query]:
    return list(itertools.combinations(taus, 2))


def shuffled(queries: Sequence[Query], seed: int) -> list[Query]:
    order = torch.randperm(len(queries), generator=torch.Generator().manual_seed(seed)).tolist()
    return [queries[i] for i in order]


def by_chen(taus: Sequence[float], query: Query) -> Tensor:
    """Rows (ΔW, U) of one query in terms of (ΔW_0, U_0, ΔW_1, U_1, …) of the cells between
    neighbouring times: U(a,c) = U(a,b) + U(b,c) + (W(b) − W(a)) (c − b).
    """
    first, last = taus.index(query[0]), taus.index(query[1])
    rows = torch.zeros(2, 2 * (len(taus) - 1), dtype=torch.float64)
    for k in range(first, last):
        rows[0, 2 * k] = rows[1, 2 * k + 1] = 1.0
        rows[1, 2 * k] = query[1] - taus[k + 1]
    return rows


def exact_covariance(taus: Sequence[float], queries: Sequence[Query]) -> Tensor:
    """Of (ΔW, U) of all queries: the cells are independent, with Var ΔW = Δ, Cov(ΔW, U) = Δ²/2, Var
    U = Δ³/3.
    """
    cells = [
        torch.tensor([[d, d**2 / 2], [d**2 / 2, d**3 / 3]], dtype=torch.float64)
        for d in clock(*taus).diff().tolist()
    ]
    rows = torch.cat([by_chen(taus, query) for query in queries])
    return rows @ torch.block_diag(*cells) @ rows.T


def worst_p_value(samples: Tensor, covariance: Tensor) -> float:
    """Smallest p-value, corrected for their number, of the means and second moments of samples (k,
    n) whitened by their law.
    """
    k, n = samples.shape
    y = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), samples.double(), upper=False
    )
    second = y @ y.T / n - torch.eye(k, dtype=torch.float64)
    variances = 1.0 + torch.eye(k, dtype=torch.float64)
    scores = torch.cat(
        [
            y.mean(1) * math.sqrt(n),
            (second * torch.sqrt(n / variances))[torch.ones(k, k).tril().bool()],
        ]
    )
    return min(1.0, 2 * float(stats.norm.sf(scores.abs().max())) * len(scores))


SHAPES = pytest.mark.parametrize("shape", [(1, 131072), (2048, 64), (8, 4, 64, 64)], ids=str)
GRIDS = pytest.mark.parametrize(
    "taus", [POSITIVE, CROSSING, NEGATIVE], ids=["positive", "crossing", "negative"]
)
DEFAULT = 8


def law_p_value(shape: tuple[int, ...], taus: Sequence[float], resolution: int = DEFAULT) -> float:
    """Of (ΔW, U) over neighbouring times, read after all of their unions were asked for in random
    order.
    """
    like = torch.empty(shape, dtype=torch.float32)
    answers = ask(
        BrownianPath(range(5, 5 + shape[0]), resolution), like, shuffled(all_queries(taus), 3)
    )
    cells = list(itertools.pairwise(taus))
    samples = torch.stack([part.flatten() for query in cells for part in answers[query]])
    assert samples.shape[1] >= 100_000
    return worst_p_value(samples, exact_covariance(taus, cells))


@SHAPES
@GRIDS
def test_joint_law_of_increments_and_integrals_after_refinement_in_random_order(
    shape: tuple[int, ...], taus: tuple[float, ...]
):
    """n = 131072; means, variances and all correlations of increments and integrals, corrected
    level 1e-6.
    """
    # An integral from 0 is a sum over many leaves: fewer of them save time.
    assert law_p_value(shape, taus, 2 if 0.0 in taus else DEFAULT) > LEVEL


@pytest.mark.parametrize("resolution", [1, 5, 64])
def test_law_at_other_resolutions(resolution: int):
    taus = tuple(math.exp((i + 0.37) * 1.6 / resolution) for i in range(-3, 4))
    assert law_p_value((1, 131072), taus, resolution) > LEVEL


def independent_value(whole, first, second, theta, early, scratch):
    zeta = first.clone()
    split(whole, first, second, theta, early, scratch)
    first.copy_(zeta)


def independent_parts(whole, first, second, theta, early, scratch):
    split(torch.zeros_like(whole), first, second, theta, early, scratch)


def wrong_sign(whole, first, second, theta, early, scratch):
    split(-whole, first, second, theta, early, scratch)


def too_large(whole, first, second, theta, early, scratch):
    split(whole, first, second, theta, early, scratch)
    first.mul_(1.02)


def exchanged(whole, first, second, theta, early, scratch):
    split(whole, first, second, 1.0 - theta, early, scratch)


@pytest.mark.parametrize("wrong", [independent_value, too_large])
def test_the_test_of_the_law_sees_what_is_wrong(wrong, monkeypatch: pytest.MonkeyPatch):
    """The same check refuses paths whose bridges are slightly wrong."""
    monkeypatch.setattr(brownian_tree, "split", wrong)
    assert law_p_value((1, 131072), POSITIVE) < LEVEL


@pytest.mark.parametrize("wrong", [independent_value, independent_parts, wrong_sign, exchanged])
def test_the_test_of_chens_relation_sees_what_is_wrong(wrong, monkeypatch: pytest.MonkeyPatch):
    """The parts of an interval do not have its integral."""
    monkeypatch.setattr(brownian_tree, "split", wrong)
    with pytest.raises(AssertionError, match="not close"):
        test_increments_add_up_and_integrals_obey_chens_relation(POSITIVE, 6)


@GRIDS
@pytest.mark.parametrize("resolution", [1, 6, 60])
def test_increments_add_up_and_integrals_obey_chens_relation(
    taus: tuple[float, ...], resolution: int
):
    """Every answer is the one that follows from those over the cells, to 1e-10, for times inside
    one leaf too.
    """
    path, like = BrownianPath([1, 2], resolution), torch.empty(2, 50, dtype=torch.float64)
    answers = ask(path, like, shuffled(all_queries(taus), 1))
    cells = torch.stack([part for query in itertools.pairwise(taus) for part in answers[query]])
    for query, (increment, integral) in answers.items():
        expected = torch.einsum("ak,kbe->abe", by_chen(taus, query), cells)
        for value, wanted in zip((increment, integral), expected, strict=True):
            torch.testing.assert_close(
                value, wanted, rtol=1e-10, atol=1e-10 * float(wanted.abs().max())
            )


def test_several_intervals_in_one_query():
    """Increments over each and the integral over the whole, the same numbers as in single
    queries.
    """
    path, like, taus = BrownianPath([4]), torch.empty(1, 9, dtype=torch.float64), clock(*CROSSING)
    increments, integral = path.open(like).increments(taus, space_time=True)
    single = ask(path, like, [*itertools.pairwise(CROSSING), (CROSSING[0], CROSSING[-1])])
    assert torch.equal(
        increments, torch.stack([single[query][0] for query in itertools.pairwise(CROSSING)])
    )
    torch.testing.assert_close(
        integral, single[CROSSING[0], CROSSING[-1]][1], rtol=1e-10, atol=1e-10
    )
    assert torch.equal(increments, path.open(like).increments(taus))


EVENTS = pytest.mark.parametrize("event", [(), (3,), (1, 8, 8), (3, 31, 17)], ids=str)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@EVENTS
@DTYPES
def test_the_order_of_queries_does_not_matter(event: tuple[int, ...], dtype: torch.dtype):
    """Bitwise: sorted, reversed and random orders, repetitions, and a path opened for every
    query.
    """
    path, like, queries = (
        BrownianPath([3, 14], 3),
        torch.empty(2, *event, dtype=dtype),
        all_queries(CROSSING),
    )
    first = ask(path, like, queries)
    for order in (
        queries[::-1],
        shuffled(queries, 5),
        [*shuffled(queries, 6), *shuffled(queries, 7)],
    ):
        for query, answer in ask(path, like, order).items():
            assert all(map(torch.equal, answer, first[query]))
    for query in queries:
        assert all(map(torch.equal, ask(path, like, [query])[query], first[query]))


@EVENTS
@DTYPES
def test_a_sample_does_not_depend_on_its_batch(event: tuple[int, ...], dtype: torch.dtype):
    """Bitwise: a batch of 64, 64 batches of one, and a permuted part of the batch."""
    seeds = [7 * i + 2**31 for i in range(63)] + [2**40]
    taus = clock(-2.0, 0.3, 0.35, 0.7, 90.0)

    def run(chosen: Sequence[int]) -> list[Tensor]:
        opened = BrownianPath(chosen, 2).open(torch.empty(len(chosen), *event, dtype=dtype))
        increments, integral = opened.increments(taus, space_time=True)
        return [*increments.clone(), integral.clone()]

    together = torch.stack(run(seeds), 1)
    assert together.isfinite().all() and len(torch.unique(together.flatten(1), dim=0)) == 64
    for i, seed in enumerate(seeds):
        assert torch.equal(torch.stack(run([seed]), 1)[0], together[i])
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:37].tolist()
    assert torch.equal(torch.stack(run([seeds[i] for i in order]), 1), together[order])


DIGEST = """
import hashlib, torch
from expint.noise import BrownianPath
torch.set_num_threads(2)
opened = BrownianPath([1, 2**33]).open(torch.empty(2, 3, 40, 40))
times = torch.tensor([-1.0, 0.2, 0.21, 5.0], dtype=torch.float64)
parts = [*opened.increments(times, space_time=True)]
print(hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest())
"""


def test_another_process_with_other_threads_sees_the_same_path():
    opened = BrownianPath([1, 2**33]).open(torch.empty(2, 3, 40, 40))
    parts = opened.increments(clock(-1.0, 0.2, 0.21, 5.0), space_time=True)
    mine = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()
    run = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == mine


@pytest.mark.parametrize("seeds", [[0], [1], [2**31], [2**40 + 3]])
def test_independent_of_the_initial_state_and_of_fresh_noise(seeds: list[int]):
    """n = 131072 numbers of one sample: the initial state, increments on both sides of 0 and U,
    fresh noise of the same seed.
    """
    n = 131072
    like = torch.empty(1, n, dtype=torch.float64)
    answers = ask(BrownianPath(seeds, resolution=1), like, [(-1.0, 0.0), (0.0, 1.0)])
    path = [part[0] for answer in answers.values() for part in answer]
    fresh, integral = drawn(Gaussian(seeds), like, clock(0.0, 1.0))
    samples = torch.stack(
        [initial_state(seeds, (n,), torch.float64)[0], *path, fresh[0, 0], integral[0]]
    )
    pair = exact_covariance((0.0, 1.0), [(0.0, 1.0)])
    covariance = torch.block_diag(
        torch.eye(1, dtype=torch.float64), exact_covariance((-1.0, 0.0, 1.0), list(answers)), pair
    )
    assert worst_p_value(samples, covariance) > LEVEL


def test_seeds_and_leaves_are_independent():
    """Normals of neighbouring seeds, leaves and kinds: 12 values on each of 8 paths, n = 16384."""
    taus = [math.exp(i / 6) for i in range(-3, 4)]
    answers = ask(
        BrownianPath([0, 1, 2, 3, 2**32, 2**32 + 1, 2**33, 2**63]),
        torch.empty(8, 16384),
        list(itertools.pairwise(taus)),
    )
    samples = torch.stack(
        [part[i] for i in range(8) for answer in answers.values() for part in answer]
    )
    one = exact_covariance(taus, list(answers))
    assert worst_p_value(samples, torch.block_diag(*[one] * 8)) > LEVEL


@pytest.mark.parametrize("form", ["data", "noise", "precond"])
@pytest.mark.parametrize("schedule", [EDM(), VP()], ids=["edm", "vp"])
def test_pure_noise_ends_at_the_same_state_for_every_solver_and_number_of_steps(
    form: str, schedule
):
    """F = 0: x_t = (a_t/a_s) x_s + a_t [W(τ_t) − W(τ_s)], to 1e-10 (the noise form has τ < 0).

    In 10 steps and in 160; in one form of each sign of τ in 640 by the solver that asks for the
    most increments.
    """
    sigma_data = 0.5 if form == "precond" else None
    sde = reverse_sde(schedule, form, sigma_data=sigma_data)
    lam = torch.linspace(-math.log(60.0), -math.log(0.01), 641, dtype=torch.float64)
    fine = schedule.t_of_lam(lam)
    x = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 60
    path = BrownianPath([8, 9], resolution=2**20)
    s, t = fine[0], fine[-1]
    w = path.open(x).increments(sde.noise_clock(torch.stack([s, t])))[0]
    expected = sde.propagator(t) / sde.propagator(s) * x + sde.propagator(t) * w
    model = constant(schedule, sde.diffusion.prediction, 0.0, sigma_data)
    finest = 1 if isinstance(schedule, EDM) and form != "precond" else 4
    runs = [*itertools.product(["seeds-1", "seeds-2"], [64, 4]), ("seeds-3", 64)]
    runs.append(("seeds-3", finest))
    for solver, stride in runs:
        result = execute(compile_plan(sde, solver, fine[::stride]), model, x, path)
        torch.testing.assert_close(
            result, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max())
        )
    other = execute(
        compile_plan(sde, "seeds-1", fine[::64]), model, x, replace(path, seeds=[8, 10])
    )
    assert torch.equal(
        other[0], execute(compile_plan(sde, "seeds-1", fine[::64]), model, x, path)[0]
    )
    assert not torch.allclose(other[1], expected[1], rtol=1e-3)


@pytest.mark.parametrize("resolution", [1, 16])
def test_the_law_is_exact_inside_one_leaf(resolution: int):
    """n = 131072 of increments and integrals over times of one leaf, asked for in random order, two
    of which are 1e-6 apart.
    """
    width = math.expm1(1 / resolution)
    places = (0.1, 0.3, 0.3 + 1e-6 / width, 0.55, 0.9)
    assert law_p_value((1, 131072), [1 + width * place for place in places], resolution) > LEVEL


def test_times_inside_leaves_do_not_change_what_is_outside():
    """What is asked for inside a leaf sums to the exact increment across it."""
    path, like, inner = (
        BrownianPath([2]),
        torch.empty(1, 40, dtype=torch.float64),
        [1 + 0.001 * i for i in range(150)],
    )
    total = path.open(like).increments(clock(0.8, *inner, 2.0)).sum(0)
    torch.testing.assert_close(
        total, path.open(like).increments(clock(0.8, 2.0))[0], rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("theta", [1e-12, 1e-9, 0.1, 0.5, 0.77, 1 - 1e-9])
def test_a_bridge_is_a_rotation_that_keeps_the_integral(theta: float):
    """(ζ, R₁, R₂) from unit vectors R, Z₁, Z₂ are orthonormal, and the integrals over the two parts
    add up to that over the whole, to 1e-14.
    """
    whole, first, second = torch.eye(3, dtype=torch.float64)
    early, scratch = torch.empty(3, dtype=torch.float64), torch.empty(2, 3, dtype=torch.float64)
    split(whole, first, second, theta, early, scratch)
    found = torch.stack([first, early, second])
    torch.testing.assert_close(
        found @ found.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-14
    )
    q = theta * (1 - theta)
    total = math.sqrt(3 * q) * first + theta**1.5 * early + (1 - theta) ** 1.5 * second
    torch.testing.assert_close(total, whole, rtol=0, atol=1e-14)


@DTYPES
def test_tiny_intervals(dtype: torch.dtype):
    """Neighbouring floats and empty intervals: finite, of the size √Δτ, and exactly zero if
    empty.
    """
    opened = BrownianPath([7]).open(torch.empty(1, 100, dtype=dtype))
    for tau in (1e-300, 3e-5, math.exp(0.5), 1.0, 7.7, 1e9, -1.0, -1e-12):
        near = math.nextafter(tau, math.inf)
        for taus in ([tau, tau], [tau, near], [math.nextafter(tau, -math.inf), tau, near]):
            increments, integral = opened.increments(clock(*taus), space_time=True)
            length, rounding = (
                taus[-1] - taus[0],
                100 * torch.finfo(dtype).eps * math.sqrt(abs(tau)),
            )
            assert increments.abs().max() <= 6 * math.sqrt(length) + rounding
            # Coefficients inside a leaf are rounded relative to the leaf.
            assert (
                integral.abs().max()
                <= (6 * math.sqrt(length) + rounding) * length + 1e-15 * abs(tau) ** 1.5
            )
    increments, integral = opened.increments(clock(2.0, 2.0), space_time=True)
    assert not increments.any() and not integral.any()


def test_the_whole_range_of_float64():
    opened = BrownianPath([6]).open(torch.empty(1, 100, dtype=torch.float64))
    taus = (-1e200, -1.0, -5e-324, 0.0, 5e-324, 1e-310, 1e-160, 1e-20, 1.0, 1e100, 1e200)
    assert opened.increments(clock(*taus)).isfinite().all()
    assert opened.increments(clock(*taus), space_time=True)[1].isfinite().all()
    assert opened.increments(clock(0.0, 1.7e308)).isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "taus", "space_time", "message"),
    [
        (torch.float64, (-math.inf, -1.0), False, "no value at τ = -inf.*data form"),
        (torch.float64, (0.0, math.nan), False, "no value at τ = -inf"),  # a difference there
        (torch.float64, (1.0, 0.5), False, "must not decrease"),
        (torch.float32, (1.0, 1e80), False, "out of range.*float32"),
        (torch.float32, (1.0, 1e30), True, "out of range.*integral"),
        (torch.float64, (1.0, 1e250), True, "out of range.*integral"),
    ],
)
def test_times_that_cannot_be_served(
    dtype: torch.dtype, taus: tuple[float, ...], space_time: bool, message: str
):
    """Neither by the path nor, before it begins, in a run."""
    path, like = BrownianPath([6]), torch.empty(1, 3, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        path.open(like).increments(clock(*taus), space_time=space_time)
    fine, bad = clock(0.5, 0.9), clock(*taus)
    with pytest.raises(ValueError, match=message):
        path.stream(like, [SubstepNoise(1, False, fine), SubstepNoise(1, space_time, bad)])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="resolution must be from 1 to 1048576, got 0"):
        BrownianPath([1], resolution=0)
    with pytest.raises(TypeError, match=r"resolution is an integer.*got 2.5"):
        BrownianPath([1], resolution=2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="2 seeds came for a state of shape"):
        BrownianPath([1, 2]).stream(torch.empty(3, 2), [])
    with pytest.raises(ValueError, match="0 <= seed"):
        BrownianPath([-1])


def test_half_precision_states_see_the_float32_path():
    taus = clock(0.1, 0.5, 3.0)
    exact = BrownianPath([1, 2]).open(torch.empty(2, 7)).increments(taus)
    for dtype in (torch.float16, torch.bfloat16):
        half = (
            BrownianPath([1, 2], device="cpu").open(torch.empty(2, 7, dtype=dtype)).increments(taus)
        )
        assert half.dtype == dtype and torch.equal(half, exact.to(dtype))


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="compares a CPU with a GPU, and there is no GPU here"
)
def test_a_path_on_the_cpu_is_the_same_for_states_on_a_gpu():
    taus, path = clock(-0.1, 0.5, 3.0), BrownianPath([1, 2], device="cpu")
    there = path.open(torch.empty(2, 7, device="cuda")).increments(taus, space_time=True)
    here = path.open(torch.empty(2, 7)).increments(taus, space_time=True)
    assert all(a.is_cuda and torch.equal(a.cpu(), b) for a, b in zip(there, here, strict=True))


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (3, 1)])
def test_diagonal_noise_clock(shape: tuple[int, int]):
    """Every component is the scalar query on its own clock."""
    path, like = BrownianPath([1, 2]), torch.empty(2, 3, 4, dtype=torch.float64)
    scales = torch.arange(1.0, 1 + math.prod(shape)).reshape(shape).double()
    taus = clock(0.2, 0.9, 1.4)[:, None, None] * scales
    increments, integral = (
        part.clone() for part in path.open(like).increments(taus, space_time=True)
    )
    assert torch.equal(path.open(like).increments(taus), increments)
    for i, k in itertools.product(range(3), range(4)):
        column = taus.expand(3, 3, 4)[:, i, k]
        single = path.open(like).increments(column, space_time=True)
        assert torch.equal(increments[..., i, k], single[0][..., i, k]) and torch.equal(
            integral[..., i, k], single[1][..., i, k]
        )


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("resolution", [None, 4, 64])
def test_how_many_numbers_a_run_draws(
    resolution: int | None, shuffle: bool, monkeypatch: pytest.MonkeyPatch
):
    """50 steps in λ, in either direction. For n leaves per step 2 + log₂ n Gaussians per step, with
    integrals twice that, and at most a fifth more for roots and for what is not kept; in random
    order at most twice as many.
    """
    drawn, fill = 0, Streams.normals

    def count(streams: Streams, out: Tensor) -> None:
        nonlocal drawn
        drawn += out.numel()
        fill(streams, out)

    monkeypatch.setattr(Streams, "normals", count)
    like = torch.empty(1, 1025)
    taus = torch.exp(-2 * torch.linspace(math.log(80), math.log(0.002), 51, dtype=torch.float64))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1)).tolist()
    leaves = max(1.0, (resolution or 1) * math.log(40_000) / 25)
    for clocks, integral in itertools.product((taus, -taus.flip(0)), (False, True)):
        run = [SubstepNoise(1, integral, pair) for pair in clocks.unfold(0, 2, 1)]
        drawn, source = 0, BrownianPath([1], resolution, integral=integral)
        stream = source.stream(like, run)
        for k in order if shuffle else range(50):
            list(stream.normals(run[k]))
        most = (2 + math.log2(leaves)) * (1 + integral) * (2.0 if shuffle else 1.2)
        assert 50 * like.numel() < drawn <= most * 50 * like.numel()


class Storages(TorchDispatchMode):
    """The bytes of the storages that are made while it is on, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.alive:
                    self.alive[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, storage._cdata)
                    self.peak = max(self.peak, sum(self.alive.values()))
        return result


@pytest.mark.parametrize(("resolution", "most"), [(None, 12), (64, 22)])
@pytest.mark.parametrize("grid", ["karras", "uniform_lambda"])
def test_how_many_states_a_path_holds_in_a_run(resolution: int | None, most: int, grid: str):
    """In runs of 10 and 50 steps of seeds-3, the three normals of a step among them; a stated
    resolution has twice the depth, and carries integrals."""
    like = torch.empty(1, 3 * 2**15)
    for steps in (10, 50):
        run = plan_sampling(EDM(), "seeds-3", steps=steps, grid=grid).run
        with Storages() as storages:
            stream = BrownianPath([1], resolution).stream(like, run)
            for substep in run:
                list(stream.normals(substep))
        assert 3 < storages.peak / like.nbytes <= most


# Standard normals: what a run is given of a path, and the integral U of the other sources


@pytest.mark.parametrize(
    "taus", [(0.0, 1.0), (0.5, 1.0, 1.2, 3.0)], ids=["one interval", "three intervals"]
)
@pytest.mark.parametrize("kind", ["gaussian", "replay", "path", "union"])
def test_law_of_the_integral_over_several_intervals(kind: str, taus: tuple[float, ...]):
    """n = 131072: the covariance of all increments of one substep and U over the whole, and that
    its normals are independent of unit variance; each at the corrected level 1e-6.
    """
    n, count = 131072, len(taus) - 1
    like = torch.empty(1, n, dtype=torch.float64)
    normals = torch.randn(
        2 * count, 1, n, dtype=torch.float64, generator=torch.Generator().manual_seed(4)
    )
    sources = {
        "gaussian": Gaussian([3]),
        "replay": Replay(normals),
        "path": BrownianPath([3], resolution=8),
        "union": UnionPath([3], taus),
    }
    substep = SubstepNoise(count, integral=True, nodes=clock(*taus))
    given = list(sources[kind].stream(like, [substep]).normals(substep))
    assert worst_p_value(torch.cat(given), torch.eye(count + 1, dtype=torch.float64)) > LEVEL
    increments, integral = recombined(given, clock(*taus))
    cells = list(itertools.pairwise(taus))
    covariance = exact_covariance(taus, [*cells, (taus[0], taus[-1])])
    keep = [*range(0, 2 * count, 2), 2 * count + 1]  # increments of the cells, U of the whole
    assert worst_p_value(torch.cat([increments[:, 0], integral]), covariance[keep][:, keep]) > LEVEL


def paths(shape: tuple[int, ...], taus: Sequence[float]) -> dict[str, PathSource]:
    found: dict[str, PathSource] = {
        "BrownianPath": BrownianPath(range(shape[0]), resolution=8),
        "UnionPath": UnionPath(range(shape[0]), taus),
    }
    if importlib.util.find_spec("torchsde"):
        found["FromTorchsde"] = FromTorchsde(interval(shape))
    return found


@pytest.mark.parametrize("name", ["BrownianPath", "UnionPath", "FromTorchsde"])
def test_normals_of_a_path_recombine_to_its_increments_and_integral(name: str):
    """To 1e-12, in a run of substeps of one and of three intervals, with and without U."""
    taus = (0.05, 0.3, 0.9, 1.3, 2.1, 7.7)
    like, found = torch.empty(2, 40, dtype=torch.float64), paths((2, 40), taus)
    if name not in found:
        pytest.skip("needs torchsde")
    run = [
        SubstepNoise(1, False, clock(*taus[:2])),
        SubstepNoise(3, True, clock(*taus[1:5])),
        SubstepNoise(1, True, clock(*taus[4:])),
    ]
    stream, opened = found[name].stream(like, run), found[name].open(like)
    for substep in run:
        times, normals = substep.times, [z.clone() for z in stream.normals(substep)]
        assert times is not None and len(normals) == substep.normals
        steps, integral = opened.increments(times, space_time=True)
        kept = normals if substep.integral else [*normals, torch.zeros_like(like)]
        found_steps, found_integral = recombined(kept, times)
        torch.testing.assert_close(found_steps, steps, rtol=1e-12, atol=1e-12)
        if substep.integral:
            torch.testing.assert_close(found_integral, integral, rtol=1e-12, atol=1e-12)


def test_normals_of_a_path_on_a_diagonal_clock():
    """Column by column those of the scalar clock, and 0 where an interval has no length."""
    like = torch.empty(2, 3, dtype=torch.float64)
    path = BrownianPath([1, 2], resolution=8)
    taus = clock(0.2, 0.9, 1.4)[:, None] * clock(1.0, 2.0, 5.0)
    taus[1, 2] = taus[0, 2]
    for integral in (False, True):
        whole = SubstepNoise(2, integral, taus)
        normals = [z.clone() for z in path.stream(like, [whole]).normals(whole)]
        for i in range(3):
            column = SubstepNoise(2, integral, taus[:, i].contiguous())
            single = path.stream(like, [column]).normals(column)
            for found, expected in zip(normals, single, strict=True):
                torch.testing.assert_close(found[:, i], expected[:, i], rtol=1e-13, atol=1e-13)
        assert not normals[0][:, 2].any() and normals[0][:, :2].all()


def test_noise_that_is_not_of_the_path_is_refused():
    """Churn, say, which has no place in the noise clock."""
    run = [SubstepNoise(1, False, clock(1.0, 2.0)), SubstepNoise(1)]
    with pytest.raises(ValueError, match=r"not part of the path.*BrownianPath cannot give"):
        BrownianPath([1]).stream(torch.empty(1, 2), run)


def test_fresh_integrals_leave_the_increments_alone_and_repeat():
    """In runs that use as many normals: how they are drawn depends on that number."""
    like = torch.empty(2, 5, dtype=torch.float64)
    alone, both = SubstepNoise(2), SubstepNoise(2, integral=True)

    def normals(asked: SubstepNoise) -> list[Tensor]:
        stream = Gaussian([1, 2]).stream(like, [both] * 2)
        return [z.clone() for _ in range(2) for z in stream.normals(asked)]

    found = normals(both)
    assert all(map(torch.equal, [*found[:2], *found[3:5]], normals(alone)))
    assert torch.equal(found[2], normals(both)[2]) and not torch.equal(found[2], found[5])


def test_fresh_integral_on_a_diagonal_clock():
    """Column by column the scalar answer from the same normals."""
    normals = torch.randn(4, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    scales = clock(1.0, 2.0, 5.0)
    taus, like = clock(0.2, 0.9, 1.4), torch.empty(1, 3, dtype=torch.float64)
    integral = drawn(Replay(normals), like, taus[:, None] * scales)[1]
    for i in range(3):
        single = drawn(Replay(normals), like, taus * scales[i])[1]
        torch.testing.assert_close(integral[:, i], single[:, i], rtol=1e-13, atol=0)


def test_rademacher_refuses_the_integral():
    with pytest.raises(
        ValueError,
        match=r"Rademacher noise has no space-time integral.*Gaussian or expint.noise.BrownianPath",
    ):
        Rademacher([1]).stream(torch.empty(1, 2), [SubstepNoise(1), SubstepNoise(1, integral=True)])


# torchsde

torchsde = pytest.importorskip("torchsde")


def interval(size: tuple[int, ...], levy: str = "space-time", **options):
    return torchsde.BrownianInterval(
        0.01,
        10.0,
        size=size,
        dtype=torch.float64,
        entropy=5,
        levy_area_approximation=levy,
        **options,
    )


def test_torchsde_integral_is_ours():
    """Chen's relation with U = ∫ [W − W(a)] dτ holds across torchsde's answers, and U is the
    integral of its W.
    """
    taus = (0.01, 0.6, 1.1, 4.0)
    answers = ask(
        FromTorchsde(interval((2, 6))), torch.empty(2, 6, dtype=torch.float64), all_queries(taus)
    )
    cells = torch.stack([part for query in itertools.pairwise(taus) for part in answers[query]])
    for query, answer in answers.items():
        expected = torch.einsum("ak,kbe->abe", by_chen(taus, query), cells)
        torch.testing.assert_close(torch.stack(answer), expected, rtol=1e-9, atol=1e-9)
    opened = FromTorchsde(interval((1, 2000))).open(torch.empty(1, 2000, dtype=torch.float64))
    _, integral = opened.increments(clock(1.0, 1.5), space_time=True)
    fine = opened.increments(torch.linspace(1.0, 1.5, 65, dtype=torch.float64)).cumsum(0)
    riemann = (fine.sum(0) - 0.5 * fine[-1]) * 0.5 / 64
    assert (
        riemann - integral
    ).std() < 0.02 * integral.std()  # the trapezoidal rule's error is √(1/4) n^(-1) of it


def test_torchsde_interval_drives_a_run():
    """F = 0 ends at the same state as its own W says, and a clock outside the interval is
    refused.
    """
    sde, x = reverse_sde(EDM()), torch.ones(2, 3, dtype=torch.float64)
    source = FromTorchsde(interval((2, 3)))
    result = execute(
        compile_plan(sde, "seeds-2", [5.0, 2.0, 0.5]), constant(EDM(), "data", 0.0), x, source
    )
    expected = (0.5 / 5.0) ** 2 * x + 0.5**2 * source.interval(0.04, 4.0)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match=r"does not cover the noise clock from 4 to 25"):
        execute(
            compile_plan(sde, "seeds-1", [5.0, 0.5, 0.2]), constant(EDM(), "data", 0.0), x, source
        )


def test_torchsde_interval_that_does_not_fit():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), dtype torch.float64"):
        FromTorchsde(interval((2, 3))).stream(torch.empty(2, 4), [])
    plain = FromTorchsde(interval((2, 3), levy="none"))
    run = [SubstepNoise(1, integral=True, nodes=clock(1.0, 2.0))]
    with pytest.raises(ValueError, match="levy_area_approximation='space-time'"):
        plain.stream(torch.empty(2, 3, dtype=torch.float64), run)


def test_torchsde_interval_on_a_diagonal_clock():
    opened = FromTorchsde(interval((1, 2))).open(torch.empty(1, 2, dtype=torch.float64))
    increments = opened.increments(torch.tensor([[0.1, 0.2], [1.0, 3.0]], dtype=torch.float64))
    assert torch.equal(increments[0, :, 0], opened.increments(clock(0.1, 1.0))[0, :, 0])
    assert torch.equal(increments[0, :, 1], opened.increments(clock(0.2, 3.0))[0, :, 1])


class Growth:
    """dX = 0.4 X dt + 0.5 X dW, solved by X_0 exp((0.4 − 1/8) t + 0.5 W)."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.4 * y

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.5 * y


@pytest.mark.parametrize(("method", "order"), [("euler", 0.5), ("milstein", 1.0), ("srk", 1.5)])
def test_a_path_drives_torchsde(method: str, order: float):
    """Strong order against the exact solution on the same path, from 2 levels of steps: srk reaches
    1.5 only with the right U.
    """
    bm = AsTorchsde(BrownianPath(range(64), resolution=2**11), (64, 8), torch.float64)
    y0 = torch.ones(64, 8, dtype=torch.float64)
    exact = torch.exp((0.4 - 0.125) * 1.0 + 0.5 * bm(1.0, 2.0))
    errors = []
    for dt in (2**-4, 2**-7):
        end = torchsde.sdeint(Growth(), y0, clock(1.0, 2.0), bm=bm, method=method, dt=dt)[
            -1
        ].detach()
        errors.append(float((end - exact).square().mean().sqrt()))
    assert math.log2(errors[0] / errors[1]) / 3 == pytest.approx(order, abs=0.15)


def test_as_torchsde_answers_like_a_brownian_motion_of_torchsde():
    path = BrownianPath([1, 2])
    bm = AsTorchsde(path, (2, 3), torch.float64)
    increments, integral = path.open(torch.empty(2, 3, dtype=torch.float64)).increments(
        clock(0.5, 2.0), space_time=True
    )
    w, u = bm(torch.tensor(0.5), torch.tensor(2.0), return_U=True)
    kept = w.clone()
    assert torch.equal(w, increments[0]) and torch.equal(u, integral)
    assert torch.equal(bm(2.0), bm(0.0, 2.0)) and torch.equal(w, kept)
    assert (
        bm(0.5, 2.0, return_A=True)[1] is None
        and bm(0.5, 2.0, return_U=True, return_A=True)[2] is None
    )
    assert (
        bm.shape == bm.size() == (2, 3) and bm.dtype == torch.float64 and "BrownianPath" in repr(bm)
    )
    with pytest.raises(
        ValueError, match="Gaussian noise gives other numbers when it is asked again"
    ):
        AsTorchsde(Gaussian([1, 2]), (2, 3))
