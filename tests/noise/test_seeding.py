"""The law of seeds: an integer is a run, its sample i a function of (n, i); a list has a seed for
each sample."""

import numpy as np
import pytest
import torch

from expint.noise import per_sample


def test_a_run_and_its_neighbours_share_no_seed():
    """64-bit seeds: of 32 bits, 2.3 million would meet 600 times."""
    runs = [per_sample(n, 100_000) for n in (*range(20), 2**32, 2**63, 2**64 - 1)]
    assert len(set().union(*runs)) == len(runs) * 100_000
    assert not set(runs[0]) & set(range(1000))  # nor are they small, as those in lists often are
    assert all(0 <= seed < 2**64 for seed in runs[-1])


def test_seeds_of_a_run_are_recorded():
    """They must never change: manifests of samples name them."""
    assert per_sample(0, 2) == (5476333178966447588, 4119894785640155684)
    assert per_sample(2**64 - 1, 1, start=2**32 - 1) == (18196291670101786683,)


@pytest.mark.parametrize("run", [0, 7, 2**40 + 3])
def test_part_of_a_run(run: int):
    whole = per_sample(run, 10)
    assert per_sample(run, 4, start=3) == whole[3:7] and per_sample(run, 1) == whole[:1]
    assert per_sample(np.int64(run), 10) == whole
    assert per_sample(None, 10) == per_sample(0, 10)


@pytest.mark.parametrize("seeds", [[4, 9], (4, 9), range(4, 14, 5), torch.tensor([4, 9])])
def test_a_seed_for_each_sample(seeds: object):
    assert per_sample(None, 2, seeds=seeds) == (4, 9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": [1, 2]}, TypeError, r"seed is one integer, the run, got \[1, 2\]: .*seeds=\["),
        ({"seed": range(2)}, TypeError, "seed is one integer"),
        ({"seed": True}, TypeError, "got True"),
        ({"seed": 1.0}, TypeError, r"got 1\.0"),
        ({"seed": -1}, ValueError, r"0 <= seed < 2\*\*64, got -1"),
        ({"seed": "1"}, TypeError, "got '1'"),
        ({"seed": 1, "seeds": [1, 2]}, ValueError, "seed=1 belongs to a run, and seeds give each"),
        ({"seeds": [1, 2], "start": 1}, ValueError, "start=1 belongs to a run"),
        ({"seeds": [1, 2, 3]}, ValueError, "3 seeds came for a batch of 2"),
        ({"seeds": 3}, TypeError, "seeds are a sequence of integers"),
        ({"start": -1}, ValueError, "start is the first sample's place in its run, .* got -1"),
        ({"start": 2**32 - 1}, ValueError, "from 0 to 2"),
        ({"start": 1.5}, ValueError, r"got 1\.5"),
    ],
)
def test_what_is_refused(arguments: dict[str, object], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        per_sample(**{"seed": None, "batch": 2, **arguments})  # type: ignore[arg-type]
