"""Plans that cannot be good are told by what they make of Gaussian data."""

import math
import warnings

import pytest

from expint import sample, solvers
from expint.convergence import gaussian_moments
from expint.sampling import plan_sampling
from expint.schedules import EDM, VP, Flow
from expint.soundness import PlanWarning, std_ratio
from expint.targets import Gaussian

SCHEDULES = {"edm": EDM(), "vp": VP(), "flow": Flow()}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "solver",
    ["seeds-3", "seeds-sra", "seeds-ab3", "unipc-2", "pece-2", "edm-stochastic", "pc-sampler",
     "dpm2-ancestral", "euler-maruyama", "er-sde-3", "deis-tab3", "pndm"],
)  # fmt: skip
def test_the_ratio_is_that_of_the_exact_moments(solver: str, schedule: str):
    own = SCHEDULES[schedule]
    plan = plan_sampling(own, solver, nfe=14)
    _, variance = gaussian_moments(plan, Gaussian([0.0], [0.25], own))
    assert std_ratio(plan) == pytest.approx(math.sqrt(float(variance)) / 0.5, rel=1e-9)


def test_what_blows_up_is_told_before_it_runs():
    """The noise form at ℓ = 1 with 12 evaluations: a standard deviation of thousands."""
    target = Gaussian([0.7], [0.25], EDM())
    with pytest.warns(
        PlanWarning, match=r"'seeds-3' with 4 steps on .*noise form.* cannot be good"
    ):
        sample(target, (2, 1), form="noise", nfe=12, progress=False)
    with pytest.warns(PlanWarning, match="'etd-rk4' with"):
        sample(target, (2, 1), "etd-rk4", nfe=8, progress=False)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ordinary_runs_are_not(schedule: str):
    target = Gaussian([0.7], [0.25], SCHEDULES[schedule])
    with warnings.catch_warnings():
        warnings.simplefilter("error", PlanWarning)
        for solver in solvers.names():
            sample(target, (2, 1), solver, nfe=24, progress=False)
