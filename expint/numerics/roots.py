"""Roots and inverses of monotone functions, bracketed, for all values at once, with gradients by
the implicit function theorem.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

RealFunction = Callable[[Tensor], Tensor]
_INF = math.inf
_EPS = torch.finfo(torch.float64).eps


def bracketed_root(function: RealFunction, low: Tensor, high: Tensor) -> Tensor:
    """The root of `function` in each interval [low, high] at whose ends its signs differ, to the
    last few bits.

    Inverse quadratic interpolation where it is safe, else bisection: Chandrupatla, Advances in
    Engineering Software 28 (1997). An infinite value at an end of a bracket is allowed.
    """
    a, b = low, high
    fa, fb = function(a), function(b)
    fraction = torch.full_like(a, 0.5)
    best, c, fc = torch.where(fa.abs() < fb.abs(), a, b), a, fa
    for _ in range(200):
        x = a + fraction * (b - a)
        fx = function(x)
        same = torch.sign(fx) == torch.sign(fa)
        c, fc = torch.where(same, a, b), torch.where(same, fa, fb)
        b, fb = torch.where(same, b, a), torch.where(same, fb, fa)
        a, fa = x, fx
        smaller = fa.abs() < fb.abs()
        best, f_best = torch.where(smaller, a, b), torch.where(smaller, fa, fb)
        shortest = (2.0 * _EPS * best.abs() + 1e-300) / (b - c).abs()
        if bool(((shortest > 0.5) | (f_best == 0)).all()):
            break
        xi, ratio = (a - b) / (c - b), (fa - fb) / (fc - fb)
        safe = (ratio**2 < xi) & ((1.0 - ratio) ** 2 < 1.0 - xi)
        ahead = (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        quadratic = fa / (fb - fa) * fc / (fb - fc) + ahead
        shortest = shortest.clamp(max=0.5)
        fraction = torch.where(safe, quadratic, 0.5)
        fraction = torch.minimum(torch.maximum(fraction, shortest), 1.0 - shortest)
    return best


def attached(root: Tensor, function: RealFunction, value: Tensor) -> Tensor:
    """`root`, at which function(root) = value, with its gradients by the implicit function theorem.

    Args:
        root: found without gradients, the shape of `value`.
        function: elementwise on float64 tensors.
        value: what the function is to give.

    Returns:
        The same numbers, differentiable once in `value` and in whatever `function` depends on,
        where either requires gradients and the function can be differentiated.
    """
    if not torch.is_grad_enabled():
        return root
    residual = function(root) - value
    if not residual.requires_grad:
        return root
    leaf = root.detach().clone().requires_grad_(True)
    reached = function(leaf)
    if not reached.requires_grad:
        return root
    (slope,) = torch.autograd.grad(reached.sum(), leaf, retain_graph=True)
    return root - (residual - residual.detach()) / slope


def invert_monotone(function: RealFunction, value: Tensor, low: float, high: float) -> Tensor:
    """The points x in [low, high] with function(x) = value, to rounding, for all entries at once.

    Args:
        function: strictly monotone on [low, high], elementwise on float64 tensors; infinite values
            at the ends are allowed.
        value: float64, any shape. Values beyond those at the ends give the ends.
        low, high: finite ends of the bracket.

    Returns:
        float64, the shape of `value`, with gradients as `attached` gives them.
    """
    target = value.detach()
    with torch.no_grad():
        first, last = function(torch.tensor([low, high], dtype=torch.float64)).unbind(0)
        sign = 1.0 if bool(last > first) else -1.0
        below, above = sign * target <= sign * first, sign * target >= sign * last
        middle = function(torch.full((1,), 0.5 * (low + high), dtype=torch.float64))
        inside = torch.where(below | above, middle, target)
        root = bracketed_root(
            lambda x: torch.nan_to_num(function(x) - inside, posinf=1e300, neginf=-1e300),
            torch.full_like(target, low),
            torch.full_like(target, high),
        )
    root = attached(root, function, torch.where(below | above, inside, value))
    return torch.where(below, low, torch.where(above, high, root))


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

    def inside(self, t: Tensor) -> Tensor:
        """Which times lie inside the interval, its ends left out."""
        return (t > self.low) & (t < self.high)

    def nodes(self, reach: float, count: int) -> Tensor:
        """u of `count` points with |u| ≤ reach, without those whose times coincide with an end or
        with each other.
        """
        u = torch.linspace(-reach, reach, count, dtype=torch.float64)
        u = u[self.inside(self(u))]
        return u[torch.cat([torch.tensor([True]), self(u).diff() > 0])]


class DecreasingInverse:
    """t(value) for a decreasing function of t in (low, high), to a relative 1e-13 in t − low where
    the function resolves it.

    Args:
        function: strictly decreasing, of a float64 tensor of times inside the interval.
        low, high: the interval; either may be infinite.
        ends: the limits of the function at `low` and `high`, possibly +inf and −inf.

    Calling it with a tensor of values gives times, with gradients as `attached` gives them.
    """

    def __init__(
        self, function: RealFunction, low: float, high: float, ends: tuple[float, float]
    ) -> None:
        self._function, self._line, self._ends = function, TimeLine(low, high), ends
        near, far = self._line.nodes(36.0, 145), self._line.nodes(700.0, 29)
        u = torch.cat([far[far < -36.0], near, far[far > 36.0]])
        with torch.no_grad():
            values = function(self._line(u))
        # Rounding may blur the order very near the ends; what remains is a strictly decreasing
        # table.
        first = torch.tensor([ends[0]], dtype=torch.float64)
        bound = torch.cummin(torch.cat([first, values.nan_to_num(nan=_INF)[:-1]]), 0).values
        keep = torch.isfinite(values) & (values < bound) & (values > ends[1])
        self._nodes, self._values = u[keep], values[keep]

    def __call__(self, values: Tensor) -> Tensor:
        first, last = self._ends
        slack = 1e-9 * (1.0 + values.detach().abs())
        outside = (values > first + slack) | (values < last - slack)
        lost = torch.isnan(values) | (torch.isfinite(values) & outside)
        if lost.any():
            raise ValueError(
                f"lambda = {values[lost].reshape(-1)[0].item():.9g} is not reached: it runs from "
                f"{first:.9g} down to {last:.9g} on the domain [{self._line.low:.9g}, "
                f"{self._line.high:.9g}]."
            )
        at_low, at_high = values >= first, values <= last
        inner = torch.where(at_low | at_high, self._values[len(self._values) // 2], values)
        with torch.no_grad():
            root = self._solve(inner.detach())
        root = attached(root, self._function, inner)
        # The end of zero noise, if it lies beyond the domain, is the time −inf.
        low = torch.where(torch.isposinf(values) & (first < _INF), -_INF, self._line.low)
        return torch.where(at_low, low, torch.where(at_high, self._line.high, root))

    def _solve(self, values: Tensor) -> Tensor:
        right = torch.searchsorted(-self._values, -values.contiguous())
        edge = torch.tensor([746.0], dtype=torch.float64)  # where e^u leaves the floats
        padded = torch.cat([-edge, self._nodes, edge])

        def residual(u: Tensor) -> Tensor:
            inside = self._line.inside(self._line(u))
            value = self._function(self._line(torch.where(inside, u, self._nodes[0])))
            value = torch.where(inside, value, torch.where(u < 0, _INF, -_INF))
            return value.nan_to_num(nan=_INF, posinf=_INF, neginf=-_INF) - values

        return self._line(bracketed_root(residual, padded[right], padded[right + 1]))
