"""Pipelines of the installed diffusers from its own components, tiny and with random weights, and
how each is called. Prompts come as embeddings; no tokenizer, no text encoder.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import diffusers
import torch
from torch import Tensor

THEIRS: Any = diffusers
SIZE = 8
STEPS = 4


class Kind(NamedTuple):
    """A pipeline: its class, its scheduler's class and options, its components, its arguments."""

    name: str
    scheduler: tuple[str, dict[str, Any]]
    parts: Callable[[], dict[str, Any]]
    call: Callable[[], dict[str, Any]]
    strength: bool = False
    masked: bool = False


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def made(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    net = getattr(THEIRS, name)(**options)
    return net.eval().requires_grad_(False)


NO_TEXT = dict.fromkeys(("text_encoder", "tokenizer"))
NO_TEXT_2 = {**NO_TEXT, **dict.fromkeys(("text_encoder_2", "tokenizer_2"))}
NO_TEXT_3 = {**NO_TEXT_2, **dict.fromkeys(("text_encoder_3", "tokenizer_3"))}
NO_CHECK = {
    **dict.fromkeys(("safety_checker", "feature_extractor")),
    "requires_safety_checker": False,
}

DDIM = ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True})
EULER_FLOW = ("FlowMatchEulerDiscreteScheduler", {"shift": 2.0})
DYNAMIC = ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True})

IMAGE: dict[str, Any] = {"height": SIZE, "width": SIZE, "output_type": "latent"}


def image() -> Tensor:
    return normals(1, 3, SIZE, SIZE, seed=5).tanh()


def mask() -> Tensor:
    return (normals(1, 1, SIZE, SIZE, seed=6) > 0).float()


@cache
def vae(channels: int = 4, **more: Any) -> Any:
    return made(
        "AutoencoderKL", block_out_channels=(4,), norm_num_groups=2, sample_size=SIZE,
        latent_channels=channels, **more,
    )  # fmt: skip


@cache
def unet(channels: int = 4, xl: bool = False, labels: bool = False) -> Any:
    more: dict[str, Any] = {}
    if xl:
        more = {
            "addition_embed_type": "text_time", "addition_time_embed_dim": 2,
            "projection_class_embeddings_input_dim": 24, "transformer_layers_per_block": 1,
        }  # fmt: skip
    if labels:
        more = {"num_class_embeds": 1000}
    return made(
        "UNet2DConditionModel", sample_size=SIZE, in_channels=channels, out_channels=4,
        block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8, attention_head_dim=2, **more,
    )  # fmt: skip


@cache
def controlnet(xl: bool = False) -> Any:
    more: dict[str, Any] = {}
    if xl:
        more = {
            "addition_embed_type": "text_time", "addition_time_embed_dim": 2,
            "projection_class_embeddings_input_dim": 24, "transformer_layers_per_block": 1,
        }  # fmt: skip
    net = made(
        "ControlNetModel", block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=8,
        attention_head_dim=2, conditioning_embedding_out_channels=(2,), **more,
    )  # fmt: skip
    torch.nn.init.normal_(net.controlnet_mid_block.weight, std=0.1)
    return net


def prompts(
    count: int = 1, width: int = 8, length: int = 4, negative: bool = True
) -> dict[str, Any]:
    found = {"prompt_embeds": normals(count, length, width, seed=1)}
    if negative:
        found["negative_prompt_embeds"] = normals(count, length, width, seed=2)
    return found


def pooled(width: int = 12, negative: bool = True) -> dict[str, Any]:
    found = {"pooled_prompt_embeds": normals(1, width, seed=3)}
    if negative:
        found["negative_pooled_prompt_embeds"] = normals(1, width, seed=4)
    return found


# U-Nets with a table


def sd(channels: int = 4, **more: Any) -> dict[str, Any]:
    return {
        "vae": vae(), "unet": unet(channels), **NO_TEXT, **NO_CHECK, "image_encoder": None, **more,
    }  # fmt: skip


def sdxl(**more: Any) -> dict[str, Any]:
    return {"vae": vae(), "unet": unet(xl=True), **NO_TEXT_2, "add_watermarker": False, **more}


XL = {"guidance_scale": 2.0, **{k: v for k, v in IMAGE.items() if k == "output_type"}}


def sd_call(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {
        **prompts(), "guidance_scale": 2.0, "output_type": "latent",
        **{k: v() if callable(v) else v for k, v in more.items()},
    }  # fmt: skip


def xl_call(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {**sd_call(**more)(), **pooled()}


SQUARE = {"height": SIZE, "width": SIZE}
HALF = {"strength": 0.5, "image": image}
UNETS = [
    Kind("StableDiffusionPipeline", DDIM, sd, sd_call(**SQUARE)),
    Kind("StableDiffusionImg2ImgPipeline", DDIM, sd, sd_call(**HALF), strength=True),
    Kind(
        "StableDiffusionInpaintPipeline", DDIM, sd,
        sd_call(**HALF, **SQUARE, mask_image=mask), strength=True, masked=True,
    ),
    Kind(
        "StableDiffusionInpaintPipeline", DDIM, lambda: sd(9),
        sd_call(**HALF, **SQUARE, mask_image=mask), strength=True,
    ),
    Kind(
        "StableDiffusionInstructPix2PixPipeline", DDIM, lambda: sd(8), sd_call(image=image),
    ),
    Kind(
        "StableDiffusionControlNetPipeline", DDIM, lambda: sd(controlnet=controlnet()),
        sd_call(image=image, **SQUARE),
    ),
    Kind(
        "StableDiffusionControlNetImg2ImgPipeline", DDIM, lambda: sd(controlnet=controlnet()),
        sd_call(**HALF, **SQUARE, control_image=image), strength=True,
    ),
    Kind(
        "StableDiffusionControlNetInpaintPipeline", DDIM, lambda: sd(controlnet=controlnet()),
        sd_call(**HALF, **SQUARE, mask_image=mask, control_image=image), strength=True, masked=True,
    ),
    Kind(
        "StableDiffusionPAGPipeline", DDIM, lambda: sd(pag_applied_layers=["mid"]),
        sd_call(**SQUARE, pag_scale=1.0),
    ),
    Kind("StableDiffusionXLPipeline", DDIM, sdxl, xl_call(**SQUARE)),
    Kind("StableDiffusionXLImg2ImgPipeline", DDIM, sdxl, xl_call(**HALF), strength=True),
    Kind(
        "StableDiffusionXLImg2ImgPipeline", DDIM, sdxl, xl_call(image=image, denoising_start=0.5),
    ),
    Kind(
        "StableDiffusionXLInpaintPipeline", DDIM, sdxl,
        xl_call(**HALF, **SQUARE, mask_image=mask), strength=True, masked=True,
    ),
    Kind(
        "StableDiffusionXLControlNetPipeline", DDIM, lambda: sdxl(controlnet=controlnet(True)),
        xl_call(image=image, **SQUARE),
    ),
    Kind(
        "StableDiffusionXLControlNetImg2ImgPipeline", DDIM,
        lambda: sdxl(controlnet=controlnet(True)),
        xl_call(**HALF, **SQUARE, control_image=image), strength=True,
    ),
    Kind(
        "StableDiffusionXLPAGPipeline", DDIM, lambda: sdxl(pag_applied_layers=["mid"]),
        xl_call(**SQUARE, pag_scale=1.0),
    ),
    Kind("AnimateDiffPipeline", DDIM, lambda: animate(), sd_call(num_frames=2, **SQUARE)),
    Kind(
        "AnimateDiffVideoToVideoPipeline", DDIM, lambda: animate(),
        sd_call(video=lambda: normals(1, 2, 3, SIZE, SIZE, seed=5).tanh(), strength=0.5, **SQUARE),
        strength=True,
    ),
    Kind("DDPMPipeline", DDIM, lambda: {"unet": unet2d()}, lambda: {"output_type": "np"}),
    Kind("DDIMPipeline", DDIM, lambda: {"unet": unet2d()}, lambda: {"output_type": "np"}),
]  # fmt: skip


@cache
def unet2d() -> Any:
    return made(
        "UNet2DModel", sample_size=SIZE, block_out_channels=(4, 8), layers_per_block=1,
        norm_num_groups=2, down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"), add_attention=False,
    )  # fmt: skip


def animate() -> dict[str, Any]:
    motion = made(
        "MotionAdapter", block_out_channels=(4, 8), motion_layers_per_block=1,
        motion_num_attention_heads=2, motion_norm_num_groups=2,
    )  # fmt: skip
    return {"vae": vae(), "unet": unet(), **NO_TEXT, "motion_adapter": motion}


# Transformers with a table


def dit(**more: Any) -> dict[str, Any]:
    return {
        "transformer": made(
            "DiTTransformer2DModel",
            **WIDTH,
            in_channels=4,
            out_channels=8,
            sample_size=SIZE,
            num_layers=1,
            norm_num_groups=2,
        ),
        "vae": vae(),
        **more,
    }


def pixart(**more: Any) -> dict[str, Any]:
    net = made(
        "PixArtTransformer2DModel",
        **WIDTH,
        sample_size=SIZE,
        num_layers=1,
        cross_attention_dim=16,
        caption_channels=8,
        norm_num_groups=2,
    )
    return {"transformer": net, "vae": vae(), **NO_TEXT, **more}


def masks(kind: torch.dtype = torch.float32) -> dict[str, Any]:
    ones = torch.ones(1, 4, dtype=kind)
    return {"prompt_attention_mask": ones, "negative_prompt_attention_mask": ones}


def pixart_call() -> dict[str, Any]:
    return {
        **prompts(),
        **masks(),
        **IMAGE,
        "negative_prompt": None,
        "use_resolution_binning": False,
        "guidance_scale": 2.0,
    }


def latte() -> dict[str, Any]:
    net = made(
        "LatteTransformer3DModel",
        **WIDTH,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        caption_channels=8,
        sample_size=SIZE,
        patch_size=2,
        video_length=2,
        norm_type="ada_norm_single",
        num_embeds_ada_norm=1000,
        norm_elementwise_affine=False,
        attention_bias=True,
        activation_fn="gelu-approximate",
    )
    return {"transformer": net, "vae": vae(), **NO_TEXT}


def hunyuan_dit() -> dict[str, Any]:
    net = made(
        "HunyuanDiT2DModel",
        num_attention_heads=2,
        attention_head_dim=8,
        hidden_size=16,
        in_channels=4,
        patch_size=2,
        sample_size=SIZE,
        num_layers=2,
        cross_attention_dim=8,
        cross_attention_dim_t5=8,
        pooled_projection_dim=4,
        text_len=4,
        text_len_t5=4,
        activation_fn="gelu-approximate",
    )
    return {"transformer": net, "vae": vae(), **NO_TEXT_2, **NO_CHECK}


def hunyuan_dit_call() -> dict[str, Any]:
    twice = {**prompts(), **masks()}
    second = {f"{name}_2": value for name, value in twice.items()}
    return {**twice, **second, **VIDEO, "use_resolution_binning": False}


def cogvideox() -> dict[str, Any]:
    net = made(
        "CogVideoXTransformer3DModel",
        **WIDTH,
        in_channels=4,
        out_channels=4,
        time_embed_dim=4,
        text_embed_dim=8,
        num_layers=1,
        sample_width=4,
        sample_height=4,
        sample_frames=5,
        patch_size=2,
        max_text_seq_length=4,
    )
    video = made(
        "AutoencoderKLCogVideoX",
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
    )
    return {"transformer": net, "vae": video, **NO_TEXT}


def cogview3() -> dict[str, Any]:
    net = made(
        "CogView3PlusTransformer2DModel",
        **WIDTH,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        text_embed_dim=8,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=8,
        sample_size=SIZE,
    )
    return {"transformer": net, "vae": vae(), **NO_TEXT}


def allegro() -> dict[str, Any]:
    net = made(
        "AllegroTransformer3DModel",
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        cross_attention_dim=24,
        sample_width=SIZE,
        sample_height=SIZE,
        sample_frames=2,
        caption_channels=8,
    )
    video = made(
        "AutoencoderKLAllegro",
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        layers_per_block=1,
        latent_channels=4,
        sample_size=SIZE,
        down_block_types=("AllegroDownBlock3D",) * 4,
        up_block_types=("AllegroUpBlock3D",) * 4,
    )
    return {"transformer": net, "vae": video, **NO_TEXT}


def svd() -> dict[str, Any]:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    net = made(
        "UNetSpatioTemporalConditionModel",
        sample_size=SIZE,
        in_channels=8,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        num_attention_heads=(2, 4),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=8,
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12,
    )
    frames = made("AutoencoderKLTemporalDecoder", block_out_channels=(32,), latent_channels=4)
    config = CLIPVisionConfig(
        hidden_size=8,
        projection_dim=8,
        intermediate_size=8,
        image_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        patch_size=4,
    )
    torch.manual_seed(0)
    encoder = CLIPVisionModelWithProjection(config).eval()
    crop = CLIPImageProcessor(crop_size=8, size=8)
    return {"unet": net, "vae": frames, "image_encoder": encoder, "feature_extractor": crop}


def svd_call() -> dict[str, Any]:
    return {
        **IMAGE,
        "image": image(),
        "num_frames": 2,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 2.0,
    }


def stable_audio() -> dict[str, Any]:
    net = made(
        "StableAudioDiTModel",
        sample_size=4,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        cross_attention_dim=8,
        time_proj_dim=8,
        global_states_input_dim=16,
        cross_attention_input_dim=8,
    )
    audio = made(
        "AutoencoderOobleck",
        encoder_hidden_size=4,
        downsampling_ratios=[1, 2],
        decoder_channels=4,
        decoder_input_channels=4,
        channel_multiples=[1, 2],
        audio_channels=2,
        sampling_rate=4,
    )
    module = THEIRS.pipelines.stable_audio.StableAudioProjectionModel
    torch.manual_seed(0)
    projection = module(text_encoder_dim=8, conditioning_dim=8, min_value=0, max_value=32)
    return {"transformer": net, "vae": audio, "projection_model": projection.eval(), **NO_TEXT}


def stable_audio_call() -> dict[str, Any]:
    mask = torch.ones(1, 4, dtype=torch.long)
    return {
        **prompts(),
        "attention_mask": mask,
        "negative_attention_mask": mask,
        "audio_end_in_s": 1.0,
        "output_type": "latent",
    }


WIDTH = {"num_attention_heads": 2, "attention_head_dim": 8}
SVD_SCHEDULER = (
    "EulerDiscreteScheduler",
    {
        "prediction_type": "v_prediction",
        "timestep_type": "continuous",
        "use_karras_sigmas": True,
        "sigma_min": 0.002,
        "sigma_max": 700.0,
    },
)
COG = (
    "CogVideoXDDIMScheduler",
    {
        "prediction_type": "v_prediction",
        "snr_shift_scale": 3.0,
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
)
TABLES = [
    Kind("DiTPipeline", DDIM, dit, lambda: {"class_labels": [1], "output_type": "np"}),
    Kind("PixArtAlphaPipeline", DDIM, pixart, pixart_call),
    Kind("PixArtSigmaPipeline", DDIM, pixart, pixart_call),
    Kind("LattePipeline", DDIM, latte, lambda: {**prompts(), **IMAGE, "video_length": 2,
        "negative_prompt": None, "clean_caption": False}),
    Kind("HunyuanDiTPipeline", DDIM, hunyuan_dit, hunyuan_dit_call),
    Kind("CogVideoXPipeline", COG, cogvideox, lambda: {**prompts(), "height": 32, "width": 32,
        "num_frames": 5, "output_type": "latent"}),
    Kind("CogView3PlusPipeline", COG, cogview3, lambda: {**prompts(), "height": 16, "width": 16,
        "output_type": "latent"}),
    Kind("AllegroPipeline", DDIM, allegro, lambda: {**prompts(), **masks(), "height": 32,
        "width": 32, "num_frames": 2, "output_type": "latent", "negative_prompt": None}),
    Kind("StableVideoDiffusionPipeline", SVD_SCHEDULER, svd, svd_call),
    Kind("StableAudioPipeline", ("CosineDPMSolverMultistepScheduler", {}), stable_audio,
        stable_audio_call),
]  # fmt: skip


# Flow matching

ROPE = {"axes_dims_rope": (4, 2, 2)}


@cache
def flux(**more: Any) -> Any:
    return made(
        "FluxTransformer2DModel",
        **WIDTH,
        **ROPE,
        in_channels=more.pop("channels", 16),
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=8,
        pooled_projection_dim=12,
        **more,
    )


def flux_parts(**more: Any) -> dict[str, Any]:
    return {
        "transformer": flux(),
        "vae": vae(shift_factor=0.0),
        **NO_TEXT_2,
        "image_encoder": None,
        "feature_extractor": None,
        **more,
    }


def flux_call(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {
        **prompts(negative=False),
        **pooled(negative=False),
        **IMAGE,
        **{k: v() if callable(v) else v for k, v in more.items()},
    }


def flux_controlnet() -> Any:
    net = made(
        "FluxControlNetModel",
        **WIDTH,
        **ROPE,
        in_channels=16,
        num_layers=1,
        num_single_layers=0,
        joint_attention_dim=8,
        pooled_projection_dim=12,
    )
    torch.nn.init.normal_(net.controlnet_blocks[0].weight, std=0.1)
    return net


def chroma() -> dict[str, Any]:
    net = made(
        "ChromaTransformer2DModel",
        **WIDTH,
        **ROPE,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=8,
        approximator_num_channels=8,
        approximator_hidden_dim=8,
        approximator_layers=1,
    )
    return {
        "transformer": net,
        "vae": vae(shift_factor=0.0),
        **NO_TEXT,
        "image_encoder": None,
        "feature_extractor": None,
    }


def chroma_call(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {**sd_call(**more)(), **masks(), **IMAGE}


@cache
def sd3_transformer(channels: int = 4) -> Any:
    return made(
        "SD3Transformer2DModel",
        **WIDTH,
        sample_size=SIZE,
        in_channels=channels,
        out_channels=channels,
        num_layers=1,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pooled_projection_dim=12,
        pos_embed_max_size=8,
    )


def sd3(channels: int = 4, **more: Any) -> dict[str, Any]:
    net, coder = sd3_transformer(channels), vae(channels, shift_factor=0.0)
    return {"transformer": net, "vae": coder, **NO_TEXT_3, **more}


def sd3_controlnet() -> Any:
    net = made(
        "SD3ControlNetModel",
        **WIDTH,
        sample_size=SIZE,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pooled_projection_dim=12,
        pos_embed_max_size=8,
    )
    torch.nn.init.normal_(net.controlnet_blocks[0].weight, std=0.1)
    return net


def sd3_call(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {**sd_call(**more)(), **pooled()}


@cache
def qwen_vae() -> Any:
    return made(
        "AutoencoderKLQwenImage",
        base_dim=4,
        z_dim=4,
        dim_mult=[1],
        num_res_blocks=1,
        temperal_downsample=[],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def qwen() -> dict[str, Any]:
    net = made(
        "QwenImageTransformer2DModel",
        **WIDTH,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        joint_attention_dim=8,
        axes_dims_rope=(4, 2, 2),
    )
    return {"transformer": net, "vae": qwen_vae(), **NO_TEXT}


def qwen_call(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {
        **prompts(negative=False),
        **IMAGE,
        "true_cfg_scale": 1.0,
        "prompt_embeds_mask": torch.ones(1, 4, dtype=torch.long),
        **{k: v() if callable(v) else v for k, v in more.items()},
    }


def z_image() -> dict[str, Any]:
    net = made(
        "ZImageTransformer2DModel",
        in_channels=4,
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=8,
        axes_dims=[4, 2, 2],
        axes_lens=[64, 64, 64],
    )
    return {"transformer": net, "vae": vae(shift_factor=0.0), **NO_TEXT}


def z_image_call(**more: Any) -> Callable[[], dict[str, Any]]:
    listed = {
        "prompt_embeds": [normals(4, 8, seed=1)],
        "negative_prompt_embeds": [normals(4, 8, seed=2)],
    }
    return lambda: {
        **listed,
        **IMAGE,
        "guidance_scale": 2.0,
        **{k: v() if callable(v) else v for k, v in more.items()},
    }


@cache
def wan_vae() -> Any:
    return made(
        "AutoencoderKLWan",
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def wan() -> dict[str, Any]:
    net = made(
        "WanTransformer3DModel",
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=8,
        num_layers=1,
        rope_max_seq_len=16,
    )
    return {"transformer": net, "vae": wan_vae(), **NO_TEXT}


VIDEO = {"height": 16, "width": 16, "output_type": "latent"}
WAN = (
    "UniPCMultistepScheduler",
    {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
)


def ltx() -> dict[str, Any]:
    net = made(
        "LTXVideoTransformer3DModel",
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=8,
    )
    video = made(
        "AutoencoderKLLTXVideo",
        latent_channels=4,
        block_out_channels=(4, 4, 4, 4),
        decoder_block_out_channels=(4, 4, 4, 4),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        patch_size=1,
    )
    return {"transformer": net, "vae": video, **NO_TEXT}


def hunyuan_video() -> dict[str, Any]:
    net = made(
        "HunyuanVideoTransformer3DModel",
        **WIDTH,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        text_embed_dim=8,
        pooled_projection_dim=12,
        rope_axes_dim=(4, 2, 2),
    )
    video = made(
        "AutoencoderKLHunyuanVideo",
        latent_channels=4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
    )
    return {"transformer": net, "vae": video, **NO_TEXT_2}


def cogview4() -> dict[str, Any]:
    net = made(
        "CogView4Transformer2DModel",
        **WIDTH,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        text_embed_dim=8,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=8,
        sample_size=SIZE,
        rope_axes_dim=(8, 8),
    )
    return {"transformer": net, "vae": vae(), **NO_TEXT}


def sana() -> dict[str, Any]:
    net = made(
        "SanaTransformer2DModel",
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=4,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=SIZE,
    )
    coder = made(
        "AutoencoderDC",
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_out_channels=(4, 4),
        decoder_block_out_channels=(4, 4),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
    )
    return {"transformer": net, "vae": coder, **NO_TEXT}


def aura() -> dict[str, Any]:
    net = made(
        "AuraFlowTransformer2DModel",
        **WIDTH,
        sample_size=SIZE,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pos_embed_max_size=16,
    )
    return {"transformer": net, "vae": vae(), **NO_TEXT}


def lumina() -> dict[str, Any]:
    net = made(
        "LuminaNextDiT2DModel",
        sample_size=SIZE,
        hidden_size=16,
        num_layers=1,
        num_attention_heads=2,
        num_kv_heads=2,
        multiple_of=4,
        cross_attention_dim=8,
    )
    return {"transformer": net, "vae": vae(), **NO_TEXT}


def lumina2() -> dict[str, Any]:
    net = made(
        "Lumina2Transformer2DModel",
        sample_size=SIZE,
        in_channels=4,
        hidden_size=16,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=2,
        multiple_of=4,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(16, 16, 16),
        cap_feat_dim=8,
    )
    return {"transformer": net, "vae": vae(), **NO_TEXT}


def ovis() -> dict[str, Any]:
    net = made(
        "OvisImageTransformer2DModel",
        **WIDTH,
        **ROPE,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=8,
    )
    return {"transformer": net, "vae": vae(shift_factor=0.0), **NO_TEXT}


FLOWS = [
    Kind("FluxPipeline", DYNAMIC, flux_parts, flux_call()),
    Kind("FluxImg2ImgPipeline", DYNAMIC, flux_parts, flux_call(**HALF), strength=True),
    Kind("FluxInpaintPipeline", DYNAMIC, flux_parts, flux_call(**HALF, mask_image=mask),
        strength=True, masked=True),
    Kind("FluxControlNetPipeline", DYNAMIC, lambda: flux_parts(controlnet=flux_controlnet()),
        flux_call(control_image=image)),
    Kind("FluxKontextPipeline", DYNAMIC, flux_parts, flux_call(image=image, _auto_resize=False,
        max_area=SIZE * SIZE)),
    Kind("ChromaPipeline", EULER_FLOW, chroma, chroma_call(**SQUARE)),
    Kind("ChromaImg2ImgPipeline", EULER_FLOW, chroma, chroma_call(**HALF), strength=True),
    Kind("StableDiffusion3Pipeline", EULER_FLOW, lambda: sd3(image_encoder=None,
        feature_extractor=None), sd3_call(**SQUARE)),
    Kind("StableDiffusion3Img2ImgPipeline", EULER_FLOW, lambda: sd3(image_encoder=None,
        feature_extractor=None), sd3_call(**HALF, **SQUARE), strength=True),
    Kind("StableDiffusion3InpaintPipeline", EULER_FLOW, lambda: sd3(16, image_encoder=None,
        feature_extractor=None), sd3_call(**HALF, **SQUARE, mask_image=mask), strength=True,
        masked=True),
    Kind("StableDiffusion3ControlNetPipeline", EULER_FLOW, lambda: sd3(
        controlnet=sd3_controlnet()), sd3_call(control_image=image, **SQUARE)),
    Kind("QwenImagePipeline", DYNAMIC, qwen, qwen_call()),
    Kind("QwenImageImg2ImgPipeline", DYNAMIC, qwen, qwen_call(**HALF), strength=True),
    Kind("ZImagePipeline", EULER_FLOW, z_image, z_image_call()),
    Kind("ZImageImg2ImgPipeline", EULER_FLOW, z_image, z_image_call(**HALF), strength=True),
    Kind("WanPipeline", WAN, wan, lambda: {**prompts(), **VIDEO, "num_frames": 5}),
    Kind("WanVideoToVideoPipeline", WAN, wan, lambda: {**prompts(), **VIDEO, "strength": 0.5,
        "video": normals(1, 5, 3, 16, 16).tanh()}, strength=True),
    Kind("LTXPipeline", DYNAMIC, ltx, lambda: {**prompts(), **masks(), "height": 32, "width": 32,
        "num_frames": 9, "output_type": "latent"}),
    Kind("HunyuanVideoPipeline", EULER_FLOW, hunyuan_video, lambda: {**prompts(negative=False),
        **pooled(negative=False), "prompt_attention_mask": torch.ones(1, 4), **VIDEO,
        "num_frames": 5}),
    Kind("CogView4Pipeline", ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True,
        "time_shift_type": "linear"}), cogview4, lambda: {**prompts(), "height": 16, "width": 16,
        "output_type": "latent"}),
    Kind("SanaPipeline", EULER_FLOW, sana, lambda: {**pixart_call(), "height": 32, "width": 32}),
    Kind("AuraFlowPipeline", EULER_FLOW, aura, lambda: {**prompts(), **masks(), **IMAGE}),
    Kind("LuminaPipeline", EULER_FLOW, lumina, lambda: {**prompts(), **masks(), **VIDEO}),
    Kind("Lumina2Pipeline", EULER_FLOW, lumina2, lambda: {**prompts(), **masks(torch.long),
        **VIDEO}),
    Kind("OvisImagePipeline", DYNAMIC, ovis, lambda: {**prompts(), **IMAGE,
        "negative_prompt": None}),
]  # fmt: skip

KINDS = UNETS + TABLES + FLOWS
