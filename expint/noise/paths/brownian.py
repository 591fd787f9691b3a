"""One Brownian path for every grid, solver and order of queries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.noise import source
from expint.noise.paths.brownian_tree import Side, leaf_of
from expint.noise.paths.path import PathSource, answered
from expint.noise.source import SubstepNoise
from expint.numerics.devices import usable_device

# The finest leaves are still much wider than the rounding of log τ.
_MAX_RESOLUTION = 2**20
_OPENED = 2**10  # of a path that is opened without a run
# Times nearer than this in log τ are one time to the choice of leaves: nodes of different grids
# that are meant to be equal come within rounding only.
_SAME = 1e-9


@dataclass(frozen=True)
class BrownianPath(PathSource):
    """A standard Brownian motion W in the noise clock τ, with its integral, that keeps nothing: a
    function of the seed, τ and its resolution.

    Sample i depends on seed i alone, not on the batch it is in, its size or order. The path is cut
    into leaves of equal width in log|τ|, so that its resolution is relative to σ, and the joint law
    of W and its integrals is exact at the ends of all leaves and at one time inside each.

    Without `resolution` a run has as many leaves as its own noise times need, and its law is exact.
    With a stated `resolution` all runs, with different grids, numbers of steps or solvers, see one
    and the same path; a run that asks for two times inside one leaf is refused, with the resolution
    that serves. For a comparison of runs state a resolution. Paths of different resolutions agree
    at the ends of the coarser leaves, if both carry integrals or neither does; inside a leaf they
    differ. Paths for events of another shape, and for float32 and float64 states, are different
    paths.

    A path that is opened without a run (`open`: for torchsde, for adaptive steps) has `resolution`
    leaves per e-fold, or 1024, and is exact at any times all the same: a leaf remembers what was
    asked inside it. If several times lie in one leaf, their values depend on the order of queries.
    Times that differ by less than 1e-13 of their size are one time.

    For n = step/leaf, in log|τ|, a run in order draws 1 + log₂ n Gaussians per time without
    integrals and twice that with them, and 1 or 2 more for a time inside a leaf; an integral adds
    no draws but is a sum of 2 log₂ n terms. A stream holds about 6 + log₂(resolution) states, with
    integrals three times as many (and, for events of at most 512 numbers, a few blocks of at most
    1024 numbers per sample), however long the run.

    Args:
        seeds: one integer per sample.
        resolution: at least this many leaves per e-fold of |τ|, from 1 to 2**20, rounded up to a
            power of two; None for as many as a run needs.
        device: where the path is drawn and computed, by default the state's device. With "cpu" the
            path is the same for states on the CPU and on a GPU.
        integral: whether the path carries the integrals that some solvers use. Without them it is
            another path and costs half; solvers that use them are refused. None: yes, except for a
            run without `resolution` that uses none.

    Raises:
        TypeError, ValueError: naming the seed or the resolution that is not allowed.

    Example:
        >>> import torch
        >>> path = BrownianPath(seeds=[0, 1]).open(torch.zeros(2, 3, dtype=torch.float64))
        >>> fine = path.increments(torch.tensor([1.0, 1.5, 4.0], dtype=torch.float64)).clone()
        >>> coarse = path.increments(torch.tensor([1.0, 4.0], dtype=torch.float64))
        >>> torch.allclose(fine.sum(0), coarse[0], rtol=1e-12)
        True
    """

    seeds: Sequence[int]
    resolution: int | None = None
    device: torch.device | str | None = None
    integral: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", source.check_seeds(self.seeds))
        if self.device is not None:
            object.__setattr__(self, "device", usable_device(self.device))
        if self.resolution is None:
            return
        if isinstance(self.resolution, bool) or not isinstance(self.resolution, int):
            raise TypeError(
                "resolution is an integer, the number of leaves per e-fold of the noise clock, "
                f"got {self.resolution!r}."
            )
        if not 1 <= self.resolution <= _MAX_RESOLUTION:
            raise ValueError(
                f"resolution must be from 1 to {_MAX_RESOLUTION}, got {self.resolution}."
            )

    @property
    def identity(self) -> str:
        """Seeds, resolution, device and whether it carries integrals."""
        return repr(self)

    def check(self, like: Tensor, substep: SubstepNoise) -> None:
        """Refuse times out of the path's range, and integrals of a path without them."""
        assert substep.times is not None
        if substep.integral and self.integral is False:
            raise ValueError(_NO_INTEGRAL)
        for column in columns(substep.times).T:
            refuse_times(column.tolist(), substep.integral, like.dtype)

    def open(self, like: Tensor, run: Sequence[SubstepNoise] = ()) -> "_Queries":
        """See `PathSource.open`."""
        source.check_batch(self.seeds, like)
        integral = self.integral
        if integral is None:
            integral = not run or self.resolution is not None or any(s.integral for s in run)
        return _Queries(self, like, self._leaves(run), integral)

    def _leaves(self, run: Sequence[SubstepNoise]) -> int:
        """The resolution, a power of two, refused if it is stated and too coarse for the run."""
        stated = self.resolution and 1 << (self.resolution - 1).bit_length()
        if not run:
            return stated or _OPENED
        needed = _needed([columns(s.times) for s in run if s.times is not None], stated or 1)
        if stated and needed > stated:
            raise ValueError(
                f"The run asks for two noise times inside one leaf of a path of {stated} leaves "
                f"per e-fold: build BrownianPath with resolution={needed} or more, or without a "
                "resolution for one that fits this run alone, or take fewer steps."
                if needed <= _MAX_RESOLUTION
                else f"Noise times of the run are closer than the finest leaves, {_MAX_RESOLUTION} "
                "per e-fold: use expint.noise.RememberingPath, fresh noise, or fewer steps."
            )
        return min(needed, _MAX_RESOLUTION)


class _Queries:
    """Answers in any order, on any grid. W(0) = 0, and the sides τ > 0 and τ < 0 are independent:
    W(−x) = B₋(x).
    """

    def __init__(self, path: BrownianPath, like: Tensor, leaves: int, integral: bool) -> None:
        self._path, self._leaves, self._integral = path, leaves, integral
        self._dtype, self._device = like.dtype, like.device
        kind = torch.promote_types(
            like.dtype, torch.float32
        )  # half types are too coarse for differences of a path
        self._like = torch.empty(
            like.shape, dtype=kind, device=like.device if path.device is None else path.device
        )
        # Of every column of a diagonal clock: its sides, and the two latest values W(τ): the end
        # of one step is the start of the next.
        self._sides: dict[tuple[int, int], Side] = {}
        self._latest: dict[int, list[tuple[float, Tensor]]] = {}
        self._increments = torch.empty(0)

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """See `OpenedPath.increments`. The increments are the same with and without the integral,
        and carry no gradient.

        A diagonal noise clock costs one query of the whole event per distinct column of `taus`.
        """
        if space_time and not self._integral:
            raise ValueError(_NO_INTEGRAL)
        return answered(self._query, taus, self._like[0], space_time, self._device, self._dtype)

    def _query(self, taus: Tensor, space_time: bool, column: int = 0) -> Any:
        times: list[float] = taus.tolist()
        refuse_times(times, space_time, self._dtype)
        before = self._value(times[0], column)
        if self._increments.shape != (len(times) - 1, *before.shape):
            self._increments = before.new_empty((len(times) - 1, *before.shape))
        increments = self._increments
        # U = ∫ W dτ − (τ_n − τ_0) W(τ_0)
        integral = before * (times[0] - times[-1]) if space_time else before
        for out, (start, end) in zip(increments, pairwise(times), strict=True):
            if space_time:
                self._integrate(start, end, integral, column)
            after = self._value(end, column)
            torch.sub(after, before, out=out)
            before = after
        return (increments, integral) if space_time else increments

    def _value(self, tau: float, column: int) -> Tensor:
        if column not in self._latest:
            self._latest[column] = [(math.nan, torch.empty_like(self._like)) for _ in range(2)]
        held = self._latest[column]
        if tau == held[0][0]:
            held.reverse()
        elif tau != held[1][0]:
            out = held[0][1]
            if tau == 0.0:
                out.zero_()
            else:
                torch.mul(self._side(tau, column).value(abs(tau)), math.sqrt(abs(tau)), out=out)
            held[:] = [held[1], (tau, out)]
        return held[1][1]

    def _integrate(self, start: float, end: float, out: Tensor, column: int) -> None:
        """out += ∫ W dτ from start to end. Each side is walked in the order of time."""
        if start < min(end, 0.0):
            side = self._side(start, column)
            side.add_integral(max(0.0, -end), -start, out, descending=True)
        if end > max(start, 0.0):
            side = self._side(end, column)
            side.add_integral(max(0.0, start), end, out, descending=False)

    def _side(self, tau: float, column: int) -> Side:
        sign = 1 if tau > 0.0 else -1
        if (sign, column) not in self._sides:
            seeds, stream = self._path.seeds, source.SIDE_STREAMS[sign]
            self._sides[sign, column] = Side(
                seeds, stream, self._like, self._leaves, integral=self._integral
            )
        return self._sides[sign, column]


_NO_INTEGRAL = (
    "This BrownianPath carries no integrals, which this solver uses: build it with integral=True."
)


def columns(times: Tensor) -> np.ndarray:
    """Times of one substep, float64, (count + 1, components)."""
    return times.detach().to(device="cpu", dtype=torch.float64).reshape(len(times), -1).numpy()


def _needed(times: Sequence[np.ndarray], least: int) -> int:
    """The smallest resolution, from `least` on, at which no component has two times inside one
    leaf; twice the largest if there is none."""
    width = max(part.shape[1] for part in times)
    taus = np.concatenate([np.broadcast_to(part, (len(part), width)) for part in times])
    with np.errstate(divide="ignore"):
        u = np.log(np.abs(taus))
    # A side of its own for τ < 0; τ = 0 is in no leaf.
    u = np.sort(np.where(taus == 0.0, -4096.0, np.where(taus < 0.0, u + 4096.0, u)), axis=0)
    apart = np.diff(u, axis=0) > _SAME
    while least <= _MAX_RESOLUTION:
        leaf, inner = leaf_of(u, least)
        if not ((np.diff(leaf, axis=0) == 0) & inner[1:] & inner[:-1] & apart).any():
            break
        least *= 2
    return least


def refuse_times(times: Sequence[float], space_time: bool, dtype: torch.dtype) -> None:
    """Raise a ValueError for times at which a path has no value that the dtype holds."""
    # τ → −∞ as σ → ∞ comes out as NaN where it is a difference.
    bad = next((-math.inf if tau != tau else tau for tau in times if not math.isfinite(tau)), None)
    if bad is not None:
        raise ValueError(
            f"A Brownian path has no value at τ = {bad}. At σ = ∞ the noise form has τ = −∞: use "
            "the data form, a finite first σ, or fresh noise (expint.noise.Gaussian)."
        )
    if any(end < start for start, end in pairwise(times)):
        raise ValueError(f"The noise clock must not decrease within a query, got {times}.")
    largest = max(abs(times[0]), abs(times[-1]))
    scale = math.sqrt(largest) * max(1.0, largest if space_time else 0.0)
    if 16.0 * scale > torch.finfo(dtype).max:
        what = "√τ³ of its integral" if space_time else "√τ of the path"
        raise ValueError(
            f"The noise clock |τ| = {largest:.6g} is out of range: the scale {what} overflows "
            f"{dtype}. Use a wider dtype, another form, or fresh noise (expint.noise.Gaussian)."
        )
