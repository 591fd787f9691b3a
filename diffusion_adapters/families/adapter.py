"""What all network adapters share: scale and label the input, call the network, return its
prediction.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor

from expint.equations.predictions import check as check_prediction
from expint.schedules import Schedule
from expint.schedules.discrete import TabulatedVP

TIMESTEPS = ("interpolate", "round")


class NetworkAdapter(ABC):
    """A network of some family as a model for `expint.sample`: callable as model(x, t), with
    schedule and prediction.

    Args:
        network: the callable; if it has parameters, the state is cast to their dtype before the
            call.
        schedule: the noise schedule it was trained on.
        prediction: what it returns (`expint.equations.predictions.PREDICTIONS`).
        condition: keyword arguments passed on every call; tensors with one row per sample.
        sigma_data: of the network's data, for the prediction or the form "precond".
    """

    label_dim: int = 0
    """Number of classes of a class-conditional network; 0 for none."""

    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: Schedule,
        prediction: str,
        *,
        condition: Mapping[str, Any] | None = None,
        sigma_data: float | None = None,
    ) -> None:
        if not callable(network):
            raise TypeError(f"The network must be callable, got {type(network).__name__}.")
        if not isinstance(schedule, Schedule):
            raise TypeError(
                f"schedule must be an expint.schedules.Schedule, got {type(schedule).__name__}."
            )
        check_prediction(prediction, sigma_data)
        self.network, self.schedule, self.prediction, self.sigma_data = (
            network,
            schedule,
            prediction,
            sigma_data,
        )
        self.condition = dict(condition or {})

    @abstractmethod
    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        """Call the network in its family's convention."""

    @property
    def round_time(self) -> Callable[[Tensor], Tensor] | None:
        """How times are rounded to those that the network knows, or None if it is called at any
        time.
        """
        return self._round_time()

    def _round_time(self) -> Callable[[Tensor], Tensor] | None:
        return None

    @property
    def device(self) -> torch.device:
        """Where the network's first parameter lies (the CPU for a network without any)."""
        first = self._first_parameter()
        return torch.device("cpu") if first is None else first.device

    def with_condition(self, **condition: Any) -> Self:
        """The same network with other conditioning arguments."""
        other = copy(self)
        other.condition = dict(condition)
        return other

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The network's prediction for states x of shape (batch, *event) at time t (a number or
        0-dimensional tensor).
        """
        for name, value in self.condition.items():
            if isinstance(value, Tensor) and value.ndim and value.shape[0] != x.shape[0]:
                raise ValueError(
                    f"The condition {name!r} has {value.shape[0]} rows for a batch of "
                    f"{x.shape[0]}: give one row per sample."
                )
        first = self._first_parameter()
        time = torch.as_tensor(t, dtype=torch.float64)
        return self._predict(
            x if first is None or not first.is_floating_point() else x.to(first.dtype), time
        )

    def _first_parameter(self) -> Tensor | None:
        if not isinstance(self.network, torch.nn.Module):
            return None
        return next(chain(self.network.parameters(), self.network.buffers()), None)


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """The number `value` once per sample of `x`, in its dtype and on its device: shape (batch,)."""
    return value.to(device=x.device, dtype=x.dtype).expand(x.shape[0])


class TimestepPolicy:
    """How a network that was trained at t = 0, 1, …, M−1 is called in between: at fractional times,
    or at the nearest integer.

    Args:
        schedule: the tabulated schedule.
        policy: "interpolate" calls it at fractional times, which networks with a sinusoidal
            embedding understand; "round" moves every evaluation to the nearest entry, and the plan
            uses the rounded time everywhere.
    """

    def __init__(self, schedule: TabulatedVP, policy: str) -> None:
        if policy not in TIMESTEPS:
            raise ValueError(f"Unknown timesteps={policy!r}: choose one of {TIMESTEPS}.")
        self.schedule, self.policy = schedule, policy

    @property
    def round_time(self) -> Callable[[Tensor], Tensor] | None:
        """Rounding to the table, or None."""
        return self.schedule.round if self.policy == "round" else None

    def labels(self, t: Tensor, x: Tensor, scale: float = 1.0) -> Tensor:
        """Timesteps for the network, shape (batch,): integers where it is called at integers
        only.
        """
        inside = t.clamp(0, self.schedule.steps - 1) * scale
        if self.policy == "round" and scale == 1.0:
            return inside.round().to(device=x.device, dtype=torch.long).expand(x.shape[0])
        return per_sample(inside, x)
