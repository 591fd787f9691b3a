"""What all network adapters share: scale and label the input, call the network, return its
prediction.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from expint.runs.model import describe
from expint.schedules import Schedule
from expint.schedules.discrete import TabulatedVP

TIMESTEPS = ("round", "interpolate")


class NetworkAdapter(ABC):
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
    `label_dim`, the number of classes of a class-conditional network.

    Raises:
        TypeError, ValueError: for a network that is not callable, a schedule or prediction that is
            not known.
    """

    repeats_rows: ClassVar[bool] = False
    """Whether fewer rows of conditioning than samples are repeated, each for neighbouring ones."""

    sigma_data: float | None = None
    label_dim: int = 0

    def __init__(
        self,
        network: Callable[..., Any],
        schedule: Schedule,
        prediction: str,
        *,
        condition: Mapping[str, Any] | None = None,
        table: "Timesteps | None" = None,
    ) -> None:
        if not callable(network):
            raise TypeError(f"The network must be callable, got {type(network).__name__}.")
        self.network, self.schedule, self.prediction = network, schedule, prediction
        self.condition, self._table = dict(condition or {}), table
        self.round_time = table.round_time if table else None
        describe(self)

    @abstractmethod
    def _predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        """Call the network in its family's convention."""

    @property
    def device(self) -> torch.device:
        """Where the network's first parameter lies (the CPU for a network without any)."""
        first = self._first_parameter()
        return torch.device("cpu") if first is None else first.device

    def with_condition(self, **condition: Any) -> Self:
        """The same network with other conditioning arguments."""
        other = copy(self)
        other.condition = condition
        return other

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The network's prediction for states x of shape (batch, *event) at time t (a number or
        0-dimensional tensor).

        Raises:
            ValueError: for conditioning with another number of rows than samples.
        """
        rows = {name: self._rows(name, value, len(x)) for name, value in self.condition.items()}
        first = self._first_parameter()
        if first is not None and first.is_floating_point():
            x = x.to(first.dtype)
        return self._predict(x, torch.as_tensor(t, dtype=torch.float64), rows)

    def _rows(self, name: str, value: Any, batch: int) -> Any:
        """A conditioning argument with one row per sample."""
        if isinstance(value, Mapping):
            return {key: self._rows(key, item, batch) for key, item in value.items()}
        if not isinstance(value, Tensor) or not value.ndim or len(value) == batch:
            return value
        if self.repeats_rows and len(value) and batch % len(value) == 0:
            return value.repeat_interleave(batch // len(value), dim=0)
        raise ValueError(
            f"The condition {name!r} has {len(value)} rows for a batch of {batch}: give one row "
            "per sample."
        )

    def _first_parameter(self) -> Tensor | None:
        if not isinstance(self.network, torch.nn.Module):
            return None
        return next(chain(self.network.parameters(), self.network.buffers()), None)


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """The number `value` once per sample of `x`, in its dtype and on its device: shape (batch,)."""
    return value.to(device=x.device, dtype=x.dtype).expand(x.shape[0])


def without_variance(output: Tensor, x: Tensor) -> Tensor:
    """The first C of 2C output channels, of which the others are a learned variance."""
    doubled = (x.shape[0], 2 * x.shape[1], *x.shape[2:]) if x.ndim > 1 else None
    return output[:, : x.shape[1]] if output.shape == doubled else output


def class_indices(labels: Sequence[int] | Tensor, count: int | None = None) -> Tensor:
    """`labels` as int64 of shape (batch,).

    Raises:
        ValueError: unless they are a 1-D sequence of whole numbers ≥ 0, and below `count` > 0.
    """
    if count == 0:
        raise ValueError(
            f"This network has no classes (label_dim = 0), but labels {labels!r} came."
        )
    indices = torch.as_tensor(labels)
    listed, end = indices.tolist(), math.inf if count is None else count
    are_indices = isinstance(listed, list) and all(type(i) is int and 0 <= i < end for i in listed)
    if not are_indices or not listed:
        allowed = ">= 0" if count is None else f"0 ... {count - 1}"
        raise ValueError(
            f"labels must be a 1-D sequence of class indices {allowed}, one per sample, got "
            f"{labels!r}."
        )
    return indices.long()


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
        if self.policy not in TIMESTEPS:
            raise ValueError(f"Unknown timesteps={self.policy!r}: choose one of {TIMESTEPS}.")
        if self.policy == "interpolate" and self.originals is not None:
            raise ValueError(
                "timesteps='interpolate' goes with all timesteps only: leave out the respacing, or "
                "round."
            )

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
        if self.policy != "round" or self.scale is not None:
            label = (label * (self.scale or 1.0)).to(torch.promote_types(x.dtype, torch.float32))
        return label.to(x.device).expand(x.shape[0])
