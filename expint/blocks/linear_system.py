"""A linear system in an interval: its propagator, the moments of its response and the covariance of
its noise, for many intervals at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from expint.blocks.collocation import collocated
from expint.blocks.integral import Integral
from expint.blocks.matrices import MatrixFunction, symmetric_root
from expint.blocks.matrix_exponential import exponentials

Variable = Callable[[Tensor], Tensor]
"""An increasing function of time."""


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
        propagator, _, covariance = self.integrals(start, end)
        return propagator, covariance

    def strength(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """g = (G Gᵀ)^½ at times `t`, and its pseudo-inverse, shape (*t, k, k)."""
        g = symmetric_root(self.G(t) @ self.G(t).mT)
        return g, torch.linalg.pinv(g, hermitian=True, rtol=1e-6)

    def integral(self, start: Tensor, end: Tensor) -> Integral:
        """The integral of the path over the steps: y' = A y + N beside N is ∫ Φ (end − u) G dω."""
        k, _, n = self.sizes
        unit, lower = torch.eye(2).double(), torch.tensor([[0.0, 0.0], [1.0, 0.0]]).double()
        below = torch.kron(lower, torch.eye(k).double())
        drift = lambda t: torch.kron(unit, self.A(t)) + below  # noqa: E731
        noise = lambda t: torch.kron(unit[:, :1], self.G(t))  # noqa: E731
        both = LinearSystem(drift, noise, noise, self.constant, (2 * k, n, n), True)
        q, h = both.transition(start, end)[1], (end - start)[..., None, None]
        parts = q[..., :k, :k], q[..., k:, :k] / h, q[..., k:, k:] / h**2
        return Integral(self.strength(end)[1], *parts)

    def integrals(
        self, start: Tensor, end: Tensor, variable: Variable | None = None, count: int = 0
    ) -> list[Tensor]:
        """Φ(end, start), the moments ∫ Φ(end,u) B(u) θ(u)^i / i! du for i < `count`, shape (count,
        *, k, m), and Q; θ goes from 0 to 1 with `variable`, which is the time by default."""
        if self.constant and variable is None:
            a = torch.zeros((), dtype=torch.float64)
            return exponentials(self.A(a), self.B(a), self.G(a), end - start, count)
        times = start.reshape(-1), end.reshape(-1)
        found = collocated(self, *times, variable or (lambda u: u), count)
        return [v.reshape(*v.shape[:-3], *start.shape, *v.shape[-2:]) for v in found]


@dataclass(frozen=True, eq=False)
class BlockNodes:
    """The noise nodes of a step, of which only fresh noise and composed increments know what to do
    with.

    Args:
        system: the linear system.
        times: of the nodes, shape (count + 1,).
        extends: the system of the equation, where that of the noise has further components after
            those of the state: functionals of its path.
    """

    system: LinearSystem
    times: Tensor
    extends: LinearSystem | None = None

    def __call__(self) -> NoReturn:
        raise ValueError(
            "An equation with matrices has no scalar noise time: use fresh noise, Gaussian(seeds) "
            "of expint.noise, or expint.noise.paths.composed.ComposedNoise, along a finer grid."
        )
