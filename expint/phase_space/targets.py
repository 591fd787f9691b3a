"""Data whose denoiser in phase space is known."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.noise import initial_state, per_sample
from expint.numerics.float64 import as_float64
from expint.schedules.formula.critically_damped import CLD


@dataclass(frozen=True, eq=False)
class Mixture:
    """The denoiser E[x_0 | u_t] of data from a mixture of isotropic Gaussians, or from one.

    With p(u_t | x_0) = N(m x_0, Σ) component k has in every coordinate the mean m μ_k and the
    covariance C = Σ + s² m mᵀ, and E[x_0 | u_t, k] = μ_k + s² mᵀ C⁻¹ (u − m μ_k).

    Args:
        means: μ, shape (K, d).
        std: s, their common standard deviation, ≥ 0.
        cld: the forward process.
    """

    means: Any
    std: float
    cld: CLD

    def __post_init__(self) -> None:
        means = as_float64(self.means)
        if means.ndim != 2 or not torch.isfinite(means).all() or not self.std >= 0:
            raise ValueError(
                f"means must be finite, of shape (K, d), and std >= 0, got {self.means!r} and "
                f"{self.std!r}."
            )
        object.__setattr__(self, "means", means)

    def law(self, t: Any) -> tuple[Tensor, Tensor]:
        """m and C at time `t`, shapes (2,) and (2, 2)."""
        mean, covariance = self.cld.kernel(t)
        return mean, covariance + self.std**2 * mean[:, None] * mean

    def __call__(self, u: Tensor, t: Any) -> Tensor:
        """E[x_0 | u_t], shape (batch, 1, d), for u of shape (batch, 2, d)."""
        mean, covariance = (value.to(u) for value in self.law(t))
        precision, means = torch.linalg.inv(covariance), self.means.to(u)
        gain = mean @ precision
        residual = u[:, None] - mean[:, None] * means[:, None]  # (batch, K, 2, d)
        exponents = torch.einsum("bkid,ij,bkjd->bk", residual, precision, residual)
        weights = torch.softmax(-0.5 * exponents, 1)
        each = means + self.std**2 * torch.einsum("i,bkid->bkd", gain, residual)
        return torch.einsum("bk,bkd->bd", weights, each)[:, None]

    def start(self, n: int, seed: int = 0, t: float | None = None) -> Tensor:
        """States u_t of the forward process, by default at `cld.stop`, float64, shape (n, 2, d);
        sample i is a function of (seed, i)."""
        time, d = self.cld.stop if t is None else t, self.means.shape[1]
        z = initial_state(per_sample(seed, n), (4, d), torch.float64)
        # A uniform component: the normal distribution function of one more normal.
        place = torch.special.ndtr(z[:, 3, 0]) * len(self.means)
        clean = self.means[place.long().clamp(max=len(self.means) - 1)] + self.std * z[:, 2]
        mean, covariance = self.cld.kernel(time)
        root = torch.linalg.cholesky(covariance)
        return mean[:, None] * clean[:, None] + torch.einsum("ij,bjd->bid", root, z[:, :2])
