"""Recorded noise, for comparing with other programs number by number."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.noise.source import SubstepNoise


@dataclass(frozen=True, eq=False)
class Replay:
    """Given standard normals, used one after the other.

    Args:
        normals: standard normals in order of use, each of the state's shape (batch, *event): an
            array or tensor of shape (count, batch, *event), or a sequence of such states. Within a
            step the order is that of the intervals in time, and then, where the integral U is used,
            one for U.
    """

    normals: Any

    def __post_init__(self) -> None:
        given = self.normals
        if not isinstance(given, Tensor):
            items = [torch.as_tensor(np.asarray(n)) for n in given]
            given = torch.stack(items) if items else torch.empty(0)
        if given.numel() and given.ndim < 2:
            raise ValueError(f"Each normal has the shape (batch, *event), got {self.normals!r}.")
        if not torch.isfinite(given).all():
            raise ValueError("The recorded normals contain NaN or infinity.")
        object.__setattr__(self, "normals", given.to(torch.float64))

    @property
    def identity(self) -> str:
        """A digest of the numbers."""
        return "Replay " + hashlib.sha256(self.normals.cpu().numpy().tobytes()).hexdigest()

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_Recorded":
        """See `NoiseSource.stream`."""
        used = sum(substep.normals for substep in run)
        if used > len(self.normals):
            raise ValueError(
                f"This run uses {used} standard normals, but Replay holds {len(self.normals)}."
            )
        if len(self.normals) and self.normals.shape[1:] != like.shape:
            raise ValueError(
                f"Replay holds normals of shape {tuple(self.normals.shape[1:])}, but the state has "
                f"shape {tuple(like.shape)}."
            )
        return _Recorded(self.normals.to(device=like.device, dtype=like.dtype))


class _Recorded:
    def __init__(self, normals: Tensor) -> None:
        self._normals, self._used = normals, 0

    def normals(self, substep: SubstepNoise) -> Sequence[Tensor]:
        """See `NoiseStream.normals`."""
        taken = self._normals[self._used : self._used + substep.normals]
        if len(taken) < substep.normals:
            raise ValueError(
                f"Replay holds {len(self._normals)} standard normals and all are used up."
            )
        self._used += substep.normals
        return taken.unbind(0)
