"""Counter-based random numbers: number k of a stream is computed from its seed and k alone, for all
samples of a batch at once.

The words are those of SplitMix64, hash(key + k · increment), with a key and an odd increment for
each seed and stream; a word of 64 bits gives two normals (Box–Muller) or two signs. All arithmetic
is that of 64-bit integers, on the CPU by NumPy, elsewhere by torch, so that the words are the same
on every device; the normals, always float32, then differ by the rounding of log and cos.

Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators, OOPSLA 2014, with the
hash function of Stafford's variant 13; Box and Muller, Annals of Mathematical Statistics 29 (1958).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Words computed at a time: few calls, and arrays that stay in the cache.
_PIECE = 2**16
_ODD = 0x5555555555555555


def hash64(x: Any) -> Any:
    """A bijection of 64-bit words that scatters neighbours, in place on int64 numbers."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        x ^= (x >> shift) & (2 ** (64 - shift) - 1)
        x *= factor
    return x


class Streams:
    """One stream of random numbers per seed. It stands at a place, `at`, counted in states.

    Different seeds have different keys. A key fixes one of 2³¹ increments, and two samples share a
    stretch of their numbers only if the increments are equal and the keys lie within that many
    increments of each other: for m samples of n numbers, the probability that any two do is about
    m² n 2⁻⁹⁵, 3e-11 for a million samples of a million numbers. The two streams of a seed are no
    nearer than those of two seeds.

    Args:
        seeds: integers, 0 ≤ seed < 2**64.
        stream: which stream of them, 0 ≤ stream < 2**32.
        device: where the numbers are computed.
    """

    def __init__(self, seeds: Sequence[int], stream: int, device: torch.device) -> None:
        self.at = 0
        words = np.array(seeds, dtype=np.uint64).view(np.int64)[:, None]
        keys = hash64(hash64(words + 1) ^ (stream << 31))
        # In every pair of bits of an increment one is set: it changes between 0 and 1 at least 32
        # times along its bits (the authors ask for 24).
        bits = hash64(~keys) & _ODD | 1
        self._keys, self._increments = keys, bits | (~bits & _ODD) << 1
        self._on_cpu = device.type == "cpu"
        if not self._on_cpu:
            self._keys = torch.from_numpy(keys).to(device)
            self._increments = torch.from_numpy(self._increments).to(device)

    def normals(self, out: Tensor) -> None:
        """Fill `out` with the next standard normals, shape (batch, count, *event): `count` states.

        They are computed in float32 and converted, so that all dtypes have the same.
        """
        self._fill(out, _box_muller)

    def signs(self, out: Tensor) -> None:
        """Fill `out` with the next fair signs ±1, as `normals` does."""
        self._fill(out, _signs)

    def _fill(self, out: Tensor, made: Callable[[Any, Any], tuple[Any, Any]]) -> None:
        batch, count = out.shape[:2]
        size = math.prod(out.shape[2:])
        words = -(-size // 2)  # of a state: one makes number j and number words + j
        rows = out.view(batch * count, size)
        library: Any = np if self._on_cpu else torch
        where = {} if self._on_cpu else {"device": out.device}
        places = library.arange(self.at, self.at + count, **where) * words
        keys = (self._keys + self._increments * places).reshape(-1, 1)
        steps = library.broadcast_to(self._increments, (batch, count)).reshape(-1, 1)
        self.at += count
        high = max(1, _PIECE // max(1, words))
        for j in range(0, words, _PIECE):
            end = min(j + _PIECE, words)
            across = library.arange(j, end, **where)
            for i in range(0, batch * count, high):
                held = rows[i : i + high]
                x = across * steps[i : i + high]
                x += keys[i : i + high]
                one, two = made(hash64(x), library)
                held[:, j:end] = torch.as_tensor(one)
                rest = held[:, words + j : words + end]
                rest[:] = torch.as_tensor(two)[:, : rest.shape[1]]


def _box_muller(words: Any, library: Any) -> tuple[Any, Any]:
    """Two standard normals from each word, float32: √(−2 log u) (cos θ, sin θ)."""
    halves = words.view(library.int32)
    # Of 31 bits, and never 0: the radius ends at 6.66.
    radius = library.asarray(halves[:, ::2] & 2**31 - 1, dtype=library.float32)
    radius += 0.5
    radius *= 2.0**-31
    library.log(radius, out=radius)
    radius *= -2.0
    library.sqrt(radius, out=radius)
    angle = library.asarray(halves[:, 1::2], dtype=library.float32)
    angle *= math.pi * 2.0**-31
    one = library.cos(angle)
    one *= radius
    library.sin(angle, out=angle)
    angle *= radius
    return one, angle


def _signs(words: Any, library: Any) -> tuple[Any, Any]:
    """Two signs from each word."""
    halves = words.view(library.int32)
    return halves[:, ::2] >> 31 | 1, halves[:, 1::2] >> 31 | 1
