"""`sample_expint(plan=...)`: a plan in place of the solver and the sigmas; and ComfyUI's nodes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_comfyui import Model, fake_comfy, load_folder

import expint
from diffusion_adapters.k_diffusion import sample_expint, sample_seeds_3
from expint import Plan
from expint.noise import Gaussian, per_sample
from expint.plans import extrapolated
from expint.plans.file_format import plan_text
from expint.plans.plan_files import plan_content
from expint.schedules import EDM, VP, Flow
from expint.targets import Gaussian as GaussianTarget

X = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(3, 2)


def tuned(flow: bool = False) -> Plan:
    schedule = Flow() if flow else EDM()
    grid = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0] if flow else [14.6, 3.0, 1.0, 0.2, 0.0])
    ell = [0.4, 0.9] if flow else [1.0, 0.4, 0.9]
    plan = expint.plan_sampling(schedule, "seeds-ab2", grid=grid, ell=ell)
    return extrapolated(plan, [1.0, 0.7, 1.1, 1.0])


def denoiser(flow: bool) -> Any:
    target = GaussianTarget([0.5, -1.0], [0.3, 2.0], Flow() if flow else EDM())
    return target, lambda x, sigma, **_: target(x, sigma[0].double()).to(x.dtype)


@pytest.mark.parametrize("flow", [False, True])
def test_the_sampler_runs_the_plan(flow: bool, tmp_path: Path):
    plan = tuned(flow)
    target, model = denoiser(flow)
    plan.save(tmp_path / "p.json")
    x = X * float(plan.grid[0])
    expected = expint.execute(plan, target, x, Gaussian(per_sample(5, 3)))
    steps: list[tuple[int, float]] = []
    for given in (plan, tmp_path / "p.json", plan_content(plan), plan_text(plan_content(plan))):
        for sigmas in (None, plan.grid.float()):
            steps.clear()
            got = sample_expint(
                model, x, sigmas, plan=given, seed=5, disable=True, flow=flow,
                callback=lambda told: steps.append((told["i"], float(told["sigma"]))),
            )  # fmt: skip
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
            assert steps == list(enumerate(plan.grid[:-1].tolist()))


@pytest.mark.parametrize(
    ("name", "value"),
    [("solver", "seeds-1"), ("eta", 0.5), ("s_noise", 1.1), ("form", "data"), ("c", 0.3)],
)
def test_what_the_plan_fixes_is_refused(name: str, value: Any):
    with pytest.raises(ValueError, match=f"leave out {name}, or the plan"):
        sample_expint(denoiser(False)[1], X, None, plan=tuned(), **{name: value})
    with pytest.raises(ValueError, match=r"leave out solver"):
        sample_seeds_3(denoiser(False)[1], X, None, plan=tuned())


def test_other_sigmas_and_other_schedules_are_refused():
    model, plan = denoiser(False)[1], tuned()
    for sigmas in (plan.grid[1:], plan.grid * 1.01, torch.tensor([14.6, 0.0])):
        with pytest.raises(ValueError, match=r"The plan has the sigmas 14.6, 3, 1, 0.2, 0, and"):
            sample_expint(model, X, sigmas, plan=plan)
    with pytest.raises(ValueError, match="is for the schedule EDM"):
        sample_expint(model, X, None, plan=plan, flow=True)
    with pytest.raises(ValueError, match="is for the schedule VP"):
        sample_expint(model, X, None, plan=expint.plan_sampling(VP(), steps=4))


@pytest.mark.parametrize("flow", [False, True])
def test_nodes(flow: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    fake_comfy(monkeypatch)
    nodes, model, plan = load_folder(), Model(flow), tuned(flow)
    plan.save(tmp_path / "p.json")
    path = f" {tmp_path / 'p.json'}\n"
    (sigmas,) = nodes.NODE_CLASS_MAPPINGS["ExpIntPlanSigmas"]().get_sigmas(path)
    assert sigmas.dtype == torch.float32
    torch.testing.assert_close(sigmas.double(), plan.grid, rtol=1e-6, atol=0.0)
    node = nodes.NODE_CLASS_MAPPINGS["SamplerExpInt"]()
    assert "plan" in node.INPUT_TYPES()["optional"]
    (sampler,) = node.get_sampler("seeds-1", 0.5, 1.0, "fresh", "cpu", path)
    x = X * float(plan.grid[0])
    expected = expint.execute(plan, model.target, x, Gaussian(per_sample(11, 3)))
    torch.testing.assert_close(sampler.sample(model, x, sigmas, 11), expected, rtol=1e-6, atol=1e-6)
    (usual,) = node.get_sampler("seeds-1", 0.5, 1.0, "fresh", "cpu")
    assert usual.extra_options["solver"] == "seeds-1" and "plan" not in usual.extra_options


@pytest.mark.parametrize(
    ("eta", "ell"),
    [([1.0, 0.25], [1.0, 0.5]), (math.inf, math.inf), (lambda sigma: sigma, lambda s: s**0.5)],
    ids=["list", "inf", "function"],
)
def test_eta_in_each_step_is_the_square_of_ell(eta: Any, ell: Any):
    target, model = denoiser(False)
    sigmas, x = torch.tensor([10.0, 2.0, 0.5, 0.0]), 10.0 * X
    got = sample_expint(model, x, sigmas, solver="seeds-1", eta=eta, seed=5, disable=True)
    plan = expint.plan_sampling(EDM(), "seeds-1", grid=sigmas, ell=ell)
    expected = expint.execute(plan, target, x, Gaussian(per_sample(5, 3)))
    assert torch.allclose(got, expected)
    with pytest.raises(ValueError, match="one for each of the 2 steps"):
        sample_expint(model, x, sigmas, solver="seeds-1", eta=[1.0] * 3, disable=True)
