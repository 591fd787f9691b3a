"""The seam for noise: what a source is, and how seeds become streams of random numbers.

A *source* is an immutable description (seeds, or recorded arrays). `source.stream(like, intervals)` opens a *stream* for one run,
which answers `increments(taus)`. Opening a second stream from the same source repeats the same noise.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["NoiseSource", "NoiseStream", "check_seeds", "generators", "initial_state", "interval_stds"]

# Independent streams of one seed: the initial state never shares numbers with the path.
INITIAL_STREAM, PATH_STREAM = 0x9E3779B9, 0x85EBCA6B


class NoiseStream(Protocol):
    """Brownian increments of one run."""

    def increments(self, taus: Tensor) -> Tensor:
        """Increments W(τ_{i+1}) − W(τ_i), shape (len(taus) − 1, batch, *event), in the state's dtype and on its device.

        Args:
            taus: increasing values of the noise clock, float64, shape (n + 1,) or, for diagonal noise clocks,
                (n + 1, *broadcastable to the event).

        The caller may overwrite the result, and must not use it after the next call.
        """
        ...


class NoiseSource(Protocol):
    """Where randomness comes from."""

    @property
    def memoryless(self) -> bool:
        """Whether only the lengths of the intervals matter, so that each step may use a clock of its own."""
        ...

    def stream(self, like: Tensor, intervals: int | None = None) -> NoiseStream:
        """Open a stream for states like `like` (batch, *event); `intervals`: how many increments will be asked for, if known.

        Raises:
            ValueError: if this source cannot serve such states or so many increments.
        """
        ...


def check_seeds(seeds: int | Sequence[int] | Tensor) -> tuple[int, ...]:
    """One non-negative integer per sample, as a tuple.

    Raises:
        TypeError, ValueError: naming the value that is not a non-negative integer.
    """
    if isinstance(seeds, bool) or not isinstance(seeds, (int, Sequence, Tensor, range)) or isinstance(seeds, str):
        raise TypeError(f"seeds must be integers, one per sample, got {seeds!r}.")
    listed = [seeds] if isinstance(seeds, int) else seeds.tolist() if isinstance(seeds, Tensor) else list(seeds)
    for seed in listed:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
            raise ValueError(f"Each seed must be an integer with 0 <= seed < 2**64, got {seed!r}.")
    return tuple(listed)


def check_batch(seeds: Sequence[int], like: Tensor) -> None:
    """Refuse a state whose batch is not one sample per seed."""
    if like.ndim < 1 or like.shape[0] != len(seeds):
        raise ValueError(
            f"There is one seed per sample, but {len(seeds)} seeds came for a state of shape {tuple(like.shape)}: "
            f"give {like.shape[0] if like.ndim else 1} seeds."
        )


def _mix(word: int) -> int:
    """A bijection of 32-bit words that scatters neighbours (the finalizer of MurmurHash3, public domain)."""
    word ^= word >> 16
    word = word * 0x85EBCA6B & 0xFFFFFFFF
    word ^= word >> 13
    word = word * 0xC2B2AE35 & 0xFFFFFFFF
    return word ^ word >> 16


def generators(seeds: Sequence[int], stream: int, device: torch.device) -> list[torch.Generator]:
    """One generator per seed. Torch's CPU generator keeps 32 bits of a seed, so the map is a bijection on seeds below 2**32:
    no two of them share their numbers within one stream.
    """
    opened = []
    for seed in seeds:
        low, high = seed & 0xFFFFFFFF, seed >> 32
        opened.append(torch.Generator(device=device).manual_seed(_mix(_mix(low) ^ (_mix(high) if high else 0) ^ stream)))
    return opened


def fill_normals(gens: Sequence[torch.Generator], block: Tensor) -> None:
    """Fill row i of `block` with standard normals from generator i."""
    for row, generator in zip(block, gens, strict=True):
        row.normal_(generator=generator)


def initial_state(
    seeds: int | Sequence[int] | Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal initial states, shape (len(seeds), *shape); sample i depends on seed i alone.

    Drawn from a stream of their own: no noise of the path ever repeats them.
    """
    listed = check_seeds(seeds)
    state = torch.empty((len(listed), *shape), dtype=dtype, device=device)
    fill_normals(generators(listed, INITIAL_STREAM, state.device), state)
    return state


def interval_stds(taus: Tensor, like: Tensor) -> Tensor:
    """√(τ_{i+1} − τ_i) ready to multiply increments of shape (n, batch, *event), in the dtype and on the device of `like`."""
    stds = torch.sqrt(taus[1:] - taus[:-1])
    middle = like.ndim - (stds.ndim - 1)
    return stds.reshape(stds.shape[0], *[1] * middle, *stds.shape[1:]).to(device=like.device, dtype=like.dtype)
