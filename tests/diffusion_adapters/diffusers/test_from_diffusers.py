"""Networks of the installed diffusers as models: the calls that their pipelines make, and the
schedule of their schedulers.
"""

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import expint
from diffusion_adapters import cfg, from_diffusers
from expint.noise import FromGenerators
from expint.schedules import Discrete, Flow

torch.set_num_threads(1)
# it loads its classes when they are asked for, so that nothing about them is declared
THEIRS: Any = diffusers
# The schedulers hand tensors to numpy, which finds that the methods of older torch lack arguments.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{start}:DeprecationWarning")
    for start in ("__array__ implementation", "__array_wrap__ must")
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=seeded(seed))


def plain() -> Any:
    return THEIRS.UNet2DModel(
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


def conditional() -> Any:
    """As in Stable Diffusion XL: with a size embedding and pooled text beside the text."""
    return THEIRS.UNet2DConditionModel(
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
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 10,
    )


def dit() -> Any:
    """Class-conditional, with a learned variance."""
    return THEIRS.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=10,
    )


def sd3() -> Any:
    return THEIRS.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        caption_projection_dim=16,
        pooled_projection_dim=10,
        out_channels=4,
        pos_embed_max_size=8,
    )


def built(kind: Any) -> Any:
    torch.manual_seed(0)
    return kind().eval().requires_grad_(False)


def sdxl_arguments(rows: int = 2) -> dict[str, Any]:
    return {
        "encoder_hidden_states": normals(rows, 5, 12, seed=1),
        "added_cond_kwargs": {
            "text_embeds": normals(rows, 10, seed=2),
            "time_ids": torch.full((rows, 6), 8.0),
        },
    }


class Recorder(torch.nn.Module):
    """Notes how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, sample: Tensor, timestep: Tensor, **arguments: Any) -> Tensor:
        self.calls.append({"sample": sample, "timestep": timestep, **arguments})
        return 0.1 * sample


# Against the networks themselves

CASES: dict[str, tuple[Any, Any, int, dict[str, Any]]] = {
    "UNet2DModel": (plain, THEIRS.DDPMScheduler, 3, {}),
    "UNet2DConditionModel": (conditional, THEIRS.DDIMScheduler, 4, sdxl_arguments()),
    "DiTTransformer2DModel": (dit, THEIRS.DDIMScheduler, 4, {"class_labels": torch.tensor([3, 7])}),
    "SD3Transformer2DModel": (
        sd3,
        THEIRS.FlowMatchEulerDiscreteScheduler,
        4,
        {
            "encoder_hidden_states": normals(2, 5, 12, seed=1),
            "pooled_projections": normals(2, 10, seed=2),
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_prediction_is_the_output_of_the_network(name: str):
    kind, scheduler, channels, arguments = CASES[name]
    network, x = built(kind), normals(2, channels, 8, 8)
    model = from_diffusers(network, scheduler(), **arguments)
    for t in (0.25, 0.75) if isinstance(model.schedule, Flow) else (3.0, 700.0):
        time = 1000 * t if isinstance(model.schedule, Flow) else t
        # DiT takes a batch of timesteps.
        expected = network(x, timestep=torch.tensor([time] * 2), **arguments).sample[:, :channels]
        torch.testing.assert_close(model(x, t), expected, rtol=1e-6, atol=1e-6)
        assert (model(x, t) - model(x, 0.5 * t)).abs().max() > 1e-6
    result = expint.sample(model, (2, channels, 8, 8), "seeds-2", nfe=5, progress=False)
    assert torch.isfinite(result).all()


def test_the_sampler_is_the_pipeline():
    """DiT with its own scheduler, DDIM, in the pipeline's loop; and DDPM's with noise."""
    network, arguments = built(dit), {"class_labels": torch.tensor([3, 7])}
    for scheduler, ell in (
        (THEIRS.DDIMScheduler(clip_sample=False), 0.0),
        (THEIRS.DDPMScheduler(clip_sample=False), 1.0),
    ):
        scheduler.register_to_config(prediction_type="v_prediction")
        scheduler.set_timesteps(6)
        x, generator = normals(2, 4, 8, 8), seeded(1)
        state = x
        for t in scheduler.timesteps:
            output = network(state, timestep=t.expand(2), **arguments).sample[:, :4]
            state = scheduler.step(output, t, state, generator=generator).prev_sample
        model = from_diffusers(network, scheduler, **arguments)
        grid = expint.grids.discrete(model.schedule, 6, "leading")
        noise = FromGenerators(seeded(1))
        ours = expint.sample(model, x, "seeds-1", grid=grid, ell=ell, noise=noise, progress=False)
        torch.testing.assert_close(ours, state, rtol=1e-5, atol=1e-5)


# The schedule and the prediction


@pytest.mark.parametrize(
    "scheduler",
    [
        THEIRS.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample"),
        THEIRS.DDPMScheduler(beta_schedule="sigmoid"),
        THEIRS.DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
        ),
        THEIRS.EulerDiscreteScheduler(num_train_timesteps=500),
        THEIRS.DDPMScheduler(trained_betas=[0.01, 0.02, 0.05, 0.2], num_train_timesteps=4),
    ],
)
def test_tables(scheduler: Any):
    model = from_diffusers(Recorder(), scheduler)
    times = torch.arange(len(scheduler.alphas_cumprod), dtype=torch.float64)
    torch.testing.assert_close(
        model.schedule.alpha(times) ** 2, scheduler.alphas_cumprod.double(), rtol=2e-5, atol=1e-7
    )
    words = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
    assert model.prediction == words[scheduler.config.prediction_type]


def test_a_configuration_is_enough():
    """As it stands in a file, without entries that were left at their defaults."""
    model = from_diffusers(Recorder(), {"_class_name": "DDPMScheduler", "beta_schedule": "linear"})
    assert model.schedule == Discrete() and model.prediction == "noise"
    flow = from_diffusers(
        Recorder(), {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    )
    assert isinstance(flow.schedule, Flow) and flow.prediction == "flow"


# The calls


def test_timesteps_are_integers_of_the_table():
    network = Recorder()
    expint.sample(from_diffusers(network, {}), (2, 3), "seeds-3", steps=5, progress=False)
    times = torch.stack([call["timestep"] for call in network.calls])
    assert times.shape == (13, 2) and times.dtype == torch.long and times[0, 0] == 999


def test_timesteps_in_between():
    """They stay float32 for a network in half precision, which could not tell them apart."""
    network = Recorder().to(torch.bfloat16)
    expint.sample(
        from_diffusers(network, {}, timesteps="interpolate"),
        (2, 3),
        "seeds-3",
        steps=5,
        progress=False,
    )
    times = torch.stack([call["timestep"] for call in network.calls])
    assert times.dtype == torch.float32 and not torch.equal(times, times.round())
    assert {call["sample"].dtype for call in network.calls} == {torch.bfloat16}


@pytest.mark.parametrize(("scale", "first"), [(None, 1000.0), (1.0, 1.0)])
def test_timesteps_of_flow_matching(scale: float | None, first: float):
    network = Recorder()
    model = from_diffusers(network, {"prediction_type": "flow_prediction"}, timestep_scale=scale)
    expint.sample(model, (2, 3), "seeds-1", steps=3, progress=False)
    assert float(network.calls[0]["timestep"][0]) == first


def test_rows_of_the_conditioning_are_repeated():
    network, one = Recorder(), sdxl_arguments(2)
    from_diffusers(network, {}, **one)(normals(6, 3), 10.0)
    called = network.calls[0]
    assert torch.equal(
        called["encoder_hidden_states"], one["encoder_hidden_states"].repeat_interleave(3, dim=0)
    )
    expected = one["added_cond_kwargs"]["text_embeds"].repeat_interleave(3, dim=0)
    assert torch.equal(called["added_cond_kwargs"]["text_embeds"], expected)


def test_guidance():
    """With one prompt for all samples; both halves in one batch are the same as two calls."""
    network = built(sd3)
    prompt = {
        "encoder_hidden_states": normals(1, 5, 12, seed=1),
        "pooled_projections": normals(1, 10, seed=2),
    }
    negative = {name: torch.zeros_like(value) for name, value in prompt.items()}
    model, without = (
        from_diffusers(network, {"prediction_type": "flow_prediction"}, **each)
        for each in (prompt, negative)
    )
    x = normals(3, 4, 8, 8)
    conditional, other = model(x, 0.5), without(x, 0.5)
    for batched in (True, False):
        guided = cfg(model, 3.0, unconditional=negative, batched=batched)
        torch.testing.assert_close(
            guided(x, 0.5), other + 3.0 * (conditional - other), rtol=1e-4, atol=1e-5
        )
    assert (conditional - other).abs().max() > 1e-3


# Errors


@pytest.mark.parametrize(
    ("scheduler", "options", "error", "message"),
    [
        (3, {}, TypeError, "scheduler is a diffusers scheduler"),
        ({"prediction_type": "noise"}, {}, ValueError, "epsilon"),
        ({}, {"timesteps": "nearest"}, ValueError, "interpolate"),
        ({"shift": 3.0}, {"timesteps": "round"}, ValueError, "has no table"),
        ({}, {"timestep_scale": 1.0}, ValueError, "flow matching"),
        ({"sigma_data": 0.5}, {}, ValueError, "EDMAdapter"),
    ],
)
def test_wrong_arguments(
    scheduler: Any, options: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        from_diffusers(Recorder(), scheduler, **options)


def test_wrong_conditioning():
    with pytest.raises(ValueError, match="4 rows for a batch of 6"):
        from_diffusers(Recorder(), {}, class_labels=torch.arange(4))(normals(6, 3), 10.0)
    with pytest.raises(TypeError, match="must be callable"):
        from_diffusers(None, {})  # pyright: ignore[reportArgumentType]
