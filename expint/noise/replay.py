"""Recorded noise, for comparing with other programs number by number."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.noise import source


@dataclass(frozen=True, eq=False)
class Replay:
    """Increments from given standard normals, used one after the other.

    Args:
        normals: standard normals in order of use, each of the state's shape (batch, *event): an
            array or tensor of shape (count, batch, *event), or a sequence of such states. Within a
            step the order is that of the intervals in time, first for the increments and then,
            where the integral U is used, once more for U.
    """

    normals: Any

    def __post_init__(self) -> None:
        items = (
            self.normals
            if isinstance(self.normals, Tensor)
            else [torch.as_tensor(np.asarray(n)) for n in self.normals]
        )
        stacked = (
            items if isinstance(items, Tensor) else torch.stack(items) if items else torch.empty(0)
        )
        if not torch.isfinite(stacked).all():
            raise ValueError("The recorded normals contain NaN or infinity.")
        object.__setattr__(self, "normals", stacked.to(torch.float64))

    @property
    def memoryless(self) -> bool:
        """True: only the lengths of the intervals matter."""
        return True

    def stream(self, like: Tensor, intervals: int | None = None) -> "_Recorded":
        """Open a stream for states like `like`; a ValueError tells if the normals are too few or of
        another shape.
        """
        if intervals is not None and intervals > len(self.normals):
            raise ValueError(
                f"This run uses {intervals} standard normals, but Replay holds {len(self.normals)}."
            )
        if len(self.normals) and self.normals.shape[1:] != like.shape:
            raise ValueError(
                f"Replay holds normals of shape {tuple(self.normals.shape[1:])}, but the state has "
                f"shape {tuple(like.shape)}."
            )
        return _Recorded(self.normals.to(device=like.device, dtype=like.dtype))


class _Recorded:
    def __init__(self, normals: Tensor) -> None:
        self._normals = normals
        self._used = 0

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """See `NoiseStream.increments`."""
        taken = self._take(len(taus) - 1)
        steps = taken * source.interval_stds(taus, taken[0])
        return (
            (steps, source.integral_of_path(taus, steps, self._take(len(taus) - 1)))
            if space_time
            else steps
        )

    def _take(self, count: int) -> Tensor:
        taken = self._normals[self._used : self._used + count]
        if len(taken) < count:
            raise ValueError(
                f"Replay holds {len(self._normals)} standard normals and all are used up."
            )
        self._used += count
        return taken
