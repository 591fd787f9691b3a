"""`ExpIntScheduler` in the pipelines of the installed diffusers, beside its own schedulers, and
beside `expint.sample`.

A pipeline draws its initial state and its noise from one generator; `FromGenerators` continues it
for `expint.sample`.
"""

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import diffusion_adapters
import expint
from diffusion_adapters import cfg, from_diffusers
from diffusion_adapters.diffusers import ExpIntScheduler
from expint.noise import FromGenerators, SubstepNoise
from expint.schedules import Discrete
from expint.soundness import PlanWarning
from expint.targets import GaussianMixture

torch.set_num_threads(1)
# it loads its classes when they are asked for, so that nothing about them is declared
THEIRS: Any = diffusers
# The schedulers hand tensors to numpy, which finds that the methods of older torch lack arguments.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{start}:DeprecationWarning")
    for start in ("__array__ implementation", "__array_wrap__ must")
]

KINDS = ["seeds-1", "seeds-3", "seeds-ab3", "unipc-2", "pece-2", "edm-stochastic"]
CHURN = ("edm-stochastic",)
STEPS = 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype).normal_(generator=seeded(seed))


@pytest.fixture(scope="module")
def unet() -> Any:
    torch.manual_seed(0)
    net = THEIRS.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    )
    return net.eval().requires_grad_(False)


def mixture_noise(scheduler: Any) -> Any:
    """The exact network of a mixture for the scheduler's own table, predicting ε."""
    target = GaussianMixture(
        [[1.0, -0.5, 0.3], [-0.8, 0.9, -1.1]], 0.3, [1.0, 2.0], Discrete(scheduler.alphas_cumprod)
    )

    def predict(x: Tensor, t: Any) -> Tensor:
        schedule, time, exact = target.schedule, float(t), x.double()
        return ((exact - schedule.alpha(time) * target(exact, time)) / schedule.std(time)).to(
            x.dtype
        )

    return predict


def wavy(x: Tensor, t: Any) -> Tensor:
    """A bounded network that depends on its time."""
    return torch.sin(1.3 * x + 0.4) + 0.1 * (float(t) / 1000)


class Network(torch.nn.Module):
    """`wavy` with the signature of a network of diffusers."""

    def forward(self, sample: Tensor, timestep: Tensor) -> tuple[Tensor]:
        times = timestep.to(sample.dtype).reshape(-1, *[1] * (sample.ndim - 1))
        return (torch.sin(1.3 * sample + 0.4) + 0.1 * (times / 1000),)


def loop(
    scheduler: Any, x: Tensor, generator: Any = None, start: int = 0, network: Any = wavy
) -> Tensor:
    """What pipelines do, from the entry `start` of the timesteps."""
    for t in scheduler.timesteps[start:]:
        output = network(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, generator=generator, return_dict=False)[0]
    return x


def sampled(
    scheduler: Any, network: Any, x: Tensor, solver: str, generator: Any, **where: Any
) -> Tensor:
    """The same run by `expint.sample`."""
    policy = {"timesteps": "interpolate"} if solver in CHURN else {}
    model = from_diffusers(network, scheduler, **policy)
    return expint.sample(model, x, solver, noise=FromGenerators(generator), progress=False, **where)


# In pipelines


@pytest.mark.parametrize("solver", KINDS)
def test_ddpm_pipeline(unet: Any, solver: str):
    scheduler = ExpIntScheduler(solver=solver, prediction_type="sample")
    pipeline = THEIRS.DDPMPipeline(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        batch_size=2, generator=seeded(), num_inference_steps=STEPS, output_type="np"
    ).images
    generator = seeded()
    x = torch.empty(2, 3, 8, 8).normal_(generator=generator)
    expected = sampled(scheduler, unet, x, solver, generator, steps=STEPS)
    clipped = (expected / 2 + 0.5).clamp(0, 1)
    assert ((clipped > 0) & (clipped < 1)).float().mean() > 0.5
    torch.testing.assert_close(
        torch.as_tensor(images).permute(0, 3, 1, 2), clipped, rtol=0, atol=1e-5
    )
    assert scheduler.step_index == len(scheduler.timesteps)


@pytest.fixture(scope="module")
def stable_diffusion() -> dict[str, Any]:
    """The components of Stable Diffusion, tiny and untrained; prompts come as embeddings."""
    torch.manual_seed(0)
    unet = THEIRS.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=4,
    )
    vae = THEIRS.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8)
    none = ("text_encoder", "tokenizer", "safety_checker", "feature_extractor", "image_encoder")
    parts = {"unet": unet.eval().requires_grad_(False), "vae": vae.eval(), **dict.fromkeys(none)}
    return {**parts, "requires_safety_checker": False}


SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def sd_scheduler(solver: str) -> ExpIntScheduler:
    return ExpIntScheduler(**SD, solver=solver, prediction_type="v_prediction")


def sd_model(
    parts: dict[str, Any],
    scheduler: Any,
    solver: str,
    prompt: Tensor,
    negative: Tensor,
    scale: float,
) -> Any:
    policy = {"timesteps": "interpolate"} if solver in CHURN else {}
    model = from_diffusers(parts["unet"], scheduler, encoder_hidden_states=prompt, **policy)
    return cfg(model, scale, unconditional={"encoder_hidden_states": negative})


@pytest.mark.parametrize("solver", KINDS)
def test_stable_diffusion_pipeline(stable_diffusion: dict[str, Any], solver: str):
    """With classifier-free guidance, and one generator per image."""
    scheduler = sd_scheduler(solver)
    pipeline = THEIRS.StableDiffusionPipeline(scheduler=scheduler, **stable_diffusion)
    pipeline.set_progress_bar_config(disable=True)
    prompt, negative = normals(2, 5, 12, seed=1), normals(2, 5, 12, seed=2)
    latents = pipeline(
        prompt_embeds=prompt,
        negative_prompt_embeds=negative,
        guidance_scale=2.0,
        num_inference_steps=STEPS,
        generator=[seeded(3), seeded(4)],
        height=8,
        width=8,
        output_type="latent",
    ).images
    generators = [seeded(3), seeded(4)]
    x = torch.cat(
        [
            torch.empty(1, *latents.shape[1:]).normal_(generator=generator)
            for generator in generators
        ]
    )
    model = sd_model(stable_diffusion, scheduler, solver, prompt, negative, 2.0)
    expected = expint.sample(
        model, x, solver, steps=STEPS, noise=FromGenerators(generators), progress=False
    )
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", [*KINDS[:-1], "heun"])
def test_image_to_image_pipeline(stable_diffusion: dict[str, Any], solver: str):
    """Strength slices the timesteps at multiples of the order; the run is that of the rest of the
    grid.
    """
    scheduler = sd_scheduler(solver)
    pipeline = THEIRS.StableDiffusionImg2ImgPipeline(scheduler=scheduler, **stable_diffusion)
    pipeline.set_progress_bar_config(disable=True)
    prompt, negative, image = (
        normals(2, 5, 12, seed=1),
        normals(2, 5, 12, seed=2),
        normals(2, 4, 8, 8, seed=5),
    )
    latents = pipeline(
        prompt_embeds=prompt,
        negative_prompt_embeds=negative,
        guidance_scale=2.0,
        num_inference_steps=6,
        strength=0.5,
        image=image,
        generator=seeded(3),
        output_type="latent",
    ).images
    generator = seeded(3)
    noise = torch.empty(image.shape).normal_(generator=generator)
    model = sd_model(stable_diffusion, scheduler, solver, prompt, negative, 2.0)
    grid = expint.plan_sampling(model.schedule, solver, steps=6, round_time=model.round_time).grid[
        3:
    ]
    x = image * model.schedule.alpha(grid[0]) + noise * model.schedule.std(grid[0])
    expected = expint.sample(
        model, x.float(), solver, grid=grid, noise=FromGenerators(generator), progress=False
    )
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)


def test_a_pipeline_keeps_it(unet: Any, tmp_path: Path):
    """Saved and loaded with everything that was set."""
    scheduler = ExpIntScheduler(
        solver="seeds-2",
        solver_options={"c": 0.25},
        ell=0.5,
        operations=["noise-factor(s_noise=0.9)"],
    )
    THEIRS.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path)
    loaded = THEIRS.DDPMPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False).scheduler
    assert isinstance(loaded, ExpIntScheduler)
    assert {k: v for k, v in loaded.config.items() if k[0] != "_"} == {
        k: v for k, v in scheduler.config.items() if k[0] != "_"
    }
    x, results = normals(2, 3), []
    for each in (scheduler, loaded):
        each.set_timesteps(STEPS)
        results.append(loop(each, x, seeded()))
    assert torch.equal(*results)


# Beside the schedulers of diffusers


ONE_STAGE = [
    (name, ell, spacing)
    for name, ell in (("DDPMScheduler", 1.0), ("DDIMScheduler", 0.0))
    for spacing in ("leading", "trailing", "linspace")
    if (name, spacing)
    != ("DDIMScheduler", "linspace")  # it then steps to timesteps that are not the next ones
]


@pytest.mark.parametrize(("name", "ell", "spacing"), ONE_STAGE)
@pytest.mark.parametrize("clip", [False, True])
def test_one_stage_is_ddpm_and_ddim(name: str, ell: float, clip: bool, spacing: str):
    options = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": clip,
    }
    theirs = getattr(THEIRS, name)(timestep_spacing=spacing, **options)
    ours = ExpIntScheduler.from_config(theirs.config, solver="seeds-1", ell=ell)
    # With clipping DDIM keeps the unclipped ε, unless it is told otherwise.
    extra = {"use_clipped_model_output": True} if name == "DDIMScheduler" else {}
    x, network, results = normals(4, 3), mixture_noise(theirs), []
    for scheduler, more in ((theirs, extra), (ours, {})):
        scheduler.set_timesteps(10)
        state, generator = x, seeded(1)
        for t in scheduler.timesteps:
            state = scheduler.step(
                network(state, t), t, state, generator=generator, **more
            ).prev_sample
        results.append(state)
    assert torch.equal(theirs.timesteps, ours.timesteps)
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    ours.set_timesteps(10)
    assert (loop(ours, x, seeded(2), network=network) - results[0]).abs().max() > 1e-2 or ell == 0.0


@pytest.mark.parametrize("sample_max_value", [1.0, 1.5])
def test_dynamic_thresholding(sample_max_value: float):
    theirs = THEIRS.DDPMScheduler(
        thresholding=True,
        sample_max_value=sample_max_value,
        dynamic_thresholding_ratio=0.8,
        prediction_type="sample",
    )
    ours = ExpIntScheduler.from_config(theirs.config, solver="seeds-1")
    results = []
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(5)
        results.append(
            loop(scheduler, normals(2, 3, 4, 4), seeded(1), network=lambda x, t: 1.6 * wavy(x, t))
        )
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)


def test_euler_in_sigma():
    """Its states are divided by α; the network sees the same."""
    theirs = THEIRS.EulerDiscreteScheduler(
        timestep_spacing="trailing", prediction_type="v_prediction"
    )
    ours = ExpIntScheduler.from_config(theirs.config, solver="seeds-1", form="noise", ell=0.0)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(10)
    assert torch.equal(theirs.timesteps.long(), ours.timesteps)
    state = normals(4, 3) * theirs.init_noise_sigma
    x = ours._schedule.alpha(999.0) * state
    for t in theirs.timesteps:
        state = theirs.step(wavy(theirs.scale_model_input(state, t), t), t, state).prev_sample
    torch.testing.assert_close(loop(ours, x), state, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "mu"),
    [
        ({}, None),
        ({"shift": 3.0}, None),
        ({"shift": 3.0, "shift_terminal": 0.1}, None),
        ({"use_dynamic_shifting": True, "shift_terminal": 0.02}, 0.7),
        ({"use_dynamic_shifting": True}, 0.7),
        ({"use_dynamic_shifting": True, "time_shift_type": "linear"}, 2.0),
    ],
)
@pytest.mark.parametrize("sigmas", [None, [1.0, 0.8, 0.5, 0.2]])
def test_flow_matching_euler(options: dict[str, Any], mu: float | None, sigmas: list[float] | None):
    theirs = THEIRS.FlowMatchEulerDiscreteScheduler(**options)
    ours = ExpIntScheduler.from_config(theirs.config, solver="seeds-1", ell=0.0)
    given = {"num_inference_steps": 8} if sigmas is None else {"sigmas": sigmas}
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(**given, **({} if mu is None else {"mu": mu}))
    torch.testing.assert_close(ours.timesteps, theirs.timesteps)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas)
    x = normals(4, 3)
    state = x
    for t in theirs.timesteps:
        state = theirs.step(wavy(state, t), t, state).prev_sample
    torch.testing.assert_close(loop(ours, x), state, rtol=1e-5, atol=1e-5)


def test_noised_states_and_velocities():
    ddpm, flow = THEIRS.DDPMScheduler(), THEIRS.FlowMatchEulerDiscreteScheduler(shift=2.0)
    ours, times = ExpIntScheduler.from_config(ddpm.config), torch.tensor([0, 400, 999])
    x, noise = normals(3, 2, 4), normals(3, 2, 4, seed=1)
    for name in ("add_noise", "get_velocity"):
        torch.testing.assert_close(
            getattr(ours, name)(x, noise, times), getattr(ddpm, name)(x, noise, times)
        )
    ours = ExpIntScheduler.from_config(flow.config, solver="seeds-1")
    for scheduler in (ours, flow):
        scheduler.set_timesteps(3)
    torch.testing.assert_close(
        ours.scale_noise(x, ours.timesteps, noise), flow.scale_noise(x, flow.timesteps, noise)
    )


# What every scheduler must do


@pytest.mark.parametrize(
    "solver", [*KINDS, "seeds-sra", "etd-rk4", "pc-sampler", "dpmpp-2s-ancestral", "er-sde-3"]
)
def test_full_loop(solver: str):
    """A second run knows nothing of the first one; both are the run of `expint.sample`, with one
    call per evaluation.
    """
    scheduler, x = (
        ExpIntScheduler(solver=solver, prediction_type="sample"),
        normals(3, 2, 4, dtype=torch.float64),
    )
    results = []
    for _ in range(2):
        scheduler.set_timesteps(STEPS)
        assert (scheduler.step_index, scheduler.begin_index, scheduler.num_inference_steps) == (
            None,
            None,
            STEPS,
        )
        results.append(loop(scheduler, x, seeded(1)))
        assert scheduler.step_index == len(scheduler.timesteps)
    plan = expint.plan_sampling(
        Discrete(),
        solver,
        steps=STEPS,
        round_time=None if scheduler.timesteps.is_floating_point() else Discrete().round,
    )
    assert len(scheduler.timesteps) == plan.nfe and len(scheduler.sigmas) == plan.nfe + 1
    assert plan.nfe == scheduler.order * (STEPS - 1) + 1
    policy = "interpolate" if scheduler.timesteps.is_floating_point() else "round"
    model = from_diffusers(Network(), scheduler, timesteps=policy)
    expected = expint.sample(
        model, x, solver, steps=STEPS, noise=FromGenerators(seeded(1)), progress=False
    )
    assert torch.equal(*results)
    # A scheduler's fractional timesteps are float32.
    torch.testing.assert_close(results[0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("solver", ["seeds-3", "unipc-2", "edm-stochastic"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_device_are_kept(solver: str, dtype: torch.dtype):
    scheduler, x = ExpIntScheduler(solver=solver, prediction_type="sample"), normals(2, 3).to(dtype)
    scheduler.set_timesteps(STEPS, device="cpu")
    result = scheduler.step(wavy(x, 999), scheduler.timesteps[0], x, generator=seeded())
    for tensor in (result.prev_sample, result.pred_original_sample):
        assert tensor.dtype == dtype and tensor.device == x.device and tensor.shape == x.shape
    assert scheduler.add_noise(x, x, scheduler.timesteps[:1]).dtype == dtype
    scheduler.set_timesteps(STEPS)
    exact = ExpIntScheduler(solver=solver, prediction_type="sample")
    exact.set_timesteps(STEPS)
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 1e-1}.get(dtype, 1e-5)
    exact_x = x.to(torch.promote_types(dtype, torch.float32))
    low, high = (
        loop(s, y, seeded(), network=lambda x, t: 0.3 * wavy(x, t))
        for s, y in ((scheduler, x), (exact, exact_x))
    )
    torch.testing.assert_close(low.to(high), high, rtol=0, atol=tolerance)


@pytest.mark.parametrize("solver", KINDS)
def test_eight_generators_are_eight_runs(solver: str):
    scheduler, x = ExpIntScheduler(solver=solver, prediction_type="sample"), normals(8, 2, 3)
    scheduler.set_timesteps(STEPS)
    together = loop(scheduler, x, [seeded(i) for i in range(8)])
    for i in (0, 3, 7):
        scheduler.set_timesteps(STEPS)
        torch.testing.assert_close(
            loop(scheduler, x[i : i + 1], [seeded(i)])[0], together[i], rtol=1e-6, atol=1e-6
        )
    scheduler.set_timesteps(STEPS)
    assert not torch.allclose(
        loop(scheduler, x, [seeded(i + 1) for i in range(8)]), together
    ) or solver in ("unipc-2", "pece-2")


@pytest.mark.parametrize("solver", [*KINDS[:-1], "heun", "sa-solver"])
def test_a_run_can_begin_at_every_step(solver: str):
    """It is the run of the rest of the grid, with or without `set_begin_index`."""
    scheduler, x = ExpIntScheduler(solver=solver, prediction_type="sample"), normals(2, 3)
    grid = expint.plan_sampling(Discrete(), solver, steps=5, round_time=Discrete().round).grid
    for k in range(5):
        scheduler.set_timesteps(5)
        begin = k * scheduler.order
        if k % 2:
            scheduler.set_begin_index(begin)
            assert scheduler.begin_index == begin
        result = loop(scheduler, x, seeded(1), begin)
        expected = sampled(scheduler, Network(), x, solver, seeded(1), grid=grid[k:])
        torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)
        assert scheduler.step_index == len(scheduler.timesteps)


def test_churn_is_added_before_the_evaluation_that_it_is_for():
    """A state is given at the level of its timestep: the noise that raises it there is not added
    again.
    """
    scheduler, x = (
        ExpIntScheduler(
            solver="edm-stochastic", prediction_type="sample", ell=0.0, grid="trailing"
        ),
        normals(400, 3),
    )
    scheduler.set_timesteps(6)
    plan = expint.plan_sampling(
        Discrete(),
        "edm-stochastic",
        grid=[*expint.grids.discrete(Discrete(), 6, "trailing").tolist()],
        ell=0.0,
    )
    times = torch.tensor([row.time for row in plan.rows if row.evaluates], dtype=torch.float64)
    torch.testing.assert_close(scheduler.timesteps.double(), times, rtol=1e-6, atol=0)
    assert not torch.isclose(times[2], plan.grid[1])
    scheduler.set_begin_index(2)
    scheduler.step(torch.zeros_like(x), scheduler.timesteps[2], x)
    step = scheduler.step(
        torch.zeros_like(x), scheduler.timesteps[3], x, generator=seeded()
    ).prev_sample
    # With D = 0 a step scales the state: what it has beyond that is the noise of the next churn.
    alpha, std = Discrete().alpha, Discrete().std
    level, start, low = float(times[4]), float(times[2]), float(plan.grid[2])
    kept = std(low) / std(start) * alpha(level) / alpha(low)
    added = (std(level) ** 2 - (alpha(level) / alpha(low) * std(low)) ** 2) ** 0.5
    assert abs((step - kept * x).std().item() / added - 1) < 0.05


@pytest.mark.parametrize("solver", ["seeds-2", "seeds-3"])
def test_a_flow_run_can_begin_inside_a_step(solver: str):
    """The first step, from σ = ∞, is one evaluation, so that multiples of the order lie inside
    later steps: steps of first order lead to the end of that one."""
    scheduler = ExpIntScheduler(solver=solver, prediction_type="flow_prediction", ell=0.0)
    scheduler.set_timesteps(5)
    assert len(scheduler.timesteps) == 1 + 3 * int(scheduler.order) + 1
    for begin in range(len(scheduler.timesteps)):
        scheduler.set_timesteps(5)
        scheduler.set_begin_index(begin)
        result = loop(scheduler, normals(2, 3), seeded(1), begin, network=lambda x, t: x)
        assert torch.isfinite(result).all() and scheduler.step_index == len(scheduler.timesteps)
    scheduler.set_timesteps(5)
    begin, times = int(scheduler.order), scheduler.timesteps / 1000
    scheduler.set_begin_index(begin)
    first = scheduler.step(normals(2, 3), scheduler.timesteps[begin], normals(2, 3)).prev_sample
    # With u = x an Euler step is x (1 + Δt).
    torch.testing.assert_close(
        first, normals(2, 3) * (1 + times[begin + 1] - times[begin]), rtol=1e-5, atol=1e-6
    )


def test_a_changed_state_is_taken():
    """Inpainting pipelines put known values into the state between the steps."""
    scheduler, x = (
        ExpIntScheduler(solver="seeds-2", prediction_type="sample", ell=0.0),
        normals(2, 3),
    )
    scheduler.set_timesteps(4)
    for i, t in enumerate(scheduler.timesteps):
        if i == 4:
            x = torch.full_like(x, 0.25)
        before = x.clone()
        result = scheduler.step(wavy(x, t), t, x)
        assert torch.equal(x, before)
        x = result.prev_sample
    scheduler.set_timesteps(4)
    expected = loop(scheduler, torch.full_like(x, 0.25), start=4)
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)


def test_nothing_is_shared_with_the_caller():
    """Neither a given state that is overwritten later, nor a returned one when the run goes on from
    another.
    """
    scheduler, x, results = (
        ExpIntScheduler(solver="seeds-2", prediction_type="sample", ell=0.0),
        normals(2, 3),
        [],
    )
    for overwrite in (False, True):
        scheduler.set_timesteps(4)
        t, given = scheduler.timesteps, x.clone()
        first = scheduler.step(wavy(given, t[0]), t[0], given).prev_sample
        if overwrite:
            given.zero_()
        kept = first.clone()
        results.append(scheduler.step(wavy(first, t[1]), t[1], first + 0.1).prev_sample)
        assert torch.equal(first, kept)
    assert torch.equal(*results)


def test_the_denoised_estimate_comes_with_every_step():
    scheduler, x = ExpIntScheduler(solver="seeds-3", prediction_type="v_prediction"), normals(2, 3)
    scheduler.set_timesteps(4)
    result = scheduler.step(wavy(x, 999), scheduler.timesteps[0], x, generator=seeded())
    rule = expint.equations.predictions.to_denoiser("v", Discrete(), 999.0)
    torch.testing.assert_close(
        result.pred_original_sample, float(rule.on_x) * x + float(rule.on_output) * wavy(x, 999)
    )
    scheduler.set_timesteps(4)
    pair = scheduler.step(
        wavy(x, 999), scheduler.timesteps[0], x, generator=seeded(), return_dict=False
    )
    assert torch.equal(pair[0], result.prev_sample) and torch.equal(
        pair[1], result.pred_original_sample
    )


def test_clipping_bounds_the_estimate():
    scheduler = ExpIntScheduler(solver="seeds-3", clip_sample=True, clip_sample_range=0.5)
    scheduler.set_timesteps(6)
    x = normals(2, 3)
    for t in scheduler.timesteps:
        result = scheduler.step(wavy(x, t), t, x, generator=seeded())
        assert result.pred_original_sample.abs().max() <= 0.5
        x = result.prev_sample
    torch.testing.assert_close(x, result.pred_original_sample)


def test_a_learned_variance_is_dropped():
    results = []
    for width in (1, 2):
        scheduler = ExpIntScheduler(solver="seeds-1", prediction_type="sample")
        scheduler.set_timesteps(3)
        results.append(
            loop(
                scheduler,
                normals(2, 3, 4),
                seeded(),
                network=lambda x, t, n=width: torch.cat([wavy(x, t)] * n, 1),
            )
        )
    assert torch.equal(*results)


@pytest.mark.parametrize(
    "given",
    [{"timesteps": [900, 500, 100]}, {"sigmas": [5.0, 1.0, 0.2]}, {"sigmas": [5.0, 1.0, 0.2, 0.0]}],
)
@pytest.mark.parametrize("final", ["denoise", "none"])
def test_given_times(given: dict[str, Any], final: str):
    scheduler = ExpIntScheduler(solver="seeds-1", round_timesteps=False, final=final)
    scheduler.set_timesteps(**given)
    assert len(scheduler.timesteps) == (3 if final == "denoise" else 2)
    assert (scheduler.sigmas[-1] == 0) == (final == "denoise")
    wanted = torch.tensor(given.get("timesteps") or given["sigmas"][:3], dtype=torch.float32)
    found = scheduler.timesteps if "timesteps" in given else scheduler.sigmas
    torch.testing.assert_close(found[:2], wanted[:2])


# Configurations


def test_configurations_are_taken_over():
    """Also the values that were left at the other class's defaults, which differ from ours."""
    ours = ExpIntScheduler.from_config(
        THEIRS.DDPMScheduler(beta_schedule="squaredcos_cap_v2").config, solver="seeds-2"
    )
    assert (ours.config["grid"], ours.config["clip_sample"], ours.config["solver"]) == (
        "leading",
        True,
        "seeds-2",
    )
    torch.testing.assert_close(
        ours.alphas_cumprod, THEIRS.DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    )
    karras = THEIRS.DPMSolverMultistepScheduler(
        use_karras_sigmas=True, final_sigmas_type="sigma_min", **SD
    )
    ours = ExpIntScheduler.from_config(karras.config)
    assert (ours.config["grid"], ours.config["final"], ours.config["steps_offset"]) == (
        "karras",
        "none",
        1,
    )
    flow = THEIRS.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )
    ours = ExpIntScheduler.from_config(flow.config)
    assert ours.config["shift"] == 3.0 and isinstance(ours._schedule, expint.schedules.Flow)
    assert ExpIntScheduler.from_config(flow.config, shift=2.0).config["shift"] == 2.0


@pytest.mark.parametrize("steps", [6, 12])
def test_the_default_grid_where_it_is_asked_for(steps: int):
    """Keyword arguments come on top of a spacing that was taken over, also after a folder was
    saved."""
    config = THEIRS.DDIMScheduler().config
    model = diffusion_adapters.VPAdapter(wavy, Discrete(), timesteps="round")
    plan = expint.plan_sampling(model.schedule, steps=steps, round_time=model.round_time)
    called = [row.time for row in plan.rows if row.evaluates]
    first = ExpIntScheduler.from_config(config, grid=None)
    for ours in (first, ExpIntScheduler.from_config(first.config)):
        ours.set_timesteps(steps)
        assert ours.timesteps.tolist() == called and ours._plan.solver == plan.solver


def test_there_and_back(tmp_path: Path):
    theirs = THEIRS.DDPMScheduler(
        variance_type="fixed_large", beta_end=0.015, timestep_spacing="trailing"
    )
    ours = ExpIntScheduler.from_config(theirs.config, solver="seeds-3b")
    ours.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["solver"] == "seeds-3b"
    loaded = ExpIntScheduler.from_pretrained(tmp_path)
    again = ExpIntScheduler.from_config(loaded.config)
    for each in (loaded, again):
        assert {k: v for k, v in each.config.items() if k[0] != "_"} == {
            k: v for k, v in ours.config.items() if k[0] != "_"
        }
    back = THEIRS.DDPMScheduler.from_config(ours.config)
    assert (back.config.variance_type, back.config.beta_end, back.config.timestep_spacing) == (
        "fixed_large",
        0.015,
        "trailing",
    )
    assert {THEIRS.DDPMScheduler, THEIRS.FlowMatchEulerDiscreteScheduler} <= set(ours.compatibles)


def test_zero_terminal_snr():
    scheduler = ExpIntScheduler(
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        grid="trailing",
        solver="seeds-2",
    )
    theirs = THEIRS.DDIMScheduler(rescale_betas_zero_snr=True)
    torch.testing.assert_close(
        scheduler.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-5, atol=1e-6
    )
    scheduler.set_timesteps(5)
    assert (
        scheduler.sigmas[0] == torch.inf
        and torch.isfinite(loop(scheduler, normals(2, 3), seeded())).all()
    )
    noise = ExpIntScheduler(rescale_betas_zero_snr=True)
    with pytest.raises(ValueError, match="sigma = infinity"):
        noise.set_timesteps(5)


# Errors


def test_a_step_needs_timesteps():
    scheduler, x = ExpIntScheduler(), normals(2, 3)
    with pytest.raises(ValueError, match="set_timesteps"):
        scheduler.step(x, 999, x)
    scheduler.set_timesteps(1)
    scheduler.step(x, 999, x)
    with pytest.raises(ValueError, match="All 1 evaluations are made"):
        scheduler.step(x, 999, x)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"solver": "seed-3"}, "seeds-3"),
        ({"prediction_type": "noise"}, "epsilon"),
        ({"beta_schedule": "cosine"}, "squaredcos_cap_v2"),
        ({"trained_betas": [0.1]}, "at least 2"),
        ({"operations": ["shake"]}, "churn"),
        ({"num_train_timesteps": 0}, "num_train_timesteps"),
    ],
)
def test_wrong_configurations(config: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ExpIntScheduler(**config)


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        ({"solver": "taylor-2"}, {"num_inference_steps": 4}, "derivatives"),
        ({"solver": "etd-rk4", "round_timesteps": True}, {"num_inference_steps": 4}, "round"),
        ({"grid": "karas"}, {"num_inference_steps": 4}, "karras"),
        ({"final": "zero"}, {"num_inference_steps": 4}, "denoise"),
        ({}, {}, "one of them"),
        ({}, {"num_inference_steps": 0}, "must be from 1 to 1000, got 0"),
        ({}, {"num_inference_steps": 3, "timesteps": [900, 100]}, "num_inference_steps=3"),
        ({}, {"timesteps": [900], "sigmas": [1.0]}, "one of them"),
        ({}, {"timesteps": [[900, 500]]}, "1-D"),
        (
            {"prediction_type": "flow_prediction", "shift_terminal": 1.5},
            {"num_inference_steps": 4},
            "shift_terminal",
        ),
        (
            {"prediction_type": "flow_prediction", "use_dynamic_shifting": True},
            {"num_inference_steps": 4},
            "mu",
        ),
    ],
)
def test_wrong_timesteps(config: dict[str, Any], given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ExpIntScheduler(**config).set_timesteps(**given)


def test_operations_are_a_list():
    with pytest.raises(TypeError, match="operations must be a sequence"):
        ExpIntScheduler(operations="churn(s_churn=40)")


def test_wrong_steps():
    x = normals(2, 3)
    scheduler = ExpIntScheduler(solver="pndm")
    scheduler.set_timesteps(6)
    scheduler.set_begin_index(2)
    with pytest.raises(ValueError, match=r"can begin at \[0, 3, 4, 7, 8, 11, 12, 13, 14\]"):
        scheduler.step(x, 0, x)
    scheduler = ExpIntScheduler(solver="seeds-1")
    scheduler.set_timesteps(6)
    with pytest.raises(ValueError, match="not one of"):
        scheduler.step(x, 1, x)
    with pytest.raises(ValueError, match="2 for a batch of 3"):
        scheduler.step(normals(3, 3), 999, normals(3, 3), generator=[seeded(), seeded()])
    scheduler.step(x, 999, x)
    with pytest.raises(ValueError, match="another batch"):
        scheduler.step(x[:1], 999, x[:1])


def test_a_state_that_overflows_is_an_error():
    """Steps are counted from where the run began."""
    scheduler = ExpIntScheduler(solver="seeds-1", prediction_type="sample", ell=0.0)
    scheduler.set_timesteps(6)
    scheduler.set_begin_index(3)
    with pytest.raises(FloatingPointError, match="in step 2 of 3"):
        loop(
            scheduler,
            normals(2, 3),
            start=3,
            network=lambda x, t: x * (torch.inf if t == scheduler.timesteps[4] else 1),
        )


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_networks_of_another_convention_are_refused(name: str):
    with pytest.raises(ValueError, match="EDMAdapter"):
        ExpIntScheduler.from_config(getattr(THEIRS, name)().config)


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("ScoreSdeVeScheduler", {}, "sampling_eps"),
        ("DDPMWuerstchenScheduler", {}, "scaler"),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "invert_sigmas"),
    ],
)
def test_noise_levels_that_no_table_holds_are_refused(name: str, options: dict[str, Any], key: str):
    with pytest.raises(ValueError, match=key):
        ExpIntScheduler.from_config(getattr(THEIRS, name)(**options).config)


def test_without_diffusers(monkeypatch: pytest.MonkeyPatch):
    """The adapters do not import it, and where it is missing the way out is named."""
    folder = Path(diffusion_adapters.__path__[0])
    sources = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.py")
    }
    found = [
        name
        for name, text in sources.items()
        if re.search(r"^\s*(from|import) diffusers", text, re.M)
    ]
    assert found == ["diffusers/scheduler.py"]
    monkeypatch.delitem(sys.modules, "diffusion_adapters.diffusers.scheduler")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.setitem(sys.modules, "diffusers.configuration_utils", None)
    with pytest.raises(ImportError, match=r"pip install 'expint\[diffusers\]'"):
        __import__("diffusion_adapters.diffusers.scheduler")


# The noise of generators


def test_generators_give_standard_normals_in_order():
    like, substep = torch.zeros(2, 3), SubstepNoise(2, integral=True)
    expected = [torch.empty(2, 3).normal_(generator=g) for g in [seeded(4)] for _ in range(4)]
    stream = FromGenerators(seeded(4)).stream(like, [substep])
    torch.testing.assert_close(stream.normals(substep), expected[:3], rtol=0, atol=0)
    torch.testing.assert_close(stream.normals(SubstepNoise(1)), expected[3:], rtol=0, atol=0)
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        FromGenerators([3])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("grid", [None, "linspace", "karras", "uniform_lambda"])
def test_more_steps_than_timesteps_are_refused(grid):
    """Also where the plan would call the network in between."""
    scheduler = ExpIntScheduler(grid=grid, round_timesteps=False)
    with pytest.raises(ValueError, match="num_inference_steps must be from 1 to 1000, got 5000"):
        scheduler.set_timesteps(5000)


def test_a_plan_that_cannot_be_good_is_told_with_the_timesteps():
    """Once for each plan, before the network is called."""
    scheduler = ExpIntScheduler(solver="heun")
    with pytest.warns(PlanWarning, match="'heun' with 4 steps .* Take 'unipc-2'") as caught:
        scheduler.set_timesteps(4)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error", PlanWarning)
        x = torch.ones(1, 2, 2)
        for t in scheduler.timesteps:
            x = scheduler.step(0.1 * x, t, x).prev_sample
        ExpIntScheduler().set_timesteps(10)
