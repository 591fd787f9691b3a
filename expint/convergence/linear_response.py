"""A run on a linear model is an affine function of its Gaussians: mean and variance of its output,
without Monte Carlo.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from expint.noise.source import integral_of_path, interval_stds
from expint.numerics.float64 import as_float64
from expint.plans.plan import Plan
from expint.runs.run import Run, execute
from expint.targets import Gaussian

__all__ = ["gaussian_moments", "noise_responses"]


class _UnitResponses:
    """Noise that lights one standard Gaussian at a time: increment k of a run is √Δτ in batch entry
    k + 1 and 0 elsewhere.
    """

    memoryless = True

    def stream(self, like: Tensor, intervals: int | None = None) -> "_UnitResponses":
        opened = _UnitResponses()
        opened.like, opened.used = like, 0
        return opened

    like: Tensor
    used: int

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """See `NoiseStream.increments`."""
        units = self._take(len(taus) - 1)
        steps = units * interval_stds(taus, units[0])
        return (
            (steps, integral_of_path(taus, steps, self._take(len(taus) - 1)))
            if space_time
            else steps
        )

    def _take(self, count: int) -> Tensor:
        if self.used + count > len(self.like) - 2:
            raise ValueError(
                f"The run draws more than the {len(self.like) - 2} Gaussians that its plan has."
            )
        units = torch.zeros((count, *self.like.shape), dtype=self.like.dtype)
        for k in range(count):
            units[k, self.used + k + 1] = 1.0
        self.used += count
        return units


class _LinearResponse:
    """The Gaussian target's affine denoiser, with its constant part acting on batch entry 0
    only.
    """

    def __init__(self, target: Gaussian) -> None:
        self.target, self.schedule, self.prediction = target, target.schedule, target.prediction

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        output = self.target(x, t)
        output[1:] -= self.target(torch.zeros_like(x[:1]), t)
        return output


class _Zero:
    """F = 0 in the form of the plan."""

    def __init__(self, plan: Plan) -> None:
        self.schedule, self.prediction, self.sigma_data = (
            plan.sde.schedule,
            plan.sde.prediction,
            plan.sde.sigma_data,
        )


def gaussian_moments(
    plan: Plan, target: Gaussian, *, initial: tuple[Any, Any] | None = None
) -> tuple[Tensor, Tensor]:
    """Exact mean and variance of the sampler's output on Gaussian data: the plan applied to a
    linear model, no Monte Carlo.

    Every state of the run is an affine function of the initial state and of the standard Gaussians
    that the plan uses. The run is executed once on a batch that carries the mean in its first entry
    and one coefficient of that function in each of the others.

    Args:
        plan: any plan for the target's schedule.
        target: the Gaussian data.
        initial: (mean, variance) of the initial state; default: the exact ones at the first time of
            the grid.

    Returns:
        Mean and variance at the end of the grid, float64, each of shape (d,).

    Raises:
        TypeError: if the target is not a `targets.Gaussian`.
        ValueError: if its schedule is not the plan's.
    """
    if not isinstance(target, Gaussian):
        raise TypeError(
            "Exact moments need data of a Gaussian law, an expint.targets.Gaussian, got "
            f"{type(target).__name__}; on other data sample, for example with "
            "expint.convergence.weak_order."
        )
    # By the plan's own schedule, so that the start is finite; the run then refuses a target of
    # another schedule.
    first = target if plan.sde.schedule is None else replace(target, schedule=plan.sde.schedule)
    mean, variance = initial if initial is not None else first.moments(plan.grid[0])
    d = target.mean.shape[0]
    x = torch.zeros(plan.gaussians + 2, d, dtype=torch.float64)
    x[0] = as_float64(mean)
    x[-1] = torch.sqrt(as_float64(variance))
    response = execute(plan, _LinearResponse(target), x, _UnitResponses())
    return response[0], (response[1:] ** 2).sum(0)


def noise_responses(plan: Plan) -> tuple[Tensor, Tensor]:
    """What a run with F = 0 makes of its initial state and of its Gaussians.

    Returns:
        For the state that each row produces: its factor of the initial state, shape (rows,), and
        its coefficients of the Gaussians, shape (rows, plan.gaussians). Both are read off an
        executed run, so that they hold for the loop as well as for the plan.
    """
    x = torch.zeros(plan.gaussians + 2, 1, dtype=torch.float64)
    x[-1] = 1.0
    states: list[Tensor] = []
    run = Run(
        plan, _Zero(plan), x, _UnitResponses(), lambda row, state: states.append(state.clone())
    )
    while not run.done:
        run.feed(torch.zeros_like(x))
    made = torch.stack(states)[..., 0]
    return made[:, -1], made[:, 1:-1]
