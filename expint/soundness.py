"""Whether a plan can be good: what it makes of Gaussian data, whose law is known."""

import math
import warnings

import numpy as np

from expint.plans import Plan
from expint.runs import Description
from expint.runs.conversions import conversions

_DATA_STD = 0.5
_MOST_ROWS = 400
"""Plans with more rows have steps that are short enough."""
TOLERATED = 10.0
"""Beyond this factor between the standard deviation of samples and of data a plan is told."""


class PlanWarning(UserWarning):
    """A plan cannot give good samples."""


def std_ratio(plan: Plan) -> float:
    """Standard deviation of the plan's samples over the exact one, for data N(0, 0.5²): the plan is
    linear in the initial state and its normals, so that this takes no network and no samples."""
    diffusion = plan.sde.diffusion
    assert diffusion and not plan.has_tangents
    schedule = diffusion.schedule
    times = plan.times.detach()
    alphas, stds = (f(times).detach().numpy() for f in (schedule.alpha, schedule.std))
    gains = alphas * _DATA_STD**2 / (alphas**2 * _DATA_STD**2 + stds**2)  # D = gain · x
    rules = conversions(plan, Description(schedule, "data"))
    used = np.cumsum([0, *(noise.normals if noise else 0 for noise in plan.noises)])
    first, last = plan.grid[0].item(), plan.grid[-1].item()
    x = np.zeros(1 + int(used[-1]))
    x[0] = math.hypot(schedule.alpha(first) * _DATA_STD, schedule.std(first))
    anchor, values = x, {}
    for i, row in enumerate(plan.rows):
        if row.evaluates:
            on_x, on_output = rules[i].to_f
            values[i] = (float(on_x) + float(on_output) * gains[i]) * x, gains[i] * x
        state = float(row.scale) * anchor
        for j, weight in row.weights:
            other = plan.rows[j].prediction != row.prediction  # then the row takes the denoised
            state = state + float(weight) * values[j][int(other)]
        for k, coefficient in enumerate(row.noise):
            state[1 + used[row.substep] + k] += float(coefficient)
        x = state
        if plan.ends_substep[i]:
            anchor = x
    exact = math.hypot(schedule.alpha(last) * _DATA_STD, schedule.std(last))
    return float(np.linalg.norm(x)) / exact


def warn_of(plan: Plan) -> None:
    """Warn of a plan whose samples of Gaussian data are far too wide or too narrow."""
    if not plan.sde.diffusion or plan.has_tangents or len(plan.rows) > _MOST_ROWS:
        return
    ratio = std_ratio(plan)
    if 1.0 / TOLERATED <= ratio <= TOLERATED:
        return
    warnings.warn(
        f"{plan.solver!r} with {plan.steps} steps on {plan.sde} cannot be good: on Gaussian data "
        f"the standard deviation of its samples is {ratio:.3g} times that of the data. Take more "
        "steps, a solver with fewer stages or less history (for example 'dpmpp-2m-sde'), or "
        "form='data'.",
        PlanWarning,
        stacklevel=3,
    )
