"""Brownian motions to and from torchsde.

Its U over [a, b] is ∫_a^b [W(t) − W(a)] dt, the same as here.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from expint.noise.paths.path import PathSource, by_column
from expint.noise.source import SubstepNoise

_SPACE_TIME = "space-time"


@dataclass(frozen=True, eq=False)
class FromTorchsde(PathSource):
    """A Brownian motion of torchsde as a noise source: its time is the noise clock τ.

    Args:
        interval: for example a `torchsde.BrownianInterval` over all of the noise clock that the
            plan uses, of the state's shape and dtype; with levy_area_approximation="space-time" if
            the integral is used.
    """

    interval: Any

    def check(self, like: Tensor, substep: SubstepNoise) -> None:
        """Refuse a run that needs the integral, if the torchsde motion was built without it."""
        if substep.integral and self.interval.levy_area_approximation == "none":
            raise ValueError(
                "The torchsde Brownian motion has no integral U, which this solver uses: build it "
                f"with levy_area_approximation={_SPACE_TIME!r}."
            )

    def open(self, like: Tensor, run: Sequence[SubstepNoise] = ()) -> "FromTorchsde":
        """See `PathSource.open`."""
        motion = self.interval
        found, wanted = (tuple(motion.shape), motion.dtype), (tuple(like.shape), like.dtype)
        if found != wanted or torch.device(motion.device).type != like.device.type:
            raise ValueError(
                f"The torchsde Brownian motion has shape {found[0]}, dtype {found[1]} and device "
                f"{motion.device}, but the state has {wanted[0]}, {wanted[1]} and {like.device}."
            )
        return self

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """See `OpenedPath.increments`."""
        times = taus.detach().to(device="cpu", dtype=torch.float64)
        event = torch.empty(tuple(self.interval.shape)[1:], device=self.interval.device)
        return by_column(self._query, times, event, space_time)

    def _query(self, taus: Tensor, space_time: bool, column: int = 0) -> Any:
        times = taus.tolist()
        steps = torch.stack([self._ask(a, b) for a, b in pairwise(times)])
        return (steps, self._ask(times[0], times[-1], return_U=True)[1]) if space_time else steps

    def _ask(self, start: float, end: float, **wanted: bool) -> Any:
        with warnings.catch_warnings():
            # torchsde warns and goes on with an empty interval when a time is out of its range.
            warnings.filterwarnings("error", message="Should have")
            try:
                return self.interval(start, end, **wanted)
            except UserWarning as warning:
                raise ValueError(
                    f"The torchsde Brownian motion does not cover the noise clock from {start:.9g} "
                    f"to {end:.9g}: {warning}"
                ) from None


class AsTorchsde:
    """A Brownian path as the `bm` of `torchsde.sdeint`, for the methods that use W alone or W and U
    ("srk").

    Time is the path's clock τ. The leaves of a `BrownianPath` are relative: with a resolution of
    t/dt or more, say `BrownianPath(seeds, resolution=2**12)`, the path at steps dt up to time t
    does not depend on the order of queries either.

    Args:
        path: a path, such as `BrownianPath`, with one seed per row of the state.
        shape: (batch, channels).
        dtype, device: of the state.

    Raises:
        ValueError: for a source that is not a path, or does not fit the shape.
    """

    levy_area_approximation = _SPACE_TIME

    def __init__(
        self,
        path: PathSource,
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(path, PathSource):
            raise ValueError(
                f"{type(path).__name__} noise gives other numbers when it is asked again: torchsde "
                "needs a path, such as expint.noise.BrownianPath."
            )
        self.shape, self.dtype, self.device = tuple(shape), dtype, torch.device(device)
        self._path = path
        self._stream = path.open(torch.empty(self.shape, dtype=dtype, device=self.device))

    def __call__(
        self, ta: Any, tb: Any = None, return_U: bool = False, return_A: bool = False
    ) -> Any:
        """W(tb) − W(ta), with U and A if they are wanted; with `ta` alone the value W(ta).

        A is None, as in torchsde itself.
        """
        ends = [0.0, float(ta)] if tb is None else [float(ta), float(tb)]
        found = self._stream.increments(torch.tensor(ends, dtype=torch.float64), return_U)
        parts = [found[0][0].clone(), found[1].clone()] if return_U else [found[0].clone()]
        parts += [None] * return_A
        return tuple(parts) if len(parts) > 1 else parts[0]

    def size(self) -> tuple[int, ...]:
        """The shape."""
        return self.shape

    def __repr__(self) -> str:
        where = f"dtype={self.dtype}, device={str(self.device)!r}"
        return f"AsTorchsde({self._path!r}, shape={self.shape}, {where})"
