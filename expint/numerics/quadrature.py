"""Integrals of functions of a real variable: Gauss–Legendre sums, and antiderivatives that can be
evaluated anywhere in an interval.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import chebyshev, legendre
from torch import Tensor

RealFunction = Callable[[Tensor], Tensor]


@lru_cache
def gauss_legendre(points: int, panels: int = 1) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the composite Gauss–Legendre rule on [0, 1].

    Args:
        points: nodes in each panel.
        panels: number of equal panels.

    Returns:
        Nodes (increasing) and weights, float64, shape (points · panels,). They are shared: do not
        change them.
    """
    nodes, weights = (torch.as_tensor(v, dtype=torch.float64) for v in legendre.leggauss(points))
    starts = torch.arange(panels, dtype=torch.float64)[:, None]
    return (
        ((starts + 0.5 * (nodes + 1.0)) / panels).flatten(),
        (0.5 * weights / panels).repeat(panels),
    )


def integrate(
    function: RealFunction, low: Tensor, high: Tensor, points: int = 16, panels: int = 1
) -> Tensor:
    """∫ from `low` to `high` by Gauss–Legendre quadrature; differentiable in all it depends on.

    Args:
        function: elementwise on float64 tensors; it is called once, with one dimension more than
            the bounds.
        low, high: bounds, float64 tensors that broadcast against each other.
        points: nodes in each panel.
        panels: number of equal panels between the bounds.

    Returns:
        float64, the shape of `high − low`.
    """
    nodes, weights = gauss_legendre(points, panels)
    width = (high - low)[..., None]
    return (function(low[..., None] + width * nodes) * width * weights).sum(-1)


_DEGREE = 24
_NODES = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
_TO_COEFFICIENTS = np.linalg.inv(chebyshev.chebvander(_NODES, _DEGREE))
_PANEL_NODES, _COEFFICIENTS = torch.as_tensor(_NODES), torch.as_tensor(_TO_COEFFICIENTS)
_TOLERANCE, _NOISE = 1e-14, 1e-12
_MOST_PANELS = 4096


class Primitive:
    """t ↦ ∫_low^t f over [low, high], by Chebyshev panels that are halved until they resolve f.

    A panel is done once the last Chebyshev coefficients of f are below 1e-14 of its largest value
    there, or at the level of rounding errors in f, or so small a part of the whole integral that
    they cannot matter. At either end of the interval the integral keeps its digits where it is
    small: panels go on being halved where f vanishes or is rough there (t² or √t at 0), and within
    a panel the integral is the distance from its edge times the mean of f.

    Args:
        function: f, elementwise on float64 tensors, finite inside the interval.
        low, high: the interval, finite.
        name: of f, for messages.
        breaks: where f or a derivative jumps; panels end there.
        way_out: what to do where f is too rough, for messages.

    Calling it with times (float64, any shape) inside the interval is differentiable in them, with
    the derivative f. Gradients do not reach what f depends on.

    Raises:
        ValueError: with the place where f is not finite, or cannot be resolved.

    Example:
        >>> import torch
        >>> from expint.numerics.quadrature import Primitive
        >>> area = Primitive(torch.sqrt, 0.0, 4.0)
        >>> round(area(torch.tensor(4.0, dtype=torch.float64)).item(), 12)
        5.333333333333
    """

    def __init__(
        self,
        function: RealFunction,
        low: float,
        high: float,
        *,
        name: str = "f",
        breaks: Sequence[float] = (),
        way_out: str = "split the span there",
    ) -> None:
        self.low, self.high, self.function = low, high, function
        self._name, self._way_out = name, way_out
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(
                f"The integral of {name} has no closed form, and its domain must then be finite, "
                f"got ({low}, {high})."
            )
        edges = sorted({low, high, *(b for b in breaks if low < b < high)})
        with torch.no_grad():
            self._edges = self._resolved(torch.tensor(edges, dtype=torch.float64))
            pieces = integrate(function, self._edges[:-1], self._edges[1:])
        zero = torch.zeros(1, dtype=torch.float64)
        self._before = torch.cat([zero, pieces.cumsum(0)])
        self._after = torch.cat([pieces.flip(0).cumsum(0).flip(0), zero])

    def __call__(self, t: Tensor) -> Tensor:
        """∫_low^t f at times `t`."""
        at = t.detach()
        k = self._panel(at)
        return self._before[k] + self._inside(self._edges[k], at) + self._growth(t)

    def to_high(self, t: Tensor) -> Tensor:
        """∫_t^high f, summed from that end, so that it keeps its digits where it is small."""
        at = t.detach()
        k = self._panel(at) + 1
        return self._after[k] + self._inside(at, self._edges[k]) - self._growth(t)

    def _inside(self, a: Tensor, b: Tensor) -> Tensor:
        """∫_a^b f inside a panel; f may be infinite where it is empty."""
        return torch.where(a == b, 0.0, integrate(self.function, a, b))

    def _growth(self, t: Tensor) -> Tensor | float:
        """∫_t^t f, which is zero and has the derivatives of the integral."""
        return integrate(self.function, t.detach(), t) if t.requires_grad else 0.0

    def _resolved(self, edges: Tensor) -> Tensor:
        """The edges of panels on each of which f is a polynomial to rounding."""
        a, b = edges[:-1], edges[1:]
        parent = torch.full_like(a, math.inf)
        done, area = edges, 0.0
        while True:
            width = b - a
            values = self._values(a, width)
            size = values.abs().amax(-1).clamp(min=1e-300)
            tail = (values @ _COEFFICIENTS.T)[:, -4:].abs().amax(-1)
            whole = area + (width * values.abs().mean(-1)).sum().item()
            # Halving a resolved panel makes its tail far smaller, unless that is rounding.
            rounding = (tail <= _NOISE * size) & (tail > 0.1 * parent)
            least = (1e-12 * torch.maximum(a.abs(), b.abs())).clamp(
                min=1e-60 * (self.high - self.low)
            )
            narrow = width <= least
            inner = (a > self.low) & (b < self.high)
            free = inner | narrow | (width <= 1e-24 * (self.high - self.low))
            steep = values.abs().amin(-1) < 1e-3 * values.abs().amax(-1)
            ready = ((tail <= _TOLERANCE * size) | rounding) & (free | ~steep)
            ready |= (tail * width <= 1e-16 * whole) & free
            area += (width * values.abs().mean(-1))[ready].sum().item()
            rough = ~ready
            if not rough.any():
                return done
            if (rough & narrow).any() or len(done) > _MOST_PANELS:
                worst = a[torch.argmax(torch.where(rough, tail * width, -1.0))].item()
                raise ValueError(
                    f"The integral of {self._name} over ({self.low}, {self.high}) does not settle: "
                    f"{self._name} is too rough near t = {worst:.9g} to be integrated to "
                    f"{_TOLERANCE:g}: {self._way_out}."
                )
            middle = 0.5 * (a + b)[rough]
            done = torch.cat([done, middle]).sort().values
            a, b = torch.cat([a[rough], middle]), torch.cat([middle, b[rough]])
            parent = tail[rough].repeat(2)

    def _values(self, a: Tensor, width: Tensor) -> Tensor:
        t = a[:, None] + 0.5 * width[:, None] * (1.0 + _PANEL_NODES)
        values = self.function(t).expand(t.shape)
        bad = ~torch.isfinite(values)
        if bad.any():
            raise ValueError(
                f"{self._name} is not finite at t = {t[bad][0].item():.6g}; choose a span that "
                "leaves this out."
            )
        return values

    def _panel(self, t: Tensor) -> Tensor:
        """The panel of each time."""
        room = 1e-12 * (self.high - self.low)  # for times that rounding has put past an end
        outside = t[(t < self.low - room) | (t > self.high + room)]
        if outside.numel():
            raise ValueError(
                f"t = {outside[0].item():.9g} is outside the span from {self.low:.9g} to "
                f"{self.high:.9g} of {self._name}."
            )
        k = torch.searchsorted(self._edges, t.contiguous(), right=True) - 1
        return k.clamp(0, len(self._edges) - 2)
