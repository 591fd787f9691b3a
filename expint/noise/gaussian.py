"""Fresh normals with one seed per sample."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expint.noise import source
from expint.noise.source import SubstepNoise

# Numbers are drawn in blocks of about this many per sample, so that small states do not pay a call
# per normal.
_BLOCK = 2**15


@dataclass(frozen=True)
class Seeded(ABC):
    """Independent numbers of mean 0 and variance 1; sample i depends on seed i alone: not on the
    batch it is in, its size or order.

    Args:
        seeds: one integer per sample.
        device: where the numbers are drawn, by default the state's device. With "cpu" they are the
            same for states on the CPU and on a GPU.
    """

    seeds: Sequence[int]
    device: torch.device | str | None = None
    _has_integral: ClassVar[bool]

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", source.check_seeds(self.seeds))
        if self.device is not None:
            object.__setattr__(self, "device", torch.device(self.device))

    @staticmethod
    @abstractmethod
    def _draw(gens: Sequence[torch.Generator], block: Tensor) -> None:
        """Fill row i of `block` with independent numbers from generator i."""

    @property
    def identity(self) -> str:
        """Kind, seeds and device."""
        return repr(self)

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_Drawn":
        """See `NoiseSource.stream`."""
        source.check_batch(self.seeds, like)
        if not self._has_integral and any(substep.integral for substep in run):
            raise ValueError(
                f"{type(self).__name__} noise has no space-time integral, which this solver uses: "
                "use expint.noise.Gaussian or expint.noise.BrownianPath."
            )
        return _Drawn(self, like, sum(substep.normals for substep in run))


class Gaussian(Seeded):
    """Independent standard normals; sample i depends on seed i alone: not on the batch it is in,
    its size or order.

    Args:
        seeds: one integer per sample.
        device: where the numbers are drawn, by default the state's device. With "cpu" they are the
            same for states on the CPU and on a GPU.
    """

    _has_integral = True
    _draw = staticmethod(source.fill_normals)


class Rademacher(Seeded):
    """Fair random signs: the right mean and variance, enough for weak order, cheaper than normals.
    There is none for the integral U.

    Args:
        seeds: one integer per sample.
        device: as for `Gaussian`.
    """

    _has_integral = False

    @staticmethod
    def _draw(gens: Sequence[torch.Generator], block: Tensor) -> None:
        for row, generator in zip(block, gens, strict=True):
            row.random_(0, 2, generator=generator)
        block.mul_(2.0).sub_(1.0)


class _Drawn:
    """The numbers of increments from one stream of each seed, those of U from another."""

    def __init__(self, drawer: Seeded, like: Tensor, total: int) -> None:
        device = like.device if drawer.device is None else torch.device(drawer.device)
        self._drawer, self._total, self._target = drawer, total, like.device
        self._like = torch.empty(like.shape, dtype=like.dtype, device=device)
        self._path, self._integral = self._open(source.PATH_STREAM), None

    def normals(self, substep: SubstepNoise) -> Sequence[Tensor]:
        """See `NoiseStream.normals`."""
        taken = list(self._path.take(substep.count))
        if substep.integral:
            self._integral = self._integral or self._open(source.INTEGRAL_STREAM)
            taken += self._integral.take(1)
        return [part.to(self._target) for part in taken]

    def _open(self, stream: int) -> "_Blocks":
        gens = source.generators(self._drawer.seeds, stream, self._like.device)
        return _Blocks(self._drawer, gens, self._like, self._total)


class _Blocks:
    """Numbers drawn block by block into one buffer, never beyond the end of the run."""

    def __init__(
        self, drawer: Seeded, gens: Sequence[torch.Generator], like: Tensor, ahead: int
    ) -> None:
        self._drawer, self._generators, self._like, self._ahead = drawer, gens, like, ahead
        self._buffer = torch.empty(len(gens), 0, device=like.device)
        self._used = 0

    def take(self, count: int) -> Sequence[Tensor]:
        """The next `count` numbers: views into the buffer, valid until the next call."""
        if self._buffer.shape[1] < self._used + count:
            self._refill(count)
        taken = self._buffer[:, self._used : self._used + count].unbind(1)
        self._used += count
        return taken

    def _refill(self, count: int) -> None:
        """Draw a whole number of substeps of `count` numbers. Its size depends on the event and the
        run, not on the batch."""
        steps = max(1, _BLOCK // (count * max(1, self._like[0].numel())))
        size = max(count, min(count * steps, self._ahead))
        self._ahead -= size
        if self._buffer.shape[1] != size:
            shape = (len(self._generators), size, *self._like.shape[1:])
            self._buffer = torch.empty(shape, dtype=self._like.dtype, device=self._like.device)
        self._drawer._draw(self._generators, self._buffer)
        self._used = 0
