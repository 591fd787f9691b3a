"""Fresh increments with one seed per sample."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from expint.noise import source

# Numbers are drawn in blocks of about this many per sample, so that small states do not pay a call
# per Gaussian.
_BLOCK = 2**15


@dataclass(frozen=True)
class Seeded(ABC):
    """Independent increments, scaled from unit-variance numbers; sample i depends on seed i
    alone.
    """

    seeds: Sequence[int]
    _has_integral: ClassVar[bool]

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", source.check_seeds(self.seeds))

    @staticmethod
    @abstractmethod
    def _draw(gens: Sequence[torch.Generator], block: Tensor) -> None:
        """Fill row i of `block` with independent unit-variance numbers from generator i."""

    @property
    def memoryless(self) -> bool:
        """True: only the lengths of the intervals matter."""
        return True

    def check_run(self, like: Tensor, clocks: Sequence[tuple[Tensor, bool]]) -> None:
        """Refuse a run that needs the integral of the path, if these numbers have none."""
        if not self._has_integral and any(space_time for _, space_time in clocks):
            raise ValueError(
                f"{type(self).__name__} noise has no space-time integral, which this solver uses: "
                "use expint.noise.Gaussian or expint.noise.BrownianPath."
            )

    def stream(self, like: Tensor, intervals: int | None = None) -> "_Scaled":
        """Open a stream for states like `like`; a ValueError tells if there is not one seed per
        sample.
        """
        source.check_batch(self.seeds, like)
        return _Scaled(self, like, intervals)


class Gaussian(Seeded):
    """Independent Gaussian increments. Sample i depends on seed i alone: not on the batch it is in,
    its size or order.

    Args:
        seeds: one integer per sample.
    """

    _has_integral = True
    _draw = staticmethod(source.fill_normals)


class Rademacher(Seeded):
    """Fair random signs times √Δτ: the right mean and variance, enough for weak order, cheaper than
    Gaussians. No integral.

    Args:
        seeds: one integer per sample.
    """

    _has_integral = False

    @staticmethod
    def _draw(gens: Sequence[torch.Generator], block: Tensor) -> None:
        for row, generator in zip(block, gens, strict=True):
            row.random_(0, 2, generator=generator)
        block.mul_(2.0).sub_(1.0)


class _Scaled:
    """Increments, and integrals where they are asked for: unit-variance numbers scaled to the
    intervals.
    """

    def __init__(self, drawer: Seeded, like: Tensor, intervals: int | None) -> None:
        self._drawer, self._like, self._intervals = drawer, like.detach(), intervals
        self._path = self._open(source.PATH_STREAM)
        self._integral: _Blocks | None = None

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """See `NoiseStream.increments`.

        The increments are the same with and without the integral.
        """
        taken = self._path.take(len(taus) - 1)
        steps = source.scale_intervals(taken, taus)
        if not space_time:
            return steps
        self._drawer.check_run(self._like, [(taus, space_time)])
        if self._integral is None:
            self._integral = self._open(source.INTEGRAL_STREAM)
        return steps, source.integral_of_path(taus, steps, self._integral.take(len(taus) - 1))

    def _open(self, stream: int) -> "_Blocks":
        gens = source.generators(self._drawer.seeds, stream, self._like.device)
        return _Blocks(self._drawer, gens, self._like, self._intervals)


class _Blocks:
    """Unit-variance numbers drawn block by block into one buffer."""

    def __init__(
        self, drawer: Seeded, gens: Sequence[torch.Generator], like: Tensor, intervals: int | None
    ) -> None:
        self._drawer = drawer
        self._generators = gens
        self._like = like
        self._ahead = intervals  # never draw beyond the end of the run
        self._buffer: Tensor | None = None
        self._used = 0

    def take(self, count: int) -> Tensor:
        """The next `count` numbers, shape (count, batch, *event): a view into the buffer, valid
        until the next call.
        """
        if self._buffer is None or self._buffer.shape[1] < self._used + count:
            self._refill(count)
        assert self._buffer is not None
        taken = self._buffer[:, self._used : self._used + count].movedim(1, 0)
        self._used += count
        return taken

    def _refill(self, count: int) -> None:
        """Draw a whole number of steps of `count` intervals.

        Its size depends on the event and the run, not on the batch.
        """
        steps = max(1, _BLOCK // (count * max(1, self._like[0].numel())))
        size = count * steps if self._ahead is None else max(count, min(count * steps, self._ahead))
        if self._ahead is not None:
            self._ahead -= size
        if self._buffer is None or self._buffer.shape[1] != size:
            shape = (len(self._generators), size, *self._like.shape[1:])
            self._buffer = torch.empty(shape, dtype=self._like.dtype, device=self._like.device)
        self._drawer._draw(self._generators, self._buffer)
        self._used = 0
