"""Whether a plan can be good: what it makes of Gaussian data, whose law is known."""

import math
from collections.abc import Callable
from weakref import WeakSet

import numpy as np
from torch import Tensor

from expint.guards.warning import warn
from expint.plans import Plan
from expint.plans.plan import Coefficient
from expint.runs import Description
from expint.runs.conversions import conversions

_DATA_STDS = (0.25, 1.0)
"""Of the data that are tried. Not that of a preconditioned network, whose form is exact there."""
_MOST_ROWS = 400
"""Plans with more rows have steps that are short enough."""
TOLERATED = 2.0
"""Beyond this factor between the standard deviation of samples and of data there is a warning: no
solver at its own form and ℓ is so far off from 24 evaluations on (`benchmarks/soundness.py`)."""


class PlanWarning(UserWarning):
    """A plan cannot give good samples."""


def std_ratio(plan: Plan, data_std: float) -> float:
    """Standard deviation of the plan's samples over the exact one, for data N(0, data_std²): the
    plan is linear in the initial state and its normals, so that this takes no network and no
    samples."""
    diffusion = plan.sde.diffusion
    assert diffusion and not plan.has_tangents
    schedule = diffusion.schedule
    times = plan.times.detach()
    alphas, stds = (f(times).detach().numpy() for f in (schedule.alpha, schedule.std))
    gains = alphas * data_std**2 / (alphas**2 * data_std**2 + stds**2)  # D = gain · x
    rules = conversions(plan, Description(schedule, "data"))
    used = np.cumsum([0, *(noise.normals if noise else 0 for noise in plan.noises)])
    first, last = plan.grid[0].item(), plan.grid[-1].item()
    x = np.zeros(1 + int(used[-1]))
    x[0] = math.hypot(schedule.alpha(first) * data_std, schedule.std(first))
    anchor, values = x, {}
    for i, row in enumerate(plan.rows):
        if row.evaluates:
            on_x, on_output = rules[i].to_f
            values[i] = (_number(on_x) + _number(on_output) * gains[i]) * x, gains[i] * x
        state = _number(row.scale) * anchor
        for j, weight in row.weights:
            other = plan.rows[j].prediction != row.prediction  # then the row takes the denoised
            state = state + _number(weight) * values[j][int(other)]
        for k, coefficient in enumerate(row.noise):
            state[1 + used[row.substep] + k] += _number(coefficient)
        x = state
        if plan.ends_substep[i]:
            anchor = x
    exact = math.hypot(schedule.alpha(last) * data_std, schedule.std(last))
    return float(np.linalg.norm(x)) / exact


def _number(value: Coefficient) -> float:
    return value.item() if isinstance(value, Tensor) else value  # float() warns of gradients


def factor(ratio: float) -> float:
    """By what factor a ratio is off, either way."""
    return max(ratio, 1.0 / ratio) if 0.0 < ratio < math.inf else math.inf


def _of_width(plan: Plan) -> str | None:
    """The standard deviation of samples that is furthest from that of the data, if it is far."""
    if plan.has_tangents or len(plan.rows) > _MOST_ROWS:
        return None
    ratios = {std: std_ratio(plan, std) for std in _DATA_STDS}
    std, ratio = max(ratios.items(), key=lambda item: factor(item[1]))
    if factor(ratio) <= TOLERATED:
        return None
    return (
        f"on Gaussian data of standard deviation {std:g} that of its samples is {ratio:.3g} times "
        "as large. Take more steps, a solver with fewer stages or less history (for example "
        "'dpmpp-2m-sde'), or form='data'."
    )


REASONS: tuple[Callable[[Plan], str | None], ...] = (_of_width,)
"""Each says why a diffusion plan cannot be good and what to do, or returns None."""
_told: "WeakSet[Plan]" = WeakSet()


def warn_of(plan: Plan) -> None:
    """Warn, once, of a plan that cannot give good samples, with the first of the `REASONS`."""
    if not plan.sde.diffusion or plan in _told:
        return
    _told.add(plan)
    reason = next(filter(None, (of(plan) for of in REASONS)), None)
    if reason:
        warn(
            f"{plan.solver!r} with {plan.steps} steps on {plan.sde} cannot be good: {reason}",
            PlanWarning,
        )
