"""What all Brownian paths share: they answer a run's normals by normalising the increments that
they find."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from expint.noise.source import NoiseStream, SubstepNoise


class OpenedPath(Protocol):
    """W in the noise clock τ, and its integral, for states of one shape."""

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """Increments W(τ_{i+1}) − W(τ_i), shape (len(taus) − 1, batch, *event), in the state's
        dtype and on its device.

        With `space_time` the pair of them and of U = ∫_{τ_0}^{τ_n} [W(τ) − W(τ_0)] dτ over the
        whole interval, shape (batch, *event); Cov(W(τ_n) − W(τ_0), U) = (τ_n − τ_0)²/2,
        Var U = (τ_n − τ_0)³/3.

        Args:
            taus: increasing noise times, float64, shape (n + 1,) or, for diagonal noise clocks,
                (n + 1, *broadcastable to the event).
            space_time: whether U is wanted.

        The result is the caller's to change, and must not be used after the next call.

        Raises:
            ValueError: if this path has no integral, or cannot serve these times.
        """
        ...


class PathSource(ABC):
    """A source whose noise is that of one Brownian path, wherever the substeps of a run lie."""

    @abstractmethod
    def open(self, like: Tensor, run: Sequence[SubstepNoise] = ()) -> OpenedPath:
        """Open the path for states like `like`, (batch, *event).

        Args:
            run: what will be asked, where it is known.

        Raises:
            ValueError: if the path does not fit such states, or cannot serve the run.
        """

    @abstractmethod
    def check(self, like: Tensor, substep: SubstepNoise) -> None:
        """Raise a ValueError if this path cannot serve the substep."""

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> NoiseStream:
        """See `NoiseSource.stream`."""
        for substep in run:
            if substep.nodes is None:
                raise ValueError(
                    "The run adds noise that is not part of the path of the SDE (churn, an "
                    "ancestral step or a Langevin corrector), which "
                    f"{type(self).__name__} cannot give: use fresh noise, for example "
                    "expint.noise.Gaussian(seeds), or leave the operation out."
                )
            self.check(like, substep)
        return _Normalised(self.open(like, run))


@dataclass(frozen=True, eq=False)
class Shared:
    """A source whose stream is already open: every run sees the same path."""

    opened: NoiseStream

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> NoiseStream:
        """See `NoiseSource.stream`."""
        return self.opened


@dataclass(frozen=True, eq=False)
class _Normalised:
    """See `SubstepNoise` for the relation of increments, integral and normals."""

    path: OpenedPath

    def normals(self, substep: SubstepNoise) -> Iterator[Tensor]:
        """See `NoiseStream.normals`."""
        taus = cast(Tensor, substep.times).detach()  # None was refused when the stream was opened
        lengths = taus.diff(dim=0)
        roots = _each(lengths.sqrt())
        if not substep.integral:
            for k, root in enumerate(roots):  # one at a time, which holds fewer states
                yield _divide(self.path.increments(taus[k : k + 2])[0], root)
            return
        steps, rest = self.path.increments(taus, space_time=True)
        for part, ahead in zip(steps, _each(taus[-1] - 0.5 * (taus[1:] + taus[:-1])), strict=True):
            rest -= part * (ahead if isinstance(ahead, float) else ahead.to(part))
        (spread,) = _each(torch.sqrt((lengths**3).sum(0, keepdim=True) / 12.0))
        yield from (_divide(*pair) for pair in zip([*steps, rest], [*roots, spread], strict=True))


def _each(values: Tensor) -> list[Any]:
    """One number per interval: floats for a scalar clock, which need no copy to the state's
    device."""
    return values.tolist() if values.ndim == 1 else list(values.unbind(0))


def _divide(value: Tensor, scale: Any) -> Tensor:
    """value/scale, and 0 where an interval has no length (and its coefficient is 0)."""
    if isinstance(scale, float):
        return value * (1.0 / scale if scale > 0 else 0.0)
    return value * torch.where(scale > 0, 1.0 / scale, 0.0).to(value)


def by_column(
    query: Callable[[Tensor, bool, int], Any], taus: Tensor, event: Tensor, space_time: bool
) -> Any:
    """Answer for a diagonal noise clock: every component follows its own column of `taus`, (n + 1,
    *broadcastable to the event).

    One query for all components per distinct column, of which those that follow it are kept. A
    column goes by the first component that follows it.
    """
    columns, index = torch.unique(taus.reshape(len(taus), -1), dim=1, return_inverse=True)
    index = torch.broadcast_to(index.reshape(taus.shape[1:]), event.shape).to(event.device)
    total: Any = ()
    for c, column in enumerate(columns.unbind(1)):
        result = query(column.contiguous(), space_time, int((index == c).flatten().nonzero()[0]))
        parts = result if space_time else (result,)
        total = total or tuple(torch.empty_like(part) for part in parts)
        for whole, part in zip(total, parts, strict=True):
            whole[..., index == c] = part[..., index == c]
    return total if space_time else total[0]


def answered(query: Any, taus: Tensor, event: Tensor, space_time: bool, *kind: Any) -> Any:
    """What `query` gives for a scalar noise clock, or column by column for a diagonal one, as
    tensors of a kind: (device, dtype)."""
    times = taus.detach().to(device="cpu", dtype=torch.float64)
    ask = query if times.ndim == 1 else lambda *asked: by_column(query, asked[0], event, asked[1])
    result = ask(times, space_time)
    return tuple(part.to(*kind) for part in result) if space_time else result.to(*kind)
