"""Noise sources: a sample depends on its own seed only, streams are independent, and the law is the
one that is promised.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from expint import noise
from expint.noise import (
    BrownianPath,
    FromGenerators,
    Gaussian,
    Rademacher,
    Replay,
    SubstepNoise,
    UnionPath,
    initial_state,
)

SEEDED: dict[str, Callable[[Sequence[int]], noise.NoiseSource]] = {
    "gaussian": Gaussian,
    "rademacher": Rademacher,
}
every_source = pytest.mark.parametrize("source", SEEDED.values(), ids=SEEDED.keys())
THREE = SubstepNoise(3)


def draw(
    source: noise.NoiseSource, shape: tuple[int, ...], substep: SubstepNoise = THREE, calls: int = 3
) -> torch.Tensor:
    """All normals of a run, copied, since a stream may use its memory again: shape
    (calls · normals, *shape).
    """
    stream = source.stream(torch.empty(shape, dtype=torch.float64), [substep] * calls)
    return torch.cat([torch.stack(list(stream.normals(substep))) for _ in range(calls)])


@every_source
@pytest.mark.parametrize(
    ("event", "calls"), [((), 3), ((2,), 3), ((37,), 700), ((3, 8, 8), 3), ((200, 200), 3)]
)
def test_a_sample_does_not_depend_on_its_batch(
    source: Callable[[Sequence[int]], noise.NoiseSource], event: tuple[int, ...], calls: int
):
    together = draw(source([3, 1, 4, 15]), (4, *event), calls=calls)
    for i, seed in enumerate([3, 1, 4, 15]):
        assert torch.equal(draw(source([seed]), (1, *event), calls=calls)[:, 0], together[:, i])
    assert torch.equal(draw(source([15, 3]), (2, *event), calls=calls), together[:, [3, 0]])
    assert torch.equal(
        initial_state([15, 3], event, torch.float64),
        initial_state([3, 1, 4, 15], event, torch.float64)[[3, 0]],
    )


@every_source
def test_two_runs_of_one_source_are_equal_and_other_seeds_differ(
    source: Callable[[Sequence[int]], noise.NoiseSource],
):
    first = source([7, 8])
    assert torch.equal(draw(first, (2, 50)), draw(first, (2, 50)))
    assert torch.equal(draw(first, (2, 50)), draw(source([7, 8]), (2, 50)))
    both = draw(first, (2, 50))
    assert not torch.equal(both[:, 0], both[:, 1])
    assert not torch.equal(both[0], both[3])  # a later step does not repeat the first


@every_source
def test_a_large_number_of_steps_has_no_repeats(
    source: Callable[[Sequence[int]], noise.NoiseSource],
):
    rows = draw(source([5]), (1, 64), SubstepNoise(1), calls=1500)[:, 0]
    assert len(torch.unique(rows, dim=0)) == 1500


def correlation_bound(n: int) -> float:
    return 5 / math.sqrt(n)


@pytest.mark.parametrize("seeds", [[0], [1], [2**31], [2**40 + 3]])
def test_initial_state_and_path_are_independent(seeds: list[int]):
    """n = 40000 pairs, 5 sigma; nor does either hold two neighbours of the other (single float32
    numbers meet by chance)."""
    n = 40_000
    start = initial_state(seeds, (n,), torch.float64)[0]
    path = draw(Gaussian(seeds), (1, n), SubstepNoise(1), calls=1)[0, 0]
    assert abs(float((start * path).mean())) < correlation_bound(n)
    neighbours = [z[:-1].numpy() + 1j * z[1:].numpy() for z in (start, path)]
    assert not np.intersect1d(*neighbours).size


def test_neighbouring_seeds_are_independent():
    n = 40_000
    states = initial_state([0, 1, 2, 2**32, 2**32 + 1, 2**33 + 2], (n,), torch.float64)
    covariance = states @ states.T / n - torch.eye(6, dtype=torch.float64)
    assert covariance.abs().max() < 5 * math.sqrt(2 / n)


def test_gaussian_law():
    """n = 200000 per normal, that of U among them; mean, variance, fourth moment and correlations
    each within 5 standard errors of the exact law.
    """
    n = 200_000
    z = draw(Gaussian([11]), (1, n), SubstepNoise(3, integral=True), calls=1)[:, 0]
    assert len(z) == 4
    assert (z.mean(1).abs() < 5 / math.sqrt(n)).all()
    assert ((z**2).mean(1) - 1).abs().max() < 5 * math.sqrt(2 / n)
    assert ((z**4).mean(1) - 3).abs().max() < 5 * math.sqrt(96 / n)
    covariance = z @ z.T / n
    assert (covariance - torch.diag(covariance.diag())).abs().max() < 5 / math.sqrt(n)


def test_rademacher_signs_are_fair():
    """n = 200000 signs: mean 0 within 5 sigma (thresholding normals at 0.5, as has been published,
    has mean −0.38).
    """
    n = 200_000
    z = draw(Rademacher([11]), (1, n), calls=1)[:, 0]
    assert torch.equal(z.abs(), torch.ones_like(z))
    assert (z.mean(1).abs() < 5 / math.sqrt(n)).all()
    assert abs(float((z[0] * z[1]).mean())) < 5 / math.sqrt(n)


@every_source
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_have_the_dtype_of_the_state(
    source: Callable[[Sequence[int]], noise.NoiseSource], dtype: torch.dtype
):
    result = list(source([1, 2]).stream(torch.empty(2, 3, dtype=dtype), [THREE]).normals(THREE))
    assert len(result) == 3
    assert all(state.dtype == dtype and state.shape == (2, 3) for state in result)
    assert initial_state([1, 2], (3,), dtype).dtype == dtype


@every_source
def test_normals_do_not_depend_on_the_noise_times(
    source: Callable[[Sequence[int]], noise.NoiseSource],
):
    """Fresh noise is scaled by the plan alone: no nodes, a scalar clock and a diagonal one, whose
    times may coincide, all have the same normals.
    """
    scalar = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    diagonal = torch.tensor([[0.0, 0.0], [1.0, 4.0], [1.0, 20.0]], dtype=torch.float64)
    plain = draw(source([1, 2]), (2, 2), SubstepNoise(2))
    for nodes in (scalar, diagonal, lambda: diagonal):
        assert torch.equal(draw(source([1, 2]), (2, 2), SubstepNoise(2, False, nodes)), plain)


def test_replay_gives_back_what_it_holds_in_order():
    normals = torch.arange(12, dtype=torch.float64).reshape(6, 1, 2)
    for substep in (THREE, SubstepNoise(2, integral=True)):
        stream = Replay(normals).stream(torch.empty(1, 2, dtype=torch.float64), [substep] * 2)
        assert torch.equal(torch.stack(list(stream.normals(substep))), normals[:3])
        assert torch.equal(torch.stack(list(stream.normals(substep))), normals[3:])
        with pytest.raises(ValueError, match="Replay holds 6 standard normals and all are used up"):
            stream.normals(substep)
    assert torch.equal(normals, torch.arange(12, dtype=torch.float64).reshape(6, 1, 2))


@pytest.mark.parametrize(
    "kind", [list, np.asarray, lambda z: [torch.as_tensor(v) for v in z], torch.as_tensor]
)
def test_replay_takes_arrays_and_sequences(kind: Callable[[np.ndarray], object]):
    normals = np.arange(8, dtype=np.float64).reshape(4, 2, 1)
    assert torch.equal(Replay(kind(normals)).normals, torch.as_tensor(normals))


def test_replay_says_before_the_run_what_does_not_fit():
    source = Replay(torch.zeros(3, 4, 2))
    with pytest.raises(ValueError, match="This run uses 5 standard normals, but Replay holds 3"):
        source.stream(torch.empty(4, 2), [THREE, SubstepNoise(1, integral=True)])
    with pytest.raises(
        ValueError, match=r"normals of shape \(4, 2\), but the state has shape \(2, 4\)"
    ):
        source.stream(torch.empty(2, 4), [THREE])
    with pytest.raises(ValueError, match="Replay holds 0"):
        Replay([]).stream(torch.empty(2, 4), [SubstepNoise(1)])
    with pytest.raises(ValueError, match="contain NaN or infinity"):
        Replay([[[float("nan")]]])


@every_source
@pytest.mark.parametrize(
    ("seeds", "error", "message"),
    [
        ([1, -2], ValueError, r"0 <= seed < 2\*\*64, got -2"),
        ([2**64], ValueError, "got 18446744073709551616"),
        ([1.0], ValueError, r"got 1\.0"),
        ([True], ValueError, "got True"),
        ("12", TypeError, "seeds are a sequence of integers, one per sample, got '12'"),
        (True, TypeError, "got True"),
        (None, TypeError, "got None"),
        (1.5, TypeError, r"got 1\.5"),
        (7, TypeError, r"got 7: the samples of run n have the seeds .*per_sample\(n, batch\)"),
    ],
)
def test_seeds_that_are_refused(
    source: Callable[[object], object], seeds: object, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        source(seeds)
    with pytest.raises(error, match=message):
        initial_state(seeds, (2,), torch.float32)  # type: ignore[arg-type]


@every_source
def test_kinds_of_seeds(source: Callable[[object], noise.NoiseSource]):
    reference = draw(source([2, 3]), (2, 4))
    for seeds in (range(2, 4), (2, 3), torch.tensor([2, 3])):
        assert torch.equal(draw(source(seeds), (2, 4)), reference)


@every_source
def test_one_seed_per_sample(source: Callable[[Sequence[int]], noise.NoiseSource]):
    with pytest.raises(
        ValueError, match=r"3 seeds came for a state of shape \(4, 2\): give 4 seeds"
    ):
        source([1, 2, 3]).stream(torch.empty(4, 2), [])


def test_identities_are_equal_for_sources_of_the_same_numbers_only():
    """What a saved run must have in common with the one that it continues."""

    def sources() -> list[noise.NoiseSource]:
        numbers = torch.arange(4.0).reshape(2, 2, 1)
        return [
            Gaussian([1, 2]),
            Gaussian([1, 3]),
            Gaussian([1, 2], device="cpu"),
            Rademacher([1, 2]),
            Replay(numbers),
            Replay(numbers + 1e-6),
            BrownianPath([1, 2]),
            BrownianPath([1, 2], resolution=7),
            BrownianPath([1, 2], device="cpu"),
            UnionPath([1, 2], [1.0, 2.0]),
            UnionPath([1, 2], [1.0, 2.5]),
            FromGenerators(torch.Generator().manual_seed(1)),
            FromGenerators(torch.Generator().manual_seed(2)),
        ]

    first, again = ([source.identity for source in sources()] for _ in range(2))  # type: ignore[attr-defined]
    assert first == again and len(set(first)) == len(first)
    assert all(isinstance(identity, str) and identity for identity in first)


def test_generators_go_on_from_where_they_stand():
    generator = torch.Generator().manual_seed(1)
    source = FromGenerators(generator)
    like, before = torch.empty(2, 3), source.identity
    first = torch.stack(list(source.stream(like, [THREE]).normals(THREE)))
    assert source.identity != before
    second = torch.stack(list(source.stream(like, [THREE]).normals(THREE)))
    again = torch.Generator().manual_seed(1)
    drawn = torch.stack([torch.randn(2, 3, generator=again) for _ in range(6)])
    assert torch.equal(torch.cat([first, second]), drawn)
    assert source.identity == FromGenerators(again).identity


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="compares a CPU with a GPU, and there is no GPU here"
)
@every_source
def test_numbers_drawn_on_the_cpu_are_the_same_for_states_on_a_gpu(
    source: Callable[..., noise.NoiseSource],
):
    here, there = torch.empty(2, 7), torch.empty(2, 7, device="cuda")
    expected = list(source([1, 2]).stream(here, [THREE]).normals(THREE))
    found = source([1, 2], device="cpu").stream(there, [THREE]).normals(THREE)
    assert all(a.is_cuda and torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))
    own = list(source([1, 2]).stream(there, [THREE]).normals(THREE))
    assert all(a.is_cuda for a in own)
    torch.testing.assert_close(own[0].cpu(), expected[0], rtol=0, atol=1e-5)
