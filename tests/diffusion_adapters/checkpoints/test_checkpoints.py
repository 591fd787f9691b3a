"""Published checkpoints: tiny networks with the families' call signatures, in files as those
families write them.

Every round trip is compared with the formula that the family published, written out here.
"""

import io
import json
import math
import os
import pickle
import pydoc
import zipfile
from collections import OrderedDict
from datetime import date
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

import expint
from diffusion_adapters import (
    CheckpointError,
    UntrustedPickleError,
    convert_checkpoint,
    from_edm,
    imported_globals,
    load_edm,
    load_edm_pickle,
    load_guided_diffusion,
    load_score_sde,
    read_checkpoint,
)
from diffusion_adapters.checkpoints.published import (
    DataRange,
    NumberedVEAdapter,
    respaced_timesteps,
)
from diffusion_adapters.checkpoints.state_dicts import read_weights
from diffusion_adapters.cli import main
from expint import schedules
from expint.runs import Reparametrized

SHAPE = (2, 3, 4, 4)


def states(seed: int = 0) -> Tensor:
    return torch.empty(SHAPE).normal_(generator=torch.Generator().manual_seed(seed))


def seeded(build, seed: int) -> nn.Module:
    """The network, every parameter drawn with its own seed."""
    network = build()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.normal_(std=0.3, generator=generator)
    return network


def bits(network: nn.Module) -> dict[str, bytes]:
    return {name: value.detach().numpy().tobytes() for name, value in network.state_dict().items()}


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    actual, expected = actual.detach(), expected.detach()
    torch.testing.assert_close(
        actual, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
    )


def samples_finitely(model: Any, **options: Any) -> None:
    torch.manual_seed(0)
    x = expint.sample(model, SHAPE, steps=3, progress=False, **options)
    assert x.shape == SHAPE and torch.isfinite(x).all()
    assert float((x[0] - x[1]).abs().max()) > 0  # two seeds


class ScoreSDENet(nn.Module):
    """Called as score_sde's networks are: (x, time_cond).

    The embedding is a parameter that is not trained, as there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.ones(3), requires_grad=False)
        self.inner = nn.Conv2d(3, 3, 3, padding=1)
        self.outer = nn.Conv2d(3, 3, 1)
        self.register_buffer("sigmas", torch.ones(5))
        self.calls: list[Tensor] = []

    def forward(self, x: Tensor, time_cond: Tensor) -> Tensor:
        assert time_cond.shape == x.shape[:1]
        self.calls.append(time_cond)
        wave = torch.sin(0.01 * time_cond.float()[:, None] * self.W)
        return self.outer(torch.tanh(self.inner(x) + wave[:, :, None, None])) * self.sigmas[0]


def score_sde_file(path: Path, wrapped: bool = True) -> tuple[nn.Module, nn.Module]:
    """A checkpoint as `utils.save_checkpoint` there writes it; returns the last network and the
    averaged one.
    """
    last, averaged = seeded(ScoreSDENet, 1), seeded(ScoreSDENet, 2)
    with torch.no_grad():  # what is not trained is not averaged
        averaged.W.copy_(last.W)
        averaged.sigmas.copy_(last.sigmas)
    model = nn.DataParallel(last) if wrapped else last
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    shadow = [p.clone().detach() for p in averaged.parameters() if p.requires_grad]
    ema = {"decay": 0.999, "num_updates": 7, "shadow_params": shadow}
    torch.save(
        {"optimizer": optimizer.state_dict(), "model": model.state_dict(), "ema": ema, "step": 9},
        path,
    )
    return last, averaged


def published_score(net: nn.Module, sde: str, x: Tensor, t: float) -> Tensor:
    """score_sde_pytorch, models/utils.get_score_fn, in continuous time, with the marginals of
    sde_lib.
    """
    times = torch.full((len(x),), t)
    if sde == "ve":
        return net(x, torch.full((len(x),), 0.01 * (50.0 / 0.01) ** t))
    log_mean = -0.25 * t**2 * (20.0 - 0.1) - 0.5 * t * 0.1
    std = math.sqrt(1 - math.exp(2 * log_mean)) if sde == "vp" else 1 - math.exp(2 * log_mean)
    return -net(x, times * 999) / std


@pytest.mark.parametrize("sde", ["vp", "subvp", "ve"])
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("ema", [True, False])
def test_score_sde_gives_the_published_score(tmp_path, sde, wrapped, ema):
    last, averaged = score_sde_file(tmp_path / "checkpoint_8.pth", wrapped)
    model = load_score_sde(
        tmp_path / "checkpoint_8.pth", lambda: seeded(ScoreSDENet, 3), sde, ema=ema
    )
    assert not model.network.training
    for t in (0.03, 0.4, 0.9):
        x = states()
        expected = published_score(averaged if ema else last, sde, x, t)
        time = (0.01 * 5000.0**t) ** 2 if sde == "ve" else t
        close(Reparametrized(model, "score")(x, torch.tensor(time, dtype=torch.float64)), expected)
    samples_finitely(model)


def test_the_average_differs_from_the_last_weights(tmp_path):
    """Without this, the test above could not tell the two apart."""
    last, averaged = score_sde_file(tmp_path / "c.pth")
    with torch.no_grad():
        assert (
            float((last(states(), torch.ones(2)) - averaged(states(), torch.ones(2))).abs().max())
            > 0.01
        )


def test_score_sde_into_a_network_in_data_parallel(tmp_path):
    _, averaged = score_sde_file(tmp_path / "c.pth")
    model = load_score_sde(tmp_path / "c.pth", nn.DataParallel(seeded(ScoreSDENet, 3)))
    close(model(states(), 0.5), averaged(states(), torch.full((2,), 499.5)))


def test_score_sde_with_a_parameter_under_two_names(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.again = self.first

        def forward(self, x, labels):
            return self.again(x.transpose(1, -1)).transpose(1, -1)

    last, averaged = seeded(Tied, 1), seeded(Tied, 2)
    shadow = [p.detach().clone() for p in averaged.parameters()]
    assert len(shadow) == 2 and len(last.state_dict()) == 4
    torch.save({"model": last.state_dict(), "ema": {"shadow_params": shadow}}, tmp_path / "c.pth")
    model = load_score_sde(tmp_path / "c.pth", seeded(Tied, 3))
    close(model(states(), 0.5), averaged(states(), None))


def test_score_sde_parameters_reach_the_schedule(tmp_path):
    score_sde_file(tmp_path / "c.pth")
    load = partial(load_score_sde, tmp_path / "c.pth", ScoreSDENet)
    assert load("vp", beta_min=0.2, beta_max=10.2, t_min=0.01).schedule == schedules.VP(
        10.0, 0.2, 0.01
    )
    assert load("subvp", beta_max=10.1).schedule == schedules.SubVP(10.0, 0.1)
    assert load("ve", sigma_max=348.0).schedule == schedules.VE(0.01, 348.0)


def test_score_sde_in_discrete_time_vp(tmp_path):
    """labels = t (N − 1), std = sqrt_1m_alphas_cumprod[labels], with β from beta_min/N to
    beta_max/N.
    """
    _, averaged = score_sde_file(tmp_path / "c.pth")
    model = load_score_sde(tmp_path / "c.pth", ScoreSDENet, continuous=False)
    betas = np.linspace(0.1 / 1000, 20.0 / 1000, 1000)
    std = np.sqrt(1 - np.cumprod(1 - betas))
    for label in (0, 250, 999):
        expected = -averaged(states(), torch.full((2,), label)) / std[label]
        close(Reparametrized(model, "score")(states(), float(label)), expected)
    model.network.calls.clear()
    samples_finitely(model)
    assert model.network.calls and all(call.dtype == torch.long for call in model.network.calls)


def test_score_sde_in_discrete_time_ve(tmp_path):
    """labels = (T − t)(N − 1), the largest σ first."""
    _, averaged = score_sde_file(tmp_path / "c.pth")
    model = load_score_sde(
        tmp_path / "c.pth", ScoreSDENet, "ve", continuous=False, num_scales=20, sigma_max=10.0
    )
    sigmas = np.exp(np.linspace(np.log(10.0), np.log(0.01), 20))
    for label in (0, 7, 19):
        expected = averaged(states(), torch.full((2,), label))
        close(Reparametrized(model, "score")(states(), torch.tensor(sigmas[label] ** 2)), expected)
    gap = sigmas[0] / sigmas[1]
    times = [(sigmas[7] * gap**0.45) ** 2, (sigmas[7] / gap**0.45) ** 2, 100.5, 9e-5]
    close(
        model.round_time(torch.tensor(times, dtype=torch.float64)),
        torch.tensor(sigmas[[7, 7, 0, 19]] ** 2),
        1e-12,
    )
    model.network.calls.clear()
    samples_finitely(model, solver="seeds-1")
    labels = [call.tolist() for call in model.network.calls]
    assert labels[0] == [0, 0] and all(call.dtype == torch.long for call in model.network.calls)


@pytest.mark.parametrize(
    ("sde", "centered", "low"),
    [("vp", None, -1), ("subvp", None, -1), ("ve", None, 0), ("ve", True, -1)],
)
def test_score_sde_data_range(tmp_path, sde, centered, low):
    score_sde_file(tmp_path / "c.pth")
    data_range = load_score_sde(tmp_path / "c.pth", ScoreSDENet, sde, centered=centered).data_range
    assert data_range == DataRange(low, 1.0)
    ends = torch.tensor([float(low), 1.0])
    assert data_range.decode(ends).tolist() == [0.0, 1.0]
    assert data_range.decode(ends, -1.0, 1.0).tolist() == [-1.0, 1.0]


def test_score_sde_converted_keeps_the_average(tmp_path):
    last, averaged = score_sde_file(tmp_path / "c.pth")
    convert_checkpoint(tmp_path / "c.pth", tmp_path / "c.safetensors", ["ema", "model"])
    for ema, net in ((True, averaged), (False, last)):
        model = load_score_sde(tmp_path / "c.safetensors", seeded(ScoreSDENet, 3), ema=ema)
        close(model(states(), 0.5), net(states(), torch.full((2,), 499.5)))


def test_one_part_of_a_converted_checkpoint(tmp_path):
    """The names in it have the keys before them; `key` takes what is below."""
    last, _ = score_sde_file(tmp_path / "c.pth", wrapped=False)
    convert_checkpoint(tmp_path / "c.pth", tmp_path / "c.safetensors", ["ema", "model"])
    weights = read_weights(tmp_path / "c.safetensors", "model")
    assert weights.keys() == last.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in last.state_dict().items())
    with pytest.raises(CheckpointError, match="no 'mod' in"):
        read_weights(tmp_path / "c.safetensors", "mod")


def test_score_sde_converted_with_many_parameters_keeps_their_order(tmp_path):
    """shadow_params.10 comes after shadow_params.9, not after shadow_params.1."""

    class Chain(nn.Sequential):
        def forward(self, x, labels):
            raise AssertionError

    network = seeded(partial(Chain, *[nn.Linear(1, 1) for _ in range(6)]), 5)
    shadow = [torch.full_like(p, i) for i, p in enumerate(network.parameters())]
    torch.save(
        {"model": network.state_dict(), "ema": {"shadow_params": shadow}}, tmp_path / "c.pth"
    )
    convert_checkpoint(tmp_path / "c.pth", tmp_path / "c.safetensors", ["ema", "model"])
    loaded = load_score_sde(tmp_path / "c.safetensors", network).network
    assert [float(p.detach().sum()) for p in loaded.parameters()] == list(range(12))


def test_score_sde_twice_into_one_network(tmp_path):
    """Loading leaves the parameters trainable, which is what the second average is matched by."""
    _, averaged = score_sde_file(tmp_path / "c.pth")
    network = seeded(ScoreSDENet, 3)
    for _ in range(2):
        model = load_score_sde(tmp_path / "c.pth", network)
    close(model(states(), 0.5), averaged(states(), torch.full((2,), 499.5)))


def test_score_sde_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown sde 'vpsde'.*subvp"):
        load_score_sde(tmp_path / "none", ScoreSDENet, "vpsde")
    with pytest.raises(ValueError, match=r"no parameters \['beta_max'\]; it has .*sigma_max"):
        load_score_sde(tmp_path / "none", ScoreSDENet, "ve", beta_max=3.0)
    with pytest.raises(ValueError, match="continuous time only"):
        load_score_sde(tmp_path / "none", ScoreSDENet, "subvp", continuous=False)
    with pytest.raises(ValueError, match="num_scales must be from 2 to"):
        NumberedVEAdapter(ScoreSDENet(), schedules.VE(), 1)
    with pytest.raises(TypeError, match="Module or a function"):
        load_score_sde(tmp_path / "none", lambda: 3)


class GuidedNet(nn.Module):
    """Called as guided-diffusion's UNetModel is: (x, timesteps, y=None)."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 3)
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.calls: list[Tensor] = []

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        assert timesteps.shape == x.shape[:1]
        self.calls.append(timesteps)
        shift = torch.sin(self.embed(timesteps.float()[:, None] / 100))[:, :, None, None]
        return self.conv(x + shift + (0.0 if y is None else y.float()[:, None, None, None]))


def published_spaced(num_timesteps: int, section_counts: str) -> list[int]:
    """What respace.space_timesteps gives, by exact fractions where it accumulates floating
    point.
    """
    if section_counts.startswith("ddim"):
        wanted = int(section_counts[4:])
        return next(
            list(range(0, num_timesteps, i))
            for i in range(1, num_timesteps)
            if -(-num_timesteps // i) == wanted
        )
    counts = [int(part) for part in section_counts.split(",")]
    sizes = [
        num_timesteps // len(counts) + (i < num_timesteps % len(counts)) for i in range(len(counts))
    ]
    kept = []
    for i, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        stride = Fraction(size - 1, count - 1) if count > 1 else Fraction(1)
        kept += [sum(sizes[:i]) + round(j * stride) for j in range(count)]
    return kept


def published_alphas_cumprod(steps: int, name: str) -> np.ndarray:
    """gaussian_diffusion.get_named_beta_schedule."""
    if name == "linear":
        betas = np.linspace(1000 / steps * 0.0001, 1000 / steps * 0.02, steps, dtype=np.float64)
    else:
        bar = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        betas = np.array([min(1 - bar[i + 1] / bar[i], 0.999) for i in range(steps)])
    return np.cumprod(1 - betas)


GUIDED = [
    {},
    {"noise_schedule": "cosine", "steps": 4000, "rescale_timesteps": True},
    {"timestep_respacing": "25"},
    {"timestep_respacing": "ddim50", "rescale_timesteps": True, "steps": 500},
    {"timestep_respacing": "10,15,20", "learn_sigma": False},
    {"learn_sigma": False, "predict_xstart": True},
]


@pytest.mark.parametrize("options", GUIDED, ids=str)
def test_guided_diffusion_gives_the_published_denoiser(tmp_path, options):
    """p_mean_variance: ε or x_0 in the first channels, x_0 = √(1/ᾱ) x − √(1/ᾱ − 1) ε, at the
    original timesteps.
    """
    build = partial(GuidedNet, 6 if options.get("learn_sigma", True) else 3)
    source = seeded(build, 1)
    torch.save(source.state_dict(), tmp_path / "256x256_diffusion.pt")
    model = load_guided_diffusion(tmp_path / "256x256_diffusion.pt", seeded(build, 2), **options)
    steps, respacing = options.get("steps", 1000), options.get("timestep_respacing", "")
    timestep_map = published_spaced(steps, respacing) if respacing else list(range(steps))
    alphas = published_alphas_cumprod(steps, options.get("noise_schedule", "linear"))[timestep_map]
    np.testing.assert_allclose(model.schedule.alphas_cumprod, alphas, rtol=1e-9)
    for k in (0, len(timestep_map) // 3, len(timestep_map) - 1):
        original = torch.full((2,), timestep_map[k])
        ts = original.float() * (1000.0 / steps) if options.get("rescale_timesteps") else original
        output = source(states(), ts)[:, :3]
        expected = (
            output
            if options.get("predict_xstart")
            else (states() - math.sqrt(1 - alphas[k]) * output) / math.sqrt(alphas[k])
        )
        model.network.calls.clear()
        close(Reparametrized(model, "data")(states(), float(k)), expected)
        assert (
            model.network.calls[0].dtype == ts.dtype
            and model.network.calls[0].tolist() == ts.tolist()
        )
    assert model.data_range == DataRange(-1.0, 1.0)
    model.network.calls.clear()
    samples_finitely(model)
    known = {v * (1000.0 / steps) if options.get("rescale_timesteps") else v for v in timestep_map}
    assert all(any(abs(call[0].item() - v) < 1e-3 for v in known) for call in model.network.calls)


def test_guided_diffusion_between_integers(tmp_path):
    source = seeded(GuidedNet, 1)
    torch.save(source.state_dict(), tmp_path / "m.pt")
    model = load_guided_diffusion(
        tmp_path / "m.pt", GuidedNet, timesteps="interpolate", rescale_timesteps=True, steps=500
    )
    assert model.round_time is None
    close(model(states(), 20.25), source(states(), torch.full((2,), 40.5))[:, :3])
    with pytest.raises(ValueError, match="all timesteps only"):
        load_guided_diffusion(
            tmp_path / "m.pt", GuidedNet, timesteps="interpolate", timestep_respacing="25"
        )


def test_guided_diffusion_with_classes(tmp_path):
    source = seeded(GuidedNet, 1)
    torch.save(source.state_dict(), tmp_path / "m.pt")
    y = torch.tensor([4, 9])
    model = load_guided_diffusion(tmp_path / "m.pt", GuidedNet, condition={"y": y})
    close(model(states(), 100.0), source(states(), torch.full((2,), 100), y=y)[:, :3])


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_a_wrong_learn_sigma_is_told(tmp_path, learn_sigma):
    build = partial(GuidedNet, 3 if learn_sigma else 6)
    torch.save(build().state_dict(), tmp_path / "m.pt")
    model = load_guided_diffusion(tmp_path / "m.pt", build, learn_sigma=learn_sigma)
    with pytest.raises(ValueError, match=f"pass learn_sigma={not learn_sigma}"):
        model(states(), 3.0)


@pytest.mark.parametrize(
    "respacing", ["1", "2", "7", "250", "ddim5", "ddim100", "90,60,60,20,20", "3,3,3", "1,1"]
)
@pytest.mark.parametrize("steps", [1000, 4000])
def test_respacing_is_the_published_one(respacing, steps):
    assert respaced_timesteps(steps, respacing) == published_spaced(steps, respacing)


@pytest.mark.parametrize(
    "respacing", ["ddim300", "fast", "0", "2000", "ddim5,5", "-3", "ddim", "600,1"]
)
def test_respacing_that_does_not_exist_is_told(respacing):
    with pytest.raises(ValueError, match=r"timestep_respacing"):
        respaced_timesteps(1000, respacing)


def test_guided_diffusion_refuses_an_unknown_schedule(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown noise_schedule 'squared'.*cosine"):
        load_guided_diffusion(tmp_path / "none", GuidedNet, noise_schedule="squared")
    with pytest.raises(ValueError, match="steps"):
        load_guided_diffusion(tmp_path / "none", GuidedNet, steps=0)


class EDMUNet(nn.Module):
    """Called as EDM's SongUNet and EDM2's UNet are: (x, noise_labels, class_labels)."""

    def __init__(self, label_dim: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.map = nn.Linear(1 + label_dim, 3)

    def forward(self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None) -> Tensor:
        embedding = (
            noise_labels[:, None]
            if class_labels is None
            else torch.cat([noise_labels[:, None], class_labels], 1)
        )
        return self.conv(x) + torch.sin(self.map(embedding))[:, :, None, None]


class EDMPrecond(nn.Module):
    """Signature of EDM's EDMPrecond."""

    def __init__(self, label_dim: int = 0, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.img_resolution, self.img_channels, self.label_dim = 4, 3, label_dim
        self.sigma_min, self.sigma_max, self.sigma_data = 0.0, float("inf"), sigma_data
        self.model = EDMUNet(label_dim)

    def forward(self, x, sigma, class_labels=None, force_fp32=False, **model_kwargs):
        x, sigma = x.to(torch.float32), sigma.to(torch.float32).reshape(-1, 1, 1, 1)
        if self.label_dim and class_labels is None:
            class_labels = torch.zeros([len(x), self.label_dim])
        return published_denoiser(self.model, x, sigma, class_labels, self.sigma_data)

    def round_sigma(self, sigma):
        return torch.as_tensor(sigma)


class EDM2Precond(nn.Module):
    """Signature of EDM2's Precond: no sigma_min, sigma_max, round_sigma; layers work in float32
    whatever they are stored in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.img_resolution, self.img_channels, self.label_dim, self.sigma_data, self.use_fp16 = (
            4,
            3,
            2,
            0.4,
            True,
        )
        self.unet = EDMUNet(2)

    def forward(
        self, x, sigma, class_labels=None, force_fp32=False, return_logvar=False, **unet_kwargs
    ):
        assert x.dtype == torch.float32
        sigma = sigma.to(torch.float32).reshape(-1, 1, 1, 1)
        class_labels = (
            torch.zeros([1, 2])
            if class_labels is None
            else class_labels.to(torch.float32).reshape(-1, 2)
        )
        return published_denoiser(
            self.unet, x, sigma, class_labels.expand(len(x), 2), self.sigma_data
        )


def published_denoiser(net, x, sigma, class_labels, sigma_data):
    """EDM, training/networks.py, EDMPrecond.forward."""
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
    c_in = 1 / (sigma_data**2 + sigma**2).sqrt()
    return c_skip * x + c_out * net(c_in * x, (sigma.log() / 4).flatten(), class_labels)


@pytest.mark.parametrize("sigma", [0.01, 0.7, 40.0])
@pytest.mark.parametrize(
    "build", [EDMPrecond, partial(EDMPrecond, 2), EDM2Precond], ids=["edm", "edm classes", "edm2"]
)
def test_edm_gives_the_published_denoiser(build, sigma):
    network = seeded(build, 1)
    model = from_edm(network)
    assert (model.prediction, model.sigma_data, model.schedule) == (
        "data",
        network.sigma_data,
        schedules.EDM(0.002, 80.0),
    )
    close(model(states(), sigma), network(states(), torch.full((2,), sigma)))
    if network.label_dim:
        one_hot = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        close(
            from_edm(network, labels=[1, 0])(states(), sigma),
            network(states(), torch.full((2,), sigma), one_hot),
        )
    samples_finitely(model)
    samples_finitely(model, form="precond")


@pytest.mark.parametrize("label_dim", [0, 2])
def test_edm_without_its_preconditioning(label_dim):
    precond = seeded(partial(EDMPrecond, label_dim, 0.7), 1)
    model = from_edm(precond.model, raw=True, sigma_data=0.7, label_dim=label_dim)
    assert model.sigma_data == 0.7
    for sigma in (0.01, 0.7, 40.0):
        close(model(states(), sigma), precond(states(), torch.full((2,), sigma)))
    samples_finitely(model)
    if label_dim:
        labelled = from_edm(precond.model, raw=True, sigma_data=0.7, label_dim=2, labels=[1, 1])
        close(
            labelled(states(), 2.0),
            precond(states(), torch.full((2,), 2.0), torch.tensor([[0.0, 1.0]] * 2)),
        )


def test_edm_refusals():
    with pytest.raises(ValueError, match=r"EDMUNet has none of sigma_min.*raw=True"):
        from_edm(EDMUNet)
    with pytest.raises(ValueError, match="needs the sigma_data"):
        from_edm(EDMUNet, raw=True)
    with pytest.raises(ValueError, match=r"torch\.float16.*\.float\(\)"):
        from_edm(EDM2Precond().half())
    with pytest.raises(ValueError, match="no classes"):
        from_edm(EDMPrecond, labels=[0, 1])
    with pytest.raises(ValueError, match="sigma_data > 0"):
        from_edm(EDMUNet, raw=True, sigma_data=0.0)


@pytest.mark.parametrize("build", [EDMPrecond, EDM2Precond])
def test_edm_pickle(tmp_path, build):
    network = seeded(build, 1).half() if build is EDM2Precond else seeded(build, 1)
    path = tmp_path / "edm-cifar10-32x32-cond-vp.pkl"
    path.write_bytes(pickle.dumps({"ema": network, "dataset_kwargs": {}}))
    with pytest.raises(UntrustedPickleError, match=build.__name__):
        load_edm_pickle(path)
    model = load_edm_pickle(path, trust=True)
    network.float()
    close(model(states(), 2.0), network(states(), torch.full((2,), 2.0)))
    samples_finitely(model)


def test_edm_converted_once(tmp_path):
    network = seeded(EDMPrecond, 1)
    path, converted = tmp_path / "edm.pkl", tmp_path / "edm.safetensors"
    path.write_bytes(pickle.dumps({"ema": network}))
    convert_checkpoint(path, converted, ["ema"], trust=True)
    model = load_edm(converted, seeded(EDMPrecond, 2))
    close(model(states(), 2.0), network(states(), torch.full((2,), 2.0)))
    other = seeded(partial(EDMPrecond, 0, 0.6), 2)
    before = bits(other)
    with pytest.raises(
        CheckpointError, match=r"sigma_data is 0\.6 in the network and 0\.5 in the file"
    ):
        load_edm(converted, other)
    assert bits(other) == before


def test_edm_pickle_without_the_entry(tmp_path):
    path = tmp_path / "edm.pkl"
    path.write_bytes(pickle.dumps({"net": seeded(EDMPrecond, 1), "step": 3, "ema": None}))
    with pytest.raises(CheckpointError, match=r"'ema' .* is not a network but NoneType"):
        load_edm_pickle(path, trust=True)
    with pytest.raises(
        CheckpointError, match=r"no 'G_ema' in .*net \(EDMPrecond, 4 tensors, .* step = 3"
    ):
        load_edm_pickle(path, trust=True, key="G_ema")


class Marker:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return eval, (f"open({str(self.path)!r}, 'w').close()",)


def write_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def write_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def write_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


WRITERS = [write_pickle, write_zip, write_legacy]
READERS = {
    "read": lambda path, trust: read_checkpoint(path, trust),
    "edm": lambda path, trust: load_edm(path, EDMPrecond, trust=trust),
    "edm pickle": lambda path, trust: load_edm_pickle(path, trust),
    "score_sde": lambda path, trust: load_score_sde(path, ScoreSDENet, trust=trust),
    "guided": lambda path, trust: load_guided_diffusion(path, GuidedNet, trust=trust),
    "convert": lambda path, trust: convert_checkpoint(
        path, path.with_name("o.safetensors"), trust=trust
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("write", WRITERS)
def test_a_malicious_file_is_executed_with_trust_only(tmp_path, write, reader):
    path, marker = tmp_path / "weights.pt", tmp_path / "executed"
    write({"ema": Marker(marker), "weight": torch.zeros(2)}, path)
    with pytest.raises(UntrustedPickleError) as refused:
        READERS[reader](path, False)
    assert not marker.exists()
    assert "builtins.eval" in str(
        refused.value
    ) and "expint convert weights.pt weights.safetensors --trust" in str(refused.value)
    assert "builtins.eval" in refused.value.globals
    assert (
        "OrderedDict" not in str(refused.value)
        and "_rebuild_tensor_v2" not in str(refused.value).split("convert")[0]
    )
    try:
        READERS[reader](path, True)
    except CheckpointError:
        assert reader != "read"  # executed, and then found to be no checkpoint of the family
    assert marker.exists()


@pytest.mark.parametrize("write", WRITERS)
def test_the_list_of_globals_executes_nothing(tmp_path, write):
    path, marker = tmp_path / "weights.pt", tmp_path / "executed"
    write([Marker(marker)], path)
    assert imported_globals(path) == ("builtins.eval",)
    assert not marker.exists()


class Recorder(pickle.Unpickler):
    def __init__(self, stream) -> None:
        super().__init__(stream)
        self.found: set[int] = set()

    def find_class(self, module, name):
        found = super().find_class(module, name)
        self.found.add(id(found))
        return found


OBJECTS = {
    "numbers": [1, 2.5, 10**30, True, None, b"bytes", "text", (1,), frozenset({3})],
    "classes": [
        date(2020, 1, 2),
        Fraction(1, 3),
        date(2021, 1, 2),
        OrderedDict(a=1),
        partial(max, 3),
        {1, 2},
        bytearray(b"x"),
    ],
    "repeated": [print, len, print, [len, "builtins", "len", print], {"print": print}],
    "arrays": {"a": np.arange(3.0), "b": np.float32(2)},
    "module": nn.Linear(2, 1, bias=False).requires_grad_(False),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", OBJECTS)
def test_the_list_of_globals_is_what_unpickling_looks_up(tmp_path, name, protocol):
    data = pickle.dumps(OBJECTS[name], protocol)
    (tmp_path / "o.pkl").write_bytes(data)
    recorder = Recorder(io.BytesIO(data))
    recorder.load()
    listed = {id(pydoc.locate(dotted)) for dotted in imported_globals(tmp_path / "o.pkl")}
    assert recorder.found <= listed
    if name != "module":  # whose tensors are files of torch.save within the pickle
        assert recorder.found == listed


def test_globals_hidden_in_nested_bytes_are_listed(tmp_path):
    marker = tmp_path / "executed"
    inner = io.BytesIO()
    torch.save(Marker(marker), inner)
    for protocol in (2, 4):
        for content in (pickle.dumps(Marker(marker)), inner.getvalue()):
            (tmp_path / "o.pkl").write_bytes(pickle.dumps({"state": content}, protocol))
            assert "builtins.eval" in imported_globals(tmp_path / "o.pkl")
    assert not marker.exists()


def test_computed_names_and_extensions_are_listed(tmp_path):
    path = tmp_path / "o.pkl"
    path.write_bytes(b"\x80\x04N\x8c\x03abc\x93.")
    assert imported_globals(path) == ("?.abc",)
    path.write_bytes(b"\x80\x04\x8c\x02os2\x93.")  # the string once, and duplicated
    assert imported_globals(path) == ("os.os",)
    path.write_bytes(b"c__builtin__\nunichr\n.")
    assert imported_globals(path) == ("builtins.chr",)
    path.write_bytes(b"\x80\x02\x82\x07.")
    assert imported_globals(path) == ("copyreg extension 7",)
    path.write_bytes(b"\x80\x02cos\nsystem\n(X\x03\x00\x00\x00abctR")  # no end
    assert imported_globals(path) == ("os.system",)


def test_source_carried_by_a_pickle_is_told(tmp_path):
    path = tmp_path / "edm.pkl"
    path.write_bytes(b"\x80\x03ctorch_utils.persistence\n_reconstruct_persistent_obj\n.")
    with pytest.raises(
        UntrustedPickleError,
        match=r"torch_utils\.persistence\._reconstruct_persistent_obj.*carries Python source",
    ):
        load_edm_pickle(path)
    with pytest.raises(CheckpointError, match=r"No module named 'torch_utils'.*on the Python path"):
        load_edm_pickle(path, trust=True)


def remove(weights: dict[str, Tensor]) -> None:
    del weights[next(iter(weights))]


def add(weights: dict[str, Tensor]) -> None:
    weights.update({f"extra.{i}": torch.zeros(1) for i in range(6)})


def reshape(weights: dict[str, Tensor]) -> None:
    name = list(weights)[-1]
    weights[name] = torch.zeros(2, 5)


def spoil(weights: dict[str, Tensor]) -> None:
    weights[list(weights)[-1]].view(-1)[-1] = math.nan


def overflow(weights: dict[str, Tensor]) -> None:
    weights[list(weights)[-1]].view(-1)[-1] = -math.inf


def overflow_when_cast(weights: dict[str, Tensor]) -> None:
    name = list(weights)[-1]
    weights[name] = weights[name].double()
    weights[name].view(-1)[0] = 1e39


def retype(weights: dict[str, Tensor]) -> None:
    name = list(weights)[-1]
    weights[name] = weights[name].to(torch.int32)


FAULTS = [
    (remove, r"1 missing: \w+"),
    (add, r"6 unexpected: extra\.0, extra\.1, extra\.2, extra\.3 and 2 more"),
    (reshape, r"1 of another shape: \S+: \(2, 5\) instead of \(\d"),
    (spoil, r"1 NaN: "),
    (overflow, r"1 infinite: "),
    (overflow_when_cast, r"1 infinite: "),
    (retype, r"1 of another kind: \S+: torch\.int32 instead of torch\.float32"),
]


@pytest.mark.parametrize("family", ["edm", "guided", "score_sde"])
@pytest.mark.parametrize(("fault", "message"), FAULTS)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_that_do_not_fit_change_nothing(tmp_path, family, fault, message, suffix):
    build = {"edm": EDMPrecond, "guided": GuidedNet, "score_sde": ScoreSDENet}[family]
    network, path = seeded(build, 2), tmp_path / f"c.{suffix}"
    weights = {name: value.clone() for name, value in seeded(build, 1).state_dict().items()}
    fault(weights)
    prefix = "model." if family == "score_sde" else ""
    if suffix == "safetensors":
        safetensors.torch.save_file({prefix + name: value for name, value in weights.items()}, path)
    else:
        torch.save({"model": weights} if family == "score_sde" else weights, path)
    load = {
        "edm": load_edm,
        "guided": load_guided_diffusion,
        "score_sde": partial(load_score_sde, ema=False),
    }[family]
    before = bits(network)
    with pytest.raises(
        CheckpointError, match=rf"do not fit the network \(.*{message}.*nothing was loaded"
    ):
        load(path, network)
    assert bits(network) == before
    assert network.training


def test_averages_that_do_not_fit_change_nothing(tmp_path):
    path = tmp_path / "c.pth"
    score_sde_file(path)
    network = seeded(ScoreSDENet, 3).requires_grad_(False)
    before = bits(network)
    with pytest.raises(
        CheckpointError,
        match=r"averages 4 parameters, but 0 of the network's require gradients.*frozen",
    ):
        load_score_sde(path, network)
    network.requires_grad_(True)
    network.W.requires_grad_(False)
    state = torch.load(path, weights_only=True)
    state["ema"]["shadow_params"].reverse()
    torch.save(state, path)
    with pytest.raises(
        CheckpointError, match=r"of another shape: inner\.weight: \(3,\) instead of \(3, 3, 3, 3\)"
    ):
        load_score_sde(path, network)
    state["ema"]["shadow_params"].reverse()
    state["ema"]["shadow_params"][-1][0] = math.nan
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"1 NaN: outer\.bias"):
        load_score_sde(path, network)
    del state["ema"]
    torch.save(state, path)
    with pytest.raises(
        CheckpointError, match=r"no 'ema\.shadow_params' in .*model \(6 tensors.*step = 9"
    ):
        load_score_sde(path, network)
    assert bits(network) == before


def test_half_precision_weights_become_those_of_the_network(tmp_path):
    source = seeded(GuidedNet, 1).half()
    torch.save(source.state_dict(), tmp_path / "m.pt")
    network = load_guided_diffusion(tmp_path / "m.pt", seeded(GuidedNet, 2)).network
    assert network.conv.weight.dtype == torch.float32
    assert torch.equal(network.conv.weight, source.conv.weight.float())


def test_a_network_without_memory_is_refused(tmp_path):
    torch.save(GuidedNet().state_dict(), tmp_path / "m.pt")
    with torch.device("meta"):
        network = GuidedNet()
    with pytest.raises(CheckpointError, match="'meta', which hold nothing"):
        load_guided_diffusion(tmp_path / "m.pt", network)


def test_a_nested_state_dict_is_found_by_its_key(tmp_path):
    source = seeded(GuidedNet, 1)
    torch.save({"step": 4, "nets": {"state_dict": source.state_dict()}}, tmp_path / "m.pt")
    message = r"not a state dict .*step = 4; nets \(4 tensors.*key="
    with pytest.raises(CheckpointError, match=message):
        load_guided_diffusion(tmp_path / "m.pt", GuidedNet)
    network = seeded(GuidedNet, 2)
    load_guided_diffusion(tmp_path / "m.pt", network, key="nets.state_dict")
    assert bits(network) == bits(source)


def not_there(path: Path) -> None:
    pass


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.touch()


def page(path: Path) -> None:
    path.write_text("\n<!DOCTYPE html><html><body>Sign in</body></html>")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")


def text(path: Path) -> None:
    path.write_text("cos is a function; so is sin.")


def short_zip(path: Path) -> None:
    torch.save(GuidedNet().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])


def short_legacy(path: Path) -> None:
    write_legacy(GuidedNet().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-20])


def short_safetensors(path: Path) -> None:
    safetensors.torch.save_file(GuidedNet().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-4])


def shorter_safetensors(path: Path) -> None:
    safetensors.torch.save_file(GuidedNet().state_dict(), path)
    path.write_bytes(path.read_bytes()[:60])


def other_zip(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    path.with_suffix(".npz").rename(path)


BAD_FILES = [
    (not_there, r"cannot be read \(No such file"),
    (folder, r"cannot be read \(Is a directory"),
    (empty, "is empty"),
    (page, "a web page"),
    (pointer, "Git LFS pointer"),
    (text, "is not a checkpoint"),
    (short_zip, "cut short"),
    (short_legacy, "cut short"),
    (short_safetensors, "cut short"),
    (shorter_safetensors, "cut short"),
    (other_zip, "cut short, damaged or of another kind"),
]


@pytest.mark.parametrize(("damage", "message"), BAD_FILES)
@pytest.mark.parametrize("trust", [False, True])
def test_files_that_are_no_checkpoints_are_told(tmp_path, damage, message, trust):
    path = tmp_path / "weights.pt"
    damage(path)
    network = seeded(GuidedNet, 2)
    before = bits(network)
    with pytest.raises(CheckpointError, match=message) as told:
        load_guided_diffusion(path, network, trust=trust)
    assert "weights.pt" in str(told.value) and not isinstance(told.value, UntrustedPickleError)
    assert bits(network) == before


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refusal(*arguments: Any) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def test_convert_writes_the_same_tensors(tmp_path):
    network = seeded(GuidedNet, 1)
    torch.save(network.state_dict(), tmp_path / "m.pt")
    result = run("convert", tmp_path / "m.pt", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    numbers = sum(p.numel() for p in network.parameters())
    assert result.stdout == f"m.pt: 4 tensors, {numbers} numbers, in {tmp_path / 'm.safetensors'}\n"
    written = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert written.keys() == network.state_dict().keys()
    assert all(torch.equal(written[name], value) for name, value in network.state_dict().items())
    assert sorted(os.listdir(tmp_path)) == ["m.pt", "m.safetensors"]
    loaded = load_guided_diffusion(tmp_path / "m.safetensors", seeded(GuidedNet, 2)).network
    assert bits(loaded) == bits(network)


def test_convert_lists_what_is_inside(tmp_path):
    score_sde_file(tmp_path / "c.pth")
    result = run("convert", tmp_path / "c.pth")
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["optimizer", "model", "ema", "step"]
    assert lines[1] == "model (6 tensors, 104 numbers)" and lines[3] == "step = 9"
    told = refusal("convert", tmp_path / "c.pth", tmp_path / "c.safetensors")
    assert "--key" in told and "ema (4 tensors, 96 numbers)" in told
    assert "no 'weights'" in refusal(
        "convert", tmp_path / "c.pth", tmp_path / "c.safetensors", "--key", "weights"
    )
    assert "no tensors at step" in refusal(
        "convert", tmp_path / "c.pth", tmp_path / "c.safetensors", "--key", "step"
    )
    assert "name the new file" in refusal("convert", tmp_path / "c.pth", "--key", "ema")
    assert os.listdir(tmp_path) == ["c.pth"]


def test_convert_keeps_plain_values_beside_the_tensors(tmp_path):
    score_sde_file(tmp_path / "c.pth")
    assert (
        run("convert", tmp_path / "c.pth", tmp_path / "c.safetensors", "--key", "ema").exit_code
        == 0
    )
    with safetensors.safe_open(tmp_path / "c.safetensors", "pt") as file:
        assert sorted(file.keys()) == [f"shadow_params.{i}" for i in range(4)]
        metadata = file.metadata()
    assert json.loads(metadata["decay"]) == 0.999 and json.loads(metadata["num_updates"]) == 7
    assert metadata["source"] == "c.pth" and json.loads(metadata["keys"]) == ["ema"]


@pytest.mark.parametrize("write", WRITERS)
def test_convert_needs_trust_for_what_executes(tmp_path, write):
    network = seeded(EDMPrecond, 1)
    path, out = tmp_path / "edm.pkl", tmp_path / "edm.safetensors"
    write({"ema": network, "loss_fn": Fraction(1, 2)}, path)
    told = refusal("convert", path, out, "--key", "ema")
    assert "EDMPrecond" in told and "fractions.Fraction" in told and "--trust" in told
    assert not out.exists()
    result = run("convert", path, out, "--key", "ema", "--trust")
    assert result.exit_code == 0, result.output
    written = safetensors.torch.load_file(out)
    assert all(torch.equal(written[name], value) for name, value in network.state_dict().items())
    with safetensors.safe_open(out, "pt") as file:
        assert float(file.metadata()["sigma_data"]) == 0.5
    listing = run("convert", path, "--trust").stdout.splitlines()
    assert listing[0] == "ema (EDMPrecond, 4 tensors, 90 numbers)" and listing[1].startswith(
        "loss_fn (Fraction"
    )


def test_convert_says_what_it_leaves_out(tmp_path):
    write_pickle(
        {"w": torch.ones(2), "array": np.arange(3.0), "other": Fraction(1, 2)}, tmp_path / "a.pkl"
    )
    result = run("convert", tmp_path / "a.pkl", tmp_path / "a.safetensors", "--trust")
    assert result.exit_code == 0 and "left out" in result.stderr and "other" in result.stderr
    written = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert written["array"].tolist() == [0.0, 1.0, 2.0] and written["w"].tolist() == [1.0, 1.0]


def test_convert_takes_views_and_shared_tensors(tmp_path):
    whole = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": whole, "b": whole, "c": whole.T, "d": whole[1]}, tmp_path / "a.pt")
    assert run("convert", tmp_path / "a.pt", tmp_path / "a.safetensors").exit_code == 0
    written = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert (
        torch.equal(written["b"], whole)
        and torch.equal(written["c"], whole.T)
        and torch.equal(written["d"], whole[1])
    )


def test_convert_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    torch.save(GuidedNet().state_dict(), tmp_path / "m.pt")
    (tmp_path / "m.safetensors").write_bytes(b"old")

    def full(tensors, file, metadata):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    assert "No space left" in refusal("convert", tmp_path / "m.pt", tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["m.pt", "m.safetensors"]


def test_convert_refuses_wrong_targets(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    assert "must be named NAME.safetensors" in refusal(
        "convert", tmp_path / "a.safetensors", tmp_path / "a.pt"
    )
    assert "the source itself" in refusal(
        "convert", tmp_path / "a.safetensors", tmp_path / "a.safetensors"
    )
    assert "Cannot write" in refusal(
        "convert", tmp_path / "a.safetensors", tmp_path / "none" / "b.safetensors"
    )
    assert "(No such file" in refusal("convert", tmp_path / "b.pt", tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == content


def test_the_commands_of_the_page(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[3] / "docs" / "checkpoints.md").read_text(
        encoding="utf-8"
    )
    commands = [line.split()[1:] for line in page.split("```sh\n")[1].split("```")[0].splitlines()]
    monkeypatch.chdir(tmp_path)
    _, averaged = score_sde_file(Path("checkpoint_8.pth"))
    Path("edm-cifar10.pkl").write_bytes(pickle.dumps({"ema": seeded(EDMPrecond, 1)}))
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, result.output
    model = load_score_sde("ncsnpp.safetensors", ScoreSDENet)
    close(model(states(), 0.5), averaged(states(), torch.full((2,), 499.5)))
    close(
        load_edm("edm-cifar10.safetensors", EDMPrecond)(states(), 2.0),
        seeded(EDMPrecond, 1)(states(), torch.full((2,), 2.0)),
    )


def test_an_archive_that_expands_to_much_more_than_it_holds_is_not_read(tmp_path, monkeypatch):
    """torch.save compresses nothing; here 80 MB lie in 80 kB."""
    torch.save({"a": torch.zeros(20, 1000, 1000)}, tmp_path / "large.pt")
    with zipfile.ZipFile(tmp_path / "large.pt") as large:
        with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
            for name in large.namelist():
                bomb.writestr(name, large.read(name))
    assert read_checkpoint(tmp_path / "large.pt")["a"].shape == (20, 1000, 1000)
    monkeypatch.setattr(torch, "load", None)
    for trust in (False, True):
        with pytest.raises(CheckpointError, match=r"would expand to 80,0.*nothing was read"):
            read_checkpoint(tmp_path / "bomb.pt", trust)


def test_score_sde_takes_a_bare_state_dict_without_averages(tmp_path):
    source = seeded(ScoreSDENet, 4)
    torch.save(source.state_dict(), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"bare state dict.*pass ema=False"):
        load_score_sde(tmp_path / "c.pth", ScoreSDENet)
    model = load_score_sde(tmp_path / "c.pth", ScoreSDENet, ema=False)
    assert bits(model.network) == bits(source)


def test_a_network_of_two_arguments_is_not_the_one_inside_edms(tmp_path):
    """Before the first evaluation, and before the file is read into it."""
    network = seeded(ScoreSDENet, 4)
    torch.save(network.state_dict(), tmp_path / "c.pth")
    with pytest.raises(TypeError, match=r"net\(x, noise_labels, class_labels\)"):
        load_edm(tmp_path / "c.pth", network, raw=True, sigma_data=0.5)
