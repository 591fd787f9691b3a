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

from expint.noise.seeding import per_sample
from expint.noise.source import fill_normals, generators
from expint.numerics.float64 import are_numbers, as_float64
from expint.schedules import Schedule
from expint.schedules.base import check_schedule

# Data share no numbers with the initial state or the path of the same seed.
_DATA_STREAM = 0x6C8E9CF5
_FEW = 64  # components whose distances are formed one by one


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
        mean, variances = torch.broadcast_tensors(as_float64(self.mean), as_float64(self.variances))
        if not (torch.isfinite(variances).all() and (variances >= 0).all()):
            raise ValueError(f"variances must be finite and >= 0, got {self.variances!r}.")
        if not torch.isfinite(mean).all():
            raise ValueError(f"mean must be finite, got {self.mean!r}.")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "variances", variances)
        _check(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the event, (d,)."""
        return tuple(self.mean.shape)

    def gain(self, t: Any) -> Tensor:
        """dD/dx at time `t`, float64, shape (d,)."""
        alpha, std = _kernel(self.schedule, t)
        return alpha * self.variances / (alpha**2 * self.variances + std**2)

    def moments(self, t: Any = None) -> tuple[Tensor, Tensor]:
        """Mean and variance of x_t (default: of the data), float64, each of shape (d,)."""
        alpha, std = _kernel(self.schedule, t)
        return alpha * self.mean, alpha**2 * self.variances + std**2

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The exact denoiser at x of shape (batch, d)."""
        _check_states(x, self.shape)
        gain = self.gain(t)
        offset = self.mean * (1.0 - gain * self.schedule.alpha(as_float64(t)))
        return x * gain.to(x) + offset.to(x)

    def sample(self, n: int, t: Any = None, *, seed: int = 0, start: int = 0) -> Tensor:
        """`n` exact samples of x_t (default: of the data), float64, shape (n, d): those of run
        `seed` from its sample `start` on.
        """
        mean, variance = self.moments(t)
        return mean + torch.sqrt(variance) * _normals(n, self.shape[0], seed, start)

    def log_density(self, x: Tensor, t: Any = None) -> Tensor:
        """Logarithm of the density of x_t (default: of the data) at x of shape (batch, d), shape
        (batch,).
        """
        mean, variance = self.moments(t)
        scaled = (x - mean.to(x)) ** 2 / variance.to(x)
        return -0.5 * (scaled + torch.log(2.0 * math.pi * variance).to(x)).sum(-1)


class _Mixture:
    """Isotropic Gaussians of one standard deviation about several means.

    Attributes:
        means: shape (K, *event).
        weights: their probabilities, float64, shape (K,).
    """

    means: Any
    weights: Any
    std: float
    schedule: Schedule

    def logits(self, x: Tensor, alpha: Any, variance: Any) -> tuple[Tensor, Tensor]:
        """Of the weighted densities exp(−|x − α m_k|²/2V) the logarithms but for a term in x alone,
        shape (batch, K), and that term, shape (batch,); x has shape (batch, d).
        """
        means, prior = self.means.flatten(1).to(x), self.weights.log().to(x)
        if len(means) <= _FEW:
            squared = ((x[:, None, :] - alpha * means) ** 2).sum(-1)
            return prior - 0.5 * squared / variance, x.new_zeros(())
        # The differences would fill the memory. A matrix product loses fewer digits about the mean.
        center = means.mean(0)
        means, x = means - center, x - alpha * center
        products = x @ means.T * alpha - 0.5 * alpha**2 * (means**2).sum(-1)
        return prior + products / variance, -0.5 * (x**2).sum(-1) / variance

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the event."""
        return tuple(self.means.shape[1:])

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The exact denoiser E[x_0 | x_t = x] at x of shape (batch, *event).

        Component k of x_t is N(α m_k, α² s² + σ̄²); given it, E[x_0] = m_k + α s²/(α² s² + σ̄²) (x
        − α m_k).
        """
        _check_states(x, self.shape)
        alpha, std = (value.to(x) for value in _kernel(self.schedule, t))
        variance, flat = alpha**2 * self.std**2 + std**2, x.flatten(1)
        posterior = torch.softmax(self.logits(flat, alpha, variance)[0], -1)
        gain = alpha * self.std**2 / variance
        mean = posterior @ self.means.flatten(1).to(x)
        return (gain * flat + (1.0 - gain * alpha) * mean).reshape(x.shape)

    def sample(self, n: int, t: Any = None, *, seed: int = 0, start: int = 0) -> Tensor:
        """`n` exact samples of x_t (default: of the data), float64, shape (n, *event): those of
        run `seed` from its sample `start` on.
        """
        alpha, std = _kernel(self.schedule, t)
        means = self.means.flatten(1)
        normals = _normals(n, means.shape[1] + 1, seed, start)
        levels = torch.special.ndtr(normals[:, 0])
        chosen = torch.searchsorted(torch.cumsum(self.weights, 0), levels)
        means = means[chosen.clamp(max=len(means) - 1)].to(torch.float64)
        noise = torch.sqrt(alpha**2 * self.std**2 + std**2) * normals[:, 1:]
        return (alpha * means + noise).reshape(n, *self.shape)

    def log_density(self, x: Tensor, t: Any = None) -> Tensor:
        """Logarithm of the density of x_t (default: of the data) at x of shape (batch, *event),
        shape (batch,).

        Raises:
            ValueError: where it has none, at std = 0 and σ = 0.
        """
        alpha, std = (value.to(x) for value in _kernel(self.schedule, t))
        variance, flat = alpha**2 * self.std**2 + std**2, x.flatten(1)
        if not variance > 0:
            raise ValueError(
                "The data have no density where std = 0 and sigma = 0: give a time with sigma > 0, "
                "or std > 0."
            )
        logits, rest = self.logits(flat, alpha, variance)
        constant = 0.5 * flat.shape[1] * torch.log(2.0 * math.pi * variance)
        return torch.logsumexp(logits, -1) + rest - constant


@dataclass(frozen=True, eq=False)
class GaussianMixture(_Mixture):
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
        weights = as_float64([1.0] * len(means) if self.weights is None else self.weights)
        if means.ndim != 2 or weights.shape != means.shape[:1]:
            raise ValueError(
                f"means must be (K, d) and weights (K,), got {tuple(means.shape)} and "
                f"{tuple(weights.shape)}."
            )
        if not torch.isfinite(means).all():
            raise ValueError(f"means must be finite, got {means.tolist()}.")
        fine = are_numbers(self.std) and 0 < self.std < math.inf
        if not fine or not ((weights > 0) & (weights < math.inf)).all():
            raise ValueError(
                f"weights and std must be positive, got {weights.tolist()} and {self.std}."
            )
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "weights", weights / weights.sum())
        _check(self)


@dataclass(frozen=True, eq=False)
class Empirical(_Mixture):
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
        if not are_numbers(self.std) or not 0 <= self.std < math.inf:
            raise ValueError(f"std must be a finite number >= 0, got {self.std!r}.")
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "means", data)
        object.__setattr__(self, "weights", torch.ones(len(data), dtype=torch.float64) / len(data))
        _check(self)


def _check(target: "Gaussian | GaussianMixture | Empirical") -> None:
    """Refuse parts that are no part of a target."""
    check_schedule(target.schedule)
    if target.prediction != "data":
        raise ValueError(
            "A target predicts data; wrap it in expint.Reparametrized for another prediction."
        )


def _check_states(x: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse states of another event; an event of one number stands for all components alike."""
    if tuple(x.shape[1:]) != shape and math.prod(shape) != 1:
        raise ValueError(
            f"This target has events of shape {shape}, so states of shape (batch, "
            f"{', '.join(map(str, shape))}), got {tuple(x.shape)}."
        )


def _kernel(schedule: Schedule, t: Any) -> tuple[Tensor, Tensor]:
    """α and σ̄; 1 and 0 for the data themselves, t = None."""
    if t is None:
        return as_float64(1.0), as_float64(0.0)
    time = as_float64(t)
    return schedule.alpha(time), schedule.std(time)


def _normals(n: int, count: int, seed: int, start: int) -> Tensor:
    """Standard normals, float64, shape (n, count)."""
    block = torch.empty(n, 1, count, dtype=torch.float64)
    fill_normals(generators(per_sample(seed, n, start=start), _DATA_STREAM, block.device), block)
    return block[:, 0]
