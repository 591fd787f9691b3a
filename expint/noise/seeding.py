"""Seeds per sample from the one seed, or the none, that other libraries pass around."""

from collections.abc import Sequence

import numpy as np
import torch

from expint.noise.source import Seeds, check_seeds

# From one sample to the next. It is odd, so that the first 2**32 samples have distinct seeds, and,
# by the 32 bits that differ, distinct numbers. Its inverse modulo 2**32 is 0x9E3779B9, the golden
# ratio: then seeds n and n + d meet first after about 2**32/(2.2 d) samples.
_STRIDE = 0x144CBC89


def per_sample(seed: int | Sequence[int] | None, batch: int) -> tuple[int, ...]:
    """One seed per sample of a batch.

    Args:
        seed: a seed per sample; or one integer, which is the seed of the first sample, the others
            being derived from it: samples of one seed, and of seeds up to 1,000 apart, share no
            numbers up to a million samples; or None for seeds drawn from torch's global generator,
            which `torch.manual_seed` sets.
        batch: number of samples.

    Returns:
        `batch` integers, 0 ≤ seed < 2**64.

    Raises:
        TypeError, ValueError: for an invalid seed, or a list of another length than the batch.

    Example:
        >>> per_sample([3, 4], 2), per_sample(3, 1)
        ((3, 4), (3,))
        >>> set(per_sample(3, 100)) & set(per_sample(4, 100))
        set()
    """
    if seed is None:
        return Seeds(torch.randint(0, 2**63 - 1, (batch,)).tolist())
    seeds = check_seeds(seed)
    if np.ndim(seed) == 0:
        high, low = divmod(seeds[0], 2**32)
        return Seeds(high * 2**32 + (low + i * _STRIDE) % 2**32 for i in range(batch))
    if len(seeds) != batch:
        raise ValueError(
            f"There is one seed per sample, but {len(seeds)} seeds came for a batch of {batch}."
        )
    return seeds
