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
from expint.noise.paths.brownian_tree import Side, leaf_of, pieces
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

    Without `resolution` the leaves are fitted to the run's noise times, at most two in each, and
    its law is exact. With a stated `resolution` all runs, with different grids, numbers of steps
    or solvers, see one and the same path; a run that asks for two times inside one leaf is refused,
    with the resolution that serves. For a comparison of runs state a resolution. Paths of different
    resolutions agree at the ends of the coarser leaves, if both carry integrals or neither does;
    inside a leaf they differ. Paths for events of another shape are different paths.

    A path that is opened without a run (`open`: for torchsde, for adaptive steps) has `resolution`
    leaves per e-fold, or 1024, and is exact at any times all the same: a leaf remembers what was
    asked inside it. If several times lie in one leaf, their values depend on the order of queries.
    Times that differ by less than 1e-13 of their size are one time.

    For n = step/leaf, in log|τ|, a run in order draws 2 + log₂ n Gaussians per time without
    integrals, fewer than 2 if the leaves are fitted, and twice that with integrals; an integral
    adds no draws but is a sum of 2 log₂ n terms. However long the run, its stream holds about 8
    states and the normals of a step, with integrals twice as many (and, for events of at most 512
    numbers, a few blocks of at most 1024 numbers per sample). Queries in no order keep what they
    draw, up to 256 MiB, and draw at most about twice as much.

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
        times = [columns(s.times) for s in run if s.times is not None]
        walked = any(substep.integral for substep in run)
        return _Queries(self, like, self._leaves(times), times, integral, walked)

    def _leaves(self, times: Sequence[np.ndarray]) -> int:
        """The resolution, a power of two, refused if it is stated and too coarse for the times."""
        stated = self.resolution and 1 << (self.resolution - 1).bit_length()
        if not times:
            return stated or _OPENED
        needed = _needed(times, stated or 1)
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

    def __init__(
        self,
        path: BrownianPath,
        like: Tensor,
        leaves: int,
        times: Sequence[np.ndarray],
        integral: bool,
        walked: bool,
    ) -> None:
        self._path, self._leaves, self._integral, self._walked = path, leaves, integral, walked
        self._times = np.concatenate([np.ravel(part) for part in times]) if times else None
        self._dtype, self._device = like.dtype, like.device
        kind = torch.promote_types(
            like.dtype, torch.float32
        )  # half types are too coarse for differences of a path
        device = like.device if path.device is None else path.device
        self._like = torch.empty((), dtype=kind, device=device).expand(like.shape)
        self._sides: dict[tuple[int, int], Side] = {}  # of every column of a diagonal clock
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
        if self._increments.shape != (len(times) - 1, *self._like.shape):
            self._increments = self._like.new_empty((len(times) - 1, *self._like.shape))
        increments = self._increments
        integral = increments
        if space_time:  # U = ∫ W dτ − (τ_n − τ_0) W(τ_0)
            scale = math.sqrt(abs(times[0])) * (times[0] - times[-1])
            integral = self._value(times[0], column) * scale
        for out, (start, end) in zip(increments, pairwise(times), strict=True):
            torch.mul(self._value(start, column), -math.sqrt(abs(start)), out=out)
            if space_time:
                self._integrate(start, end, integral, column)
            value = self._value(end, column)
            for part, one in pieces(out, value):
                part.add_(one * math.sqrt(abs(end)))
            del value  # no state more than is needed
        return (increments, integral) if space_time else increments

    def _value(self, tau: float, column: int) -> Tensor:
        """W(τ)/√|τ|."""
        if tau == 0.0:
            return self._like.new_zeros(self._like.shape)
        return self._side(tau, column).value(abs(tau))

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
            times = self._times
            self._sides[sign, column] = Side(
                self._path.seeds,
                source.SIDE_STREAMS[sign],
                self._like,
                self._leaves,
                None if times is None else _distinct(sign * times),
                fitted=times is not None and self._path.resolution is None,
                integral=self._integral,
                walked=self._walked,
                up=sign > 0,
            )
        return self._sides[sign, column]


_NO_INTEGRAL = (
    "This BrownianPath carries no integrals, which this solver uses: build it with integral=True."
)


def columns(times: Tensor) -> np.ndarray:
    """Times of one substep, float64, (count + 1, components)."""
    return times.detach().to(device="cpu", dtype=torch.float64).reshape(len(times), -1).numpy()


def _distinct(times: np.ndarray) -> np.ndarray:
    """Those > 0, without repeats."""
    times = np.sort(times[times > 0.0])
    return times[np.diff(np.log(times), prepend=-math.inf) > _SAME]


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
