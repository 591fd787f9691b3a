"""Models without a network: any function, one that must not be called, and one that counts."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from expint.schedules import Schedule
from expint.targets import GaussianMixture


@dataclass
class FunctionModel:
    """`function(x, t)` as a model."""

    schedule: Schedule
    prediction: str
    function: Callable[[Tensor, Any], Tensor]
    sigma_data: float | None = None

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        return self.function(x, t)


def wavy(
    schedule: Schedule, prediction: str = "data", sigma_data: float | None = None
) -> FunctionModel:
    """A bounded function of state and λ that no scheme integrates exactly."""
    return FunctionModel(
        schedule,
        prediction,
        lambda x, t: torch.sin(1.3 * x + 0.4) + 0.3 * math.tanh(float(schedule.lam(t))),
        sigma_data,
    )


def constant(
    schedule: Schedule, prediction: str, value: float, sigma_data: float | None = None
) -> FunctionModel:
    return FunctionModel(schedule, prediction, lambda x, t: torch.full_like(x, value), sigma_data)


def forbidden(
    schedule: Schedule, prediction: str = "data", sigma_data: float | None = None
) -> FunctionModel:
    """Fails when it is called: for errors that must come before the first evaluation."""

    def fail(x: Tensor, t: Any) -> Tensor:
        raise AssertionError(f"The model was called at t = {t}.")

    return FunctionModel(schedule, prediction, fail, sigma_data)


@dataclass
class Recorder:
    """Keeps the times of its calls."""

    model: Any
    times: list[float] = field(default_factory=list)

    @property
    def schedule(self) -> Schedule:
        return self.model.schedule

    @property
    def prediction(self) -> str:
        return self.model.prediction

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        assert t.ndim == 0 and t.dtype == torch.float64
        self.times.append(float(t))
        return self.model(x, t)


def mixture(schedule: Schedule) -> GaussianMixture:
    """The mixture of the reference vectors."""
    return GaussianMixture([[-1.0, 0.2], [0.8, 0.6], [0.3, -0.9]], 0.3, [0.5, 0.3, 0.2], schedule)
