"""Runs of a given plan: `sample`, `begin_sampling` and `continue_sampling` with plan=."""

from pathlib import Path
from typing import Any

import pytest
import torch

import expint
from expint import Plan, begin_sampling, continue_sampling, plan_sampling, sample
from expint.plans import extrapolated
from expint.plans.file_format import plan_text
from expint.plans.plan_files import plan_content
from expint.schedules import EDM, VP, Discrete
from expint.targets import Gaussian

SCHEDULE = VP()
TARGET = Gaussian([1.0, -2.0], [0.25, 1.0], SCHEDULE)
RUN: dict[str, Any] = {"seed": 3, "dtype": torch.float64}
QUIET: dict[str, Any] = {**RUN, "progress": False}


def tuned(schedule: Any = SCHEDULE) -> Plan:
    plan = plan_sampling(schedule, "seeds-ab2", steps=6, ell=[1.0, 0.4, 0.7, 0.0, 0.3])
    return extrapolated(plan, [1.0, 0.8, 1.1, 0.9, 0.2, 1.0])


class Untouched:
    """A model that must not be called."""

    prediction = "data"

    def __init__(self, schedule: Any):
        self.schedule = schedule

    def __call__(self, x: Any, t: Any) -> Any:
        raise AssertionError("called")


def test_a_plan_of_the_usual_arguments_gives_their_samples(tmp_path: Path):
    usual = sample(TARGET, (4, 2), "seeds-3", steps=5, ell=0.7, **QUIET)
    plan = plan_sampling(SCHEDULE, "seeds-3", steps=5, ell=0.7)
    plan.save(tmp_path / "plan.json")
    for given in (
        plan,
        tmp_path / "plan.json",
        str(tmp_path / "plan.json"),
        plan_content(plan),
        plan_text(plan_content(plan)),
    ):
        assert torch.equal(sample(TARGET, (4, 2), plan=given, **QUIET), usual)


def test_a_tuned_plan_is_run_as_it_is(tmp_path: Path):
    plan = tuned()
    plan.save(tmp_path / "plan.json")
    by_hand = expint.execute(
        plan, TARGET, sample(TARGET, (4, 2), plan=plan, **QUIET).new_ones(4, 2),
        expint.noise.Gaussian(range(4)),
    )  # fmt: skip
    given = sample(
        TARGET, torch.ones(4, 2, dtype=torch.float64), plan=tmp_path / "plan.json",
        noise=expint.noise.Gaussian(range(4)), progress=False,
    )  # fmt: skip
    assert torch.equal(given, by_hand)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("solver", "seeds-1"), ("steps", 5), ("nfe", 5), ("grid", "karras"), ("form", "data"),
        ("grid", torch.tensor([1.0, 0.1])), ("ell", 0.0), ("ell", [1.0] * 5), ("eta", 0.3),
        ("noise_scale", "log"), ("final", "denoise"), ("operations", [expint.solvers.churn(3.0)]),
        ("steps", expint.Adaptive()),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_the_plan_fixes_is_refused_by_name(name: str, value: Any):
    runs = [sample, begin_sampling]
    for run in runs if not isinstance(value, expint.Adaptive) else runs[:1]:
        quiet = {"progress": False} if run is sample else {}
        with pytest.raises(ValueError, match=f"plan= fixes .* leave out {name}, or the plan"):
            run(Untouched(SCHEDULE), (4, 2), plan=tuned(), **{name: value}, **quiet)


def test_no_operations_are_none():
    plan = tuned()
    assert plan_sampling(SCHEDULE, plan=plan, operations=[], steps=None) is plan


@pytest.mark.parametrize("wrong", [3, True, [tuned()], Plan, "", "no.json", {}, b"x"], ids=type)
def test_what_is_no_plan_is_refused(wrong: Any):
    with pytest.raises((ValueError, TypeError), match=r"plan"):
        sample(Untouched(SCHEDULE), (4, 2), plan=wrong, progress=False)


def test_the_schedule_must_be_the_models(tmp_path: Path):
    plan = tuned()
    plan.save(tmp_path / "plan.json")
    for other in (EDM(), VP(beta_d=19.0), Discrete()):
        with pytest.raises(ValueError, match=r"plan is for the schedule VP.* but the model has"):
            sample(Untouched(other), (4, 2), plan=plan, progress=False)
        with pytest.raises(ValueError, match=r"plan in .* it is for the schedule VP"):
            sample(Untouched(other), (4, 2), plan=tmp_path / "plan.json", progress=False)


def test_a_table_must_have_the_times_of_the_plan():
    schedule = Discrete()
    model = Untouched(schedule)
    model.round_time = schedule.round  # pyright: ignore[reportAttributeAccessIssue]
    between = plan_sampling(schedule, "seeds-3", steps=5)
    with pytest.raises(ValueError, match=r"calls the network at t = .* called on a table only"):
        sample(model, (4, 2), plan=between, progress=False)
    entries = plan_sampling(schedule, "seeds-3", steps=5, round_time=schedule.round)
    with pytest.raises(AssertionError, match="called"):
        sample(model, (4, 2), plan=entries, progress=False)


def test_a_plan_for_another_equation_is_refused():
    process = expint.SemiLinearSDE.from_coefficients(-1.0, span=(0.0, 2.0))
    plan = expint.compile_plan(process, "seeds-1", [0.0, 2.0])
    with pytest.raises(ValueError, match="not a diffusion model's equation"):
        sample(Untouched(SCHEDULE), (4, 2), plan=plan, progress=False)


def test_a_run_of_a_plan_goes_on(tmp_path: Path):
    plan = tuned()
    plan.save(tmp_path / "plan.json")
    whole = sample(TARGET, (4, 2), plan=plan, **QUIET)
    run = begin_sampling(TARGET, (4, 2), plan=tmp_path / "plan.json", **RUN)
    run.advance(3)
    run.save(tmp_path / "run.safetensors")
    further = continue_sampling(tmp_path / "run.safetensors", TARGET, plan=plan, **RUN)
    assert further.nfe == 3 and torch.equal(further.advance(), whole)
    other = extrapolated(plan, [1.0, 1.0, 1.0, 1.0, 0.9, 1.0])
    with pytest.raises(ValueError, match="another plan"):
        continue_sampling(tmp_path / "run.safetensors", TARGET, plan=other, **RUN)
