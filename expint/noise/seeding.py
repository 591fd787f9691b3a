"""The law of seeds: which seed each sample of a run has."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from expint.noise.counter import hash64
from expint.noise.source import Seeds, check_seed, check_seeds
from expint.numerics.float64 import is_whole

_MOST = 2**32


def per_sample(
    seed: int | None, batch: int, *, seeds: Sequence[int] | None = None, start: int = 0
) -> tuple[int, ...]:
    """One seed per sample of a batch.

    An integer n names a run: its sample i has a seed that is a function of (n, i). Within a run,
    and between runs whose n have the same upper 32 bits, all seeds are different; between others
    two seeds are equal with probability 2⁻⁶⁴.

    Args:
        seed: the run, 0 ≤ seed < 2**64; None for run 0, or if `seeds` are given.
        batch: number of samples.
        seeds: in place of a run, a seed of its own for each sample.
        start: place in the run of the first sample of the batch.

    Returns:
        `batch` integers, 0 ≤ seed < 2**64.

    Raises:
        TypeError, ValueError: for invalid seeds, a list of another length than the batch, both a
            seed and seeds, or samples beyond the end of a run, which has 2**32.

    Example:
        >>> per_sample(3, 4, start=6) == per_sample(3, 10)[6:]
        True
        >>> per_sample(None, 2, seeds=[3, 4])
        (3, 4)
        >>> set(per_sample(3, 100)) & set(per_sample(4, 100))
        set()
    """
    if not is_whole(start) or not 0 <= start <= _MOST - batch:
        raise ValueError(
            f"start is the first sample's place in its run, an integer from 0 to 2**32 - {batch}, "
            f"got {start!r}."
        )
    if seeds is None:
        return _of_run(0 if seed is None else seed, batch, int(start))
    if seed is not None or start:
        given = f"seed={seed!r}" if seed is not None else f"start={start}"
        raise ValueError(
            f"{given} belongs to a run, and seeds give each sample a seed of its own: leave out "
            "one of them."
        )
    listed = check_seeds(seeds)
    if len(listed) != batch:
        raise ValueError(
            f"There is one seed per sample, but {len(listed)} seeds came for a batch of {batch}."
        )
    return listed


def _of_run(seed: Any, batch: int, start: int) -> Seeds:
    if not is_whole(seed):
        raise TypeError(
            f"seed is one integer, the run, got {seed!r}: seeds=[...] gives each sample its own."
        )
    high, low = divmod(check_seed(seed), _MOST)
    # hash64 is a bijection, and (low, i) fill one word.
    words = hash64(~(np.arange(start, start + batch) | np.uint64(low << 32).astype(np.int64)))
    words ^= hash64(np.array([high]))
    return Seeds(hash64(words).view(np.uint64).tolist())


def torch_seed() -> int:
    """A seed from torch's global generator, which `torch.manual_seed` sets."""
    return int(torch.randint(0, 2**63 - 1, ()))
