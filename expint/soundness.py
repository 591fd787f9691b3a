"""Whether a plan can be good: what it makes of Gaussian data, whose law is known."""

import math
from collections.abc import Sequence
from weakref import WeakSet

import torch

from expint.guards.warning import warn
from expint.noise import Replay
from expint.plans import Plan
from expint.runs import Run, drive

_DATA_STDS = (0.25, 1.0)
"""Of the data that are tried. Not that of a preconditioned network, whose form is exact there."""
_MOST_ROWS = 400
"""Plans with more rows have steps that are short enough."""
TOLERATED = 2.0
"""Beyond this factor between the standard deviation of samples and of data there is a warning. At
its own form and ℓ no solver is so far off from 24 evaluations on, but etd-rk4-ho up to 35 of them,
and by a hundredth seeds-ab4 near 40 (`benchmarks/soundness.py`)."""
_told: "WeakSet[Plan]" = WeakSet()


class PlanWarning(UserWarning):
    """A plan cannot give good samples."""


def std_ratios(plan: Plan, data_stds: Sequence[float]) -> list[float]:
    """Standard deviation of the plan's samples over the exact one, for data N(0, data_std²): the
    plan is linear in the initial state and its normals, so that one run, with one of them in each
    entry of the batch, takes no network and no samples."""
    from expint.targets import Gaussian  # `import expint` does without

    diffusion = plan.sde.diffusion
    assert diffusion and not plan.has_tangents
    d = len(data_stds)
    data = Gaussian([0.0] * d, [std**2 for std in data_stds], diffusion.schedule)
    units = torch.eye(plan.normals + 1, dtype=torch.float64)[..., None].expand(-1, -1, d)
    (_, first), (_, last) = data.moments(plan.grid[0]), data.moments(plan.grid[-1])
    run = Run(plan, data, units[-1] * first.sqrt(), Replay(units), checked=False)
    drive(run, data)  # with gradients, which what the plan computes once must keep
    return (run.x.norm(dim=0) / last.sqrt()).tolist()


def factor(ratio: float) -> float:
    """By what factor a ratio is off, either way."""
    return max(ratio, 1.0 / ratio) if 0.0 < ratio < math.inf else math.inf


def warn_of(plan: Plan) -> None:
    """Warn, once, of a plan that cannot give good samples."""
    if not plan.sde.diffusion or plan.has_tangents or len(plan.rows) > _MOST_ROWS or plan in _told:
        return
    _told.add(plan)
    found = zip(_DATA_STDS, std_ratios(plan, _DATA_STDS), strict=True)
    std, ratio = max(found, key=lambda item: factor(item[1]))
    if factor(ratio) > TOLERATED:
        warn(
            f"{plan.solver!r} with {plan.steps} steps on {plan.sde} cannot be good: on Gaussian "
            f"data of standard deviation {std:g} that of its samples is {ratio:.3g} times as large."
            " Take more steps, a solver with fewer stages or less history (for example "
            "'dpmpp-2m-sde'), or form='data'.",
            PlanWarning,
        )
