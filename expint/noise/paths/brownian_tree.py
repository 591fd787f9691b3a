"""One side of a Brownian path as a tree of intervals, each with its integral, drawn when they are
asked for.

B(x), x = |τ| > 0, is laid out in u = log x, where X(u) = B(e^u)/e^{u/2} is a stationary
Ornstein–Uhlenbeck process: Cov[X(u), X(v)] = e^{−|u − v|/2}, of unit variance at every scale, so
that nothing over- or underflows. The roots of the tree are intervals of 64 in u, whose ends are
independent (their correlation, e^{−32}, is 1.3e-14). Every interval is halved in u, down to leaves
of 1/resolution, a power of two: trees of different resolutions are the same tree, cut at different
depths. A tree that is fitted to the times of a run is cut where at most two of them are left. An
interval carries X at its ends and the residual R of its integral (see `bridge`), so that an
integral is a sum over the fewest intervals that fill its range, twice their depth at most.

A leaf is split in the same way at the times of the run, in increasing order, and then at the times
that are asked for, in the order in which they come: the law is exact at any times. What is inside a
leaf depends on that order if more than one such time lies in it.

Source: splitting at midpoints as in the virtual Brownian tree of Li et al., arXiv 2001.01328; with
integrals as in Jelinčič, Foster & Kidger, arXiv 2405.06464.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.noise.paths.bridge import split
from expint.noise.paths.tree_normals import Normals

_ROOT = 64  # the width of a root, in u; a power of two

# An integral from 0 leaves out what lies more e-folds down: e^(−37.5) < 1e-16 of the rest.
_FOLDS = 25

# Within the rounding of a noise time, it is at the end of a leaf.
_ROUNDING = 1e-13

# Times of one leaf that are nearer than this, relative to their size, are one time: nodes that are
# meant to be equal come within rounding, over which a Brownian path moves by its square root.
_SAME = 1e-13

_MOST_IN_LEAF = 64

# Times of a run inside one leaf of a path that is fitted to it. The fewer they are, the more of the
# path do other runs see; the more, the fewer Gaussians are drawn.
_FITTED = 2

# Numbers of a state that are worked on at a time: they stay in the cache.
_PIECE = 2**16

# Intervals ahead that are kept by queries in order. Those farther away are drawn again: with 4, one
# more Gaussian in ten.
_AHEAD = 4

# After so many changes of direction queries are in no order, and trees are kept: so many bytes, and
# so many intervals.
_TURNS, _KEPT, _MOST_KEPT = 2, 2**28, 2**12

# Normals by use: Z₁ and Z₂ of (3) in `bridge`, X and R of a root; later splits inside a leaf have a
# pair of their own each.
_FIRST, _SECOND, _END, _WHOLE, _INSIDE = range(5)

Place = tuple[int, float]
"""A point of the side: (j, 0) is the end j of a leaf, (j, x) a point x inside leaf j."""


@dataclass(eq=False, slots=True)
class Interval:
    """From `start` to `end`, with X there and R; `depth` times halved from a root, or a part of a
    leaf of that depth."""

    start: Place
    end: Place
    left: Tensor
    right: Tensor
    rest: Tensor | None
    depth: int
    in_leaf: bool = False
    halves: "tuple[Interval, Interval] | None" = None


class Side:
    """Values and integrals of one side. It keeps what lies ahead of the latest place, in the
    direction of the queries: the intervals that were split off on the way to it, the nearest ones.
    If the queries turn back and forth, it keeps whole trees, within a budget.

    Args:
        seeds: one per sample.
        stream: of the side.
        like: shape, dtype and device of the state.
        resolution: leaves per unit of u, a power of two.
        times: x > 0 that a run will ask for; None if they are not known.
        fitted: whether an interval with at most one of them is a leaf; otherwise all leaves have
            the same width.
        integral: whether integrals are carried; without them the path is another.
        walked: whether integrals are expected to be asked for.
        up: whether the first queries are expected at increasing x.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        stream: int,
        like: Tensor,
        resolution: int,
        times: np.ndarray | None,
        *,
        fitted: bool,
        integral: bool,
        walked: bool,
        up: bool,
    ) -> None:
        self._normals, self._like = Normals(seeds, stream, like), like
        self._resolution, self._integral, self._fitted = resolution, integral, fitted
        self._depth = (_ROOT * resolution).bit_length() - 1  # of the finest leaves
        self._times = None if times is None else self._places(times)
        self._asked = [at for at in self._times or () if at[1]]  # inside the finest leaves
        self._inside: dict[tuple[int, int], list[Place]] = {}  # asked for inside each leaf
        self._ahead: list[Interval] = []  # the nearest last
        self._latest: Place | None = None
        self._walked, self._up, self._turns = walked, up, 0
        self._trees: dict[int, Interval] = {}
        size = max(1, like.numel() * like.element_size() * (3 if integral else 1))
        self._kept, self._most = 0, min(_KEPT // size, _MOST_KEPT)

    def value(self, x: float) -> Tensor:
        """X at x > 0, not to be changed."""
        at = self._place(x)
        before = self._latest or at
        self._turn(at, self._up if at == before else at > before)
        part = self._part(at, at)
        return part.left if self._up else part.right

    def add_integral(self, low: float, high: float, out: Tensor, *, descending: bool) -> None:
        """out += ∫ B dx from low to high, 0 ≤ low < high, interval after interval."""
        until = self._place(high)
        since = (until[0] - _FOLDS * self._resolution, 0.0)
        if low > 0.0:
            since = max(since, self._place(low))
        at, goal = (until, since) if descending else (since, until)
        self._turn(goal, not descending)
        while at != goal:
            # The fewest intervals that fill the range.
            part = self._part(at, goal)
            at = part.start if descending else part.end
            assert part.rest is not None  # a path without integrals has refused
            near, far = self._scale(part.start), self._scale(part.end)
            length = (far - near) * (far + near)
            for variable, weight in (
                (part.left, 0.5 * length * near),
                (part.right, 0.5 * length * far),
                (part.rest, length * math.sqrt(length / 12.0)),
            ):
                for total, one in pieces(out, variable):
                    total.add_(one * weight)

    def _turn(self, at: Place, up: bool) -> None:
        if up != self._up:
            self._up, self._turns = up, self._turns + 1
            self._ahead.clear()
        self._latest = at

    def _part(self, at: Place, goal: Place) -> Interval:
        """The widest interval that begins at a place, in the direction of the queries, and does not
        go beyond a goal; any that begins there if the goal is that place."""
        up, ahead = self._up, self._ahead
        while ahead:
            part = ahead[-1]
            if part.start <= at < part.end if up else part.start < at <= part.end:
                break
            ahead.pop()
        else:
            ahead.append(self._root(at))
        while True:
            part = ahead[-1]
            begin, end = (part.start, part.end) if up else (part.end, part.start)
            if begin == at and (goal == at or (end <= goal if up else end >= goal)):
                return part
            first, second = self._split(part, goal if begin == at else at)
            near, far = (first, second) if up else (second, first)
            beyond = at >= second.start if up else at <= first.end
            ahead[-1:] = [far] if beyond else [far, near]
            self._spare()

    def _spare(self) -> None:
        """Drop what a known run does not ask for soon."""
        if self._times is None:
            return
        *ahead, latest = self._ahead
        asked = [k for k, part in enumerate(ahead) if self._count(part)]
        kept = _AHEAD + 2 * self._walked
        least = asked[-kept] if len(asked) >= kept else 0
        if self._walked:
            del self._ahead[:least]
        else:
            self._ahead[:] = [*(ahead[k] for k in asked if k >= least), latest]

    def _count(self, part: Interval) -> int:
        """How many times of the run lie in an interval, with the end at which it begins."""
        times, place = self._times or (), bisect_left if self._up else bisect_right
        return place(times, part.end) - place(times, part.start)

    def _places(self, times: np.ndarray) -> list[Place]:
        leaves, inner = leaf_of(np.log(times), self._resolution)
        return sorted(
            (int(j), float(x) if inside else 0.0)
            for j, inside, x in zip(leaves, inner, times, strict=True)
        )

    def _place(self, x: float) -> Place:
        """Where x is. What is inside a finest leaf is noted, and rounding of it is the same."""
        (at,) = self._places(np.array([x]))
        if not at[1]:
            return at
        k = bisect_left(self._asked, at)
        for known in self._asked[max(k - 1, 0) : k + 1]:
            if abs(x - known[1]) <= _SAME * x:
                return known
        self._asked.insert(k, at)
        return at

    def _scale(self, place: Place) -> float:
        """√x."""
        return math.sqrt(place[1]) if place[1] else math.exp(0.5 * place[0] / self._resolution)

    def _root(self, at: Place) -> Interval:
        width = _ROOT * self._resolution
        i = at[0] // width
        if not self._up and at == (i * width, 0.0):
            i -= 1
        if i in self._trees:
            return self._trees[i]
        addresses = [(_END, i), (_END, i + 1), (_WHOLE, i)][: 2 + self._integral]
        memory = [self._like.new_empty(self._like.shape) for _ in addresses]
        for out, (kind, k) in zip(memory, addresses, strict=True):
            self._normals.fill(out[:, None], kind, 0, k)
        rest = memory[2] if self._integral else None
        root = Interval((i * width, 0.0), ((i + 1) * width, 0.0), memory[0], memory[1], rest, 0)
        if self._turns > _TURNS:
            self._trees[i] = root
        return root

    def _split(self, part: Interval, wanted: Place) -> tuple[Interval, Interval]:
        """The two parts of an interval; in a leaf they meet at what is known there, or wanted."""
        if part.halves is not None:
            return part.halves
        start, end, left, right, rest, depth = (
            part.start, part.end, part.left, part.right, part.rest, part.depth,
        )  # fmt: skip
        index, again, times = start[0] >> self._depth - depth, 0, self._times or []
        in_leaf = part.in_leaf or depth == self._depth or self._fits(part)
        middle = (start[0] + (end[0] - start[0]) // 2, 0.0)
        if in_leaf:
            known = self._inside.get((depth, index))
            if known is None:
                fitted = slice(bisect_right(times, start), bisect_left(times, end))
                known = self._inside[depth, index] = times[fitted] if self._fitted else []
            again = next((k for k, at in enumerate(known) if start < at < end), len(known))
            if again == _MOST_IN_LEAF:
                raise ValueError(
                    f"More than {_MOST_IN_LEAF} times were asked for inside one leaf of a path "
                    f"with resolution {self._resolution}, near |τ| = {self._scale(wanted) ** 2:.9g}"
                    ". State a finer resolution for a path that is asked at so close times."
                )
            known[again:] = known[again:] or [wanted]
            middle = known[again]
        near, far = (self._scale(place) / self._scale(start) for place in (middle, end))
        whole = (far - 1.0) * (far + 1.0)
        theta = min(max((near - 1.0) * (near + 1.0) / whole, 0.0), 1.0)
        value, early, late = self._draw(_FIRST, depth, index, again), None, None
        if rest is not None:
            early, late = torch.empty_like(rest), self._draw(_SECOND, depth, index, again)
            for known, first, second, out in pieces(rest, value, late, early):
                split(known, first, second, theta, out, out.new_empty((2, len(out))))
        first, last = (1.0 - theta) / near, theta * far / near
        scale = math.sqrt(whole * theta * (1.0 - theta)) / near
        if in_leaf:
            value.mul_(scale)
            for out, one, two in pieces(value, left, right):
                out.add_(one * first).add_(two * last)
        else:  # these weights are equal
            value.mul_(scale / first).add_(left).add_(right).mul_(first)
        depth += not in_leaf
        halves = (
            Interval(start, middle, left, value, early, depth, in_leaf),
            Interval(middle, end, value, right, late, depth, in_leaf),
        )
        if self._turns > _TURNS and self._kept < self._most:
            self._kept += 1
            part.halves = halves
        return halves

    def _fits(self, part: Interval) -> bool:
        times = self._times or ()
        inside = bisect_left(times, part.end) - bisect_right(times, part.start)
        return self._fitted and inside <= _FITTED

    def _draw(self, kind: int, depth: int, index: int, again: int) -> Tensor:
        """Z₁ or Z₂ of an interval; for the first time inside a leaf they are those of its midpoint
        in a finer tree."""
        out = self._like.new_empty(self._like.shape)
        if again:
            self._normals.fill(out[:, None], _INSIDE + kind, again + 64 * depth, index)
        else:
            self._normals.of_split(out, kind, depth, index)
        return out


def pieces(*tensors: Any) -> Iterator[tuple[Tensor, ...]]:
    """Parts of tensors of one shape that stay in the cache, with what is made of them."""
    return zip(*(tensor.view(-1).split(_PIECE) for tensor in tensors), strict=True)


def leaf_of(u: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """For u = log x the leaf j that x lies in, or whose start it is, and whether it is inside."""
    nearest = np.round(u * resolution)
    inner = np.abs(u - nearest / resolution) > _ROUNDING * np.maximum(1.0, np.abs(u))
    return np.where(inner, np.floor(u * resolution), nearest), inner
