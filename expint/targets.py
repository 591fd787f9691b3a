"""Targets whose exact denoiser is known: models for tests, benchmarks and convergence studies, no
network needed.

Each has its samples and densities too, at every time: `sample(n, t)` draws from the law of x_t, and
`log_density(x, t)` is the logarithm of its density; without `t` they are those of the data.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.noise.source import fill_normals, generators
from expint.numerics.float64 import as_float64
from expint.schedules import Schedule

__all__ = ["Empirical", "Gaussian", "GaussianMixture"]

# Data share no numbers with the initial state or the path of the same seed.
_DATA_STREAM = 0x6C8E9CF5


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
        variances = as_float64(self.variances).expand(
            torch.broadcast_shapes(mean.shape, as_float64(self.variances).shape)
        )
        if not (torch.isfinite(variances).all() and (variances >= 0).all()):
            raise ValueError(f"variances must be finite and >= 0, got {self.variances!r}.")
        object.__setattr__(self, "mean", mean.expand_as(variances))
        object.__setattr__(self, "variances", variances)
        _check_prediction(self.prediction)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the event, (d,)."""
        return tuple(self.mean.shape)

    def gain(self, t: Any) -> Tensor:
        """dD/dx at time `t`, float64, shape (d,)."""
        alpha, std = _kernel(self.schedule, t)
        return alpha * self.variances / (alpha**2 * self.variances + std**2)

    def moments(self, t: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance of x_t, float64, each of shape (d,)."""
        alpha, std = _kernel(self.schedule, t)
        return alpha * self.mean, alpha**2 * self.variances + std**2

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The exact denoiser at x of shape (batch, d)."""
        gain = self.gain(t)
        offset = self.mean * (1.0 - gain * self.schedule.alpha(as_float64(t)))
        return x * gain.to(x) + offset.to(x)

    def sample(self, n: int, t: Any = None, *, seed: int = 0) -> Tensor:
        """`n` exact samples of x_t (default: of the data), float64, shape (n, d); the seeds are
        seed, seed + 1, …
        """
        mean, variance = (self.mean, self.variances) if t is None else self.moments(t)
        return mean + torch.sqrt(variance) * _normals(n, self.shape[0], seed)

    def log_density(self, x: Tensor, t: Any = None) -> Tensor:
        """Logarithm of the density of x_t (default: of the data) at x of shape (batch, d), shape
        (batch,).
        """
        mean, variance = (self.mean, self.variances) if t is None else self.moments(t)
        return -0.5 * (
            (x - mean.to(x)) ** 2 / variance.to(x) + torch.log(2.0 * math.pi * variance).to(x)
        ).sum(-1)


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
        weights = (
            torch.ones(len(means), dtype=torch.float64)
            if self.weights is None
            else as_float64(self.weights)
        )
        if means.ndim != 2 or weights.shape != means.shape[:1]:
            raise ValueError(
                f"means must be (K, d) and weights (K,), got {tuple(means.shape)} and "
                f"{tuple(weights.shape)}."
            )
        if not (weights > 0).all() or not self.std > 0:
            raise ValueError(
                f"weights and std must be positive, got {weights.tolist()} and {self.std}."
            )
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "weights", weights / weights.sum())
        _check_prediction(self.prediction)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the event, (d,)."""
        return tuple(self.means.shape[1:])

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The exact denoiser E[x_0 | x_t = x] at x of shape (batch, d).

        Component k of x_t is N(α m_k, α² s² + σ̄²); given it, E[x_0] = m_k + α s²/(α² s² + σ̄²) (x
        − α m_k).
        """
        alpha, std = (value.to(x) for value in _kernel(self.schedule, t))
        variance = alpha**2 * self.std**2 + std**2
        posterior = torch.softmax(self._logits(x, alpha, variance), -1)
        gain = alpha * self.std**2 / variance
        return gain * x + (1.0 - gain * alpha) * (posterior @ self.means.to(x))

    def _logits(self, x: Tensor, alpha: Tensor, variance: Tensor) -> Tensor:
        """Logarithms of the components' weighted densities, but for a common factor, shape (batch,
        K).
        """
        offsets = x[:, None, :] - alpha * self.means.to(x)
        return self.weights.log().to(x) - 0.5 * (offsets**2).sum(-1) / variance

    def sample(self, n: int, t: Any = None, *, seed: int = 0) -> Tensor:
        """`n` exact samples of x_t (default: of the data), float64, shape (n, d); the seeds are
        seed, seed + 1, …
        """
        alpha, std = _clean(self.schedule, t)
        normals = _normals(n, self.shape[0] + 1, seed)
        means = self.means[_choices(normals[:, 0], self.weights)]
        return alpha * means + torch.sqrt(alpha**2 * self.std**2 + std**2) * normals[:, 1:]

    def log_density(self, x: Tensor, t: Any = None) -> Tensor:
        """Logarithm of the density of x_t (default: of the data) at x of shape (batch, d), shape
        (batch,).
        """
        alpha, std = (value.to(x) for value in _clean(self.schedule, t))
        variance = alpha**2 * self.std**2 + std**2
        return torch.logsumexp(self._logits(x, alpha, variance), -1) - 0.5 * x.shape[1] * torch.log(
            2.0 * math.pi * variance
        )


@dataclass(frozen=True, eq=False)
class Empirical:
    """Data as they are: each of N items with probability 1/N, smeared by a Gaussian of standard
    deviation `std`.

    With std = 0 the denoiser is the one that a network of unlimited capacity learns from these
    data: its samples are the data. Where σ̄ = 0 too it is not defined.

    Args:
        data: shape (N, *event), anything that makes a real array. A tensor keeps its dtype if that
            is float32, and the denoiser computes in the dtype of the state.
        std: ≥ 0.
        schedule: the noise schedule.

    Example:
        >>> import torch
        >>> from expint.schedules import EDM
        >>> target = Empirical([[-1.0, 0.0], [1.0, 0.0]], 0.0, EDM())
        >>> target(torch.tensor([[0.9, 0.3]]), EDM().t_of_sigma(0.1))
        tensor([[1., 0.]])
    """

    data: Any
    std: float
    schedule: Schedule
    prediction: str = "data"

    def __post_init__(self) -> None:
        kept = isinstance(self.data, Tensor) and self.data.dtype == torch.float32
        data = self.data if kept else as_float64(self.data)
        if data.ndim < 2 or len(data) < 1 or not torch.isfinite(data).all():
            raise ValueError(
                "data must be finite and of shape (N, *event) with N >= 1, got shape "
                f"{tuple(data.shape)}."
            )
        if not 0 <= self.std < math.inf:
            raise ValueError(f"std must be a finite number >= 0, got {self.std!r}.")
        object.__setattr__(self, "data", data)
        _check_prediction(self.prediction)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the event."""
        return tuple(self.data.shape[1:])

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The exact denoiser E[x_0 | x_t = x] at x of shape (batch, *event)."""
        alpha, std = (value.to(x) for value in _kernel(self.schedule, t))
        variance = alpha**2 * self.std**2 + std**2
        data = self.data.flatten(1).to(x)
        flat = x.flatten(1)
        posterior = torch.softmax(self._logits(flat, data, alpha, variance), -1)
        gain = alpha * self.std**2 / variance
        return (gain * flat + (1.0 - gain * alpha) * (posterior @ data)).reshape(x.shape)

    @staticmethod
    def _logits(x: Tensor, data: Tensor, alpha: Tensor, variance: Tensor) -> Tensor:
        """−|x − α x_i|²/2V but for a term in x alone, from a matrix product; about the mean of the
        data, to lose fewer digits.
        """
        center = data.mean(0)
        data = data - center
        return (
            (x - alpha * center) @ data.T * alpha - 0.5 * alpha**2 * (data**2).sum(-1)
        ) / variance

    def sample(self, n: int, t: Any = None, *, seed: int = 0) -> Tensor:
        """`n` exact samples of x_t (default: of the data), float64, shape (n, *event); the seeds
        are seed, seed + 1, …
        """
        alpha, std = _clean(self.schedule, t)
        normals = _normals(n, self.data[0].numel() + 1, seed)
        weights = torch.full((len(self.data),), 1.0 / len(self.data), dtype=torch.float64)
        chosen = self.data.flatten(1)[_choices(normals[:, 0], weights)].to(torch.float64)
        return (
            alpha * chosen + torch.sqrt(alpha**2 * self.std**2 + std**2) * normals[:, 1:]
        ).reshape(n, *self.shape)

    def log_density(self, x: Tensor, t: Any = None) -> Tensor:
        """Logarithm of the density of x_t (default: of the data; needs std > 0) at x of shape
        (batch, *event), shape (batch,).
        """
        alpha, std = (value.to(x) for value in _clean(self.schedule, t))
        variance = alpha**2 * self.std**2 + std**2
        if not variance > 0:
            raise ValueError(
                "The data have no density where std = 0 and sigma = 0: give a time with sigma > 0, "
                "or std > 0."
            )
        flat, data = x.flatten(1), self.data.flatten(1).to(x)
        own = -0.5 * ((flat - alpha * data.mean(0)) ** 2).sum(-1) / variance
        constant = math.log(len(data)) + 0.5 * flat.shape[1] * torch.log(2.0 * math.pi * variance)
        return torch.logsumexp(self._logits(flat, data, alpha, variance), -1) + own - constant


def _check_prediction(prediction: str) -> None:
    if prediction != "data":
        raise ValueError(
            "A target predicts data; wrap it in expint.equations.predictions.Reparametrized for "
            "another prediction."
        )


def _kernel(schedule: Schedule, t: Any) -> tuple[Tensor, Tensor]:
    """α and σ̄."""
    time = as_float64(t)
    return schedule.alpha(time), schedule.std(time)


def _clean(schedule: Schedule, t: Any) -> tuple[Tensor, Tensor]:
    """α and σ̄, 1 and 0 for the data themselves."""
    return (as_float64(1.0), as_float64(0.0)) if t is None else _kernel(schedule, t)


def _normals(n: int, count: int, seed: int) -> Tensor:
    """Standard normals, shape (n, count), row i from seed + i."""
    block = torch.empty(n, count, dtype=torch.float64)
    fill_normals(generators(range(seed, seed + n), _DATA_STREAM, block.device), block)
    return block


def _choices(normals: Tensor, weights: Tensor) -> Tensor:
    """Index k with probability weights[k]."""
    return torch.searchsorted(torch.cumsum(weights, 0), torch.special.ndtr(normals)).clamp(
        max=len(weights) - 1
    )
