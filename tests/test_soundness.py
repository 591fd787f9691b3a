"""Plans that cannot be good are told by what they make of Gaussian data."""

import math
import warnings
from typing import Any

import pytest
import torch

from expint import Adaptive, sample, solvers
from expint.convergence import gaussian_moments
from expint.sampling import plan_sampling
from expint.schedules import EDM, VP, Flow, FromCallables
from expint.soundness import PlanWarning, std_ratios, warn_of
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
    (ratio,) = std_ratios(plan, [0.5])
    assert ratio == pytest.approx(math.sqrt(float(variance)) / 0.5, rel=1e-9)


def test_what_blows_up_is_told_before_it_runs():
    """The noise form at ℓ = 1 with 12 evaluations: a standard deviation of thousands."""
    target = Gaussian([0.7], [0.25], EDM())
    with pytest.warns(PlanWarning, match=r"'seeds-3' with 4 steps on .*noise form.* cannot be"):
        sample(
            target, (2, 1), "seeds-3", form="noise", grid="uniform_lambda", nfe=12, progress=False
        )
    with pytest.warns(PlanWarning, match="'etd-rk4' with"):
        sample(target, (2, 1), "etd-rk4", nfe=8, progress=False)


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("unipc-3", {"form": "data", "ell": 3.0, "nfe": 9}),
        ("heun", {"nfe": 8}),
        ("lms", {"form": "precond", "ell": 1.0, "nfe": 12}),
        ("seeds-1", {"nfe": 4}),
    ],
)
def test_what_is_off_by_a_factor_of_two_is_told(solver: str, options: dict[str, Any]):
    """The first has a standard deviation of 2.5 for 0.5, the third one of 4 for 0.25 (at σ_data =
    0.5 its form is exact), the last one of 0.28 for 1."""
    with pytest.warns(PlanWarning, match="cannot be good") as caught:
        warn_of(plan_sampling(EDM(), solver, sigma_data=0.5, **options))
    assert [warning.filename for warning in caught] == [__file__]


def test_a_learned_schedule_leaks_no_warning_of_torch():
    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    learned = FromCallables(
        lambda t: torch.exp(-rate * t),
        lambda t: torch.sqrt(-torch.expm1(-2.0 * rate * t)),
        (1e-3, 5.0),
    )
    target = Gaussian([0.7], [0.25], learned)
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else it comes once in a process
    try:
        for solver in ("seeds-3", "heun", "unipc-2"):
            sample(target, (2, 1), solver, steps=10, progress=False)
        sample(target, (2, 1), steps=Adaptive(), progress=False)
    finally:
        torch.set_warn_always(always)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ordinary_runs_are_not(schedule: str):
    target = Gaussian([0.7], [0.25], SCHEDULES[schedule])
    with warnings.catch_warnings():
        warnings.simplefilter("error", PlanWarning)
        for solver in solvers.names():
            nfe = 40 if solver == "etd-rk4-ho" else 24
            sample(target, (2, 1), solver, nfe=nfe, progress=False)


@pytest.mark.parametrize("schedule", ["edm", "vp"])
def test_five_stages_of_the_noise_form_take_more_evaluations(schedule: str):
    """24 evaluations are 5 steps of 'etd-rk4-ho', the first of them long in λ: a standard deviation
    2.6 (EDM) or 7.6 (VP) times as large. This solver is not ordinary at so few."""
    with pytest.warns(PlanWarning, match="'etd-rk4-ho' with 5 steps"):
        warn_of(plan_sampling(SCHEDULES[schedule], "etd-rk4-ho", nfe=24))
