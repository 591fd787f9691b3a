"""States at given noise levels, as training and image to image make them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.guards.arguments import checked
from expint.schedules import Flow, Schedule


class NoisedStates:
    """The part of a scheduler that is its noise schedule alone."""

    _schedule: Schedule
    _per_time: int
    _knots: tuple[np.ndarray, np.ndarray] | None = None
    """Times and the labels given for them, both rising, where labels are not the times."""

    @checked
    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """α x₀ + σ̄ ε at timesteps, one per sample or one for all; in the dtype of the samples."""
        alpha, std = self._kernel(timesteps, original_samples)
        return alpha * original_samples + std * noise

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """`add_noise` under the name, and with the arguments in the order, of flow matching."""
        return self.add_noise(sample, noise, timestep)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The target α ε − σ̄ x₀ of v-prediction; arguments as for `add_noise`."""
        alpha, std = self._kernel(timesteps, sample)
        return alpha * noise - std * sample

    def _times(self, timesteps: Any) -> Tensor:
        labels = torch.as_tensor(timesteps).reshape(-1).to(device="cpu", dtype=torch.float64)
        if self._knots is None:
            return labels / self._per_time
        return torch.as_tensor(np.interp(labels.numpy(), self._knots[1], self._knots[0]))

    def _labels(self, times: Tensor) -> Tensor:
        """What the network is called with at times, float64: linear between the labels given."""
        if self._knots is None:
            return times * self._per_time
        return torch.as_tensor(np.interp(times.numpy(), *self._knots))

    def _kernel(self, timesteps: Any, like: Tensor) -> tuple[Tensor, Tensor]:
        times = self._times(timesteps).reshape(-1, *[1] * (like.ndim - 1))
        return self._schedule.alpha(times).to(like), self._schedule.std(times).to(like)

    def _levels(self, times: Tensor) -> Tensor:
        """σ̄/α, or σ̄ for flow matching, float32."""
        flow = isinstance(self._schedule, Flow)
        level = self._schedule.std if flow else self._schedule.sigma
        return level(times).to(torch.float32)
