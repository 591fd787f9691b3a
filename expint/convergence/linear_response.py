"""A run on a linear model is an affine function of its Gaussians: mean and variance of its output,
without Monte Carlo.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from expint.equations.diffusion import Diffusion
from expint.noise import Replay, SubstepNoise
from expint.numerics.float64 import as_float64
from expint.plans import Plan
from expint.runs import Description, Run, drive, execute
from expint.targets import Gaussian


class _UnitNormals:
    """Noise that lights one standard normal at a time: normal k of a run is 1 in batch entry k and
    0 elsewhere."""

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_UnitNormals":
        """See `NoiseSource.stream`."""
        self._like, self._used = like, 0
        return self

    def normals(self, substep: SubstepNoise) -> Sequence[Tensor]:
        """See `NoiseStream.normals`."""
        units = self._like.new_zeros((substep.normals, *self._like.shape))
        for unit in units:
            unit[self._used] = 1.0
            self._used += 1
        return units.unbind(0)


def gaussian_moments(
    plan: Plan, target: Gaussian, *, initial: tuple[Any, Any] | None = None
) -> tuple[Tensor, Tensor]:
    """Exact mean and variance of the sampler's output on Gaussian data: the plan applied to a
    linear model, no Monte Carlo.

    Every state of the run is an affine function of the initial state and of the standard Gaussians
    that the plan uses. Its constant part comes from a run in which all of these are zero; its
    coefficients from one on data of mean zero, with one of them in each entry of the batch.

    Args:
        plan: any plan for the target's schedule.
        target: the Gaussian data.
        initial: (mean, variance) of the initial state; default: the exact ones at the first time of
            the grid.

    Returns:
        Mean and variance at the end of the grid, float64, each of shape (d,).

    Raises:
        TypeError: if the target is not a `targets.Gaussian`, or the linear part is a matrix.
        ValueError: if its schedule is not the plan's.
    """
    if not isinstance(target, Gaussian) or plan.sde.blocks:
        raise TypeError(
            "Exact moments need data of a Gaussian law, an expint.targets.Gaussian, got "
            f"{type(target).__name__}, for {plan.sde}: on other data sample, for example with "
            "expint.convergence.weak_order; for matrices see expint.phase_space.block_moments."
        )
    # By the plan's own schedule, so that the start is finite; the run then refuses a target of
    # another schedule.
    diffusion = plan.sde.diffusion
    first = replace(target, schedule=diffusion.schedule) if diffusion else target
    mean, variance = initial if initial is not None else first.moments(plan.grid[0])
    d = target.mean.shape[0]
    x = torch.zeros(plan.normals + 1, d, dtype=torch.float64)
    x[-1] = torch.sqrt(as_float64(variance))
    silence = Replay(x.new_zeros(plan.normals, 1, d))
    constant = execute(plan, target, as_float64(mean).expand(1, d), silence)
    centred = replace(target, mean=torch.zeros_like(target.mean))
    return constant[0], (execute(plan, centred, x, _UnitNormals()) ** 2).sum(0)


def noise_responses(plan: Plan, diffusion: Diffusion) -> tuple[Tensor, Tensor]:
    """What a run with F = 0 makes of its initial state and of its Gaussians.

    Returns:
        For the state that each row produces: its factor of the initial state, shape (rows,), and
        its coefficients of the Gaussians, shape (rows, plan.normals). Both are read off an
        executed run, so that they hold for the loop as well as for the plan.
    """
    x = torch.zeros(plan.normals + 1, 1, dtype=torch.float64)
    x[-1] = 1.0
    states: list[Tensor] = []
    about = Description(diffusion.schedule, diffusion.prediction, diffusion.sigma_data)
    run = Run(plan, about, x, _UnitNormals(), lambda row, state: states.append(state.clone()))
    drive(run, lambda state, t: torch.zeros_like(state))
    made = torch.stack(states)[..., 0]
    return made[:, -1], made[:, :-1]
