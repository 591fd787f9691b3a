"""One side of a Brownian path as a tree of intervals, each with its integral, drawn when they are
asked for.

B(x), x = |τ| > 0, is laid out in u = log x, where X(u) = B(e^u)/e^{u/2} is a stationary
Ornstein–Uhlenbeck process: Cov[X(u), X(v)] = e^{−|u − v|/2}, of unit variance at every scale, so
that nothing over- or underflows. The roots of the tree are intervals of 64 in u, whose ends are
independent (their correlation, e^{−32}, is 1.3e-14). Every interval is halved in u, down to leaves
of 1/resolution, a power of two: trees of different resolutions are the same tree, cut at different
depths. An interval carries X at its ends and the residual R of its integral (see `bridge`), so
that an integral is a sum over the fewest intervals that fill its range, twice their depth at most.

A leaf is split in the same way at the time that is asked for, and what has come out there again at
further times, in the order in which they came: the law is exact at any times. What is inside a leaf
depends on that order if more than one time lies in it.

Source: splitting at midpoints as in the virtual Brownian tree of Li et al., arXiv 2001.01328; with
integrals as in Jelinčič, Foster & Kidger, arXiv 2405.06464.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from expint.noise.counter import Streams, hash64
from expint.noise.paths.bridge import split

_ROOT = 64  # the width of a root, in u; a power of two

# A stream of numbers costs as much as a few hundred Gaussians, so that normals of small events are
# drawn in blocks of at most this many per sample, which stand for at most so many splits: enough
# for most ranges of σ.
_BLOCK, _BLOCK_SPLITS = 2**10, 2**8

# An integral from 0 leaves out what lies more e-folds down: e^(−37.5) < 1e-16 of the rest.
_FOLDS = 25

# Within the rounding of a noise time, it is at the end of a leaf.
_ROUNDING = 1e-13

# Times of one leaf that are nearer than this, relative to their size, are one time: nodes that are
# meant to be equal come within rounding, over which a Brownian path moves by its square root.
_SAME = 1e-13

_MOST_IN_LEAF = 64

# Normals by use: Z₁ and Z₂ of (3) in `bridge`, X and R of a root; later splits inside a leaf have a
# pair of their own each.
_FIRST, _SECOND, _END, _WHOLE, _INSIDE = range(5)

Place = tuple[int, float]
"""A point of the side: (j, 0) is the end j of a leaf, (j, x) a point x inside leaf j."""


class Interval(NamedTuple):
    """From `start` to `end`, with X there and R; halved `depth` times from a root."""

    start: Place
    end: Place
    left: Tensor
    right: Tensor
    rest: Tensor | None
    depth: int


class _Split:
    """The latest interval that was split at one depth. Its memory is used again and again: what
    deeper splits refer to is there whenever they are looked up by way of this one."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory  # X at the middle and, with integrals, R of the two parts
        self.middle: Place | None = None
        self.halves: Any = None


class _Normals:
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


class Side:
    """Values and integrals of one side. It keeps the intervals on the way from the root to the
    latest leaf: per level one end and, with integrals, two residuals.

    Args:
        seeds: one per sample.
        stream: of the side.
        like: shape, dtype and device of the state.
        resolution: leaves per unit of u, a power of two.
        integral: whether integrals are carried; without them the path is another.
    """

    def __init__(
        self, seeds: Sequence[int], stream: int, like: Tensor, resolution: int, *, integral: bool
    ) -> None:
        self._normals, self._like = _Normals(seeds, stream, like), like
        self._scratch = like.new_empty((2, *like.shape))
        self._resolution, self._integral = resolution, integral
        self._depth = (_ROOT * resolution).bit_length() - 1  # of the leaves
        self._roots: dict[int, Interval] = {}
        self._halves: dict[int, _Split] = {}
        self._inside: dict[int, list[float]] = {}  # times asked for inside each leaf

    def value(self, x: float) -> Tensor:
        """X at x > 0, valid until the next call."""
        at = self._asked(x)
        interval = self._root(at)
        while at not in (interval.start, interval.end):
            first, second = self._split(interval)
            interval = second if at >= second.start else first
        return interval.left if at == interval.start else interval.right

    def add_integral(self, low: float, high: float, out: Tensor, *, descending: bool) -> None:
        """out += ∫ B dx from low to high, 0 ≤ low < high, interval after interval."""
        until = self._asked(high)
        since = (until[0] - _FOLDS * self._resolution, 0.0)
        if low > 0.0:
            since = max(since, self._asked(low))
        for part in self._cover(since, until, descending=descending):
            assert part.rest is not None  # a path without integrals has refused
            near, far = self._scale(part.start), self._scale(part.end)
            length = (far - near) * (far + near)
            for variable, weight in (
                (part.left, 0.5 * length * near),
                (part.right, 0.5 * length * far),
                (part.rest, length * math.sqrt(length / 12.0)),
            ):
                out.add_(torch.mul(variable, weight, out=self._scratch[0]))

    def _cover(self, since: Place, until: Place, *, descending: bool) -> Iterator[Interval]:
        """The fewest intervals that fill a range, along the side or back, which keeps what the next
        query needs at hand."""
        width = _ROOT * self._resolution
        roots = range(since[0] // width, until[0] // width + 1)
        waiting = [self._root((i * width, 0.0)) for i in (roots if descending else roots[::-1])]
        while waiting:
            part = waiting.pop()
            if part.end <= since or part.start >= until:
                continue
            if since <= part.start and part.end <= until:
                yield part
            else:
                halves = self._split(part)
                waiting += halves if descending else halves[::-1]

    def _asked(self, x: float) -> Place:
        """Where x is; inside a leaf it is noted."""
        j, inner = (int(part[0]) for part in leaf_of(np.array([math.log(x)]), self._resolution))
        if not inner:
            return j, 0.0
        known = self._inside.setdefault(j, [])
        same = next((y for y in known if abs(x - y) <= _SAME * x), None)
        if same is None:
            if len(known) == _MOST_IN_LEAF:
                raise ValueError(
                    f"More than {_MOST_IN_LEAF} times were asked for inside one leaf of a path "
                    f"with resolution {self._resolution}, near |τ| = {x:.9g}. State a finer "
                    "resolution for a path that is asked at so close times."
                )
            known.append(x)
        return j, same or x

    def _scale(self, place: Place) -> float:
        """√x."""
        return math.sqrt(place[1]) if place[1] else math.exp(0.5 * place[0] / self._resolution)

    def _root(self, at: Place) -> Interval:
        width = _ROOT * self._resolution
        i = at[0] // width
        if i not in self._roots:
            addresses = [(_END, i), (_END, i + 1), (_WHOLE, i)][: 2 + self._integral]
            memory = self._like.new_empty((len(addresses), *self._like.shape))
            for out, (kind, k) in zip(memory, addresses, strict=True):
                self._normals.fill(out[:, None], kind, 0, k)
            rest = memory[2] if self._integral else None
            start, end = (i * width, 0.0), ((i + 1) * width, 0.0)
            self._roots[i] = Interval(start, end, memory[0], memory[1], rest, 0)
        return self._roots[i]

    def _split(self, interval: Interval) -> tuple[Interval, Interval]:
        """The two parts of an interval that is not one piece."""
        start, end, left, right, rest, depth = interval
        j, count = start[0], end[0] - start[0]
        if depth < self._depth:
            middle, again = (j + count // 2, 0.0), 0
        else:
            known = self._inside[j]
            again = next(k for k, x in enumerate(known) if start < (j, x) < end)
            middle = (j, known[again])
        if depth not in self._halves:
            like, count = self._like, 3 if self._integral else 1
            self._halves[depth] = _Split(like.new_empty((count, *like.shape)))
        held = self._halves[depth]
        if held.middle != middle:
            near, far = (self._scale(place) / self._scale(start) for place in (middle, end))
            whole = (far - 1.0) * (far + 1.0)
            theta = min(max((near - 1.0) * (near + 1.0) / whole, 0.0), 1.0)
            value, one = held.memory[0], self._scratch[0]
            self._draw(held.memory, min(depth, self._depth), j, again)
            if rest is not None:
                split(rest, value, held.memory[2], theta, held.memory[1], self._scratch)
            value.mul_(math.sqrt(whole * theta * (1.0 - theta)) / near)
            value.add_(torch.mul(left, (1.0 - theta) / near, out=one))
            value.add_(torch.mul(right, theta * far / near, out=one))
            early, late = held.memory[1:] if rest is not None else (None, None)
            held.middle = middle
            held.halves = (
                Interval(start, middle, left, value, early, depth + 1),
                Interval(middle, end, value, right, late, depth + 1),
            )
        return held.halves

    def _draw(self, memory: Tensor, depth: int, j: int, again: int) -> None:
        """Z₁ and Z₂ of the interval of this depth from j, into `memory[0]` and `memory[2]`; for the
        first time inside a leaf they are those of its midpoint in a finer tree."""
        for kind, out in enumerate(memory[::2]):
            if again:
                self._normals.fill(out[:, None], _INSIDE + kind, again + 64 * self._depth, j)
            else:
                self._normals.of_split(out, _FIRST + kind, depth, j >> self._depth - depth)


def leaf_of(u: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """For u = log x the leaf j that x lies in, or whose start it is, and whether it is inside."""
    nearest = np.round(u * resolution)
    inner = np.abs(u - nearest / resolution) > _ROUNDING * np.maximum(1.0, np.abs(u))
    return np.where(inner, np.floor(u * resolution), nearest), inner
