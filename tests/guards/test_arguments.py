"""Arguments against annotations, and the bad calls that they keep from the public functions."""

import math
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import diffusion_adapters as da
import expint
from diffusion_adapters import k_diffusion as kd
from expint import schedules
from expint.guards.arguments import checked

SOME: list[Any] = [
    None, "a", b"x", -1, 0, 1.5, True, math.nan, math.inf, 10**400, [], (), {}, [1, 2], [1.5, 2.5],
    [None], ["a", "b"], object(), lambda *given: None, torch.zeros(0), torch.zeros(2),
    torch.zeros(3), torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.uint8),
    torch.zeros(()),
    torch.zeros(2, dtype=torch.complex64), torch.zeros(2, dtype=torch.bool),
    torch.zeros(2, dtype=torch.float8_e4m3fn), torch.zeros(2, device="meta"), np.zeros(2),
    np.array(["a"]), schedules.EDM(), torch.nn.Linear(2, 2), torch.float16, 2**40, Path("nowhere"),
]  # fmt: skip


@checked
def function(
    a: int,
    b: float | None = None,
    c: Sequence[int] | Tensor = (),
    d: tuple[float, float] = (0.0, 1.0),
    e: Callable[..., Any] = print,
    f: Mapping[str, Any] | None = None,
    g: bool = False,
    h: Sequence[str] = (),
    i: Any = None,
    **more: float,
) -> int:
    return a


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": True}, "a must be an integer, got bool True"),
        ({"a": 1.0}, "a must be an integer"),
        ({"b": "1"}, "b must be a real number or None, got str '1'"),
        ({"b": 10**400}, "b must be a real number"),
        ({"b": [1.0]}, "b must be"),
        ({"c": "12"}, "c must be a sequence (each an integer) or a tensor"),
        ({"c": [1.5]}, "c must be"),
        ({"c": torch.zeros(2, device="meta")}, "c must be"),
        ({"d": 3.0}, "d must be a pair (a real number, a real number)"),
        ({"d": (1.0, 2.0, 3.0)}, "d must be"),
        ({"e": 3}, "e must be callable"),
        ({"f": []}, "f must be a mapping or None"),
        ({"g": 1}, "g must be True or False"),
        ({"h": "ab"}, "h must be a sequence (each a text)"),
        ({"h": torch.zeros(2)}, "h must be"),
        ({"z": "1"}, "z must be a real number"),
    ],
)
def test_what_does_not_fit_is_named(given: dict[str, Any], message: str):
    with pytest.raises(TypeError) as caught:
        function(**({"a": 1} | given))
    assert message in str(caught.value)


def test_what_fits_is_taken():
    values: list[dict[str, Any]] = [
        {"a": np.int64(1)}, {"b": np.float32(1)}, {"b": 1}, {"b": torch.tensor(1.0)},
        {"b": math.inf}, {"c": [1, np.int64(2)]}, {"c": np.zeros(2)}, {"c": range(3)}, {"d": [0,
    1]}, {"h": ["a"]},
        {"f": {"a": 1}}, {"g": True}, {"i": object()}, {"z": 1.0},
    ]  # fmt: skip
    for given in values:
        function(**({"a": 1} | given))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        function()  # type: ignore[call-arg]
    assert function.__doc__ is None and function.__name__ == "function"


TARGET = expint.targets.Gaussian([0.0, 0.0], [1.0, 1.0], schedules.EDM())
MASK, KNOWN = torch.tensor([True, False]), torch.zeros(2)
LABELLED, VP = da.load("digits-edm", labels=[1, 2]), da.load("digits-vp")


def halved(x: Tensor, labels: Any = None, **rest: Any) -> Tensor:
    return 0.5 * x


def sampled(model: Any) -> Tensor:
    return expint.sample(model, (2, 2), "seeds-1", steps=3, progress=False)


def first_column(denoised: Tensor) -> Tensor:
    return denoised[:, :1]


def denoiser(x: Tensor, sigma: Tensor, **rest: Any) -> Tensor:
    return 0.5 * x


STATE, LEVELS = torch.zeros(2, 3), torch.tensor([3.0, 1.0, 0.1])
BINARY = torch.nn.Bilinear(2, 2, 2)
CALLS: dict[str, Callable[[Any], Any]] = {
    "cfg scale": lambda b: da.cfg(LABELLED, b),
    "cfg model": lambda b: da.cfg(b, 2.0),
    "cfg rescale": lambda b: da.cfg(LABELLED, 2.0, rescale=b),
    "cfg interval": lambda b: da.cfg(LABELLED, 2.0, interval=b),
    "cfg interval end": lambda b: da.cfg(LABELLED, 2.0, interval=(0.1, b)),
    "classifier labels": lambda b: sampled(da.classifier_guidance(TARGET, lambda x, t: x, b)),
    "classifier returns": lambda b: sampled(da.classifier_guidance(TARGET, lambda x, t: b, [0, 1])),
    "threshold method": lambda b: sampled(da.threshold(TARGET, b)),
    "threshold limits": lambda b: sampled(da.threshold(TARGET, limits=b)),
    "threshold percentile": lambda b: sampled(da.threshold(TARGET, percentile=b)),
    "threshold prediction": lambda b: sampled(da.threshold(TARGET, prediction=b)),
    "inpaint known": lambda b: sampled(da.inpaint(TARGET, b, MASK)),
    "inpaint mask": lambda b: sampled(da.inpaint(TARGET, KNOWN, b)),
    "inpaint noise": lambda b: sampled(da.inpaint(TARGET, KNOWN, MASK, noise=b)),
    "operator returns": lambda b: sampled(da.reconstruction_guidance(TARGET, lambda D: b, KNOWN)),
    "measurement": lambda b: sampled(da.reconstruction_guidance(TARGET, first_column, b)),
    "measurement with a mask": lambda b: sampled(da.reconstruction_guidance(TARGET, MASK, b)),
    "noise_std": lambda b: sampled(da.reconstruction_guidance(TARGET, MASK, KNOWN, noise_std=b)),
    "start model": lambda b: da.start(b, torch.zeros(2, 2), strength=0.5),
    "start image": lambda b: da.start(TARGET, b, strength=0.5),
    "start strength": lambda b: da.start(TARGET, torch.zeros(2, 2), strength=b),
    "start sigma": lambda b: da.start(TARGET, torch.zeros(2, 2), sigma=b),
    "start steps": lambda b: da.start(TARGET, torch.zeros(2, 2), sigma=1.0, steps=b),
    "start grid": lambda b: da.start(TARGET, torch.zeros(2, 2), sigma=1.0, grid=b),
    "load": da.load,
    "load labels": lambda b: da.load("digits-edm", labels=b),
    "names": da.names,
    "VP network": lambda b: sampled(da.VPAdapter(b)),
    "VP schedule": lambda b: sampled(da.VPAdapter(halved, b)),
    "VP prediction": lambda b: sampled(da.VPAdapter(halved, prediction=b)),
    "VP condition": lambda b: sampled(da.VPAdapter(halved, condition=b)),
    "VP output": lambda b: sampled(da.VPAdapter(lambda x, labels: b)),
    "VE schedule": lambda b: sampled(da.VEAdapter(halved, b)),
    "VE labels": lambda b: sampled(da.VEAdapter(halved, conditioning=lambda sigma: b)),
    "IDDPM schedule": lambda b: sampled(da.IDDPMAdapter(halved, b)),
    "IDDPM output": lambda b: sampled(da.IDDPMAdapter(lambda x, labels: b, learn_sigma=True)),
    "IDDPM timesteps": lambda b: sampled(da.IDDPMAdapter(halved, timesteps=b)),
    "IDDPM rescale": lambda b: sampled(da.IDDPMAdapter(halved, rescale_timesteps=b)),
    "EDM sigma_data": lambda b: sampled(da.EDMAdapter(halved, sigma_data=b)),
    "EDM labels": lambda b: da.EDMAdapter(LABELLED.network, labels=b),
    "diffusers scheduler": lambda b: sampled(da.from_diffusers(lambda x, timestep: x, b)),
    "diffusers timesteps": lambda b: da.from_diffusers(lambda x, timestep: x, {}, timesteps=b),
    "diffusers output": lambda b: sampled(da.from_diffusers(lambda x, timestep: b, {})),
    "convert source": lambda b: da.convert_checkpoint(b, "nowhere/new.safetensors"),
    "convert target": lambda b: da.convert_checkpoint("nowhere.pt", b),
    "read": da.read_checkpoint,
    "raw sigma_data": lambda b: da.from_edm(BINARY, raw=True, sigma_data=b),
    "guided steps": lambda b: da.load_guided_diffusion("nowhere", BINARY, steps=b),
    "guided schedule": lambda b: da.load_guided_diffusion("nowhere", BINARY, noise_schedule=b),
    "guided respacing": lambda b: da.load_guided_diffusion("nowhere", BINARY, timestep_respacing=b),
    "score_sde": lambda b: da.load_score_sde("nowhere", BINARY, b),
    "score_sde scales": lambda b: da.load_score_sde(
        "nowhere", BINARY, continuous=False, num_scales=b
    ),
    "score_sde beta_min": lambda b: da.load_score_sde("nowhere", BINARY, beta_min=b),
    "levels": lambda b: kd.sample_expint(denoiser, STATE, b),
    "state": lambda b: kd.sample_expint(denoiser, b, LEVELS),
    "denoised": lambda b: kd.sample_expint(lambda x, sigma: b, STATE, LEVELS),
    "extra_args": lambda b: kd.sample_expint(denoiser, STATE, LEVELS, b),
    "solver": lambda b: kd.sample_expint(denoiser, STATE, LEVELS, solver=b),
    "eta": lambda b: kd.sample_expint(denoiser, STATE, LEVELS, eta=b),
    "s_noise": lambda b: kd.sample_expint(denoiser, STATE, LEVELS, s_noise=b),
    "noise": lambda b: kd.sample_expint(denoiser, STATE, LEVELS, noise=b),
    "noise_device": lambda b: kd.sample_expint(denoiser, STATE, LEVELS, noise_device=b),
    "noise_sampler returns": lambda b: kd.sample_expint(
        denoiser, STATE, LEVELS, noise_sampler=lambda *levels: b
    ),
    "path from": lambda b: kd.brownian_noise_sampler(STATE, b, 1.0),
    "path eta": lambda b: kd.brownian_noise_sampler(STATE, 0.1, 1.0, 0, eta=b),
    "path at": lambda b: kd.brownian_noise_sampler(STATE, 0.1, 1.0, 0)(b, 0.5),
    "uniform_lambda steps": lambda b: kd.uniform_lambda_sigmas(b, 0.1, 1.0),
    "uniform_lambda from": lambda b: kd.uniform_lambda_sigmas(4, b, 1.0),
    "to": lambda b: VP.to(b),
    "train": lambda b: VP.train(b),
}  # fmt: skip


def is_named(error: BaseException) -> bool:
    """Whether this project raised it, and not a library on which a bad value got through to."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = Path(expint.__file__).parents[1]
    ours = last.filename.startswith((f"{own}/expint", f"{own}/diffusion_adapters"))
    return ours and (last.line or "").startswith("raise ")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CALLS)
def test_bad_calls_are_named(name: str):
    """2,500 calls: whatever is raised is a ValueError or TypeError of this project's own, or a
    FloatingPointError of a run; and comes from a line that raises it.
    """
    for value in random.Random(name).sample(SOME, len(SOME)):
        try:
            CALLS[name](value)
        except (ValueError, TypeError, FloatingPointError) as error:
            assert is_named(error), (value, error)
