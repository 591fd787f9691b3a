"""The seam for noise: what a source is, and how seeds become streams of random numbers.

A *source* is an immutable description (seeds, or recorded arrays). `source.stream(like, intervals)`
opens a *stream* for one run, which answers `increments(taus)`, and with `space_time=True` also the
integral of the path. Opening a second stream from the same source repeats the same noise.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, overload, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from expint.numerics.float64 import is_whole

__all__ = [
    "ChecksRuns",
    "NoiseSource",
    "NoiseStream",
    "check_batch",
    "check_seeds",
    "generators",
    "initial_state",
    "integral_of_path",
    "interval_stds",
    "mix",
    "scale_intervals",
    "seed_word",
]

# Independent streams of one seed: the initial state never shares numbers with the path.
INITIAL_STREAM, PATH_STREAM, INTEGRAL_STREAM = 0x9E3779B9, 0x85EBCA6B, 0x27D4EB2F
# The two sides, τ > 0 and τ < 0, of a Brownian path.
SIDE_STREAMS = {1: 0x165667B1, -1: 0xD3A2646C}


class NoiseStream(Protocol):
    """Brownian increments of one run."""

    @overload
    def increments(self, taus: Tensor, space_time: Literal[False] = False) -> Tensor: ...
    @overload
    def increments(self, taus: Tensor, space_time: Literal[True]) -> tuple[Tensor, Tensor]: ...
    def increments(self, taus: Tensor, space_time: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Increments W(τ_{i+1}) − W(τ_i), shape (len(taus) − 1, batch, *event), in the state's
        dtype and on its device.

        With `space_time` the pair of them and of U = ∫_{τ_0}^{τ_n} [W(τ) − W(τ_0)] dτ over the
        whole interval, shape (batch, *event); Cov(W(τ_n) − W(τ_0), U) = (τ_n − τ_0)²/2, Var U =
        (τ_n − τ_0)³/3.

        Args:
            taus: increasing values of the noise clock, float64, shape (n + 1,) or, for diagonal
                noise clocks, (n + 1, *broadcastable to the event).
            space_time: whether U is wanted.

        The caller may overwrite the result, and must not use it after the next call.

        Raises:
            ValueError: if this source has no integral, or cannot serve these times.
        """
        ...


@runtime_checkable
class NoiseSource(Protocol):
    """Where randomness comes from."""

    @property
    def memoryless(self) -> bool:
        """Whether only the lengths of the intervals matter, so that each step may use a clock of
        its own.
        """
        ...

    def stream(self, like: Tensor, intervals: int | None = None) -> NoiseStream:
        """Open a stream for states like `like` (batch, *event); `intervals`: how many increments
        will be asked for, if known.

        Raises:
            ValueError: if this source cannot serve such states or so many increments.
        """
        ...


@runtime_checkable
class ChecksRuns(Protocol):
    """A source that cannot serve every run, and can tell before one starts."""

    def check_run(self, like: Tensor, clocks: Sequence[tuple[Tensor, bool]]) -> None:
        """Refuse a run for states like `like` whose steps ask for these `taus`, each with whether
        its integral U is wanted.

        Raises:
            ValueError: saying what cannot be served, and the way out.
        """
        ...


def check_seeds(seeds: int | Sequence[int] | Tensor | np.ndarray) -> tuple[int, ...]:
    """One non-negative integer per sample, as a tuple.

    Raises:
        TypeError, ValueError: naming the value that is not a non-negative integer.
    """
    if isinstance(seeds, (Tensor, np.ndarray, np.generic)):
        seeds = seeds.tolist()
    if isinstance(seeds, (bool, str)) or not isinstance(seeds, (int, Sequence)):
        raise TypeError(f"seeds must be integers, one per sample, got {seeds!r}.")
    listed = []
    for seed in [seeds] if isinstance(seeds, int) else seeds:
        if not is_whole(seed) or not 0 <= seed < 2**64:
            raise ValueError(f"Each seed must be an integer with 0 <= seed < 2**64, got {seed!r}.")
        listed.append(int(seed))
    return tuple(listed)


def check_batch(seeds: Sequence[int], like: Tensor) -> None:
    """Refuse a state whose batch is not one sample per seed."""
    if like.ndim < 1 or like.shape[0] != len(seeds):
        raise ValueError(
            f"There is one seed per sample, but {len(seeds)} seeds came for a state of shape "
            f"{tuple(like.shape)}: give {like.shape[0] if like.ndim else 1} seeds."
        )


def mix(word: int) -> int:
    """A bijection of 32-bit words that scatters neighbours (the finalizer of MurmurHash3, public
    domain).
    """
    word ^= word >> 16
    word = word * 0x85EBCA6B & 0xFFFFFFFF
    word ^= word >> 13
    word = word * 0xC2B2AE35 & 0xFFFFFFFF
    return word ^ word >> 16


def seed_word(seed: int, stream: int) -> int:
    """The 32-bit word that a seed becomes in one of its streams: a bijection on seeds below
    2**32.
    """
    low, high = seed & 0xFFFFFFFF, seed >> 32
    return mix(mix(low ^ mix(high)) ^ stream)


def generators(seeds: Sequence[int], stream: int, device: torch.device) -> list[torch.Generator]:
    """One generator per seed. Torch's CPU generator keeps 32 bits of a seed, so the map is a
    bijection on seeds below 2**32: no two of them share their numbers within one stream.
    """
    return [torch.Generator(device=device).manual_seed(seed_word(seed, stream)) for seed in seeds]


def fill_normals(gens: Sequence[torch.Generator], block: Tensor) -> None:
    """Fill row i of `block` with standard normals from generator i."""
    for row, generator in zip(block, gens, strict=True):
        row.normal_(generator=generator)


def initial_state(
    seeds: int | Sequence[int] | Tensor,
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal initial states, shape (len(seeds), *shape); sample i depends on seed i alone.

    Drawn from a stream of their own: no noise of the path ever repeats them.
    """
    listed = check_seeds(seeds)
    state = torch.empty((len(listed), *shape), dtype=dtype, device=device)
    fill_normals(generators(listed, INITIAL_STREAM, state.device), state)
    return state


def interval_stds(taus: Tensor, like: Tensor) -> Tensor:
    """√(τ_{i+1} − τ_i) ready to multiply increments of shape (n, batch, *event), in the dtype and
    on the device of `like`.
    """
    return _per_interval(torch.sqrt(taus[1:] - taus[:-1]), like)


def scale_intervals(block: Tensor, taus: Tensor) -> Tensor:
    """Multiply unit-variance numbers of shape (n, batch, *event) by √(τ_{i+1} − τ_i), in place."""
    stds = torch.sqrt(taus[1:] - taus[:-1])
    return _accumulate(block, stds, lambda part, std: part.mul_(std))


def _per_interval(values: Tensor, like: Tensor) -> Tensor:
    """One value per interval, or per interval and component, ready to multiply a tensor of shape
    (n, batch, *event).
    """
    middle = like.ndim - (values.ndim - 1)
    return values.reshape(values.shape[0], *[1] * middle, *values.shape[1:]).to(
        device=like.device, dtype=like.dtype
    )


def _accumulate(block: Tensor, values: Tensor, apply: Callable[[Tensor, Any], Any]) -> Tensor:
    """Call apply(part, value) for each interval: plain numbers for a scalar clock, which need no
    copy to the state's device.
    """
    factors = values.tolist() if values.ndim == 1 else _per_interval(values, block[0])
    for part, factor in zip(block, factors, strict=True):
        apply(part, factor)
    return block


def integral_of_path(taus: Tensor, increments: Tensor, normals: Tensor) -> Tensor:
    """U over the whole of `taus` from the increments and one more standard normal ζ per interval.

    On one interval U_k = Δ_k ΔW_k/2 + √(Δ_k³/12) ζ_k; intervals join by U(a,c) = U(a,b) + U(b,c) +
    (W(b) − W(a)) (c − b), so that

        U = Σ_k [(τ_n − (τ_k + τ_{k+1})/2) ΔW_k + √(Δ_k³/12) ζ_k].

    Args:
        taus: as for `NoiseStream.increments`.
        increments, normals: shape (n, batch, *event).
    """
    weights = taus[-1] - 0.5 * (taus[1:] + taus[:-1])
    spreads = (taus[1:] - taus[:-1]) ** 1.5 / 12**0.5
    total = torch.zeros_like(increments[0])
    _accumulate(increments, weights, lambda part, weight: total.add_(part * weight))
    _accumulate(normals, spreads, lambda part, spread: total.add_(part * spread))
    return total
