"""The grid and the solver of who names none: one rule, and the same plan by every way in."""

import json
import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from toy_models import Recorder, wavy

from diffusion_adapters import VPAdapter
from diffusion_adapters.cli import main
from diffusion_adapters.diffusers import ExpIntScheduler
from diffusion_adapters.k_diffusion import sample_expint
from expint import begin_sampling, defaults, noise, plan_sampling, sample, schedules, solvers
from expint.convergence import gaussian_moments
from expint.schedules import EDM, IDDPM, VP, Discrete, Flow, Schedule
from expint.schedules.discrete import TabulatedVP
from expint.targets import Gaussian

ROOT = Path(__file__).resolve().parents[1]
SCHEDULES = {name: schedules.get(name) for name in schedules.names()} | {"table": Discrete()}
TABLES: dict[str, TabulatedVP] = {"discrete": Discrete(), "iddpm": IDDPM()}
STUDY = runpy.run_path(str(ROOT / "benchmarks" / "defaults.py"))
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_table = pytest.mark.parametrize("schedule", TABLES.values(), ids=TABLES)


def angles(schedule: Schedule, times: torch.Tensor) -> torch.Tensor:
    return torch.atan(schedule.sigma(times))


# The grid


@every_schedule
@pytest.mark.parametrize("steps", [2, 3, 5, 8, 10, 20, 50])
def test_angles_are_equal_to_zero(schedule: Schedule, steps: int):
    """With one evaluation a step, n equal steps lead from the first angle to 0: the last of those
    above 0 is a first n-th, if the data end is not above that."""
    times = defaults.grid(schedule, steps)
    found = angles(schedule, times)
    high, low = (math.atan(schedule.sigma(t)) for t in schedule.sampling_range)
    last = max(high / steps, low)
    expected = torch.linspace(high, last, steps, dtype=torch.float64)
    torch.testing.assert_close(found[:-1], expected, rtol=0, atol=1e-9)
    assert times[0] == schedule.sampling_range[0] and found[-1] == 0.0
    assert (found.diff() < 0).all() and times.dtype == torch.float64


@pytest.mark.parametrize("schedule", [EDM(), VP(), Flow()], ids=["edm", "vp", "flow"])
@pytest.mark.parametrize("name", ["seeds-2", "seeds-3", "pece-2", "etd-rk4", "seeds-ab3"])
@pytest.mark.parametrize("nfe", [9, 14, 31])
def test_the_last_angle_is_a_part_by_evaluations(schedule: Schedule, name: str, nfe: int):
    """Not by steps: 31 evaluations end as finely whatever the stages."""
    plan = plan_sampling(schedule, name, nfe=nfe)
    found = angles(schedule, plan.grid)
    assert found[-2].item() == pytest.approx(found[0].item() / plan.nfe, rel=1e-9)
    spread = found[:-1].diff()
    torch.testing.assert_close(spread, spread[:1].expand_as(spread), rtol=0, atol=1e-9)


@every_schedule
@pytest.mark.parametrize("final", ["denoise", "none"])
def test_it_never_goes_below_the_data_end(schedule: Schedule, final: str):
    """With so many evaluations that a first n-th lies below it, the end is the data end."""
    high, low = (math.atan(schedule.sigma(t)) for t in schedule.sampling_range)
    times = defaults.grid(schedule, math.ceil(1.2 * high / low), final=final)
    last = times[-2 if final == "denoise" else -1].item()
    assert last >= schedule.sampling_range[1]
    assert last == pytest.approx(schedule.sampling_range[1], rel=1e-9, abs=1e-12)
    assert (angles(schedule, times).diff() < 0).all()


@every_schedule
def test_without_a_denoising_step_the_range_is_used_up(schedule: Schedule):
    times = defaults.grid(schedule, 7, final="none")
    assert times.shape == (8,)
    ends = torch.tensor(schedule.sampling_range, dtype=torch.float64)
    torch.testing.assert_close(times[[0, -1]], ends, rtol=1e-12, atol=1e-12)
    steps = angles(schedule, times).diff()
    torch.testing.assert_close(steps, steps[:1].expand(7), rtol=0, atol=1e-9)


@every_schedule
def test_start_and_stop_are_honoured(schedule: Schedule):
    """Stop is the lowest time above σ = 0, where the rule alone would go lower."""
    first, low = schedule.t_of_sigma(3.0), schedule.t_of_sigma(0.9)
    times = defaults.grid(schedule, 6, start=first, stop=low)
    assert times[0].item() == first and times[-2].item() == pytest.approx(low, rel=1e-12)
    assert schedule.sigma(times[-1].item()) == 0.0
    times = defaults.grid(schedule, 6, start=first)
    expected = math.atan(3.0) * torch.arange(6, 0, -1, dtype=torch.float64) / 6
    torch.testing.assert_close(angles(schedule, times)[:-1], expected, rtol=0, atol=1e-9)


@every_table
@pytest.mark.parametrize("final", ["denoise", "none"])
def test_entries_of_a_table_are_distinct_and_inside(schedule: TabulatedVP, final: str):
    """For every number that fits; and none is further from the angle than others force it."""
    size, spare = schedule.steps, int(final == "none")
    for steps in (*range(2, 60), *range(60, size - spare + 1, 47), size - spare):
        times = defaults.grid(schedule, steps, table=True, final=final)
        entries = times if spare else times[:-1]
        assert torch.equal(entries, entries.round()) and len(entries.unique()) == steps + spare
        assert entries[0] == size - 1 and entries[-1] >= 0 and (entries.diff() < 0).all()
        if steps <= 20:
            wanted = defaults.grid(schedule, steps, final=final)[: len(entries)]
            assert (entries - wanted).abs().max() < 0.5 + steps


@every_table
def test_what_does_not_fit_into_a_table_is_refused(schedule: TabulatedVP):
    with pytest.raises(ValueError, match=r"of 1001 entries does not fit .* fewer steps"):
        defaults.grid(schedule, schedule.steps + 1, table=True)
    with pytest.raises(ValueError, match=r"of 12 entries does not fit .* from 10 on"):
        defaults.grid(schedule, 12, table=True, start=10.0)
    assert defaults.grid(schedule, 11, table=True, start=10.0)[:-1].tolist() == [*range(10, -1, -1)]
    with pytest.raises(ValueError, match="does not fit"):
        defaults.grid(schedule, 7, table=True, start=10.0, stop=5.0)


def test_a_table_is_kept_where_the_network_rounds_alone():
    """Behind the interface of EDM a network rounds σ, which is no entry of this schedule."""
    torch.testing.assert_close(defaults.grid(EDM(), 9, table=True), defaults.grid(EDM(), 9))


@pytest.mark.parametrize("steps", [1, 0, -3])
def test_too_few_steps_are_refused_as_by_every_grid(steps: int):
    with pytest.raises(ValueError, match=f"integer steps >= 2, got {steps}"):
        defaults.grid(VP(), steps)


# The solver


@pytest.mark.parametrize(
    ("options", "name", "ell"),
    [
        ({}, "seeds-ab2", 1.0),
        ({"nfe": 4}, "unipc-2", 0.0),
        ({"nfe": 8}, "unipc-2", 0.0),
        ({"nfe": 9}, "seeds-ab2", 1.0),
        ({"steps": 8}, "unipc-2", 0.0),
        ({"steps": 9}, "seeds-ab2", 1.0),
        ({"steps": 8, "grid": "karras"}, "unipc-2", 0.0),
        ({"grid": [0.9, 0.5, 0.1]}, "unipc-2", 0.0),
        ({"grid": torch.linspace(1.0, 0.1, 10)}, "seeds-ab2", 1.0),
        ({"nfe": 6, "ell": 1.0}, "seeds-ab2", 1.0),
        ({"nfe": 6, "ell": 0.3}, "seeds-ab2", 0.3),
        ({"nfe": 30, "ell": 0}, "unipc-2", 0.0),
        ({"nfe": 6, "ell": None}, "unipc-2", 0.0),
        ({"nfe": 6, "eta": 1.0}, "seeds-ab2", None),
        ({"nfe": 30, "eta": 0.0}, "unipc-2", None),
        ({"nfe": 6, "noise_scale": "exp-0.3"}, "seeds-ab2", None),
    ],
)
def test_by_evaluations_and_by_the_noise_that_is_asked_for(
    options: dict[str, Any], name: str, ell: float | None
):
    plan = plan_sampling(VP(), **options)
    assert plan.solver == name and plan.sde.diffusion is not None
    if ell is not None:
        assert plan.sde.diffusion.ell == ell


@pytest.mark.parametrize("given", [None, 0.0, 1.0])
def test_noise_that_is_given_is_used(given: float | None):
    """A source without a solver gives a stochastic run, unless ℓ says otherwise: by `sample` and by
    `begin_sampling`."""
    target = wavy(VP())
    run = {"steps": 5, "noise": noise.Gaussian([1, 2]), "seeds": [1, 2], "ell": given}
    expected = "unipc-2" if given == 0.0 else "seeds-ab2"
    begun = begin_sampling(target, (2, 2), **run)
    assert begun.plan.solver == expected and (begun.plan.normals == 0) == (given == 0.0)
    named = sample(target, (2, 2), expected, progress=False, **run)
    assert torch.equal(sample(target, (2, 2), progress=False, **run), named)
    assert torch.equal(begun.advance(), named)


def test_a_solver_that_is_named_is_taken():
    for solver in ("seeds-1", solvers.get("seeds-1"), solvers.get("seeds-1").tableau):
        assert plan_sampling(VP(), solver, nfe=6).solver == "seeds-1"


def test_the_defaults_are_registered_and_take_one_evaluation_a_step():
    """The scheduler relies on the second where it knows steps only."""
    for name in (defaults.FEW_SOLVER, defaults.SOLVER):
        assert plan_sampling(VP(), name, steps=12).nfe == 12
    assert defaults.ADAPTIVE in solvers.names()
    assert defaults.solver(defaults.FEW) != defaults.solver(defaults.FEW + 1)


# One rule


def of_the_command_line(schedule: str, steps: int) -> dict[str, Any]:
    result = CliRunner().invoke(
        main, ["plan", "--schedule", schedule, "--steps", str(steps), "--json"]
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", ["vp", "edm", "flow", "cosine"])
@pytest.mark.parametrize("steps", [2, 5, 8, 9, 20])
@pytest.mark.filterwarnings("ignore::expint.PlanWarning")
def test_the_same_plan_in_python_and_on_the_command_line(name: str, steps: int):
    schedule = schedules.get(name)
    plan = plan_sampling(schedule, steps=steps)
    assert of_the_command_line(name, steps) == json.loads(json.dumps(plan.to_dict()))
    recorded = Recorder(wavy(schedule))
    sample(recorded, (1, 2), steps=steps, progress=False)
    assert recorded.times == [row.time for row in plan.rows if row.evaluates]
    begun = begin_sampling(wavy(schedule), (1, 2), steps=steps)
    assert begun.plan.to_dict() == plan.to_dict()


@pytest.mark.parametrize("steps", [2, 5, 8, 9, 20, 50, 600])
def test_the_same_plan_for_a_table_behind_diffusers(steps: int):
    """A network on a table by `VPAdapter` and by the scheduler: equal times, rows and weights."""
    adapter = VPAdapter(lambda x, t: 0.1 * x, Discrete(), timesteps="round")
    plan = plan_sampling(adapter.schedule, steps=steps, round_time=adapter.round_time)
    scheduler = ExpIntScheduler(prediction_type="epsilon")
    scheduler.set_timesteps(steps)
    own = scheduler._plan
    assert own is not None
    assert own.solver == plan.solver and own.steps == plan.steps == steps
    torch.testing.assert_close(own.grid, plan.grid, rtol=0, atol=1e-9)
    called = [row.time for row in plan.rows if row.evaluates]
    assert [float(t) for t in scheduler.timesteps] == called


@pytest.mark.parametrize("steps", [5, 20])
def test_the_same_run_behind_k_diffusion(steps: int):
    """On the levels of the default grid, `sample_expint` takes the solver of `sample`."""
    target = wavy(EDM())
    sigmas = defaults.grid(EDM(), steps)

    def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return target(x, sigma[0])

    x = 80.0 * torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sample_expint(denoiser, x, sigmas, seeds=[1, 2], disable=True)
    expected = sample(target, x, steps=steps, seeds=[1, 2], progress=False)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_page_shows_the_figures_of_the_study():
    page = (ROOT / "docs" / "defaults.md").read_text(encoding="utf-8")
    _, _, shown = page.partition(STUDY["BEGIN"])
    assert shown.partition(STUDY["END"])[0] == STUDY["page_table"]()


SHIPPED = ("digits-edm", "digits-iddpm", "digits-ve", "digits-vp", "mnist-edm")
OTHERS = ("digits-iddpm-table", "digits-vp-table", "digits-flow")


@pytest.mark.parametrize("name", SHIPPED + OTHERS)
@pytest.mark.parametrize("nfe", [5, 8, 10, 20])
def test_no_plan_of_the_study_is_better_than_the_default_by_more_than_noise(name: str, nfe: int):
    """Nor a scheduler of diffusers: by more than a tenth, and than the floor of one run."""
    found = STUDY["load_file"]()[name]
    kinds = STUDY["by_nfe_of"](found)[nfe]
    best = min(value for each in kinds.values() for value, _ in each)
    assert len(kinds["study"]) >= 3
    assert kinds["default"][0][0] <= max(1.1 * best, best + max(found["floor"][1:]))


@pytest.mark.parametrize("name", ["digits-iddpm-table", "digits-vp-table"])
@pytest.mark.parametrize("nfe", [5, 6, 8, 10, 15, 20, 30, 50])
def test_a_swapped_scheduler_is_not_worse_than_any_of_theirs_by_more_than_noise(
    name: str, nfe: int
):
    """With the configuration of one of them, and nothing chosen."""
    found = STUDY["load_file"]()[name]
    kinds = STUDY["by_nfe_of"](found)[nfe]
    best = kinds["diffusers"][0][0]
    assert len(kinds["diffusers"]) == 3
    assert kinds["swapped"][0][0] <= max(1.1 * best, best + max(found["floor"][1:]))


@pytest.mark.parametrize("evaluations", [defaults.MANY, 60, 100])
@pytest.mark.parametrize("variance", [0.04, 0.25, 1.0])
def test_with_many_evaluations_several_stages_are_nearer_to_the_law(
    variance: float, evaluations: int
):
    """Exactly, on Gaussian data: what docs/defaults.md says of the third default solver."""
    target = Gaussian([0.7], [variance], EDM())

    def error(name: str) -> float:
        plan = plan_sampling(EDM(), name, nfe=evaluations)
        return abs(float(gaussian_moments(plan, target)[1]) / variance - 1.0)

    several, one = (error(name) for name in (defaults.MANY_SOLVER, defaults.SOLVER))
    assert several < 0.5 * one
    if (variance, evaluations) == (0.25, 30):
        assert (round(several, 3), round(one, 3)) == (0.016, 0.126)
