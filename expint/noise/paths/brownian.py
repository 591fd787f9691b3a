"""One Brownian path for every grid, solver and order of queries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from expint.noise import source
from expint.noise.paths.brownian_leaf import integral_terms, value_terms
from expint.noise.paths.brownian_tree import Side
from expint.noise.paths.path import PathSource, by_column
from expint.noise.source import SubstepNoise

_MAX_RESOLUTION = 2**14
# Runs with integrals over less than this share of a leaf are refused: at half a leaf Var U is
# within 2 % of exact, below it soon is not.
_SMALLEST_SHARE = 0.45


@dataclass(frozen=True)
class BrownianPath(PathSource):
    """A standard Brownian motion W in the noise clock τ, with its integral: a fixed function of
    (seed, τ).

    For states of one event shape and dtype, runs with different grids, numbers of steps or solvers
    see one and the same path. Sample i depends on seed i alone: not on the batch it is in, its size
    or order, nor on what was asked before.

    The path is built on a fixed tree of leaves of equal width in log|τ|, so that its resolution is
    relative to σ. Its values at the ends of leaves, and the joint law of W and its integral, are
    exact as long as no two of the times asked for lie inside one leaf. Inside a leaf the path is a
    random smooth function, too smooth for close times: the increment between the places θ₁ < θ₂ of
    a leaf of length Δ has, with q = θ(1 − θ), the variance

        Δ {(θ₂ − θ₁)² + 3 (q₂ − q₁)² + (√(q₂(1 − 3q₂)) − √(q₁(1 − 3q₁)))²}   in place of   Δ (θ₂ −
        θ₁).

    Errors of law inside a leaf do not add up over leaves. Integrals are more sensitive: their
    variance is within 2 % of exact for steps of half a leaf, and a run whose steps use them is
    refused if one is shorter than 0.45 leaves. For studies at fine steps choose a resolution of at
    least the number of times asked for per e-fold of τ; a run from λ_0 to λ_1 with n noise nodes in
    all has n/(2 |λ_1 − λ_0|) in the data and noise forms with ℓ = 1. To double the resolution costs
    at most one more Gaussian per time, and twice the leaves per integral. Paths of different
    resolutions are different paths, and so are those for float32 and float64 states.

    A stream holds about log₂(128 resolution) + 10 states (and, for events of at most 512 numbers, a
    few blocks of at most 1024 numbers per sample), however long the run. An integral costs as many
    leaves as its interval has, at most 25 e-folds of them.

    Args:
        seeds: one integer per sample.
        resolution: leaves per e-fold of |τ|, from 1 to 2**14.
        device: where the path is drawn and computed, by default the state's device. With "cpu" the
            path is the same for states on the CPU and on a GPU.

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
    resolution: int = 6
    device: torch.device | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", source.check_seeds(self.seeds))
        if isinstance(self.resolution, bool) or not isinstance(self.resolution, int):
            raise TypeError(
                "resolution is an integer, the number of leaves per e-fold of the noise clock, "
                f"got {self.resolution!r}."
            )
        if not 1 <= self.resolution <= _MAX_RESOLUTION:
            raise ValueError(
                f"resolution must be from 1 to {_MAX_RESOLUTION}, got {self.resolution}."
            )
        if self.device is not None:
            object.__setattr__(self, "device", torch.device(self.device))

    @property
    def identity(self) -> str:
        """Seeds, resolution and device."""
        return repr(self)

    def check(self, like: Tensor, substep: SubstepNoise) -> None:
        """Refuse times out of the path's range, or too close for its integrals (see the class)."""
        assert substep.times is not None
        times = substep.times.detach().to(device="cpu", dtype=torch.float64)
        for column in times.reshape(len(times), -1).unbind(1):
            _check_times(column.tolist(), substep.integral, like.dtype)
            if substep.integral:
                _check_resolution(column[0].item(), column[-1].item(), self.resolution)

    def open(self, like: Tensor) -> "_Queries":
        """See `PathSource.open`."""
        source.check_batch(self.seeds, like)
        return _Queries(self, like)


class _Queries:
    """Answers in any order, on any grid. W(0) = 0, and the sides τ > 0 and τ < 0 are independent:
    W(−x) = B₋(x).
    """

    def __init__(self, path: BrownianPath, like: Tensor) -> None:
        self._path = path
        self._dtype, self._device = like.dtype, like.device
        kind = torch.promote_types(
            like.dtype, torch.float32
        )  # half types are too coarse for differences of a path
        self._like = torch.empty(
            like.shape, dtype=kind, device=like.device if path.device is None else path.device
        )
        self._sides: dict[int, Side] = {}
        # The two latest values W(τ): the end of one step is the start of the next.
        self._values = [(math.nan, torch.empty_like(self._like)) for _ in range(2)]
        self._increments = self._integral = torch.empty(0)

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """See `OpenedPath.increments`. The increments are the same with and without the integral,
        and carry no gradient.

        A diagonal noise clock costs one query of the whole event per distinct column of `taus`.
        """
        times = taus.detach().to(device="cpu", dtype=torch.float64)
        result = (
            self._query(times, space_time)
            if times.ndim == 1
            else by_column(self._query, times, self._like[0], space_time)
        )
        if space_time:
            return tuple(part.to(device=self._device, dtype=self._dtype) for part in result)
        return result.to(device=self._device, dtype=self._dtype)

    def _query(self, taus: Tensor, space_time: bool) -> Any:
        times: list[float] = taus.tolist()
        _check_times(times, space_time, self._dtype)
        if self._increments.shape != (len(times) - 1, *self._like.shape):
            self._increments = self._like.new_empty((len(times) - 1, *self._like.shape))
        before = self._value(times[0])
        if space_time:  # U = ∫ W dτ − (τ_n − τ_0) W(τ_0)
            self._integral = torch.mul(before, times[0] - times[-1])
        for out, (start, end) in zip(self._increments, pairwise(times), strict=True):
            if space_time:
                self._integrate(start, end, self._integral)
            after = self._value(end)
            torch.sub(after, before, out=out)
            before = after
        return (self._increments, self._integral) if space_time else self._increments

    def _value(self, tau: float) -> Tensor:
        """W(τ), valid until another two values are asked for."""
        known = next((i for i, (at, _) in enumerate(self._values) if at == tau), None)
        _, value = self._values.pop(0 if known is None else known)
        if known is None:
            if tau == 0.0:
                value.zero_()
            else:
                self._side(tau).combine(value_terms(abs(tau), self._path.resolution), value)
        self._values.append((tau, value))
        return value

    def _integrate(self, start: float, end: float, out: Tensor) -> None:
        """out += ∫_start^end W dτ.

        Each side is walked in the order of time, which keeps what the next query needs at hand.
        """
        if start < 0.0:
            terms = integral_terms(max(0.0, -end), -start, self._path.resolution)
            self._side(start).add(terms, out, descending=True)
        if end > 0.0:
            self._side(end).add(integral_terms(max(0.0, start), end, self._path.resolution), out)

    def _side(self, tau: float) -> Side:
        sign = 1 if tau > 0.0 else -1
        if sign not in self._sides:
            words = [source.seed_word(seed, source.SIDE_STREAMS[sign]) for seed in self._path.seeds]
            self._sides[sign] = Side(words, self._like, self._path.resolution)
        return self._sides[sign]


def _check_times(times: Sequence[float], space_time: bool, dtype: torch.dtype) -> None:
    bad = next((tau for tau in times if not math.isfinite(tau)), None)
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


def _check_resolution(start: float, end: float, resolution: int) -> None:
    """Refuse a step over a small part of a leaf that uses the integral, whose variance would be
    wrong.
    """
    near, far = sorted((abs(start), abs(end)))
    if near == 0.0 or near == far or start * end < 0.0:
        return
    folds, width = math.log(far / near), 1.0 / resolution
    if folds < _SMALLEST_SHARE * width:
        raise ValueError(
            f"A step over {folds:.3g} e-folds of the noise clock uses the integral of a path with "
            f"leaves of {width:.3g}, where its law is not right. Build BrownianPath with "
            f"resolution={math.ceil(_SMALLEST_SHARE / folds)} or more (at most {_MAX_RESOLUTION}), "
            "take fewer steps, or use fresh noise (expint.noise.Gaussian)."
        )
