"""The noise of a scheduler's run: from the generators that a pipeline hands to `step`, or, since
many hand none, from seeds that are a function of the first state."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from expint.noise import FromGenerators, Gaussian, SubstepNoise, per_sample
from expint.noise.source import NoiseStream, check_seed

TORCH = "torch"


def seeds_of_state(x: Tensor) -> list[int]:
    """A seed for each sample: the first 64 bits of the BLAKE2b digest of its float32 numbers, so
    that it depends on the sample alone.

    Args:
        x: shape (batch, *event), any floating dtype.
    """
    rows = x.detach().to("cpu", torch.float32).contiguous().numpy()
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return [int.from_bytes(digest, "little") for digest in digests]


class LatentNoise:
    """Noise of `generators` while there are any, and else of `seed`.

    Args:
        state: the first state of the run, shape (batch, *event).
        generators: one, one per sample, or None. May be replaced between draws.
        seed: None for seeds from the state, an integer for those of a run (see
            `expint.noise.per_sample`), "torch" for torch's global generator.
    """

    def __init__(self, state: Tensor, generators: Any, seed: int | str | None) -> None:
        self._state, self._seed, self.generators = state, seed, generators

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_Chosen":
        """See `NoiseSource.stream`."""
        if self._seed == TORCH:
            return _Chosen(self, like, FromGenerators().stream(like, run))
        given = self._seed
        seeds = seeds_of_state(self._state) if given is None else per_sample(int(given), len(like))
        return _Chosen(self, like, Gaussian(seeds).stream(like, run))


class _Chosen:
    def __init__(self, noise: LatentNoise, like: Tensor, own: NoiseStream) -> None:
        self._noise, self._like, self._own = noise, like, own
        FromGenerators(noise.generators).stream(like, [])

    def normals(self, substep: SubstepNoise) -> Iterable[Tensor]:
        """See `NoiseStream.normals`."""
        generators = self._noise.generators
        if generators is None:
            return self._own.normals(substep)
        return FromGenerators(generators).stream(self._like, []).normals(substep)


def check_noise(seed: int | str | None) -> None:
    """Refuse anything but None, an integer seed and "torch"."""
    if isinstance(seed, str) and seed != TORCH:
        raise ValueError(f"seed is an integer, None or {TORCH!r}, got {seed!r}.")
    if isinstance(seed, int):
        check_seed(seed)
