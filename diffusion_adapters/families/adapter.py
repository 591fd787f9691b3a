"""What all network adapters share: scale and label the input, call the network, return its
prediction.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from diffusion_adapters.families.checks import check_call, explained
from diffusion_adapters.families.left_out import left_out
from diffusion_adapters.families.module_methods import ModuleMethods
from expint.guards.training import warn_in_training
from expint.registry import check_choice
from expint.runs.model import describe
from expint.schedules import Schedule
from expint.schedules.discrete import TabulatedVP

TIMESTEPS = ("round", "interpolate")


class NetworkAdapter(ModuleMethods):
    """A network of some family as a model for `expint.sample`: callable as model(x, t), with
    schedule and prediction.

    Args:
        network: the callable; if it has parameters, the state is cast to their dtype before the
            call.
        schedule: the noise schedule it was trained on.
        prediction: what it returns (`expint.equations.predictions.PREDICTIONS`).
        condition: keyword arguments passed on every call; tensors with one row per sample.
        table: the timesteps that the network is called with; None if it is called at any time.

    Attributes that a family may set: `sigma_data`, of the network's data, for the form "precond";
    `round_time`, which maps times to those that the network knows, by default those of the table;
    `label_dim`, the number of classes of a class-conditional network. `plan_for` may be set to a
    function that gives the network's own plan for a number of evaluations, or None.

    Raises:
        TypeError, ValueError: for a network that is not callable or not with the family's
            arguments, a schedule or prediction that is not known.
    """

    kind: ClassVar[type] = Schedule
    """Of its noise schedule."""
    repeats_rows: ClassVar[bool] = False
    """Whether fewer rows of conditioning than samples are repeated, each for neighbouring ones."""
    label_name: ClassVar[str | None] = None
    """The keyword of the time labels; None if they are the second argument."""

    sigma_data: float | None = None
    label_dim: int = 0

    def __init__(
        self,
        network: Callable[..., Any],
        schedule: Any,
        prediction: str,
        *,
        condition: Mapping[str, Any] | None = None,
        table: "Timesteps | None" = None,
    ) -> None:
        self.network, self.schedule, self.prediction = network, schedule, prediction
        self.condition, self._table, self._warned = dict(condition or {}), table, False
        self.round_time = table.round_time if table else None
        check_call(network, *self._arguments())
        describe(self, self.kind)

    @abstractmethod
    def _predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        """Call the network in its family's convention."""

    @property
    def device(self) -> torch.device:
        """Where the network's first parameter lies (the CPU for a network without any)."""
        return getattr(self._first_tensor(), "device", torch.device("cpu"))

    def _models(self) -> Sequence[Any]:
        return (self.network,)

    def with_condition(self, **condition: Any) -> Self:
        """The same network with other conditioning arguments.

        Raises:
            TypeError: for arguments that the network does not take.
        """
        other = copy(self)
        other.condition = condition
        check_call(other.network, *other._arguments())
        return other

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The network's prediction for states x of shape (batch, *event) at time t (a number or
        0-dimensional tensor).

        Raises:
            TypeError, ValueError: before the network is called, for conditioning with another
                number of rows than samples; for a network that needs whole labels, or that is on
                another device.
        """
        rows = {name: self._rows(name, value, x) for name, value in self.condition.items()}
        if not self._warned:
            self._warned = warn_in_training(self.network)
        first = self._first_tensor()
        if first is not None and first.is_floating_point():
            x = x.to(first.dtype)
        try:
            return self._predict(x, torch.as_tensor(t, dtype=torch.float64), rows)
        except (TypeError, AssertionError, AttributeError, RuntimeError, IndexError) as error:
            meaning = explained(error, x, self.device)
            meaning = meaning or left_out(error, self.network, *self._arguments())
            if meaning is None:
                raise
            raise meaning from error

    def _arguments(self) -> tuple[list[str], list[str]]:
        """How the network is called: positional arguments, and keywords."""
        named = [self.label_name] if self.label_name else []
        return ["x"] if named else ["x", "labels"], [*named, *self.condition]

    def _rows(self, name: str, value: Any, x: Tensor) -> Any:
        """A conditioning argument with one row per sample, on the device of `x`."""
        if isinstance(value, Mapping):
            return {key: self._rows(key, item, x) for key, item in value.items()}
        if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
            return type(value)([self._rows(name, item, x) for item in value])
        if not isinstance(value, Tensor | np.ndarray | list) or not np.ndim(value):
            return value
        batch = len(x)
        value = value.to(x.device) if isinstance(value, Tensor) else value
        if len(value) == batch:
            return value
        if self.repeats_rows and isinstance(value, Tensor) and len(value):
            if batch % len(value) == 0:
                return value.repeat_interleave(batch // len(value), dim=0)
        rows = f"{len(value)} rows for a batch of {batch}"
        raise ValueError(f"The condition {name!r} has {rows}: give one row per sample.")

    def _first_tensor(self) -> Tensor | None:
        module = self.network if isinstance(self.network, torch.nn.Module) else torch.nn.Module()
        return next(chain(module.parameters(), module.buffers()), None)


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """The number `value` once per sample of `x`, shape (batch,), on its device and in its dtype,
    but in float32 at least: half types cannot tell 999 from 1000.
    """
    kind = torch.promote_types(x.dtype, torch.float32)
    return value.to(device=x.device, dtype=kind).expand(x.shape[0])


def without_variance(output: Tensor, x: Tensor) -> Tensor:
    """The first C of 2C output channels, of which the others are a learned variance."""
    doubled = (x.shape[0], 2 * x.shape[1], *x.shape[2:]) if x.ndim > 1 else None
    # What is no tensor is refused where it is used.
    return output[:, : x.shape[1]] if getattr(output, "shape", ()) == doubled else output


def class_indices(labels: Sequence[int] | Tensor, count: int | None = None) -> Tensor:
    """`labels` as int64 of shape (batch,).

    Raises:
        ValueError: unless they are a 1-D sequence of whole numbers ≥ 0, and below `count` > 0.
    """
    if count == 0:
        raise ValueError(f"This network has no classes (label_dim = 0), but got {labels!r}.")
    with suppress(TypeError, ValueError, RuntimeError, OverflowError):
        indices, end = torch.as_tensor(labels), math.inf if count is None else count
        listed = indices.tolist() if indices.ndim == 1 else []
        if listed and all(type(i) is int and 0 <= i < end for i in listed):
            return indices.long()
    allowed = ">= 0" if count is None else f"0 ... {count - 1}"
    raise ValueError(
        f"labels are a 1-D sequence of class indices {allowed}, one per sample, got {labels!r}."
    )


@dataclass(frozen=True)
class Timesteps:
    """How a network that was trained at t = 0, 1, …, M−1 is called.

    Args:
        schedule: the table, with an entry for each t.
        policy: "round", the nearest of its timesteps, as it was trained: the plan uses the rounded
            time everywhere. "interpolate": fractional times as well, for solvers that ask for
            them, which networks with a sinusoidal embedding understand.
        scale: factor on what the network is called with, or None for whole numbers.
        originals: the timesteps of the network that are the entries of the table; None for all.

    Raises:
        ValueError: for an unknown policy, or "interpolate" on some of the timesteps.
    """

    schedule: TabulatedVP
    policy: str
    scale: float | None = None
    originals: Tensor | None = None

    def __post_init__(self) -> None:
        check_choice("timesteps", self.policy, TIMESTEPS)
        if self.policy == "interpolate" and self.originals is not None:
            raise ValueError("timesteps='interpolate' goes with all timesteps only: round here.")

    @property
    def round_time(self) -> Callable[[Tensor], Tensor] | None:
        """Rounding to the table, or None."""
        return self.schedule.round if self.policy == "round" else None

    def labels(self, t: Tensor, x: Tensor) -> Tensor:
        """Timesteps for the network, shape (batch,): int64, or floats of at least 32 bits (half
        types cannot tell all timesteps apart) where they are scaled or in between.
        """
        label = t.clamp(0, self.schedule.steps - 1)
        if self.policy == "round":
            entry = label.round().long()
            label = entry if self.originals is None else self.originals[entry]
            if self.scale is None:
                return label.to(x.device).expand(x.shape[0])
        return per_sample(label * (self.scale or 1.0), x)
