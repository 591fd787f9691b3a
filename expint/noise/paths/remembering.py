"""A Brownian path that remembers what it was asked: exact at any spacing, and cheap."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from expint.noise import source
from expint.noise.paths.bridge import split
from expint.noise.paths.brownian import columns, refuse_times
from expint.noise.paths.path import PathSource, answered
from expint.noise.source import SubstepNoise
from expint.numerics.devices import usable_device

# Times nearer than this, relative to their size, are one time, as for `BrownianPath`.
_SAME = 1e-13

# Normals of small events are drawn in blocks of at most this many per sample.
_BLOCK = 2**8


@dataclass(eq=False)
class RememberingPath(PathSource):
    """A standard Brownian motion W in the noise clock τ, with its integral U, that grows where it
    is asked: every answer is drawn given all the answers before, in all runs of this object.

    The joint law of all answers is exact at any spacing, of increments and of integrals, and costs
    one Gaussian per new time and another per integral. Runs with different grids, solvers and
    numbers of steps on the same object see one path. That path depends on the order of queries: in
    a convergence study begin with the finest grid, and keep the object. It cannot be made again
    from its seeds, so that a saved run does not go on with it; `BrownianPath` can.

    Memory: one state per time, two where integrals are used, for as long as the object lives.

    Args:
        seeds: one integer per sample. A sample depends on its own seed and the times alone.
        device: where the path is drawn and kept, by default the state's device.

    Raises:
        TypeError, ValueError: naming the seed that is not allowed.

    Example:
        >>> import torch
        >>> path = RememberingPath([0, 1]).open(torch.zeros(2, 3, dtype=torch.float64))
        >>> fine = path.increments(torch.tensor([1.0, 1.5, 4.0], dtype=torch.float64))
        >>> coarse = path.increments(torch.tensor([1.0, 4.0], dtype=torch.float64))
        >>> torch.allclose(fine.sum(0), coarse[0], rtol=1e-12)
        True
    """

    seeds: Sequence[int]
    device: torch.device | str | None = None
    _opened: dict[Any, "_Queries"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.seeds = source.check_seeds(self.seeds)
        self.device = None if self.device is None else usable_device(self.device)

    def check(self, like: Tensor, substep: SubstepNoise) -> None:
        """Refuse times out of the path's range."""
        assert substep.times is not None
        for column in columns(substep.times).T:
            refuse_times(column.tolist(), substep.integral, like.dtype)

    def open(self, like: Tensor, run: Sequence[SubstepNoise] = ()) -> "_Queries":
        """See `PathSource.open`. The same memory for all states of one shape, dtype and device."""
        source.check_batch(self.seeds, like)
        key = (tuple(like.shape), like.dtype, like.device)
        if key not in self._opened:
            self._opened[key] = _Queries(self, like)
        return self._opened[key]


class _Queries:
    """One line of times for a scalar clock, one for every distinct column of a diagonal one."""

    def __init__(self, path: RememberingPath, like: Tensor) -> None:
        self._seeds, self._dtype, self._device = path.seeds, like.dtype, like.device
        kind = torch.promote_types(like.dtype, torch.float32)
        self._like = torch.empty(like.shape, dtype=kind, device=path.device or like.device)
        self._lines: dict[int, _Line] = {}

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """See `OpenedPath.increments`."""
        return answered(self._query, taus, self._like[0], space_time, self._device, self._dtype)

    def _query(self, taus: Tensor, space_time: bool, column: int = 0) -> Any:
        times: list[float] = taus.tolist()
        refuse_times(times, space_time, self._dtype)
        if column not in self._lines:
            # Components follow columns of their own, which may share numbers.
            self._lines[column] = _Line(_Normals(self._seeds, self._like))
        line = self._lines[column]
        for tau in times:
            line.note(tau)
        places = [line.note(tau) for tau in times]
        steps = line.steps(places)
        return (steps, line.integral(places[0], places[-1])) if space_time else steps


class _Normals:
    """Standard normals of all samples, in order of use."""

    def __init__(self, seeds: Sequence[int], like: Tensor) -> None:
        self.like = like
        self._generators = source.generators(seeds, source.PATH_STREAM, like.device)
        count = max(1, _BLOCK // max(1, like[0].numel()))
        self._block = like.new_empty((len(like), count, *like.shape[1:]))
        self._used = count

    def draw(self) -> Tensor:
        """The next, (batch, *event), to keep."""
        if self._block.shape[1] == 1:
            out = torch.empty_like(self.like)
            source.fill_normals(self._generators, out)
            return out
        if self._used == self._block.shape[1]:
            source.fill_normals(self._generators, self._block)
            self._used = 0
        self._used += 1
        return self._block[:, self._used - 1].clone()


class _Line:
    """Known times and, between neighbours, ΔW and the residual R of the integral (see `bridge`),
    drawn where it is first used. Increments, not values, are kept: at close times a difference of
    values would cancel.
    """

    def __init__(self, normals: _Normals) -> None:
        self._normals = normals
        self._times: list[float] = []
        self._increments: list[Tensor] = []
        self._rests: list[Tensor | None] = []

    def note(self, tau: float) -> int:
        """The place of τ among the known times, where it is put if it is new."""
        times = self._times
        place = bisect_left(times, tau)
        for near in (place - 1, place):
            if 0 <= near < len(times) and abs(times[near] - tau) <= _SAME * abs(tau):
                return near
        times.insert(place, tau)
        if len(times) == 1:
            return place
        if place in (0, len(times) - 1):
            gap = max(place - 1, 0)
            length = times[gap + 1] - times[gap]
            self._increments.insert(gap, self._normals.draw().mul_(length**0.5))
            self._rests.insert(gap, None)
            return place
        start, end = times[place - 1], times[place + 1]
        theta = (tau - start) / (end - start)
        spread = ((tau - start) * (1.0 - theta)) ** 0.5
        whole, rest, zeta = (
            self._increments[place - 1],
            self._rests[place - 1],
            self._normals.draw(),
        )
        late = None
        if rest is not None:
            late, scratch = self._normals.draw(), whole.new_empty((2, *whole.shape))
            split(rest, zeta, late, theta, rest, scratch)
        zeta.mul_(spread)
        first = torch.mul(whole, theta).add_(zeta)
        self._increments[place - 1 : place] = [first, whole.mul_(1.0 - theta).sub_(zeta)]
        self._rests.insert(place, late)
        return place

    def steps(self, places: Sequence[int]) -> Tensor:
        """Increments between the places, (len(places) − 1, batch, *event)."""
        like = self._normals.like
        out = like.new_empty((len(places) - 1, *like.shape))
        for row, first, last in zip(out, places, places[1:], strict=False):
            parts = self._increments[first:last]
            row.copy_(parts[0]) if parts else row.zero_()
            for part in parts[1:]:
                row.add_(part)
        return out

    def integral(self, first: int, last: int) -> Tensor:
        """U = Σ_k [(τ_n − (τ_k + τ_{k+1})/2) ΔW_k + √(Δ_k³/12) R_k]."""
        times, like = self._times, self._normals.like
        total, scratch = torch.zeros_like(like), torch.empty_like(like)
        for k in range(first, last):
            length, rest = times[k + 1] - times[k], self._rests[k]
            if rest is None:
                rest = self._rests[k] = self._normals.draw()
            ahead = times[last] - times[k] - 0.5 * length
            total.add_(torch.mul(self._increments[k], ahead, out=scratch))
            total.add_(torch.mul(rest, length**1.5 / 12**0.5, out=scratch))
        return total
