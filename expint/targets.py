"""Targets whose exact denoiser is known: models for tests, benchmarks and convergence studies, no network needed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.float64 import as_float64
from expint.schedules import Schedule

__all__ = ["Gaussian", "GaussianMixture"]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Data x_0 ~ N(mean, diag(variances)).

    D(x, t) = mean + α v/(α² v + σ̄²) (x − α mean).

    Args:
        mean: shape (d,), anything that makes a real array.
        variances: shape (d,) or a number, ≥ 0.
        schedule: the noise schedule.
    """

    mean: Any
    variances: Any
    schedule: Schedule
    prediction: str = "data"

    def __post_init__(self) -> None:
        mean = as_float64(self.mean)
        variances = as_float64(self.variances).expand(torch.broadcast_shapes(mean.shape, as_float64(self.variances).shape))
        if not (torch.isfinite(variances).all() and (variances >= 0).all()):
            raise ValueError(f"variances must be finite and >= 0, got {self.variances!r}.")
        object.__setattr__(self, "mean", mean.expand_as(variances))
        object.__setattr__(self, "variances", variances)
        if self.prediction != "data":
            raise ValueError("A target predicts data; wrap it in expint.predictions.Reparametrized for another prediction.")

    def gain(self, t: Any) -> Tensor:
        """dD/dx at time `t`, float64, shape (d,)."""
        alpha, std = self.schedule.alpha(as_float64(t)), self.schedule.std(as_float64(t))
        return alpha * self.variances / (alpha**2 * self.variances + std**2)

    def moments(self, t: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance of x_t, float64, each of shape (d,)."""
        alpha, std = self.schedule.alpha(as_float64(t)), self.schedule.std(as_float64(t))
        return alpha * self.mean, alpha**2 * self.variances + std**2

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The exact denoiser at x of shape (batch, d)."""
        gain = self.gain(t)
        offset = self.mean * (1.0 - gain * self.schedule.alpha(as_float64(t)))
        return x * gain.to(x) + offset.to(x)


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Data from a mixture of isotropic Gaussians with one common standard deviation.

    Args:
        means: shape (K, d).
        std: common standard deviation, > 0.
        weights: shape (K,), positive; normalised here. Default: equal.
        schedule: the noise schedule.
    """

    means: Any
    std: float
    weights: Any
    schedule: Schedule
    prediction: str = "data"

    def __post_init__(self) -> None:
        means = as_float64(self.means)
        weights = torch.ones(len(means), dtype=torch.float64) if self.weights is None else as_float64(self.weights)
        if means.ndim != 2 or weights.shape != means.shape[:1]:
            raise ValueError(f"means must be (K, d) and weights (K,), got {tuple(means.shape)} and {tuple(weights.shape)}.")
        if not (weights > 0).all() or not self.std > 0:
            raise ValueError(f"weights and std must be positive, got {weights.tolist()} and {self.std}.")
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "weights", weights / weights.sum())

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The exact denoiser E[x_0 | x_t = x] at x of shape (batch, d).

        Component k of x_t is N(α m_k, α² s² + σ̄²); given it, E[x_0] = m_k + α s²/(α² s² + σ̄²) (x − α m_k).
        """
        alpha = self.schedule.alpha(as_float64(t)).to(x)
        variance = alpha**2 * self.std**2 + self.schedule.std(as_float64(t)).to(x) ** 2
        means = self.means.to(x)
        offsets = x[:, None, :] - alpha * means
        logits = self.weights.log().to(x) - 0.5 * (offsets**2).sum(-1) / variance
        posterior = torch.softmax(logits, -1)
        gain = alpha * self.std**2 / variance
        return gain * x + (1.0 - gain * alpha) * (posterior @ means)
