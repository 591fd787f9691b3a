"""The integral of the path of a system over a step, in terms of the noise of the step."""

import torch
from torch import Tensor

from expint.blocks.matrices import regression, symmetric_root


class Integral:
    """With the noise N of a step, its integral U/h = ∫ Φ (1 − θ) G dω and V = g⁺ N, the normals of
    the integral are ζ = E⁻¹ (g⁺U/h − E[g⁺U/h | V]), E the root of the variance, and

        ζ = T N + D z_U,

    z_U independent of N, T `known` and D `unknown`. Where the noise reaches some components through
    others only, N knows U to leading order, and D is small.

    Args:
        inverse: g⁺, shape (*, k, k) as all.
        of_increment: Var N.
        across: Cov(U/h, N).
        own: Var(U/h).
    """

    def __init__(self, inverse: Tensor, of_increment: Tensor, across: Tensor, own: Tensor) -> None:
        p, q = inverse, of_increment
        self._inverse, self._var_v = p, p @ q @ p.mT
        self._mean = regression(p @ across @ p.mT, self._var_v)  # E[g⁺U/h | V] = mean V
        rest = p @ own @ p.mT - self._mean @ self._var_v @ self._mean.mT
        self._scale = torch.linalg.pinv(symmetric_root(rest), hermitian=True, rtol=1e-6)
        self.known = regression(self._scale @ (p @ across - self._mean @ p @ q), q)
        left = self._scale @ rest @ self._scale - self.known @ q @ self.known.mT
        self.unknown = symmetric_root(left)

    def regressed(self, covariance: Tensor) -> Tensor:
        """The matrix M with E[X | V] = M N, from Cov(X, N)."""
        return regression(covariance @ self._inverse.mT, self._var_v) @ self._inverse

    def normals(self, increment: Tensor, integral: Tensor) -> Tensor:
        """z_U of increments N and integrals U/h, shape (k, points)."""
        p = self._inverse
        zeta = self._scale @ (p @ integral - self._mean @ p @ increment)
        inverse = torch.linalg.pinv(self.unknown, hermitian=True, rtol=1e-6)
        return inverse @ (zeta - self.known @ increment)
