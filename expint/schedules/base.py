"""The noise schedule: the forward kernel x_t | x_0 ~ N(α_t x_0, σ̄_t² I) as functions of time."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import are_numbers, as_float64, like, real_method

_INF = float("inf")


class Schedule(ABC):
    """A noise schedule, given by log α, log σ̄ and the inverse of λ, each a function of a float64
    tensor.

    Subclasses are frozen dataclasses that define `domain`, `sampling_range`, `_log_alpha`,
    `_log_std` and `_t_of_lam`; every public method is derived here. Logarithms are the primitives
    so that nothing is lost near σ = 0 and σ = ∞.

    Public functions take a float, array or tensor of times and return the same kind, computed in
    float64. Time −inf stands for the clean end (σ = 0, α = 1) of schedules that reach it at no
    finite time.

    Symbols as in the SEEDS paper (arXiv 2305.14267, section 2): α, σ̄ = `std`, σ = σ̄/α = `sigma`,
    λ = −log σ = `lam`.
    """

    @property
    @abstractmethod
    def domain(self) -> tuple[float, float]:
        """Times (low, high) between which the schedule is defined; noise grows with time."""

    @property
    @abstractmethod
    def sampling_range(self) -> tuple[float, float]:
        """Times (noise end, data end) between which a sampler works unless told otherwise."""

    @abstractmethod
    def _log_alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def _log_std(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def _t_of_lam(self, lam: Tensor) -> Tensor: ...

    @real_method
    def log_alpha(self, t: Tensor) -> Tensor:
        """log α_t."""
        return self._with_clean_end(self._log_alpha, 0.0, t)

    @real_method
    def log_std(self, t: Tensor) -> Tensor:
        """log σ̄_t."""
        return self._with_clean_end(self._log_std, -_INF, t)

    def _with_clean_end(self, of: Any, limit: float, t: Tensor) -> Tensor:
        """A formula inside the domain, and its limit at the clean end −inf.

        Raises:
            ValueError: for a time outside the domain by more than rounding.
        """
        low, high = self.domain
        # Almost every call is for times inside, and needs none of the masks below.
        if t.numel() and -_INF < t.min().item() >= low and t.max().item() <= high:
            return of(t)
        room = 1e-9 * max([1.0, *(abs(end) for end in (low, high) if math.isfinite(end))])
        clean = t == -_INF
        outside = ~((t >= low - room) & (t <= high + room) | clean)
        if outside.any():
            raise ValueError(
                f"t = {t[outside].reshape(-1)[0].item():.9g} is outside the domain [{low:.9g}, "
                f"{high:.9g}] of {self}."
            )
        return torch.where(clean, limit, of(torch.where(clean, low, t)))

    @real_method
    def alpha(self, t: Tensor) -> Tensor:
        """α_t, the factor on the data."""
        return torch.exp(self.log_alpha(t))

    @real_method
    def std(self, t: Tensor) -> Tensor:
        """σ̄_t, the standard deviation of the noise."""
        return torch.exp(self.log_std(t))

    @real_method
    def lam(self, t: Tensor) -> Tensor:
        """λ_t = log α_t − log σ̄_t, half the log signal-to-noise ratio."""
        return self.log_alpha(t) - self.log_std(t)

    @real_method
    def sigma(self, t: Tensor) -> Tensor:
        """σ_t = σ̄_t/α_t, EDM's sigma."""
        return torch.exp(-self.lam(t))

    @real_method
    def t_of_lam(self, lam: Tensor) -> Tensor:
        """The time at which λ_t = `lam`; +inf gives the clean end."""
        return self._t_of_lam(lam)

    def t_of_sigma(self, sigma: Any) -> Any:
        """The time at which σ_t = `sigma`; 0 gives the clean end."""
        levels = as_float64(sigma)
        if not (levels >= 0).all():
            raise ValueError(f"sigma is a noise level >= 0, got {sigma!r}.")
        return like(self._t_of_lam(-torch.log(levels)), sigma)

    def drift(self, t: Any) -> Any:
        """f(t) = d log α/dt, the linear drift of the forward SDE dx = f x dt + g dω (by automatic
        differentiation).
        """
        return like(_derivative(self.log_alpha, as_float64(t)), t)

    def diffusion_squared(self, t: Any) -> Any:
        """g(t)² = −2 σ̄² dλ/dt, the squared diffusion coefficient of the forward SDE."""
        time = as_float64(t)
        return like(-2.0 * self.std(time) ** 2 * _derivative(self.lam, time), t)

    def check(self, points: int = 2001) -> None:
        """Check on `points` times of the sampling range that α > 0 and that λ strictly decreases
        with time.

        Raises:
            ValueError: with the first interval where that fails.
        """
        noise, data = self.sampling_range
        times = torch.linspace(data, noise, points, dtype=torch.float64)
        low, high = self.domain
        times = times[(times > low) & (times < high)]
        self._check_at(times, self.log_alpha(times), self.log_std(times))

    def _check_at(self, times: Tensor, log_alpha: Tensor, log_std: Tensor) -> None:
        """Check these values at `times` inside the domain, which increase."""
        for name, values in (("alpha", log_alpha), ("std", log_std)):
            bad = ~torch.isfinite(values)
            if bad.any():
                first, last = _first_run(bad)
                raise ValueError(
                    f"{self}: {name} must be positive and finite inside the domain, but is not "
                    f"between t = {times[first].item():.6g} and t = {times[last].item():.6g}."
                )
        # λ of neighbouring times may coincide or cross by rounding; anything more is a rise, or a
        # flat stretch where the times are far apart.
        low, high = self.domain
        lam = log_alpha - log_std
        noise = 1e-13 * (1.0 + lam.abs().maximum(lam.abs().roll(-1)))[:-1]
        wide = times.diff() > 1e-5 * (1.0 + times.abs()[:-1]).clamp(max=high - low)
        rising = (lam.diff() > 16 * noise) | ((lam.diff() >= 0) & wide & (lam.diff() > -noise))
        if not rising.any():
            return
        way_out = "sigma = std/alpha must grow with t: restrict the domain."
        if rising.double().mean() > 0.9:
            mirrored = f"{low + high:.6g} - t" if math.isfinite(low + high) else "-t"
            way_out = f"Time seems to run from noise to data here: replace t by {mirrored}."
        first, last = _first_run(rising)
        raise ValueError(
            f"{self}: lambda = log(alpha/std) must decrease strictly with t, but between t = "
            f"{times[first].item():.6g} and t = {times[last + 1].item():.6g} it goes from "
            f"{lam[first].item():.6g} to {lam[last + 1].item():.6g}. {way_out}"
        )


class UnitInterval(Schedule):
    """A schedule on times from 0 to 1, sampled from `t_max` to `t_min`."""

    t_min: float
    t_max: float = 1.0

    @property
    def domain(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def sampling_range(self) -> tuple[float, float]:
        return (self.t_max, self.t_min)

    def _check_range(self, **positive: float) -> None:
        for name, value in positive.items():
            if not (are_numbers(value) and 0 < value < _INF):
                raise ValueError(f"{type(self).__name__} needs a finite {name} > 0, got {value}.")
        ends = (self.t_min, self.t_max)
        if not (are_numbers(*ends) and 0 < self.t_min < self.t_max <= 1):
            raise ValueError(
                f"{type(self).__name__} needs 0 < t_min < t_max <= 1, got {self.t_min} and "
                f"{self.t_max}."
            )


def check_schedule(schedule: Any) -> None:
    """Refuse what is not a schedule.

    Raises:
        TypeError: with what came.
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"schedule is an expint.schedules.Schedule such as VP() or EDM(), got {schedule!r}."
        )


def variance_preserving_log_alpha(lam: Tensor) -> Tensor:
    """log α as a function of λ where α² + σ̄² = 1: −½ log(1 + e^{−2λ}); log σ̄ is the same at
    −λ.
    """
    return -0.5 * torch.logaddexp(torch.zeros_like(lam), -2.0 * lam)


def _first_run(bad: Tensor) -> tuple[int, int]:
    """The first and last index of the first run of `bad`."""
    first = int(torch.nonzero(bad)[0])
    after = torch.nonzero(~bad[first:])
    return first, first + int(after[0]) - 1 if len(after) else len(bad) - 1


def _derivative(function: Any, t: Tensor) -> Tensor:
    learned = torch.is_grad_enabled() and function(t).requires_grad
    with torch.enable_grad():
        leaf = t if t.requires_grad else t.detach().clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=learned)
    return slope
