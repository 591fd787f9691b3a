"""`ExpIntScheduler(plan=...)`: a plan in place of the solver and its steps."""

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tiny_pipelines import KINDS
from torch import Tensor

import expint
from diffusion_adapters.diffusers import ExpIntScheduler
from expint import Plan
from expint.plans import extrapolated
from expint.plans.plan_files import plan_content
from expint.schedules import VP, Discrete, Flow, scaled_linear_betas

torch.set_num_threads(1)
SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
TABLE = Discrete.from_betas(scaled_linear_betas())
FLOW: dict[str, Any] = {"prediction_type": "flow_prediction", "shift": 2.0}


def tuned(schedule: Any = TABLE, solver: str = "seeds-3", **options: Any) -> Plan:
    steps = 5
    grid = expint.plan_sampling(schedule, solver, steps=steps).grid
    count = int(torch.isfinite(schedule.lam(grid)).sum()) - 1
    options = {"ell": [1.0, 0.4, 0.7, 0.0, 0.3][:count], "round_time": TABLE.round} | options
    plan = expint.plan_sampling(schedule, solver, grid=grid, **options)
    return extrapolated(plan, [1.0, 0.8, 1.1, 0.9, 0.2])


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def net(x: Tensor, t: Any) -> Tensor:
    return 0.3 * torch.tanh(x) + 0.001 * float(t)


def loop(scheduler: Any, x: Tensor, steps: int | None = None) -> Tensor:
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(1)
    for t in scheduler.timesteps:
        x = scheduler.step(net(x, t), t, x, generator=generator).prev_sample
    return x


def test_the_scheduler_runs_the_plan(tmp_path: Path):
    """Against `execute` of the plan itself, with the generator's normals."""
    plan, x = tuned(), normals(2, 3, 4, 4)
    plan.save(tmp_path / "plan.json")
    scheduler = ExpIntScheduler(**SD, plan=tmp_path / "plan.json")
    got = loop(scheduler, x, 5)
    assert scheduler.timesteps.dtype == torch.int64
    assert torch.equal(scheduler.timesteps.double(), plan.times)
    assert scheduler.num_inference_steps == 5 and scheduler.order == 3

    class Model:
        schedule, prediction = TABLE, "noise"

        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            return net(x, t)

    generator = torch.Generator().manual_seed(1)
    drawn = [torch.empty(2, 3, 4, 4).normal_(generator=generator) for _ in range(plan.normals)]
    expected = expint.execute(plan, Model(), x, expint.noise.Replay(torch.stack(drawn)))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_all_ways_to_give_a_plan(tmp_path: Path):
    plan, x = tuned(), normals(2, 3, 4, 4)
    path = tmp_path / "plan.json"
    plan.save(path)
    schedulers = [ExpIntScheduler(**SD, plan=each) for each in (plan, path, str(path))]
    schedulers.append(ExpIntScheduler(**SD, plan=plan_content(plan)))
    theirs = diffusers.DDIMScheduler(**SD, timestep_spacing="leading", clip_sample=False)
    schedulers.append(ExpIntScheduler.from_config(theirs.config, plan=path))
    other = ExpIntScheduler(**SD, solver="seeds-2", ell=0.3, grid="karras", final="none")
    schedulers.append(ExpIntScheduler.from_config(other.config, plan=path))
    first = loop(schedulers[0], x)
    for scheduler in schedulers:
        assert torch.equal(loop(scheduler, x, 5), first)


@pytest.mark.parametrize("kind", ["table", "flow"])
def test_a_configuration_holds_the_plan(kind: str, tmp_path: Path):
    """Through a folder, a configuration, a copy and a pickle; the plan's own file may be gone."""
    options = SD if kind == "table" else FLOW
    plan = tuned() if kind == "table" else tuned(Flow(), "seeds-ab2", round_time=None)
    plan.save(tmp_path / "plan.json", network="tiny")
    scheduler, x = ExpIntScheduler(**options, plan=tmp_path / "plan.json"), normals(2, 3, 4, 4)
    expected = loop(scheduler, x)
    (tmp_path / "plan.json").unlink()
    scheduler.save_pretrained(tmp_path)
    held = json.loads((tmp_path / "scheduler_config.json").read_text(encoding="utf-8"))["plan"]
    assert held["about"] == {"network": "tiny"} and held == scheduler.config["plan"]
    for other in (
        ExpIntScheduler.from_pretrained(tmp_path),
        ExpIntScheduler.from_config(scheduler.config),
        copy.deepcopy(scheduler),
        pickle.loads(pickle.dumps(scheduler)),
    ):
        assert torch.equal(loop(other, x), expected)
    back = ExpIntScheduler.from_config(scheduler.config, plan=None, solver="seeds-1")
    back.set_timesteps(7)
    assert len(back.timesteps) == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("solver", "seeds-2"), ("solver_options", {"c": 0.5}), ("operations", ["churn(s_churn=4)"]),
        ("form", "data"), ("ell", 0.5), ("eta", 0.5), ("noise_scale", "log"), ("grid", "karras"),
        ("steps_offset", 1), ("final", "none"),
    ],
)  # fmt: skip
def test_what_the_plan_fixes_is_refused(name: str, value: Any):
    with pytest.raises(ValueError, match=f"leave out {name}, or the plan"):
        ExpIntScheduler(**SD, plan=tuned(), **{name: value})
    with pytest.raises(ValueError, match=f"leave out {name}, or the plan"):
        ExpIntScheduler.from_config(ExpIntScheduler(**SD).config, plan=tuned(), **{name: value})


def test_steps_of_ones_own_are_refused():
    scheduler = ExpIntScheduler(**SD, plan=tuned())
    with pytest.raises(ValueError, match=r"has 5 steps \(13 evaluations\): give num_inference_ste"):
        scheduler.set_timesteps(13)
    for name in ("timesteps", "sigmas"):
        with pytest.raises(ValueError, match=f"leave out {name}"):
            scheduler.set_timesteps(**{name: [10.0, 5.0, 1.0]})


def test_a_plan_begins_at_its_beginning():
    scheduler, x = ExpIntScheduler(**SD, plan=tuned()), normals(2, 3, 4, 4)
    scheduler.set_timesteps(5)
    scheduler.set_begin_index(3)
    with pytest.raises(ValueError, match="from its first evaluation on, not from 3: give strength"):
        scheduler.step(net(x, 3), scheduler.timesteps[3], x)
    scheduler.set_begin_index(0)
    scheduler.step(net(x, 3), scheduler.timesteps[0], x)


def test_a_plan_that_does_not_fit_is_refused_at_once(tmp_path: Path):
    plan = tuned()
    plan.save(tmp_path / "plan.json")
    for wrong in (plan, tmp_path / "plan.json"):
        with pytest.raises(ValueError, match="is for the schedule Discrete"):
            ExpIntScheduler(plan=wrong)  # another table
        with pytest.raises(ValueError, match="is for the schedule Discrete"):
            ExpIntScheduler(**FLOW, plan=wrong)
    with pytest.raises(ValueError, match="is for the schedule VP"):
        ExpIntScheduler(**SD, plan=expint.plan_sampling(VP(), steps=5))
    text = (tmp_path / "plan.json").read_text(encoding="utf-8")
    (tmp_path / "plan.json").write_text(text.replace('"nfe": 13', '"nfe": 14'), encoding="utf-8")
    with pytest.raises(ValueError, match="was edited or is damaged"):
        ExpIntScheduler(**SD, plan=tmp_path / "plan.json")
    with pytest.raises(TypeError, match="plan must be"):
        ExpIntScheduler(**SD, plan=3)


def test_times_between_the_entries_of_a_table():
    between = tuned(round_time=None)
    scheduler = ExpIntScheduler(**SD, plan=between)
    scheduler.set_timesteps()
    assert scheduler.timesteps.dtype == torch.float32
    rounded = ExpIntScheduler(**SD, plan=between, round_timesteps=True)
    with pytest.raises(ValueError, match="called on a table only"):
        rounded.set_timesteps()


def test_flow_pipelines_leave_out_their_sigmas():
    """Flux and others pass sigmas unless they find the flag."""
    plan = tuned(Flow(), "seeds-ab2", round_time=None)
    assert ExpIntScheduler(**FLOW, plan=plan).config["use_flow_sigmas"]
    assert not ExpIntScheduler(**FLOW).config["use_flow_sigmas"]


def images(name: str, given: dict[str, Any], **call: Any) -> Any:
    """Of a tiny pipeline with a scheduler of these options, the generator of seed 0."""
    (kind,) = [kind for kind in KINDS if kind.name == name]
    own = getattr(diffusers, kind.scheduler[0])(**kind.scheduler[1])
    pipe = getattr(diffusers, name)(scheduler=own, **kind.parts())
    pipe.scheduler = ExpIntScheduler.from_config(own.config, **given)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    made = pipe(**{"num_inference_steps": 4, "generator": generator} | kind.call() | call)[0]
    return torch.stack([torch.as_tensor(image) for image in made])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline"])
def test_pipelines(name: str):
    """A plan with the numbers of a usual solver gives its images."""
    flow = name == "FluxPipeline"
    schedule = Flow() if flow else Discrete()
    rounding = {} if flow else {"round_time": Discrete().round}
    plan = expint.plan_sampling(schedule, "seeds-ab2", steps=4, **rounding)
    exact = {"shift": 1.0, "use_dynamic_shifting": False}
    options: dict[str, Any] = {"solver": "seeds-ab2"} | (exact if flow else {"grid": None})
    call = {"sigmas": plan.grid[:-1].tolist()} if flow else {}
    ours = images(name, {"plan": plan})
    torch.testing.assert_close(ours, images(name, options, **call))
    with pytest.raises(ValueError, match="has 4 steps"):
        images(name, {"plan": plan}, num_inference_steps=5)


@pytest.mark.filterwarnings("ignore")
def test_image_to_image_is_refused_unless_it_begins_at_pure_noise():
    name, table = "StableDiffusionImg2ImgPipeline", Discrete()
    plan = expint.plan_sampling(table, "seeds-ab2", steps=4, round_time=table.round)
    with pytest.raises(ValueError, match="from its first evaluation on, not from 2"):
        images(name, {"plan": plan}, strength=0.5)
    assert images(name, {"plan": plan}, strength=1.0).isfinite().all()


@pytest.mark.parametrize("ell", [[1.0, 0.5, 0.0, 0.2], [math.inf, 1.0, math.inf, 0.0], math.inf])
@pytest.mark.parametrize("config", [SD, FLOW], ids=["table", "flow"])
def test_an_ell_for_each_step(tmp_path: Path, config: dict[str, Any], ell: Any):
    """The plan with the same ℓ, through the configuration's file; a step from σ = ∞ takes none."""
    if config is FLOW and isinstance(ell, list):
        ell = ell[:3]
    ExpIntScheduler(**config, solver="seeds-1", ell=ell).save_pretrained(tmp_path)
    scheduler = ExpIntScheduler.from_pretrained(tmp_path)
    assert loop(scheduler, normals(2, 3, 4, 4), 5).isfinite().all()
    assert scheduler.config["ell"] == ell
    plan = scheduler._plan
    own = expint.plan_sampling(plan.sde.diffusion.schedule, "seeds-1", grid=plan.grid, ell=ell)
    assert [row.noise for row in own.rows] == [row.noise for row in plan.rows]
