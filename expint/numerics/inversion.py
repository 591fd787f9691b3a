"""The inverse of a decreasing function of time by bracketing, all values at once."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from expint.numerics.roots import bracketed_root

__all__ = ["DecreasingInverse", "TimeFunction", "TimeLine"]

_INF = float("inf")
TimeFunction = Callable[[Tensor], Tensor]


class TimeLine:
    """An increasing map of the real line u onto the interior of (low, high) that resolves both ends
    geometrically.

    With finite ends t = low + (high − low)/(1 + e^{−u}): λ, which is about linear in log(t − low)
    near a noiseless end and in log(high − t) near an end of pure noise, is then close to linear in
    u.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, u: Tensor) -> Tensor:
        if math.isfinite(self.low) and math.isfinite(self.high):
            return self.low + (self.high - self.low) * torch.sigmoid(u)
        if math.isfinite(self.low):
            return self.low + torch.exp(u)
        return self.high - torch.exp(-u) if math.isfinite(self.high) else u

    def nodes(self, reach: float, count: int) -> Tensor:
        """u of `count` points with |u| ≤ reach, without those whose times coincide with an end or
        with each other.
        """
        u = torch.linspace(-reach, reach, count, dtype=torch.float64)
        t = self(u)
        inside = (t > self.low) & (t < self.high)
        u, t = u[inside], t[inside]
        return u[torch.cat([torch.tensor([True]), t[1:] > t[:-1]])]


class DecreasingInverse:
    """t(value) for a decreasing function of t in (low, high), to a relative 1e-13 in t − low where
    the function resolves it.

    Args:
        function: strictly decreasing, of a float64 tensor of times inside the interval.
        low, high: the interval; either may be infinite.
        ends: the limits of the function at `low` and `high`, possibly +inf and −inf.
        closed_form: the inverse, if it is known; it is then used between the ends.

    Calling it with a tensor of values gives times; it is differentiable once in the values, and in
    whatever the function depends on, by the implicit function theorem.
    """

    def __init__(
        self,
        function: TimeFunction,
        low: float,
        high: float,
        ends: tuple[float, float],
        closed_form: TimeFunction | None = None,
    ) -> None:
        self._function, self._line, self._ends, self._closed_form = (
            function,
            TimeLine(low, high),
            ends,
            closed_form,
        )
        near, far = self._line.nodes(36.0, 145), self._line.nodes(700.0, 29)
        u = torch.cat([far[far < -36.0], near, far[far > 36.0]])
        with torch.no_grad():
            values = function(self._line(u))
            # Rounding may blur the order very near the ends; what remains is a strictly decreasing
            # table.
            bound = torch.cat(
                [torch.tensor([ends[0]], dtype=torch.float64), values.nan_to_num(nan=_INF)[:-1]]
            )
            keep = (
                torch.isfinite(values)
                & (values < torch.cummin(bound, 0).values)
                & (values > ends[1])
            )
        self._nodes, self._values = u[keep], values[keep]

    def __call__(self, values: Tensor) -> Tensor:
        first, last = self._ends
        slack = 1e-9 * (1.0 + values.detach().abs())
        lost = torch.isnan(values) | (
            torch.isfinite(values) & ((values > first + slack) | (values < last - slack))
        )
        if lost.any():
            raise ValueError(
                f"lambda = {values[lost].reshape(-1)[0].item():.9g} is not reached: it runs from "
                f"{first:.9g} down to {last:.9g} on the domain [{self._line.low:.9g}, "
                f"{self._line.high:.9g}]."
            )
        at_low, at_high = values >= first, values <= last
        inner = torch.where(at_low | at_high, self._values[len(self._values) // 2], values)
        root = (
            self._root(inner)
            if self._closed_form is None
            else self._closed_form(inner).clamp(self._line.low, self._line.high)
        )
        # The end of zero noise, if it lies beyond the domain, is the time −inf.
        low = torch.where(torch.isposinf(values) & (first < _INF), -_INF, self._line.low)
        return torch.where(at_low, low, torch.where(at_high, self._line.high, root))

    def _root(self, values: Tensor) -> Tensor:
        with torch.no_grad():
            root = self._solve(values.detach())
        return self._attach(root, values) if torch.is_grad_enabled() else root

    def _solve(self, values: Tensor) -> Tensor:
        right = torch.searchsorted(-self._values, -values.contiguous())
        edge = torch.tensor(
            [746.0], dtype=torch.float64
        )  # where e^u leaves the floating-point numbers
        padded = torch.cat([-edge, self._nodes, edge])

        def residual(u: Tensor) -> Tensor:
            t = self._line(u)
            inside = (t > self._line.low) & (t < self._line.high)
            value = self._function(torch.where(inside, t, self._line(self._nodes[:1])))
            value = torch.where(inside, value, torch.where(u < 0, _INF, -_INF))
            return value.nan_to_num(nan=_INF, posinf=_INF, neginf=-_INF) - values

        return self._line(bracketed_root(residual, padded[right], padded[right + 1]))

    def _attach(self, root: Tensor, values: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = root.detach().clone().requires_grad_(True)
            reached = self._function(leaf)
            (slope,) = torch.autograd.grad(reached.sum(), leaf, retain_graph=True)
        residual = self._function(root) - values
        if not residual.requires_grad:
            return root
        return root - (residual - residual.detach()) / slope
