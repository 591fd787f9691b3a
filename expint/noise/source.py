"""The seam for noise: what a source is, and how seeds become streams of random numbers.

A *source* is an immutable description (seeds, or recorded arrays). `source.stream(like, run)` opens
a *stream* for one run, which answers, substep by substep, with its standard normals. Opening a
second stream from the same source repeats the same noise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from expint.noise.counter import Streams
from expint.numerics.float64 import is_whole

# Independent streams of one seed: the initial state never shares numbers with the path.
INITIAL_STREAM, PATH_STREAM, INTEGRAL_STREAM = 0x9E3779B9, 0x85EBCA6B, 0x27D4EB2F
# The two sides, τ > 0 and τ < 0, of a Brownian path.
SIDE_STREAMS = {1: 0x165667B1, -1: 0xD3A2646C}


@dataclass(frozen=True)
class SubstepNoise:
    """What a substep asks of the noise.

    Its first `count` normals are the normalised increments of W over the intervals between its
    noise nodes, W(τ_k) − W(τ_{k−1}) = √(τ_k − τ_{k−1}) z_k. With `integral` there is one more, of
    the space-time integral U = ∫ [W(τ) − W(τ_0)] dτ over the whole substep given these increments:

        U = Σ_k (τ_m − (τ_{k−1} + τ_k)/2) ΔW_k + √(Σ_k (τ_k − τ_{k−1})³/12) z_U.

    Args:
        count: number of intervals, ≥ 1.
        integral: whether U is used.
        nodes: noise times τ_0 < … < τ_m, float64, shape (count + 1,), or for diagonal noise clocks
            (count + 1, *broadcastable to the event), or a function that gives them (only paths
            ask); None for noise that is not the path's, such as churn.
    """

    count: int
    integral: bool = False
    nodes: Tensor | Callable[[], Tensor] | None = None

    @property
    def times(self) -> Tensor | None:
        """The noise times."""
        return self.nodes() if callable(self.nodes) else self.nodes

    @property
    def normals(self) -> int:
        """How many standard normals it takes per component."""
        return self.count + self.integral


class NoiseStream(Protocol):
    """The noise of one run."""

    def normals(self, substep: SubstepNoise) -> Iterable[Tensor]:
        """The standard normals of the next substep, `substep.normals` tensors of shape
        (batch, *event), in the state's dtype and on its device. They may be made one by one, as the
        caller asks, and are not changed afterwards."""
        ...


@runtime_checkable
class NoiseSource(Protocol):
    """Where randomness comes from.

    A run can be saved if its source has an attribute `identity`, a string that is equal for sources
    of the same numbers.
    """

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> NoiseStream:
        """Open a stream.

        Args:
            like: a state, (batch, *event).
            run: what the substeps of the run will ask for, in order.

        Raises:
            ValueError: if this source cannot serve such a state or run, saying why and the way out.
        """
        ...


class Seeds(tuple[int, ...]):
    """Seeds that have been checked."""


def check_seeds(seeds: Sequence[int] | Tensor | np.ndarray) -> Seeds:
    """One non-negative integer per sample.

    Raises:
        TypeError, ValueError: naming the value that is not a non-negative integer.
    """
    if isinstance(seeds, Seeds):
        return seeds
    if isinstance(seeds, (Tensor, np.ndarray, np.generic)):
        seeds = seeds.tolist()
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, Sequence):
        raise TypeError(
            f"seeds are a sequence of integers, one per sample, got {seeds!r}: the samples of run "
            "n have the seeds expint.noise.per_sample(n, batch)."
        )
    return Seeds(check_seed(seed) for seed in seeds)


def check_seed(seed: Any) -> int:
    """One integer, 0 ≤ seed < 2**64.

    Raises:
        ValueError: for anything else.
    """
    if not is_whole(seed) or not 0 <= seed < 2**64:
        raise ValueError(f"Each seed must be an integer with 0 <= seed < 2**64, got {seed!r}.")
    return int(seed)


def check_batch(seeds: Sequence[int], like: Tensor) -> None:
    """Refuse a state whose batch is not one sample per seed."""
    if like.ndim < 1 or like.shape[0] != len(seeds):
        raise ValueError(
            f"There is one seed per sample, but {len(seeds)} seeds came for a state of shape "
            f"{tuple(like.shape)}: give {like.shape[0] if like.ndim else 1} seeds."
        )


def generators(seeds: Sequence[int], stream: int, device: torch.device) -> Streams:
    """One stream of random numbers per seed."""
    return Streams(seeds, stream, device)


def fill_normals(gens: Streams, block: Tensor) -> None:
    """Fill `block`, shape (batch, count, *event), with the next `count` states of normals."""
    gens.normals(block)


def initial_state(
    seeds: Sequence[int] | Tensor,
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal initial states, shape (len(seeds), *shape); sample i depends on seed i alone.

    Drawn from a stream of their own, in float32, and converted to `dtype`.
    """
    listed = check_seeds(seeds)
    state = torch.empty((len(listed), *shape), dtype=dtype, device=device)
    generators(listed, INITIAL_STREAM, state.device).normals(state[:, None])
    return state
