"""What configurations and times of other schedulers mean, beside those schedulers."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import AysSchedules
from torch import Tensor

from diffusion_adapters import from_diffusers
from diffusion_adapters.diffusers import ExpIntScheduler
from diffusion_adapters.diffusers.continuous import VPInSigma
from expint import solvers

torch.set_num_threads(1)
THEIRS: Any = diffusers
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{start}:DeprecationWarning")
    for start in ("__array__ implementation", "__array_wrap__ must")
] + [pytest.mark.filterwarnings("ignore::expint.soundness.PlanWarning")]

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SVD = {
    **SD,
    "prediction_type": "v_prediction",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "timestep_spacing": "leading",
}
ODE: Any = {"solver": "seeds-1", "ell": 0.0}


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def wavy(x: Tensor, t: Any) -> Tensor:
    return torch.sin(1.3 * x + 0.4) + 0.1 * (float(t) / 1000)


def loop(scheduler: Any, x: Tensor) -> Tensor:
    for t in scheduler.timesteps:
        seen = getattr(scheduler, "scale_model_input", lambda x, t: x)(x, t)
        x = scheduler.step(wavy(seen, t), t, x, return_dict=False)[0]
    return x


# Schedules


def test_stable_video_diffusion():
    """Its states in σ are ours times √(1 + σ²)."""
    theirs = THEIRS.EulerDiscreteScheduler(**SVD)
    ours = ExpIntScheduler.from_config(theirs.config, form="noise", **ODE)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(10)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=1e-4, atol=1e-6)
    x = normals(4, 3)
    end = loop(theirs, x * (1 + theirs.sigmas[0] ** 2) ** 0.5)
    torch.testing.assert_close(loop(ours, x), end, rtol=1e-3, atol=1e-3)
    again = ExpIntScheduler.from_config(ours.config)
    assert again._schedule == ours._schedule == VPInSigma(0.002, 700.0)


def test_stable_audio():
    theirs = THEIRS.CosineDPMSolverMultistepScheduler()
    ours = ExpIntScheduler.from_config(theirs.config, **ODE)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(8)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=1e-4, atol=1e-6)
    x, output, sigma = normals(4, 3), normals(4, 3, seed=1), theirs.sigmas[0]
    step = ours.step(output, ours.timesteps[0], x)
    denoised = theirs.precondition_outputs(x * (1 + sigma**2) ** 0.5, output, sigma)
    torch.testing.assert_close(step.pred_original_sample, denoised, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("label", ["log", "atan"])
def test_labels_are_times(label: str):
    schedule = VPInSigma(0.01, 100.0, label)
    schedule.check()
    sigmas = torch.tensor([0.01, 1.0, 100.0], dtype=torch.float64)
    times = schedule.t_of_sigma(sigmas)
    wanted = 0.25 * sigmas.log() if label == "log" else sigmas.atan() * 2 / torch.pi
    torch.testing.assert_close(times, wanted)
    torch.testing.assert_close(schedule.sigma(times), sigmas)
    torch.testing.assert_close(schedule.alpha(times) ** 2 + schedule.std(times) ** 2, sigmas**0)
    assert schedule.std(schedule.t_of_sigma(0.0)) == 0.0

    class Asks(torch.nn.Module):
        def forward(self, sample: Tensor, timestep: Tensor) -> tuple[Tensor]:
            seen.append(float(timestep.reshape(-1)[0]))
            return (sample,)

    seen: list[float] = []
    name = "EulerDiscreteScheduler" if label == "log" else "CosineDPMSolverMultistepScheduler"
    config = getattr(THEIRS, name)(**(SVD if label == "log" else {})).config
    from_diffusers(Asks(), config)(normals(1, 3), torch.tensor(0.5, dtype=torch.float64))
    assert seen == [0.5]


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("zero", [False, True])
def test_cogvideox(scale: float, zero: bool):
    theirs = THEIRS.CogVideoXDDIMScheduler(
        snr_shift_scale=scale,
        rescale_betas_zero_snr=zero,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
    )
    ours = ExpIntScheduler.from_config(theirs.config, **ODE)
    bars = theirs.alphas_cumprod.float()
    torch.testing.assert_close(ours.alphas_cumprod, bars, rtol=1e-4, atol=1e-6)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(10)
    assert torch.equal(theirs.timesteps, ours.timesteps)
    x = normals(4, 3)
    torch.testing.assert_close(loop(ours, x), loop(theirs, x), rtol=1e-4, atol=1e-4)


def test_the_exponential_table():
    theirs = THEIRS.HeunDiscreteScheduler(beta_schedule="exp")
    ours = ExpIntScheduler.from_config(theirs.config)
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("count", [7, 300])
def test_trained_betas_are_all_of_the_table(count: int):
    betas = np.linspace(1e-3, 0.2, count).tolist()
    ours = ExpIntScheduler(trained_betas=betas, solver="seeds-2", prediction_type="sample")
    theirs = THEIRS.DDPMScheduler(trained_betas=betas, num_train_timesteps=count)
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod)
    torch.testing.assert_close(ours.betas, theirs.betas)
    ours.set_timesteps(5)
    assert ours.timesteps[0] == count - 1 and torch.isfinite(loop(ours, normals(2, 3))).all()


def test_one_training_timestep_is_a_unit():
    """ACE-Step's network takes t in [0, 1]."""
    theirs = THEIRS.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=3.0)
    ours = ExpIntScheduler.from_config(theirs.config, **ODE)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    torch.testing.assert_close(ours.timesteps, theirs.timesteps)
    torch.testing.assert_close(loop(ours, normals(2, 3)), loop(theirs, normals(2, 3)))
    ours.set_timesteps(4)
    assert len(ours.timesteps) == 4 and ours.timesteps[0] == 1.0


def test_a_learned_variance_is_not_used():
    """Of a network with twice the channels, as DiT's, the first half counts."""
    scheduler, x = ExpIntScheduler(**ODE), normals(2, 3, 4)
    results = []
    for more in ([], [normals(2, 3, 4, seed=1)]):
        scheduler.set_timesteps(3)
        output = torch.cat([wavy(x, 999), *more], 1)
        results.append(scheduler.step(output, 999, x).prev_sample)
    assert torch.equal(*results)


# Ends of grids


def test_sigma_min_and_sigma_max():
    theirs = THEIRS.EulerDiscreteScheduler(
        **SD, use_karras_sigmas=True, sigma_min=0.1, sigma_max=10.0
    )
    ours = ExpIntScheduler.from_config(theirs.config, round_timesteps=False, **ODE)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(8)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("grid", ["linspace", "karras"])
def test_lambda_min_clipped(grid: str):
    """The published value for the cosine table, whose last entries hold no signal."""
    options = {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}
    karras = {"use_karras_sigmas": grid == "karras"}
    theirs = THEIRS.DPMSolverMultistepScheduler(**options, **karras)
    ours = ExpIntScheduler.from_config(theirs.config, solver="seeds-1")
    ours.set_timesteps(10)
    assert 5.0 < -np.log(float(1 / ours.sigmas[0])) <= 5.1


# Times


@pytest.mark.parametrize("name", ["StableDiffusionSigmas", "StableDiffusionXLSigmas"])
def test_align_your_steps(name: str):
    sigmas = AysSchedules[name]
    theirs, results = THEIRS.EulerDiscreteScheduler(**SD), []
    ours = ExpIntScheduler.from_config(theirs.config, **ODE)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(sigmas=sigmas)
        results.append(scheduler.timesteps.float())
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1.0)


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "heun", "pece-2"])
@pytest.mark.parametrize("flow", [False, True])
def test_sigmas_of_a_scheduler_come_back(solver: str, flow: bool):
    """Those of Euler, and its own: with repeated levels, and rounded to float32 beyond the ends."""
    name = "FlowMatchEulerDiscreteScheduler" if flow else "EulerDiscreteScheduler"
    theirs = getattr(THEIRS, name)(**({} if flow else SD))
    ours = ExpIntScheduler.from_config(theirs.config, solver=solver)
    for each in (theirs, ours):
        each.set_timesteps(6)
        levels = each.sigmas.unique_consecutive()
        other = ExpIntScheduler.from_config(theirs.config, solver="seeds-1", round_timesteps=False)
        other.set_timesteps(sigmas=each.sigmas)
        torch.testing.assert_close(other.sigmas, levels, rtol=1e-3, atol=1e-6)


def test_levels_beyond_the_table_are_refused():
    scheduler = ExpIntScheduler(**SD)
    with pytest.raises(ValueError, match="domain"):
        scheduler.set_timesteps(sigmas=[14.8, 1.0])


def test_repeated_timesteps_count_once():
    """For Euler a step of no length changes nothing."""
    theirs, results = THEIRS.EulerDiscreteScheduler(**SD, prediction_type="v_prediction"), []
    ours = ExpIntScheduler.from_config(theirs.config, form="noise", **ODE)
    x = normals(2, 3)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(timesteps=[900, 500, 500, 100])
        scale = (1 + scheduler.sigmas[0] ** 2) ** 0.5 if scheduler is theirs else 1.0
        results.append(loop(scheduler, scale * x))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-4)
    assert len(ours.timesteps) == 3


def test_timesteps_as_labels_of_sigmas():
    """CogView4's: the network sees times before they are shifted."""
    theirs = THEIRS.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, time_shift_type="linear", base_shift=0.25, max_shift=0.75
    )
    labels = np.linspace(1000, 1, 5).astype(np.int64).astype(np.float32)
    given = {"timesteps": labels, "sigmas": labels / 1000, "mu": 0.6}
    ours = ExpIntScheduler.from_config(theirs.config, **ODE)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(**given)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas)
    x = normals(2, 3)
    torch.testing.assert_close(loop(ours, x), loop(theirs, x), rtol=1e-5, atol=1e-5)
    between = ExpIntScheduler.from_config(theirs.config, solver="seeds-3")
    between.set_timesteps(**given)
    falls = between.timesteps.diff() < 0
    assert falls.all() and len(between.timesteps) == 11
    noised = between.add_noise(x, torch.ones_like(x), between.timesteps[1:2])
    level = between.sigmas[1]
    torch.testing.assert_close(noised, x * (1 - level) + level)
    with pytest.raises(ValueError, match="one for each"):
        between.set_timesteps(timesteps=labels[1:], sigmas=labels / 1000, mu=0.6)


# Calls of other pipelines


def test_step_as_pipelines_for_ddim_call_it():
    scheduler, x = ExpIntScheduler(**ODE), normals(2, 3)
    scheduler.set_timesteps(3)
    scheduler.step(wavy(x, 999), 999, x, eta=0.0, use_clipped_model_output=None)
    for wrong in ({"eta": 0.5}, {"s_churn": 1.0}):
        with pytest.raises(ValueError, match="ell"):
            scheduler.step(wavy(x, 999), 999, x, **wrong)


@pytest.mark.parametrize("solver", [n for n in solvers.names() if n != "taylor-2"])
def test_copies_of_a_scheduler_go_on(solver: str):
    """By pickle and deepcopy, after `set_timesteps`."""
    for config in ({}, {"prediction_type": "flow_prediction"}):
        scheduler, x = ExpIntScheduler(solver=solver, **config), normals(2, 3)
        scheduler.set_timesteps(6)
        copies = [pickle.loads(pickle.dumps(scheduler)), copy.deepcopy(scheduler), scheduler]
        results = [loop(each, 0.1 * x) for each in copies]
        assert torch.equal(results[0], results[2]) and torch.equal(results[1], results[2])
        assert copies[0].order == scheduler.order


def test_a_fresh_process_loads_it(tmp_path: Path):
    """A pipeline's folder names the class; diffusers takes it only from a module that the user has
    imported."""
    unet = THEIRS.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8,), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        add_attention=False,
    )  # fmt: skip
    pipeline = THEIRS.DDPMPipeline(unet, ExpIntScheduler(solver="seeds-2", ell=0.5, seed=3))
    pipeline.save_pretrained(tmp_path)
    code = (
        "import sys, diffusers\n"
        "from diffusion_adapters.diffusers import ExpIntScheduler\n"
        "pipe = diffusers.DiffusionPipeline.from_pretrained(sys.argv[1], low_cpu_mem_usage=False)\n"
        "assert type(pipe.scheduler) is ExpIntScheduler\n"
        "print(pipe.scheduler.config['ell'], pipe.scheduler.config['seed'])\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0.5", "3"], done.stderr
