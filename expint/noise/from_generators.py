"""Noise from the torch generators of a caller, as other libraries hand them in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.noise import source

__all__ = ["FromGenerators"]


@dataclass(eq=False)
class FromGenerators:
    """Independent Gaussian increments from torch generators, which go on from where they stand.

    One state of normals is drawn for each interval, in order of use, and then, where the integral U
    is used, as many again for U. Unlike the sources with seeds, this one leaves the generators
    moved: a second stream gives other numbers.

    Args:
        generators: one generator per sample, so that a sample depends on its own alone; or one for
            the whole batch, a single generator or None for torch's own. Generators on the CPU serve
            states on any device. May be replaced between draws.

    Raises:
        TypeError: for anything else.

    Example:
        >>> def draw(generators, batch):
        ...     stream = FromGenerators(generators).stream(torch.zeros(batch, 3))
        ...     return stream.increments(torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64))
        >>> both = draw([torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)], 2)
        >>> torch.equal(both[:, 1:], draw(torch.Generator().manual_seed(1), 1))
        True
    """

    generators: torch.Generator | Sequence[torch.Generator] | None = None

    def __post_init__(self) -> None:
        self._listed()

    @property
    def memoryless(self) -> bool:
        """True: only the lengths of the intervals matter."""
        return True

    def stream(self, like: Tensor, intervals: int | None = None) -> "_Drawn":
        """Open a stream for states like `like`; a ValueError tells if there is not one generator
        per sample.
        """
        stream = _Drawn(self, like.detach())
        stream.check()
        return stream

    def _listed(self) -> "Sequence[torch.Generator | None]":
        given = self.generators
        listed = [given] if given is None or isinstance(given, torch.Generator) else list(given)
        wrong = [
            item for item in listed if item is not None and not isinstance(item, torch.Generator)
        ]
        if wrong or not listed:
            raise TypeError(
                "generators are torch.Generator objects, one per sample or one for all, got "
                f"{given!r}."
            )
        return listed


class _Drawn:
    def __init__(self, origin: FromGenerators, like: Tensor) -> None:
        self._origin, self._like = origin, like

    def check(self) -> "Sequence[torch.Generator | None]":
        """The generators, after checking that they are one, or one per sample."""
        listed, batch = self._origin._listed(), self._like.shape[0]
        if len(listed) not in (1, batch):
            raise ValueError(
                f"Give one generator per sample, or one for all: got {len(listed)} for a batch of "
                f"{batch}."
            )
        return listed

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """See `NoiseStream.increments`."""
        count = len(taus) - 1
        steps = source.scale_intervals(self._normals(count), taus)
        return (
            (steps, source.integral_of_path(taus, steps, self._normals(count)))
            if space_time
            else steps
        )

    def _normals(self, count: int) -> Tensor:
        """Standard normals of shape (count, batch, *event), one state after the other."""
        return torch.stack([self._state() for _ in range(count)])

    def _state(self) -> Tensor:
        listed, like = self.check(), self._like
        size = (like.shape[0] // len(listed), *like.shape[1:])
        parts = [
            torch.randn(
                size,
                generator=item,
                dtype=like.dtype,
                device=like.device if item is None else item.device,
            )
            for item in listed
        ]
        return torch.cat(parts).to(like.device)
