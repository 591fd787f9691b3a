"""Whether a plan can be good: what it makes of Gaussian data, whose law is known, beside what the
default plan makes of them."""

import math
from contextlib import suppress
from weakref import WeakSet

from expint.default_plan import default_for
from expint.gaussian_data import exact_moments
from expint.guards.warning import warn
from expint.plans import Plan

TOLERATED = {0.5: 1.27, 1.0: 1.5, 2.0: 1.75}
"""By what factor the standard deviation of samples may be off, for that of the data (not that of
a preconditioned network, whose form is exact there): between those of the solvers that are more
than three times as far from the law of a network as the best, at 8 to 24 evaluations, and those of
the others (`benchmarks/every_solver.py`)."""
BIAS = 0.03
"""Likewise the error of the mean of data of mean 1, over their standard deviation, 0.5."""
_MOST_ROWS = 400
"""Plans with more rows have steps that are short enough."""
_told: "WeakSet[Plan]" = WeakSet()


class PlanWarning(UserWarning):
    """A plan cannot give good samples."""


def factor(ratio: float) -> float:
    """By what factor a ratio is off, either way."""
    return max(ratio, 1.0 / ratio) if 0.0 < ratio < math.inf else math.inf


def verdict(plan: Plan) -> tuple[float, str]:
    """How far a plan is off, 1 being what is tolerated, and by what."""
    ratios, biases = exact_moments(plan, list(TOLERATED))
    found = [(abs(biases[0]) / BIAS, f"0.5 their mean is off by {abs(biases[0]):.2g} of it")]
    for (std, most), ratio in zip(TOLERATED.items(), ratios, strict=True):
        off = math.log(factor(ratio)) / math.log(most)
        found.append((off, f"{std:g} that of its samples is {ratio:.3g} times as large"))
    return max((off if off < math.inf else math.inf, what) for off, what in found)


def warn_of(plan: Plan) -> None:
    """Warn, once, of a plan that cannot give good samples, naming a better one."""
    # Tuned plans were measured, and a method with ℓ = ∞ is for consistency models.
    known = plan in _told or "distance" in plan.about or plan.method.ell == math.inf
    if known or not plan.sde.diffusion or plan.has_tangents or len(plan.rows) > _MOST_ROWS:
        return
    _told.add(plan)
    off, what = verdict(plan)
    # With an explicit drift, samples of networks are wrong by more than Gaussian ones tell.
    if off <= (1.0 if plan.sde.diffusion.rate is None else 2.0 / 3.0):
        return
    advice = "more steps"
    with suppress(ValueError):
        other = default_for(plan)
        if verdict(other)[0] < off:
            advice = f"{other.solver!r}, the default for {plan.nfe} evaluations, or {advice}"
    warn(
        f"{plan.solver!r} with {plan.steps} steps on {plan.sde} cannot be good: on Gaussian data "
        f"of standard deviation {what}. Take {advice}.",
        PlanWarning,
    )
