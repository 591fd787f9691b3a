"""What a model says of itself: the only place where a model is asked for its attributes."""

from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from expint.equations.predictions import check as check_prediction
from expint.schedules import Schedule

__all__ = ["Description", "Model", "describe"]


class Model(Protocol):
    """A diffusion model: what `expint.sample` takes. Adapters and analytic targets are such models.

    `prediction` is one of `expint.equations.predictions.PREDICTIONS`. A model may have further
    attributes: see `Description`.
    """

    schedule: Schedule
    prediction: str

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction for states x, shape (batch, *event), at time t, 0-dimensional float64."""
        ...


class Description(NamedTuple):
    """What a model says of itself.

    Attributes:
        schedule: its noise schedule.
        prediction: what it predicts.
        sigma_data: of the prediction "precond".
        round_time: maps times to those that it can be called at, or None if it takes any.
        device: where it says it is, or where its first parameter or buffer is.
        shape: of one sample.
        label_dim: number of classes of a class-conditional network, else 0.
    """

    schedule: Schedule
    prediction: str
    sigma_data: float | None
    round_time: Callable[[Tensor], Tensor] | None
    device: torch.device | None
    shape: tuple[int, ...] | None
    label_dim: int


def describe(model: Any) -> Description:
    """What `model` says of itself, after checking that it is a diffusion model.

    Raises:
        TypeError: unless it is callable and has a schedule and a prediction.
        ValueError: for an unknown prediction, or "precond" without sigma_data.
    """
    schedule, prediction = getattr(model, "schedule", None), getattr(model, "prediction", None)
    if not callable(model) or not isinstance(schedule, Schedule) or prediction is None:
        raise TypeError(
            "A model is a callable model(x, t) with attributes `schedule` (an "
            "expint.schedules.Schedule) and `prediction`, got "
            f"{type(model).__name__} with schedule {schedule!r} and prediction {prediction!r}. "
            "Wrap a network in an adapter, for example diffusion_adapters.EDMAdapter(net)."
        )
    sigma_data = getattr(model, "sigma_data", None)
    check_prediction(prediction, sigma_data)
    shape = getattr(model, "shape", None)
    return Description(
        schedule,
        prediction,
        sigma_data,
        getattr(model, "round_time", None),
        _device(model),
        None if shape is None else tuple(shape),
        getattr(model, "label_dim", 0),
    )


def _device(model: Any) -> torch.device | None:
    device = getattr(model, "device", None)
    if device is None and isinstance(model, torch.nn.Module):
        tensors = chain(model.parameters(), model.buffers())
        device = next((value.device for value in tensors), None)
    return None if device is None else torch.device(device)
