"""Convergence studies: what a solver really does, measured without Monte Carlo where that is possible."""

from typing import Any

import torch
from torch import Tensor

from expint.execution import execute
from expint.noise.source import interval_stds
from expint.plan import Plan
from expint.targets import Gaussian

__all__ = ["fitted_order", "gaussian_moments"]


class _UnitResponses:
    """Noise that lights one standard Gaussian at a time: increment k of a run is √Δτ in batch entry k + 1 and 0 elsewhere."""

    memoryless = True

    def stream(self, like: Tensor, intervals: int | None = None) -> "_UnitResponses":
        opened = _UnitResponses()
        opened.like, opened.used = like, 0
        return opened

    like: Tensor
    used: int

    def increments(self, taus: Tensor) -> Tensor:
        """See `NoiseStream.increments`."""
        count = len(taus) - 1
        units = torch.zeros((count, *self.like.shape), dtype=self.like.dtype)
        for k in range(count):
            units[k, self.used + k + 1] = 1.0
        self.used += count
        return units * interval_stds(taus, units[0])


class _LinearResponse:
    """The Gaussian target's affine denoiser, with its constant part acting on batch entry 0 only."""

    def __init__(self, target: Gaussian) -> None:
        self.target, self.schedule, self.prediction = target, target.schedule, target.prediction

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        output = self.target(x, t)
        output[1:] -= self.target(torch.zeros_like(x[:1]), t)
        return output


def gaussian_moments(plan: Plan, target: Gaussian, *, initial: tuple[Any, Any] | None = None) -> tuple[Tensor, Tensor]:
    """Exact mean and variance of the sampler's output on Gaussian data: the plan applied to a linear model, no Monte Carlo.

    Every state of the run is an affine function of the initial state and of the standard Gaussians that the plan uses. The run is
    executed once on a batch that carries the mean in its first entry and one coefficient of that function in each of the others.

    Args:
        plan: any plan for the target's schedule.
        target: the Gaussian data.
        initial: (mean, variance) of the initial state; default: the exact ones at the first time of the grid.

    Returns:
        Mean and variance at the end of the grid, float64, each of shape (d,).
    """
    mean, variance = initial if initial is not None else target.moments(plan.grid[0])
    d = target.mean.shape[0]
    x = torch.zeros(plan.gaussians + 2, d, dtype=torch.float64)
    x[0] = torch.as_tensor(mean)
    x[-1] = torch.sqrt(torch.as_tensor(variance))
    response = execute(plan, _LinearResponse(target), x, _UnitResponses())
    return response[0], (response[1:] ** 2).sum(0)


def fitted_order(steps: Any, errors: Any) -> float:
    """Least-squares slope of log(error) against −log(steps)."""
    h = torch.log(torch.as_tensor(steps, dtype=torch.float64))
    e = torch.log(torch.as_tensor(errors, dtype=torch.float64))
    h, e = h - h.mean(), e - e.mean()
    return float(-(h * e).sum() / (h * h).sum())
