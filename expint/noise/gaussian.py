"""Fresh normals with one seed per sample."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expint.noise import source
from expint.noise.counter import Streams
from expint.noise.source import SubstepNoise
from expint.numerics.devices import usable_device

# Numbers are drawn in blocks of about this many, so that small states do not pay a call for each.
_BLOCK = 2**16


@dataclass(frozen=True)
class Seeded(ABC):
    """Independent numbers of mean 0 and variance 1; sample i depends on seed i alone: not on the
    batch it is in, its size or order.

    Args:
        seeds: one integer per sample.
        device: where the numbers are drawn, by default the state's device. Numbers of a GPU differ
            from those of the CPU by rounding; with "cpu" they are the same, bit for bit.
    """

    seeds: Sequence[int]
    device: torch.device | str | None = None
    _has_integral: ClassVar[bool]

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", source.check_seeds(self.seeds))
        if self.device is not None:
            object.__setattr__(self, "device", usable_device(self.device))

    @staticmethod
    @abstractmethod
    def _draw(streams: Streams, block: Tensor, /) -> None:
        """Fill `block`, shape (batch, count, *event), with the next numbers of the streams."""

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
        return _Drawn(self, like, run)


class Gaussian(Seeded):
    """Independent standard normals; sample i depends on seed i alone: not on the batch it is in,
    its size or order. They are drawn in float32 and converted to the state's dtype.

    Args:
        seeds: one integer per sample.
        device: where the numbers are drawn, by default the state's device. Numbers of a GPU differ
            from those of the CPU by rounding; with "cpu" they are the same, bit for bit.
    """

    _has_integral = True
    _draw = staticmethod(Streams.normals)


class Rademacher(Seeded):
    """Fair random signs: the right mean and variance, enough for weak order, cheaper than normals.
    There is none for the integral U.

    Args:
        seeds: one integer per sample.
        device: as for `Gaussian`.
    """

    _has_integral = False
    _draw = staticmethod(Streams.signs)


class _Drawn:
    """The numbers of increments from one stream of each seed, those of U from another."""

    def __init__(self, drawer: Seeded, like: Tensor, run: Sequence[SubstepNoise]) -> None:
        self._target, where = like.device, drawer.device or like.device
        like = torch.empty((), dtype=like.dtype, device=where).expand(like.shape)
        self._path = _Blocks(drawer, source.PATH_STREAM, like, sum(s.count for s in run))
        integrals = sum(s.integral for s in run)
        self._integral = _Blocks(drawer, source.INTEGRAL_STREAM, like, integrals)

    def normals(self, substep: SubstepNoise) -> Iterator[Tensor]:
        """See `NoiseStream.normals`."""
        for blocks, count in ((self._path, substep.count), (self._integral, substep.integral)):
            for _ in range(count):
                yield blocks.take().to(self._target)


class _Blocks:
    """Numbers drawn block by block, not beyond the end of the run."""

    def __init__(self, drawer: Seeded, stream: int, like: Tensor, total: int) -> None:
        self._drawer, self._like, self._total = drawer, like, total
        self._streams = source.generators(drawer.seeds, stream, like.device)
        self._left: list[Tensor] = []

    def take(self) -> Tensor:
        """The next state."""
        if not self._left:
            ahead = min(_BLOCK // max(1, self._like.numel()), self._total - self._streams.at)
            block = self._like.new_empty((len(self._like), max(1, ahead), *self._like.shape[1:]))
            self._drawer._draw(self._streams, block)
            self._left = list(reversed(block.unbind(1)))
        return self._left.pop()
