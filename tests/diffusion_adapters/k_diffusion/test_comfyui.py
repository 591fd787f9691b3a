"""The custom node for ComfyUI, with a fake `comfy` of the few names that the node uses; ComfyUI
itself is not installed here.
"""

import importlib.util
import logging
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import expint
from diffusion_adapters import k_diffusion
from expint import solvers
from expint.noise import Gaussian, per_sample
from expint.schedules import EDM, Flow
from expint.targets import Gaussian as GaussianTarget

FOLDER = Path(__file__).resolve().parents[3] / "integrations" / "comfyui" / "expint_samplers"


class KSAMPLER:
    """Fake: how ComfyUI calls a sampler function."""

    def __init__(self, sampler_function: Any, extra_options: Any = None):
        self.sampler_function, self.extra_options = sampler_function, extra_options or {}

    def sample(self, model: Any, noise: Any, sigmas: Any, seed: int, callback: Any = None) -> Any:
        extra_args = {"model_options": {}, "seed": seed, "denoise_mask": None}
        return self.sampler_function(
            model,
            noise,
            sigmas,
            extra_args=extra_args,
            callback=callback,
            disable=True,
            **self.extra_options,
        )


def fake_comfy(monkeypatch: pytest.MonkeyPatch) -> Any:
    names = ["euler"]
    samplers = SimpleNamespace(
        KSAMPLER=KSAMPLER, KSampler=type("KSampler", (), {"SAMPLERS": names}), SAMPLER_NAMES=names
    )
    sampling = SimpleNamespace()
    comfy = SimpleNamespace(samplers=samplers, k_diffusion=SimpleNamespace(sampling=sampling))
    modules = {
        "": comfy,
        ".samplers": samplers,
        ".k_diffusion": comfy.k_diffusion,
        ".k_diffusion.sampling": sampling,
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, "comfy" + name, module)
    return comfy


def load_folder() -> ModuleType:
    """As ComfyUI does: by the path of the folder."""
    spec = importlib.util.spec_from_file_location("custom_nodes_expint", FOLDER / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch) -> Any:
    return fake_comfy(monkeypatch)


class Model:
    """What ComfyUI hands to a sampler: model(x, sigma, **extra_args), with the kind of its schedule
    inside.
    """

    def __init__(self, flow: bool) -> None:
        kind = type(
            "CONST" if flow else "EPS",
            (),
            {"sigma_min": torch.tensor(0.02), "sigma_max": torch.tensor(1.0 if flow else 14.6)},
        )
        sampling = type("ModelSampling", (kind,), {})()
        self.inner_model = SimpleNamespace(inner_model=SimpleNamespace(model_sampling=sampling))
        self.target = GaussianTarget([0.5, -1.0], [0.3, 2.0], Flow() if flow else EDM())
        self.patcher = SimpleNamespace(
            get_model_object=lambda name: {"model_sampling": sampling}[name]
        )
        self.seeds: set[int] = set()

    def __call__(self, x: Any, sigma: Any, model_options: Any, seed: int, denoise_mask: Any) -> Any:
        self.seeds.add(seed)
        return self.target(x, sigma[0].double()).to(x.dtype)


@pytest.mark.parametrize("flow", [False, True])
def test_sampler_and_scheduler_nodes(comfy: Any, flow: bool):
    nodes, model = load_folder(), Model(flow)
    (sigmas,) = nodes.NODE_CLASS_MAPPINGS["ExpIntUniformLambdaScheduler"]().get_sigmas(
        model.patcher, 8
    )
    assert sigmas.shape == (9,) and sigmas[-1] == 0
    assert sigmas[0] == (1.0 if flow else pytest.approx(14.6)) and sigmas[-2] == pytest.approx(0.02)
    lam = torch.log((1 - sigmas) / sigmas if flow else 1 / sigmas)[1 if flow else 0 : -1]
    torch.testing.assert_close(lam.diff(), lam.diff()[:1].expand(len(lam) - 1), rtol=1e-4, atol=0)
    node, previews = nodes.NODE_CLASS_MAPPINGS["SamplerExpInt"](), []
    (sampler,) = getattr(node, node.FUNCTION)("seeds-2", 0.5, 1.1, "fresh", "cpu")
    x = (1.0 if flow else 14.6) * torch.linspace(-1, 1, 6).reshape(3, 2)
    result = sampler.sample(
        model, x, sigmas, 11, lambda told: previews.append((told["i"], told["denoised"], told["x"]))
    )
    theirs = expint.sample(
        model.target,
        x,
        "seeds-2",
        grid=sigmas,
        ell=0.5**0.5,
        operations=[solvers.noise_factor(1.1)],
        noise=Gaussian(per_sample(11, 3)),
        progress=False,
    )
    torch.testing.assert_close(result, theirs, rtol=0, atol=1e-5)
    assert [i for i, _, _ in previews] == list(range(8)) and model.seeds == {11}


def test_inputs_of_the_sampler_node(comfy: Any):
    nodes = load_folder()
    node = nodes.NODE_CLASS_MAPPINGS["SamplerExpInt"]
    inputs = node.INPUT_TYPES()["required"]
    names = inputs["solver"][0]
    assert names[:2] == ["default", "seeds-1"] and set(solvers.names()) - set(names) == {
        n for n in solvers.names() if solvers.get(n).tableau.slopes
    }
    assert inputs["eta"][1]["default"] < 0 and inputs["noise"][0] == ["fresh", "path"]
    assert set(nodes.NODE_CLASS_MAPPINGS) == set(nodes.NODE_DISPLAY_NAME_MAPPINGS)
    for kind in nodes.NODE_CLASS_MAPPINGS.values():
        assert (
            len(kind.RETURN_TYPES) == 1 and kind.CATEGORY and callable(getattr(kind, kind.FUNCTION))
        )


@pytest.mark.parametrize("solver", ["seeds-3", "unipc-2", "er-sde-3"])
def test_eta_below_zero_is_the_solvers_own(comfy: Any, solver: str):
    model, sigmas = Model(False), torch.tensor([10.0, 2.0, 0.5, 0.0])
    x = torch.linspace(-10, 10, 6).reshape(3, 2)
    (sampler,) = load_folder().SamplerExpInt().get_sampler(solver, -1.0, 1.0, "path", "gpu")
    assert sampler.extra_options["noise_device"] is None
    ours = sampler.sample(model, x, sigmas, 4)
    path = expint.noise.BrownianPath(per_sample(4, 3), resolution=64)
    theirs = expint.sample(model.target, x, solver, grid=sigmas, noise=path, progress=False)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("etas", "ell"), [("1, 0.25", [1.0, 0.5]), ("inf,0", [math.inf, 0.0]), ("inf", math.inf)]
)
def test_an_eta_for_each_step(comfy: Any, etas: str, ell: Any):
    model, sigmas = Model(False), torch.tensor([10.0, 2.0, 0.5, 0.0])
    x = torch.linspace(-10, 10, 6).reshape(3, 2)
    node = load_folder().SamplerExpInt()
    assert node.INPUT_TYPES()["optional"]["etas"][1]["default"] == ""
    (sampler,) = node.get_sampler("seeds-1", 1.0, 1.0, "fresh", "cpu", etas=etas)
    theirs = expint.sample(
        model.target, x, "seeds-1", grid=sigmas, ell=ell, noise=Gaussian(per_sample(4, 3)),
        progress=False,
    )  # fmt: skip
    torch.testing.assert_close(sampler.sample(model, x, sigmas, 4), theirs, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"etas are numbers with commas.*got 'much'"):
        node.get_sampler("seeds-1", 1.0, 1.0, "fresh", "cpu", etas="much")


@pytest.mark.parametrize("steps", [6, 12])
def test_the_default_of_the_node_is_the_rule_for_as_many_steps(comfy: Any, steps: int):
    model = Model(False)
    sigmas = torch.cat([torch.linspace(10, 0.2, steps), torch.zeros(1)])
    x = torch.linspace(-10, 10, 6).reshape(3, 2)
    node = load_folder().SamplerExpInt()
    default, named = (
        node.get_sampler(name, -1.0, 1.0, "fresh", "cpu")[0].sample(model, x, sigmas, 4)
        for name in ("default", expint.defaults.solver(steps))
    )
    assert torch.equal(default, named)


def test_split_sigmas_with_a_path(comfy: Any):
    model, sigmas = Model(False), torch.tensor([10.0, 2.0, 0.5, 0.0], dtype=torch.float64)
    x = torch.linspace(-10, 10, 6, dtype=torch.float64).reshape(3, 2)
    (sampler,) = load_folder().SamplerExpInt().get_sampler("seeds-3", 1.0, 1.0, "path", "cpu")
    halves = sampler.sample(model, sampler.sample(model, x, sigmas[:3], 4), sigmas[2:], 4)
    torch.testing.assert_close(halves, sampler.sample(model, x, sigmas, 4), rtol=1e-12, atol=1e-12)


def test_named_samplers_are_registered_once(comfy: Any):
    load_folder()
    load_folder()
    names = comfy.samplers.KSampler.SAMPLERS
    added = [f"expint_{name}" for name in k_diffusion.SAMPLERS]
    paths = [f"{name}_path" for name in added if name != "expint_unipc"]
    assert names == ["euler", *added, *paths]
    model, sigmas = Model(False), torch.tensor([10.0, 2.0, 0.5, 0.0])
    for name in added:  # as ComfyUI finds the function of a name
        sampler = KSAMPLER(getattr(comfy.k_diffusion.sampling, f"sample_{name}"))
        ours = sampler.sample(model, torch.full((2, 2), 10.0), sigmas, 4)
        theirs = k_diffusion.SAMPLERS[name.removeprefix("expint_")](
            model,
            torch.full((2, 2), 10.0),
            sigmas,
            {"model_options": {}, "seed": 4, "denoise_mask": None},
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["seeds_3_path", "er_sde_3_path", "sa_solver_path"])
def test_named_samplers_with_a_path(comfy: Any, name: str):
    """A run that is split into two has the noise of the whole."""
    load_folder()
    model, sigmas = Model(False), torch.tensor([10.0, 2.0, 0.5, 0.1, 0.0], dtype=torch.float64)
    sampler = KSAMPLER(getattr(comfy.k_diffusion.sampling, f"sample_expint_{name}"))
    x = torch.linspace(-10, 10, 6, dtype=torch.float64).reshape(3, 2)
    settings = {"extra_args": {"model_options": {}, "seed": 4, "denoise_mask": None}}
    named = k_diffusion.SAMPLERS[name.removesuffix("_path")]
    expected = named(model, x, sigmas, **settings, noise="path", noise_device="cpu")
    assert torch.equal(sampler.sample(model, x, sigmas, 4), expected)
    if name == "seeds_3_path":
        halves = sampler.sample(model, sampler.sample(model, x, sigmas[:3], 4), sigmas[2:], 4)
        torch.testing.assert_close(halves, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("flow", [False, True])
def test_flipped_sigmas(comfy: Any, flow: bool):
    """FlipSigmas: unsampling, then sampling along the ODE, leads back to the image."""
    load_folder()
    model = Model(flow)
    model.target = GaussianTarget([0.5, -1.0], [0.3, 0.8], Flow() if flow else EDM())
    top = 0.95 if flow else 14.6
    sigmas = torch.linspace(0.02**0.25, top**0.25, 41, dtype=torch.float64) ** 4
    x = torch.tensor([[0.3, -0.4], [1.0, -1.5]], dtype=torch.float64)
    sampler = KSAMPLER(comfy.k_diffusion.sampling.sample_expint_seeds_3)
    there = sampler.sample(model, x, sigmas, 4)
    back = KSAMPLER(comfy.k_diffusion.sampling.sample_expint_seeds_3, {"eta": 0.0})
    torch.testing.assert_close(back.sample(model, there, sigmas.flip(0), 4), x, rtol=0, atol=1e-3)


def test_lists_that_are_apart_get_the_names_both(comfy: Any):
    comfy.samplers.SAMPLER_NAMES = ["euler"]
    load_folder()
    assert (
        "expint_seeds_3" in comfy.samplers.SAMPLER_NAMES
        and "expint_seeds_3" in comfy.samplers.KSampler.SAMPLERS
    )


def test_without_the_lists_the_nodes_are_left(comfy: Any, caplog: pytest.LogCaptureFixture):
    del comfy.samplers.KSampler, comfy.samplers.SAMPLER_NAMES
    with caplog.at_level(logging.WARNING):
        assert "SamplerExpInt" in load_folder().NODE_CLASS_MAPPINGS
    assert "SamplerExpInt" in caplog.text and not vars(comfy.k_diffusion.sampling)


def test_without_comfyui_the_import_says_so():
    with pytest.raises(ImportError, match=r"ComfyUI/custom_nodes"):
        load_folder()


def test_without_expint_the_import_says_so(comfy: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "diffusion_adapters.k_diffusion", None)
    with pytest.raises(ImportError, match="expint is not installed"):
        load_folder()
