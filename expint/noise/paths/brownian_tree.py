"""The random variables behind one side of a Brownian path, addressed by their place and drawn when
they are asked for.

    X(u) = B(e^u) / e^{u/2}   is a stationary Ornstein–Uhlenbeck process:   Cov[X(u), X(v)] = e^{−|u
    − v|/2},            (1)

of unit variance at every scale, so nothing in the tree over- or underflows. Its values at the ends
of the leaves come from dyadic midpoint splitting: between two ends 2δ apart,

    X_m = (X_a + X_b) / (2 cosh(δ/2)) + √tanh(δ/2) Z.
    (2)

At a distance of 128 in u the correlation (1) is e^{−64}, far below the rounding of a float64
number: ends so far apart (roots) are independent.

Source: (2) is (1) conditioned on both neighbours; splitting as in the virtual Brownian tree of Li
et al., arXiv 2001.01328.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from expint.noise import source
from expint.noise.paths.brownian_leaf import END, Terms

_ROOT_SPACING = 128  # at least; rounded up to a power of two of leaves

# Seeding a generator costs as much as a few hundred Gaussians, so that normals of small events are
# drawn in blocks of at most this many per sample, which stand for at most so many leaves: enough
# for most ranges of σ.
_BLOCK, _BLOCK_LEAVES = 2**10, 2**8


class _Held:
    """Memory for one block, or one end, that is used again and again: `key` tells which it holds
    now.
    """

    def __init__(self, shape: Sequence[int], like: Tensor) -> None:
        self.key: int | None = None
        self.whole = torch.empty(tuple(shape), dtype=like.dtype, device=like.device)
        self.rows = self.whole.unbind(0)


class _Normals:
    """Standard normals by address.

    A block depends on (seed, kind, block) and the size of the event alone, never on the batch.
    """

    def __init__(self, words: Sequence[int], like: Tensor) -> None:
        self._words = words
        self._like = like
        self._generator = torch.Generator(device=like.device)
        leaves = min(_BLOCK // max(1, math.prod(like.shape[1:])), _BLOCK_LEAVES)
        self._height = max(1, leaves).bit_length() - 1  # a block stands for 2**height leaves
        self._blocks: dict[int, _Held] = {}  # the latest block of each kind

    def leaf(self, kind: int, j: int) -> Tensor:
        """Normal of the given kind of leaf j, shape (batch, *event), valid until the next call for
        this kind.
        """
        return self._entry(kind, j)

    def end(self, j: int, level: int, std: float, out: _Held) -> None:
        """out = std · (normal of the end j, which the splitting reaches at the given level)."""
        if self._height == 0:
            self._fill(out, END, j, std)
        else:
            # Levels share blocks in tiers, so that the way from a root to a leaf touches few of
            # them.
            tier = level // self._height
            torch.mul(self._entry(END - tier, j >> tier * self._height), std, out=out.whole)

    def _entry(self, kind: int, k: int) -> Tensor:
        # Blocks are centred on u = 0, so that a usual range of scales lies in one.
        block, offset = divmod(k + (2**self._height >> 1), 2**self._height)
        held = self._blocks.get(kind)
        if held is None:
            shape = (len(self._words), 2**self._height, *self._like.shape[1:])
            held = self._blocks[kind] = _Held(shape, self._like)
        if held.key != block:
            self._fill(held, kind, block, 1.0)
            held.key = block
        return held.whole[:, offset]

    def _fill(self, out: _Held, kind: int, block: int, std: float) -> None:
        address = source.mix((kind + 32 << 26) + (block + 2**25))
        for row, word in zip(out.rows, self._words, strict=True):
            row.normal_(0.0, std, generator=self._generator.manual_seed(source.mix(word ^ address)))


class Side:
    """Linear combinations of the variables of one side. It keeps the ends on the way from the roots
    to the latest leaf: about log₂(128 resolution) + 2 states, besides one block of normals of each
    kind.

    Args:
        words: one 32-bit word per sample.
        like: shape, dtype and device of the state.
        resolution: leaves per unit of u.
    """

    def __init__(self, words: Sequence[int], like: Tensor, resolution: int) -> None:
        self._normals = _Normals(words, like)
        self._scratch = torch.empty_like(like)
        self._resolution = resolution
        self._top = (_ROOT_SPACING * resolution - 1).bit_length()
        self._ends: dict[int, _Held] = {}  # per level, the latest end

    def combine(self, terms: Terms, out: Tensor) -> None:
        """out = Σ coefficient · variable."""
        (first, coefficient), *rest = sorted(terms.items())
        torch.mul(self._variable(*first), coefficient, out=out)
        self.add(dict(rest), out)

    def add(self, terms: Terms, out: Tensor, *, descending: bool = False) -> None:
        """out += Σ coefficient · variable, leaf after leaf.

        Products and sums are separate operations, each of them rounded in one way only: whether a
        fused multiply-add is used may depend on an entry's place in memory, and thereby on the
        batch.
        """
        for key in sorted(terms, reverse=descending):
            if terms[key] != 0.0:
                out.add_(torch.mul(self._variable(*key), terms[key], out=self._scratch))

    def _variable(self, j: int, kind: int) -> Tensor:
        return self._end(j) if kind == END else self._normals.leaf(kind, j)

    def _end(self, j: int) -> Tensor:
        """X_j, by (2)."""
        level = self._level(j)
        slot = level + (
            j >> level & 1 if level == self._top else 0
        )  # two neighbouring roots are in use at a time
        if slot not in self._ends:
            self._ends[slot] = _Held(self._scratch.shape, self._scratch)
        held = self._ends[slot]
        if held.key == j:
            return held.whole
        if level == self._top:
            self._normals.end(j, level, 1.0, held)
        else:
            half = 2**level
            delta = half / self._resolution
            # One neighbour is an ancestor of the other, and both are of higher levels: no one takes
            # another's place.
            first, second = self._end(j - half), self._end(j + half)
            self._normals.end(j, level, math.sqrt(math.tanh(0.5 * delta)), held)
            held.whole.add_(
                torch.add(first, second, out=self._scratch).mul_(0.5 / math.cosh(0.5 * delta))
            )
        held.key = j
        return held.whole

    def _level(self, j: int) -> int:
        return min((j & -j).bit_length() - 1, self._top) if j else self._top
