"""Seeds per sample from the one seed, or the none, that other libraries pass around."""

from collections.abc import Sequence

import numpy as np
import torch

from expint.noise.source import check_seeds

# Odd, so that multiples are distinct modulo 2**64; large, so that they are nowhere near the next
# seeds that a user would take.
_STRIDE = 0x9E3779B97F4A7C15


def per_sample(seed: int | Sequence[int] | None, batch: int) -> tuple[int, ...]:
    """One seed per sample of a batch.

    Args:
        seed: a seed per sample; or one integer, which is the seed of the first sample, the others
            being derived from it so that batches of neighbouring seeds share none (programs add 1
            to the seed for the next batch); or None for seeds drawn from torch's global generator,
            which `torch.manual_seed` sets.
        batch: number of samples.

    Returns:
        `batch` integers, 0 ≤ seed < 2**64.

    Raises:
        TypeError, ValueError: for what is no seed, or a list of another length than the batch.

    Example:
        >>> per_sample([3, 4], 2), per_sample(3, 1)
        ((3, 4), (3,))
        >>> set(per_sample(3, 100)) & set(per_sample(4, 100))
        set()
    """
    if seed is None:
        return tuple(torch.randint(0, 2**63 - 1, (batch,)).tolist())
    seeds = check_seeds(seed)
    if np.ndim(seed) == 0:
        return tuple((seeds[0] + i * _STRIDE) % 2**64 for i in range(batch))
    if len(seeds) != batch:
        raise ValueError(
            f"There is one seed per sample, but {len(seeds)} seeds came for a batch of {batch}."
        )
    return seeds
