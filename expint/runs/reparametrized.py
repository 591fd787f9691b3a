"""A model presented with another prediction."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.equations.predictions import check, conversion
from expint.runs.model import attributes
from expint.schedules import Schedule


@dataclass(frozen=True)
class Reparametrized:
    """The same model, presented with another prediction; what else it says of itself is kept.

    Args:
        model: a model with attributes `schedule`, `prediction` (and `sigma_data` if either
            prediction is "precond").
        prediction: what this object returns instead.
        sigma_data: for "precond"; default: the model's.
    """

    model: Any
    prediction: str
    sigma_data: float | None = None

    def __post_init__(self) -> None:
        if self.sigma_data is None:
            object.__setattr__(self, "sigma_data", attributes(self.model).get("sigma_data"))
        check(self.prediction, self.sigma_data)
        for name in ("round_time", "shape", "label_dim"):
            object.__setattr__(self, name, attributes(self.model).get(name))

    @property
    def schedule(self) -> Schedule:
        """The model's schedule."""
        return self.model.schedule

    @property
    def device(self) -> torch.device | None:
        """Where the model is."""
        return attributes(self.model).get("device")

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """Prediction at state x of shape (batch, *event) and time t."""
        rule = conversion(
            self.model.prediction,
            self.prediction,
            self.schedule,
            t,
            source_sigma_data=attributes(self.model).get("sigma_data"),
            target_sigma_data=self.sigma_data,
        )
        output = self.model(x, t)
        return x * rule.on_x.to(x.dtype) + output * rule.on_output.to(x.dtype)
