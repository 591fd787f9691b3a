"""Fresh increments with one seed per sample."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expint.noise import source

# Numbers are drawn in blocks of about this many per sample, so that small states do not pay a call per Gaussian.
_BLOCK = 2**15


@dataclass(frozen=True)
class Seeded(ABC):
    """Independent increments, scaled from unit-variance numbers; sample i depends on seed i alone."""

    seeds: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", source.check_seeds(self.seeds))

    @staticmethod
    @abstractmethod
    def _draw(gens: Sequence[torch.Generator], shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Unit-variance numbers of shape (len(gens), *shape)."""

    @property
    def memoryless(self) -> bool:
        """True: only the lengths of the intervals matter."""
        return True

    def stream(self, like: Tensor, intervals: int | None = None) -> "_Blocks":
        """Open a stream for states like `like`; a ValueError tells if there is not one seed per sample."""
        source.check_batch(self.seeds, like)
        return _Blocks(self, source.generators(self.seeds, source.PATH_STREAM, like.device), like)


class Gaussian(Seeded):
    """Independent Gaussian increments. Sample i depends on seed i alone: not on the batch it is in, its size or order.

    Args:
        seeds: one integer per sample.
    """

    _draw = staticmethod(source.draw_normals)


class Rademacher(Seeded):
    """Fair random signs times √Δτ: the right mean and variance, enough for weak order, cheaper than Gaussians.

    Args:
        seeds: one integer per sample.
    """

    @staticmethod
    def _draw(gens: Sequence[torch.Generator], shape: tuple[int, ...], like: Tensor) -> Tensor:
        block = torch.empty((len(gens), *shape), dtype=like.dtype, device=like.device)
        for row, generator in zip(block, gens, strict=True):
            row.random_(0, 2, generator=generator)
        return block.mul_(2.0).sub_(1.0)


class _Blocks:
    """Unit-variance numbers drawn block by block and scaled to the intervals."""

    def __init__(self, drawer: Seeded, gens: Sequence[torch.Generator], like: Tensor) -> None:
        self._drawer = drawer
        self._generators = gens
        self._event = tuple(like.shape[1:])
        # The size of a block depends on the event alone, so that a sample does not depend on its batch.
        self._per_block = max(1, _BLOCK // max(1, like[0].numel()))
        self._left = torch.empty((len(gens), 0, *self._event), dtype=like.dtype, device=like.device)

    def increments(self, taus: Tensor) -> Tensor:
        """See `NoiseStream.increments`."""
        count = len(taus) - 1
        missing = count - self._left.shape[1]
        if missing > 0:
            fresh = self._drawer._draw(self._generators, (max(missing, self._per_block), *self._event), self._left)
            self._left = torch.cat([self._left, fresh], 1) if self._left.shape[1] else fresh
        taken, self._left = self._left[:, :count].movedim(1, 0), self._left[:, count:]
        return taken.mul_(source.interval_stds(taus, taken[0]))
