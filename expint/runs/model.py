"""What a model says of itself: the only place where a model is asked for its attributes."""

from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from expint.equations.predictions import check as check_prediction
from expint.schedules import Schedule


@runtime_checkable
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
        schedule: its noise schedule, a `Schedule` unless another kind was asked for.
        prediction: what it predicts.
        sigma_data: of the prediction "precond".
        round_time: maps times to those that it can be called at, or None if it takes any.
        device: where it says it is, or where its first parameter or buffer is.
        shape: of one sample.
        label_dim: number of classes of a class-conditional network, else 0.
        plan_for: gives the model's own plan for a number of evaluations, or the path of its file,
            or None where it has none; taken where the caller of `expint.sample` chooses nothing.
        sampler: draws the samples of a model whose state is not that of a `Schedule`; called by
            `expint.sample` as sampler(about, call, shape, solver, options, …).
    """

    schedule: Any
    prediction: str
    sigma_data: float | None = None
    round_time: Callable[[Tensor], Tensor] | None = None
    device: torch.device | None = None
    shape: tuple[int, ...] | None = None
    label_dim: int = 0
    plan_for: Callable[[int], Any] | None = None
    sampler: Callable[..., Tensor] | None = None


def attributes(model: Any) -> dict[str, Any]:
    """The fields of `Description` that `model` has, unchecked."""
    found = {name: getattr(model, name, None) for name in Description._fields}
    if found["device"] is None and isinstance(model, torch.nn.Module):
        tensors = chain(model.parameters(), model.buffers())
        found["device"] = next((value.device for value in tensors), None)
    return {name: value for name, value in found.items() if value is not None}


def describe(model: Any, kind: type = Schedule) -> Description:
    """What `model` says of itself, after checking that it is a diffusion model.

    Raises:
        TypeError: unless it is callable and has a schedule, of this kind, and a prediction.
        ValueError: for an unknown prediction, or "precond" without sigma_data.
    """
    found = attributes(model)
    schedule, prediction = found.get("schedule"), found.get("prediction")
    if not callable(model) or not isinstance(schedule, kind) or prediction is None:
        raise TypeError(
            "A model is a callable model(x, t) with attributes `schedule` (an "
            "expint.schedules.Schedule) and `prediction`, got "
            f"{type(model).__name__} with schedule {schedule!r} and prediction {prediction!r}. "
            "Wrap a network in an adapter, for example diffusion_adapters.EDMAdapter(net). A model "
            "of schedules.CLD, whose state has a velocity, is for expint.sample in Python alone."
        )
    check_prediction(prediction, found.get("sigma_data"))
    made = {name: kind(found[name]) for name, kind in _KINDS.items() if name in found}
    return Description(**found | made)


_KINDS: dict[str, Callable[[Any], Any]] = {"device": torch.device, "shape": tuple}


def weights(model: Any) -> list[Tensor]:
    """The parameters of a model, in its order; none for a function."""
    return [p.detach() for p in getattr(model, "parameters", tuple)()]


def identity(model: Any) -> str:
    """What a model can be known by when a run goes on: its class, what it says of itself and of the
    model that it wraps, and the number and mean square of its parameters."""
    about = describe(model)
    scale = [] if about.sigma_data is None else [f"sigma_data={about.sigma_data:g}"]
    said = [type(model).__name__, about.prediction, str(about.schedule), *scale]
    inner = getattr(model, "model", None)
    if isinstance(getattr(inner, "schedule", None), Schedule):
        said.append(f"around {identity(inner)}")
    held = weights(model)
    if count := sum(value.numel() for value in held):
        mean = sum(float(value.double().square().sum()) for value in held) / count
        # Few digits: sums differ in the last ones from device to device.
        said.append(f"{count} parameters of mean square {mean:.6g}")
    return ", ".join(said)


class Counted:
    """A model under another callable, for example a compiled one, that moves a progress bar at
    every evaluation."""

    def __init__(self, about: Description, call: Any, bar: Any) -> None:
        self.schedule, self.prediction, self.sigma_data = about[:3]
        self._call, self._bar = call, bar

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The model's prediction."""
        output = self._call(x, t)
        self._bar.update(1)
        return output
