"""Primitives of smooth functions to rounding: adaptive Chebyshev panels that can be evaluated
anywhere in a span.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

__all__ = ["Primitive"]

_DEGREE = 24
_NODES = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
_TO_COEFFICIENTS = np.linalg.inv(chebyshev.chebvander(_NODES, _DEGREE))
_INTEGRATE = chebyshev.chebint(np.eye(_DEGREE + 1), axis=0)
_MOST_PANELS = 4096
_ROUNDING = 1e-12


class Primitive:
    """∫_low^t f over [low, high], f smooth and finite inside.

    The span is halved until on every panel the last Chebyshev coefficients of f are below
    `tolerance` of its largest value there, so that the error relative to ∫|f| is about `tolerance`;
    or until they stop falling at the level of rounding errors in f.

    Args:
        function: elementwise, float64 arrays.
        low, high: the span.
        tolerance: relative to the size of f on each panel.
        absolute: a panel is also good enough once its error is below this much of the integral.
        name: of f, for messages.

    Raises:
        ValueError: with the place where f is not finite, or cannot be resolved.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        low: float,
        high: float,
        *,
        tolerance: float = 1e-14,
        absolute: float = 0.0,
        name: str = "f",
    ) -> None:
        self.low, self.high, self._name = low, high, name
        pending, done = [(low, high, np.inf)], []
        while pending:
            a, b, before = pending.pop()
            x = 0.5 * (a + b) + 0.5 * (b - a) * _NODES
            with np.errstate(all="ignore"):  # what is not finite is told below
                values = np.broadcast_to(np.asarray(function(x), dtype=np.float64), x.shape)
            if not np.isfinite(values).all():
                where = x[~np.isfinite(values)][0]
                raise ValueError(
                    f"{name} is not finite at t = {where:.6g}; choose a span that leaves this out."
                )
            coefficients = _TO_COEFFICIENTS @ values
            size, tail = max(np.abs(values).max(), 1e-300), np.abs(coefficients[-4:]).max()
            rounding = (
                tail <= _ROUNDING * size and tail > 0.1 * before
            )  # halving a resolved panel makes its tail far smaller
            if tail <= tolerance * size or tail * (b - a) <= absolute or rounding:
                done.append((a, b, coefficients))
            elif b - a <= 1e-12 * max(abs(a), abs(b)) or len(pending) + len(done) > _MOST_PANELS:
                raise ValueError(
                    f"{name} is too rough near t = {a:.9g} to be integrated to {tolerance:g}: "
                    "split the span there."
                )
            else:
                pending += [(0.5 * (a + b), b, tail), (a, 0.5 * (a + b), tail)]
        done.sort(key=lambda panel: panel[0])
        self._edges = np.array([panel[0] for panel in done] + [high])
        half = 0.5 * np.diff(self._edges)
        rows = (_INTEGRATE @ np.stack([panel[2] for panel in done], 1)).T * half[:, None]
        rows[:, 0] -= chebyshev.chebval(-1.0, rows.T)  # each panel's primitive starts from 0
        self._rows = rows
        pieces = np.asarray(chebyshev.chebval(1.0, rows.T))
        self._before = np.concatenate([[0.0], np.cumsum(pieces)])
        self._after = np.concatenate([np.cumsum(pieces[::-1])[::-1], [0.0]])

    def __call__(self, t: Tensor) -> Tensor:
        """∫_low^t f at times `t` (float64, any shape) inside the span."""
        k, local = self._locate(t)
        return torch.as_tensor(self._before[k] + local)

    def to_high(self, t: Tensor) -> Tensor:
        """∫_t^high f, summed from that end, so that it keeps its digits where it is small."""
        k, local = self._locate(t)
        return torch.as_tensor(self._after[k] - local)

    def _locate(self, t: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The panel of each time and the integral from its left edge."""
        x = t.detach().numpy()
        room = 1e-12 * (self.high - self.low)  # for times that rounding has put past an end
        outside = x[(x < self.low - room) | (x > self.high + room)]
        if outside.size:
            raise ValueError(
                f"t = {outside[0]:.9g} is outside the span from {self.low:.9g} to {self.high:.9g} "
                f"of {self._name}."
            )
        k = np.clip(np.searchsorted(self._edges, x, side="right") - 1, 0, len(self._rows) - 1)
        a, b = self._edges[k], self._edges[k + 1]
        rows = np.moveaxis(self._rows[k], -1, 0)
        return k, np.asarray(chebyshev.chebval((2.0 * x - a - b) / (b - a), rows, tensor=False))
