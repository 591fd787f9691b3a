"""Denoisers in phase space: of data for which they are known, and from a denoiser of x_0 + σ z."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.noise import initial_state, per_sample
from expint.numerics.float64 import as_float64
from expint.schedules.formula.critical_damping import CriticalDamping


@dataclass(frozen=True, eq=False)
class Mixture:
    """The denoiser E[x_0 | u_t] of data from a mixture of isotropic Gaussians, or from one.

    With p(u_t | x_0) = N(m x_0, Σ) component k has in every coordinate the mean m μ_k and the
    covariance C = Σ + s² m mᵀ, and E[x_0 | u_t, k] = μ_k + s² mᵀ C⁻¹ (u − m μ_k). Its weight given
    u is proportional to w_k exp(yᵀμ_k − ½ mᵀC⁻¹m |μ_k|²) with y = mᵀ C⁻¹ u.

    Args:
        means: μ, shape (K, d).
        std: s, their common standard deviation, ≥ 0.
        cld: the forward process.
        weights: w, K positive numbers, divided by their sum; default: equal ones.

    Raises:
        ValueError: for invalid means, standard deviations or weights.
    """

    means: Any
    std: float
    cld: CriticalDamping
    weights: Any = None

    def __post_init__(self) -> None:
        means = as_float64(self.means)
        if means.ndim != 2 or not torch.isfinite(means).all() or not self.std >= 0:
            raise ValueError(
                f"means must be finite, of shape (K, d), and std >= 0, got {self.means!r} and "
                f"{self.std!r}."
            )
        count = len(means)
        weights = as_float64([1.0] * count if self.weights is None else self.weights)
        if weights.shape != (count,) or not (torch.isfinite(weights) & (weights > 0)).all():
            raise ValueError(f"weights must be {count} positive numbers, got {self.weights!r}.")
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "weights", weights / weights.sum())

    def law(self, t: Any) -> tuple[Tensor, Tensor]:
        """m and C at time `t`, shapes (2,) and (2, 2)."""
        mean, covariance = self.cld.kernel(t)
        return mean, covariance + self.std**2 * mean[:, None] * mean

    def __call__(self, u: Tensor, t: Any) -> Tensor:
        """E[x_0 | u_t], shape (batch, 1, d), for u of shape (batch, 2, d)."""
        mean, covariance = self.law(t)
        gain = torch.linalg.solve(covariance, mean)
        y, c = torch.einsum("i,bid->bd", gain.to(u), u), float(gain @ mean)
        means, prior = self.means.to(u), self.weights.log().to(u)
        weights = torch.softmax(y @ means.mT - 0.5 * c * means.square().sum(1) + prior, 1)
        return ((1.0 - self.std**2 * c) * weights @ means + self.std**2 * y)[:, None]

    def start(self, n: int, seed: int = 0, t: float | None = None) -> Tensor:
        """States u_t of the forward process, by default at `cld.stop`, float64, shape (n, 2, d);
        sample i is a function of (seed, i)."""
        time, d = self.cld.stop if t is None else t, self.means.shape[1]
        z = initial_state(per_sample(seed, n), (4, d), torch.float64)
        # A component by its weight: the normal distribution function of one more normal is uniform.
        place = torch.searchsorted(self.weights.cumsum(0)[:-1], torch.special.ndtr(z[:, 3, 0]))
        clean = self.means[place] + self.std * z[:, 2]
        mean, covariance = self.cld.kernel(time)
        root = torch.linalg.cholesky(covariance)
        return mean[:, None] * clean[:, None] + torch.einsum("ij,bjd->bid", root, z[:, :2])


@dataclass(frozen=True, eq=False)
class FromIsotropic:
    """The denoiser E[x_0 | u_t] from one of isotropic noise, D(z, σ) = E[x_0 | x_0 + σ ε = z].

    Nothing else is to be trained: p(u_t | x_0) = N(m x_0, Σ) depends on x_0 through one combination
    of position and velocity alone, z = mᵀΣ⁻¹u / mᵀΣ⁻¹m, which is x_0 + σ ε with
    σ = (mᵀΣ⁻¹m)^−½. So E[x_0 | u_t] = D(z, σ).

    Args:
        denoiser: denoiser(z, sigma) → D, shape (batch, *event), for z of this shape and σ a
            0-dimensional tensor: a network in EDM's parametrization, say.
        cld: the forward process.

    Example:
        >>> import torch
        >>> from expint.phase_space import FromIsotropic, Mixture
        >>> from expint.schedules import CLD, EDM
        >>> from expint.targets import GaussianMixture
        >>> known = GaussianMixture([[-1.0], [1.0]], 0.1, None, EDM())
        >>> u, exact = torch.tensor([[[0.2], [-0.1]]]), Mixture([[-1.0], [1.0]], 0.1, CLD())
        >>> bool((FromIsotropic(known, CLD())(u, 0.3) - exact(u, 0.3)).abs() < 1e-6)
        True
    """

    denoiser: Callable[[Tensor, Tensor], Tensor]
    cld: CriticalDamping

    def __call__(self, u: Tensor, t: Any) -> Tensor:
        """E[x_0 | u_t], shape (batch, 1, *event), for u of shape (batch, 2, *event)."""
        mean, covariance = self.cld.kernel(t)
        gain = torch.linalg.solve(covariance, mean)
        precision = gain @ mean
        z = torch.einsum("i,bi...->b...", (gain / precision).to(u), u)
        return self.denoiser(z, precision.to(u) ** -0.5)[:, None]
