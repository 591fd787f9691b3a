"""A linear system in an interval: its propagator, the moments of its response and the covariance of
its noise, for many intervals at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial
from typing import NoReturn

import torch
from torch import Tensor

from expint.blocks.collocation import collocated
from expint.blocks.integral import Integral
from expint.blocks.matrices import MatrixFunction, symmetric_root
from expint.blocks.matrix_exponential import exponentials

Position = Callable[[Tensor], Tensor]
"""θ(u), the position of times u in the steps; u has one dimension more than the intervals, in
front."""


@dataclass(frozen=True, eq=False)
class LinearSystem:
    """du = [A(t) u + B(t) F] dt + G(t) dω with k × k, k × m and k × n matrices.

    Args:
        A, B, G: functions of times, shape (*times, rows, columns).
        constant: whether all of them are constant.
        sizes: (k, m, n).
        stochastic: whether G is not zero.
    """

    A: MatrixFunction
    B: MatrixFunction
    G: MatrixFunction
    constant: bool
    sizes: tuple[int, int, int]
    stochastic: bool

    def check_state(self, x: Tensor) -> None:
        """Refuse a state without the component axis.

        Raises:
            ValueError: with its shape.
        """
        if x.ndim < 2 or x.shape[1] != self.sizes[0]:
            raise ValueError(
                f"The state has shape {tuple(x.shape)}, but for a linear part of {self.sizes[0]} "
                f"components it is (batch, {self.sizes[0]}, *event)."
            )

    def like_output(self, x: Tensor) -> Tensor:
        """A tensor of the shape that F has at states x."""
        return x[:, :1].expand(-1, self.sizes[1], *x.shape[2:])

    def transition(self, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Φ(end, start) and Q = ∫ Φ(end,u) G Gᵀ Φ(end,u)ᵀ |du|, each of shape (*, k, k), for times
        of one shape; the integration may run backwards."""
        propagator, _, covariance = self._integrals(start, end, None, 0)
        return propagator, covariance

    def strength(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """g = (G Gᵀ)^½ at times `t`, and its pseudo-inverse, shape (*t, k, k)."""
        g = symmetric_root(self.G(t) @ self.G(t).mT)
        return g, torch.linalg.pinv(g, hermitian=True, rtol=1e-6)

    def integral(self, start: Tensor, end: Tensor) -> Integral:
        """The integral of the path over the steps: y' = A y + N beside N is ∫ Φ (end − u) G dω."""
        k, _, n = self.sizes

        def drift(t: Tensor) -> Tensor:
            A, zero = self.A(t), t.new_zeros(*t.shape, k, k)
            lower = torch.cat([torch.eye(k, dtype=A.dtype).expand_as(zero), A], -1)
            return torch.cat([torch.cat([A, zero], -1), lower], -2)

        def noise(t: Tensor) -> Tensor:
            return torch.cat([self.G(t), t.new_zeros(*t.shape, k, n)], -2)

        both = LinearSystem(drift, noise, noise, self.constant, (2 * k, n, n), True)
        _, q = both.transition(start, end)
        h = (end - start)[..., None, None]
        inverse = self.strength(end)[1]
        return Integral(inverse, q[..., :k, :k], q[..., k:, :k] / h, q[..., k:, k:] / h**2)

    def moments(
        self, start: Tensor, end: Tensor, position: Position | None, count: int
    ) -> tuple[Tensor, Tensor]:
        """Φ(end, start), and ∫ Φ(end,u) B(u) θ(u)^i / i! du for i < `count`, shape (count, *, k,
        m); without `position` θ is (u − start)/(end − start)."""
        propagator, moments, _ = self._integrals(start, end, position, count)
        return propagator, moments

    def _integrals(
        self, start: Tensor, end: Tensor, position: Position | None, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Φ, the first moments and Q."""
        if self.constant and position is None:
            a = torch.zeros((), dtype=torch.float64)
            return exponentials(self.A(a), self.B(a), self.G(a), end - start, count)

        def place(u: Tensor) -> Tensor:
            return position(u) if position else (u - start) / (end - start)

        def powers(u: Tensor) -> list[Tensor]:
            if not count:
                return []
            theta = place(u)
            return [theta**i / factorial(i) for i in range(count)]

        return collocated(self, start, end, powers, count)


@dataclass(frozen=True, eq=False)
class BlockNodes:
    """The noise nodes of a step, of which only fresh noise and composed increments know what to do
    with.

    Args:
        system: the linear system.
        times: of the nodes, shape (count + 1,).
    """

    system: LinearSystem
    times: Tensor

    def __call__(self) -> NoReturn:
        raise ValueError(
            "The noise of an equation with matrices has no scalar noise time in which it were a "
            "Brownian path: use fresh noise, expint.noise.Gaussian(seeds), or "
            "expint.noise.paths.composed.ComposedNoise, which composes a finer grid."
        )
