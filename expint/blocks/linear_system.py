"""A linear system in an interval: its propagator, the moments of its response and the covariance of
its noise, for many intervals at a time."""

from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from expint.blocks.collocation import collocated
from expint.blocks.matrices import TimeFunction, regression, symmetric_root
from expint.blocks.matrix_exponential import exponentials


@dataclass(frozen=True, eq=False)
class LinearSystem:
    """du = [A(t) u + B(t) F] dt + G(t) dω with k × k, k × m and k × n matrices.

    Args:
        A, B, G: functions of times, shape (*times, rows, columns).
        constant: whether all of them are constant.
        sizes: (k, m).
        stochastic: whether G is not zero.
        axis: of the state, on which the components lie.
    """

    A: TimeFunction
    B: TimeFunction
    G: TimeFunction
    constant: bool
    sizes: tuple[int, int]
    stochastic: bool
    axis: int = 1

    def check_state(self, x: Tensor) -> None:
        """Refuse a state without the component axis.

        Raises:
            ValueError: with its shape.
        """
        k, axis = self.sizes[0], self.axis
        if not -x.ndim < axis < x.ndim or x.shape[axis] != k:
            raise ValueError(
                f"The state has shape {tuple(x.shape)}, but for a linear part of {k} components it "
                f"is (batch, *event) with {k} of them on axis {axis}."
            )

    def like_output(self, x: Tensor) -> Tensor:
        """A tensor of the shape that F has at states x."""
        first = x.movedim(self.axis, 0)[:1]
        return first.expand(self.sizes[1], *first.shape[1:]).movedim(0, self.axis)

    def transition(self, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Φ(end, start) and Q = ∫ Φ(end,u) G Gᵀ Φ(end,u)ᵀ |du|, each of shape (*, k, k), for times
        of one shape; the integration may run backwards."""
        return self.integrals(start, end)[:2]

    def strength(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """g = (G Gᵀ)^½ at times `t`, and its pseudo-inverse, shape (*t, k, k)."""
        g = symmetric_root(self.G(t) @ self.G(t).mT)
        return g, torch.linalg.pinv(g, hermitian=True, rtol=1e-6)

    def with_integral(self, h: Tensor) -> "LinearSystem":
        """The system of y and its integral ∫ y |du|, in the direction of h: of the noise beside
        N = ∫ Φ G dω that is U = ∫ Φ |end − u| G dω."""
        two, k = torch.eye(2).double(), self.sizes[0]
        below = torch.diag(h.sign().expand(k), -k)
        drift = lambda t: torch.kron(two, self.A(t)) + below  # noqa: E731
        noise = lambda t: torch.kron(two[:, :1], self.G(t))  # noqa: E731
        return replace(self, A=drift, G=noise, sizes=(2 * k, self.sizes[1]))

    def integrals(
        self, start: Tensor, end: Tensor, variable: TimeFunction | None = None, count: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Φ(end, start), Q, and the moments ∫ Φ(end,u) B(u) θ(u)^i / i! du for i < `count`, shape
        (count, *, k, m); θ goes from 0 to 1 with `variable`, which is the time by default."""
        k, m = self.sizes
        if self.constant and (variable is None or _is_affine(variable, start, end)):
            a = torch.zeros((), dtype=torch.float64)
            found = exponentials(self.A(a), self.B(a), self.G(a), end - start, count)
        else:
            ends = start.flatten(), end.flatten()
            found = collocated(self, *ends, variable or (lambda u: u), count)
        parts = found.reshape(*start.shape, k, -1).split([k, count * m, k], -1)
        return parts[0], parts[2], parts[1].unflatten(-1, (count, m)).movedim(-2, 0)


def _is_affine(variable: TimeFunction, start: Tensor, end: Tensor) -> bool:
    """Whether the variable goes with the time in the intervals, up to the rounding of times."""
    parts = torch.tensor([0.0, 0.25, 0.5, 0.8, 1.0]).double()[:, None]
    value = variable(torch.lerp(start, end, parts))
    off = (value - value[0]) / (value[-1] - value[0]) - parts
    return bool((off.abs() < 1e-13 + 1e-15 * (start / (end - start)).abs()).all())


class Integral:
    """With the noise N of a step, its integral U = ∫ Φ |t − u| G dω and V = g⁺ N, the normals of
    the integral are ζ = E⁻¹ (g⁺U − E[g⁺U | V]), E the root of the variance, and

        ζ = T N + D z_U,

    z_U independent of N, T `known` and D `unknown`. Where the noise reaches some components through
    others only, N knows U to leading order, and D is small. The matrix `normals`, shape (*, k, 2k),
    takes (N, U) to z_U.

    Args:
        system: the linear system, of k components.
        end: the ends t of the steps, of any shape.
        covariance: of (N, U), shape (*end, 2k, 2k).
    """

    def __init__(self, system: LinearSystem, end: Tensor, covariance: Tensor) -> None:
        k, (_, p) = system.sizes[0], system.strength(end)
        of_increment, across = covariance[..., :k].split(k, -2)
        self._inverse, self._var_v = p, p @ of_increment @ p.mT
        mean = regression(p @ across @ p.mT, self._var_v)  # E[g⁺U | V] = mean V
        zeta = torch.cat([-mean @ p, p], -1)
        scale = symmetric_root(zeta @ covariance @ zeta.mT)
        zeta = torch.linalg.pinv(scale, hermitian=True, rtol=1e-6) @ zeta
        self.known = regression((zeta @ covariance)[..., :k], of_increment)
        rest = zeta - torch.cat([self.known, torch.zeros_like(p)], -1)
        self.unknown = symmetric_root(rest @ covariance @ rest.mT)
        self.normals = torch.linalg.pinv(self.unknown, hermitian=True, rtol=1e-6) @ rest

    def regressed(self, covariance: Tensor) -> Tensor:
        """The matrix M with E[X | V] = M N, from Cov(X, N)."""
        return regression(covariance @ self._inverse.mT, self._var_v) @ self._inverse


@dataclass(frozen=True, eq=False)
class BlockNodes:
    """The noise nodes of a step, of which only fresh noise and composed increments know what to do
    with.

    Args:
        system: the linear system of the equation.
        times: of the nodes, shape (count + 1,).
        extended: where the noise has further components after those of the state, functionals of
            its path: the system of all of them.
    """

    system: LinearSystem
    times: Tensor
    extended: LinearSystem | None = None

    def __call__(self) -> NoReturn:
        raise ValueError(
            "An equation with matrices has no scalar noise time: use fresh noise, Gaussian(seeds) "
            "of expint.noise, or expint.noise.paths.composed.ComposedNoise, along a finer grid."
        )
