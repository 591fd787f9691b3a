"""The standard normals of a tree of intervals, each by its address."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from expint.noise.counter import Streams, hash64

# A stream of numbers costs as much as a few hundred Gaussians, so that normals of small events are
# drawn in blocks of at most this many per sample, which stand for at most so many splits: enough
# for most ranges of σ.
_BLOCK, _BLOCK_SPLITS = 2**10, 2**8


class Normals:
    """Standard normals by address.

    A block depends on (seed, address) and the size of the event alone, never on the batch.
    """

    def __init__(self, seeds: Sequence[int], stream: int, like: Tensor) -> None:
        self._seeds = np.array(seeds, dtype=np.uint64).view(np.int64)
        self._stream, self._device = stream, like.device
        splits = min(_BLOCK // max(1, math.prod(like.shape[1:])), _BLOCK_SPLITS)
        self._height = max(1, splits).bit_length() - 1  # a block stands for 2**height splits
        self._blocks: dict[
            int, tuple[int | None, Tensor]
        ] = {}  # the latest block of each kind and tier

    def of_split(self, out: Tensor, kind: int, depth: int, index: int) -> None:
        """Fill `out`, (batch, *event), for the interval that is number `index` of its depth."""
        height = self._height
        if not height:
            return self.fill(out[:, None], kind, depth, index)
        # Depths share blocks in tiers, so that the way from a root to a leaf touches few of them.
        # Within a tier, places are counted in half intervals of its last depth: midpoints are odd.
        tier = depth // height
        place = (2 * index + 1) << (tier * height + height - 1 - depth)
        # Blocks are centred on u = 0, so that a usual range of scales lies in one.
        block, offset = divmod(place + (2**height >> 1), 2**height)
        key = kind + 8 * tier
        if key not in self._blocks:
            shape = (len(out), 2**height, *out.shape[1:])
            self._blocks[key] = (None, out.new_empty(shape))
        known, held = self._blocks[key]
        if known != block:
            self.fill(held, kind, tier, block)
            self._blocks[key] = (block, held)
        out.copy_(held[:, offset])

    def fill(self, out: Tensor, kind: int, level: int, index: int) -> None:
        """Fill `out`, (batch, count, *event), with the normals of (kind, level, index)."""
        address = hash64(hash64(np.array([index], dtype=np.int64)) ^ (kind + 8 * level + 1))
        keys = hash64(self._seeds ^ address).view(np.uint64)
        Streams(keys, self._stream, self._device).normals(out)
