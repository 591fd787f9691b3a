"""Counter-based numbers: the published words, their law, and one law for all dtypes, devices and
batches."""

import math

import numpy as np
import pytest
import torch

from expint.noise import Gaussian, Rademacher, SubstepNoise, initial_state, per_sample
from expint.noise.counter import Streams, hash64
from expint.noise.source import INITIAL_STREAM, INTEGRAL_STREAM, PATH_STREAM

CPU = torch.device("cpu")
STREAMS = (INITIAL_STREAM, PATH_STREAM, INTEGRAL_STREAM)


def test_words_are_those_of_splitmix64():
    """The first outputs for the seed 1234567, as published with other implementations."""
    increment = np.uint64(0x9E3779B97F4A7C15)
    words = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * increment
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert hash64(words.view(np.int64)).view(np.uint64).tolist() == published
    tensor = hash64(torch.from_numpy(words.view(np.int64).copy() * 0 + 5))
    assert tensor.tolist() == hash64(np.full(3, 5)).tolist()


def by_torch(streams: Streams) -> Streams:
    """The same streams, computed as on a GPU."""
    streams._on_cpu = False
    streams._keys = torch.from_numpy(streams._keys)
    streams._increments = torch.from_numpy(streams._increments)
    return streams


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 1, 3, 7, 7), (1, 2, 70_001), (5, 3)])
def test_other_devices_have_the_same_numbers(shape: tuple[int, ...]):
    """Signs bit for bit, normals to the rounding of log and cos."""
    first, second = torch.empty(shape), torch.empty(shape)
    for draw, tolerance in ((Streams.signs, 0.0), (Streams.normals, 3e-6)):
        here = Streams(range(shape[0]), 5, CPU)
        there = by_torch(Streams(range(shape[0]), 5, CPU))
        for _ in range(2):
            draw(here, first)
            draw(there, second)
            torch.testing.assert_close(first, second, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("event", [(2,), (37,), (3, 16, 16)])
def test_all_dtypes_have_the_same_numbers(dtype: torch.dtype, event: tuple[int, ...]):
    seeds, ask = [3, 4], SubstepNoise(2, integral=True)
    expected = initial_state(seeds, event, torch.float32)
    assert torch.equal(initial_state(seeds, event, dtype), expected.to(dtype))
    for source in (Gaussian(seeds), Gaussian(seeds, "cpu")):
        like = torch.empty(2, *event)
        pairs = [source.stream(x, [ask]).normals(ask) for x in (like, like.to(dtype))]
        assert all(torch.equal(a.to(dtype), b) for a, b in zip(*pairs, strict=True))


@pytest.mark.parametrize("kind", [Gaussian, Rademacher])
@pytest.mark.parametrize("event", [(2,), (37,), (300, 300)])
def test_numbers_do_not_depend_on_how_far_ahead_they_are_drawn(kind: type, event: tuple[int, ...]):
    """Nor on which others of them are asked for together, or on the rest of the batch."""
    one, two = SubstepNoise(1), SubstepNoise(2)
    like = torch.empty(3, *event)
    runs = [([one] * 6, like), ([two, one, two, one], like), ([one, two, one, two], like[:1])]
    found = []
    for run, state in runs:
        stream = kind([5, 6, 7][: len(state)]).stream(state, run)
        found.append(torch.cat([torch.stack(list(stream.normals(ask))) for ask in run])[:, :1])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    stream = kind([5, 6, 7]).stream(like, [])  # a stream that does not know how long the run is
    again = torch.stack([next(iter(stream.normals(one))) for _ in range(6)])
    assert torch.equal(again[:, :1], found[0])


def test_no_generator_per_sample(monkeypatch: pytest.MonkeyPatch):
    """Which would take 5 kB and 10 µs for each sample."""
    monkeypatch.setattr(torch, "Generator", None)
    ask = SubstepNoise(1, integral=True)
    list(Gaussian(range(20_000)).stream(torch.empty(20_000, 2), [ask]).normals(ask))
    assert initial_state(range(3), (2,), torch.float32).shape == (3, 2)


def test_100000_samples_have_different_keys_and_increments_are_irregular():
    """In all streams of one run. Keys of 32 bits would meet once on average, in each of them."""
    seeds = per_sample(0, 100_000)
    keys = []
    for stream in STREAMS:
        opened = Streams(seeds, stream, CPU)
        keys.append(opened._keys)
        bits = np.unpackbits(opened._increments[:200].view(np.uint8), bitorder="little", axis=1)
        assert (bits[:, 0] == 1).all() and (np.diff(bits.astype(int), axis=1) != 0).sum(
            1
        ).min() > 23
    assert len(np.unique(np.concatenate(keys))) == 300_000


def kolmogorov(z: np.ndarray) -> float:
    """√n times the largest distance from the normal distribution function."""
    z = np.sort(z)
    level = torch.special.ndtr(torch.from_numpy(z)).numpy()
    steps = np.arange(len(z) + 1) / len(z)
    return math.sqrt(len(z)) * max(np.max(steps[1:] - level), np.max(level - steps[:-1]))


@pytest.mark.parametrize("arranged", ["one sample", "neighbouring seeds", "samples of a run"])
def test_law_of_the_normals(arranged: str):
    """n = 400,000, 5 sigma: four moments, correlations of neighbours (of numbers and of their
    squares), and Kolmogorov's statistic, whose tail 2 exp(−2 s²) is 6e-7 at 2.74."""
    n = 400_000
    seeds = {"one sample": [11], "neighbouring seeds": range(n // 2), "samples of a run": None}
    chosen = per_sample(5, n // 2) if seeds[arranged] is None else seeds[arranged]
    z = torch.empty(len(chosen), 1, n // len(chosen), dtype=torch.float64)
    Streams(chosen, PATH_STREAM, CPU).normals(z)
    z = z.flatten()
    bound = 5 / math.sqrt(n)
    assert z.mean().abs() < bound
    assert (z.square().mean() - 1).abs() < math.sqrt(2) * bound
    assert (z**3).mean().abs() < math.sqrt(15) * bound
    assert (z**4).mean().sub(3).abs() < math.sqrt(96) * bound
    squares = (z.square() - 1) / math.sqrt(2)
    for lag in (1, 2, 3, 4, 64, n // 2):
        assert (z[lag:] * z[:-lag]).sum().abs() < 5 * math.sqrt(n - lag)
        assert (squares[lag:] * squares[:-lag]).sum().abs() < 5 * math.sqrt(n - lag) * 1.1
        assert (squares[lag:] * z[:-lag]).sum().abs() < 5 * math.sqrt(n - lag)
    assert kolmogorov(z.numpy()) < 2.74


def test_bits_of_neighbouring_seeds_are_independent():
    """Signs of 64 seeds that differ in one bit, n = 20,000 each: all 2016 correlations within 6
    sigma (the largest of them is beyond it with probability 4e-6)."""
    n = 20_000
    z = torch.empty(64, 1, n)
    Streams([1 << k for k in range(64)], PATH_STREAM, CPU).signs(z)
    products = (z[:, 0] @ z[:, 0].T).fill_diagonal_(0.0)
    assert products.abs().max() < 6 * math.sqrt(n)
