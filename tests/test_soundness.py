"""Plans that cannot be good are told by what they make of Gaussian data."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from expint import Adaptive, sample, solvers
from expint.convergence import gaussian_moments
from expint.default_plan import default_for
from expint.gaussian_data import exact_moments
from expint.sampling import plan_sampling
from expint.schedules import EDM, VP, Discrete, Flow, FromCallables
from expint.soundness import PlanWarning, verdict, warn_of
from expint.targets import Gaussian

ROOT = Path(__file__).resolve().parents[1]
SCHEDULES = {"edm": EDM(), "vp": VP(), "flow": Flow()}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "solver",
    ["seeds-3", "seeds-sra", "seeds-ab3", "unipc-2", "pece-2", "edm-stochastic", "pc-sampler",
     "dpm2-ancestral", "euler-maruyama", "er-sde-3", "deis-tab3", "pndm"],
)  # fmt: skip
def test_the_moments_are_exact(solver: str, schedule: str):
    own = SCHEDULES[schedule]
    plan = plan_sampling(own, solver, nfe=14)
    mean, variance = gaussian_moments(plan, Gaussian([1.0], [0.25], own))
    ((ratio,), (bias,)) = exact_moments(plan, [0.5])
    assert ratio == pytest.approx(math.sqrt(float(variance)) / 0.5, rel=1e-9)
    assert bias == pytest.approx((float(mean) - 1.0) / 0.5, rel=1e-6, abs=1e-9)


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
    """The first has a standard deviation of 2.5 for 0.5, the last one of 0.28 for 1; the form of
    the third is exact for 0.5 = σ_data, and not for others."""
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


MORE = {
    "etd-rk4-ho": 60, "etd-rk4": 40, "euler-maruyama": 60, "pc-sampler": 100,
    "reverse-diffusion": 100, "heun-sde": 100,
}  # fmt: skip
"""24 evaluations are too few for these: on digits-edm pc-sampler and reverse-diffusion are then 71
and 6 times as far from the law as seeds-ab2 (in the Fréchet distance of 1000 samples); heun-sde is
explicit."""


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ordinary_runs_are_not(schedule: str):
    target = Gaussian([0.7], [0.25], SCHEDULES[schedule])
    with warnings.catch_warnings():
        warnings.simplefilter("error", PlanWarning)
        for solver in solvers.names():
            if schedule == "flow" and solver in ("pc-sampler", "reverse-diffusion"):
                continue  # their mean is off by a tenth at 60 to 100 evaluations still
            sample(target, (2, 1), solver, nfe=MORE.get(solver, 24), progress=False)


@pytest.mark.parametrize("nfe", [5, 6, 8, 10, 15, 20, 30, 50])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_default_is(schedule: str, nfe: int):
    assert verdict(plan_sampling(SCHEDULES[schedule], nfe=nfe))[0] < 1.0


def figures() -> list[tuple[str, int, dict[str, float]]]:
    """Network, evaluations, and per solver by how much its distance is that of the best, or the
    floor where this is more."""
    content = json.loads((ROOT / "benchmarks" / "every_solver.json").read_text(encoding="utf-8"))
    found = []
    for network, own in content.items():
        for nfe in own.keys() - {"floor"}:
            known = {name: value for name, value in own[nfe].items() if value is not None}
            best = max(min(known.values()), own["floor"])
            found.append((network, int(nfe), {name: d / best for name, d in known.items()}))
    return found


def is_told(solver: str, network: str, nfe: int) -> bool:
    times = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    table = Discrete(VP().alpha(times) ** 2)  # that of the benchmark
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if network == "digits-edm":
            warn_of(plan_sampling(EDM(), solver, nfe=nfe))
        else:
            warn_of(plan_sampling(table, solver, nfe=nfe, round_time=table.round))
    return bool(caught)


def test_every_solver_that_is_three_times_worse_on_a_network_is_told_and_no_good_one():
    """By the figures of `benchmarks/every_solver.py`. A good solver is within twice the best on
    both networks, at that number of evaluations."""
    worst: dict[tuple[str, int], float] = {}
    told: dict[tuple[str, int], bool] = {}
    for network, nfe, ratios in figures():
        assert len(ratios) > 30 and nfe >= 8
        for solver, ratio in ratios.items():
            key, warned = (solver, nfe), is_told(solver, network, nfe)
            assert warned or ratio <= 3.0, (network, *key, ratio)
            worst[key] = max(ratio, worst.get(key, 0.0))
            told[key] = warned or told.get(key, False)
    assert sum(told.values()) > 15
    assert not [key for key, warned in told.items() if warned and worst[key] < 2.0]


def test_the_better_choice_is_named():
    plan = plan_sampling(EDM(), "heun", nfe=9)
    with pytest.warns(PlanWarning, match="'heun' .* Take 'seeds-ab2', the default for 9 ev"):
        warn_of(plan)
    assert default_for(plan).to_dict() == plan_sampling(EDM(), nfe=9).to_dict()
    least = plan_sampling(EDM(), nfe=3)
    with pytest.warns(PlanWarning, match=r"Take more steps\.$"):
        warn_of(least)
    outside = plan_sampling(EDM(), "heun", grid=[200.0, 1.0, 0.3, 0.0])
    with pytest.warns(PlanWarning, match=r"Take more steps\.$"):
        warn_of(outside)


@pytest.mark.parametrize("schedule", ["edm", "vp"])
def test_five_stages_of_the_noise_form_take_more_evaluations(schedule: str):
    """24 evaluations are 5 steps of 'etd-rk4-ho', the first of them long in λ: a standard deviation
    2.6 (EDM) or 7.6 (VP) times as large. This solver is not ordinary at so few."""
    with pytest.warns(PlanWarning, match="'etd-rk4-ho' with 5 steps"):
        warn_of(plan_sampling(SCHEDULES[schedule], "etd-rk4-ho", nfe=24))
