"""Published checkpoints as models for `expint.sample`: EDM and EDM2, improved- and guided-diffusion
(`score_sde` has those of score_sde).

The network is yours: an nn.Module built by the code that published it, or a function of no
arguments that builds it. Here are its weights, its calling convention and its noise schedule.
Everything is checked before anything is copied into the network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from diffusion_adapters.checkpoints.conversion import RECORDED
from diffusion_adapters.checkpoints.pickles import CheckpointError, read_checkpoint
from diffusion_adapters.checkpoints.published import DataRange, Preconditioned, respaced_timesteps
from diffusion_adapters.checkpoints.state_dicts import (
    Builder,
    built,
    load_weights,
    read_weights,
    select,
)
from diffusion_adapters.families.adapters import EDMAdapter, IDDPMAdapter
from expint.grids.layout import MOST_STEPS
from expint.guards.arguments import checked
from expint.registry import check_choice, unknown
from expint.schedules import Discrete, Schedule, cosine_betas, linear_betas

_EDM_ATTRIBUTES = ("sigma_min", "sigma_max", "sigma_data", "round_sigma")


@checked
def from_edm(
    network: Builder,
    *,
    raw: bool = False,
    labels: Sequence[int] | Tensor | None = None,
    schedule: Schedule | None = None,
    sigma_data: float | None = None,
    label_dim: int = 0,
) -> EDMAdapter:
    """A network of EDM or EDM2, as its code built it, as a model that predicts the data.

    Args:
        network: a preconditioned network, called as net(x, sigma, class_labels) and returning the
            denoised image, with the attributes sigma_min, sigma_max, sigma_data where it has them
            (EDM2 has sigma_data only); with `raw`, the network inside, called as F(c_in x,
            log(sigma)/4, class_labels). Or a function of no arguments that builds it.
        raw: the network has no preconditioning: it is put around it. Needs `sigma_data`.
        labels: class indices, one per sample; None for the unconditional network.
        schedule: default `EDM` between the network's sigma_min and sigma_max, within 0.002 and 80.
        sigma_data: default: the network's own.
        label_dim: with `raw`, the number of classes.

    Returns:
        The model, prediction "data".

    Raises:
        TypeError: if no nn.Module comes.
        ValueError: if a network without any of EDM's attributes comes and `raw` is not set, or
            `raw` without sigma_data; for parameters in half precision; for labels that the network
            does not have.

    Source: Karras et al., arXiv 2206.00364, eq. (7) and table 1; arXiv 2312.02696 (EDM2).
    """
    module = built(network)
    half = {p.dtype for p in module.parameters()} & {torch.float16, torch.bfloat16}
    if half:
        raise ValueError(
            f"The network's parameters are {', '.join(map(str, half))}, as in EDM2's files, but it "
            "takes states in float32 and lowers the precision itself: call network.float() first."
        )
    if raw:
        if sigma_data is None:
            raise ValueError("raw=True needs the sigma_data of the training (EDM and EDM2: 0.5).")
        module = Preconditioned(module, sigma_data, label_dim)
    elif not any(hasattr(module, name) for name in _EDM_ATTRIBUTES):
        raise ValueError(
            f"{type(module).__name__} has none of {', '.join(_EDM_ATTRIBUTES)}: if it is the "
            "network inside EDM's preconditioning, pass raw=True and its sigma_data."
        )
    return EDMAdapter(module, schedule, labels=labels, sigma_data=sigma_data)


@checked
def load_edm(
    path: str | Path,
    network: Builder,
    *,
    key: str | None = None,
    trust: bool = False,
    **options: Any,
) -> EDMAdapter:
    """Weights from a file in an EDM or EDM2 network of yours, as a model that predicts the data.

    Args:
        path: what `expint convert` wrote, or another state dict (safetensors or a file of
            torch.save).
        network: as in `from_edm`. With raw=True, the weights are those of the network inside.
        key: where in the file the state dict is; None for the whole.
        trust: allow the file to execute code (see `read_checkpoint`).
        options: of `from_edm`.

    Returns:
        The model.

    Raises:
        CheckpointError: if the file cannot be read or does not fit the network, which is then
            unchanged; also if the file records another sigma_data (or sigma range, resolution,
            channels, number of classes) than the network has.
    """
    weights = read_weights(path, key, trust)
    module = built(network)
    others = [
        f"{name} is {getattr(module, name)} in the network and {value} in the file"
        for name, value in _recorded(Path(path)).items()
        if not callable(getattr(module, name, None)) and getattr(module, name, value) != value
    ]
    if others:
        raise CheckpointError(f"The network is not that of {str(path)!r}: {'; '.join(others)}.")
    return from_edm(load_weights(module, weights, path), **options)


@checked
def load_edm_pickle(
    path: str | Path, trust: bool = False, *, key: str = "ema", **options: Any
) -> EDMAdapter:
    """A network from a pickle of EDM or EDM2, {"ema": network, ...}.

    Such a file carries the network's Python code and executes it; EDM's also need `torch_utils` and
    `dnnlib` of its repository on the Python path. `expint convert --trust` does it once; `load_edm`
    reads the result without executing anything.

    Args:
        path: the pickle.
        trust: allow it to execute what it says. Without this nothing is executed.
        key: the entry.
        options: of `from_edm`.

    Returns:
        The model, in float32 and evaluation mode.

    Raises:
        UntrustedPickleError: without `trust`, with a list of what the file would import.
        CheckpointError: if the file cannot be read, or has no network at `key`.
    """
    network = select(read_checkpoint(path, trust), key, path)
    if not isinstance(network, nn.Module):
        found = f"not a network but {type(network).__name__}"
        raise CheckpointError(f"{key!r} in {str(path)!r} is {found}: use load_edm for weights.")
    return from_edm(network.float().eval(), **options)


def _recorded(path: Path) -> dict[str, float]:
    """The attributes of the network that `expint convert` wrote beside its weights."""
    if path.suffix != ".safetensors":
        return {}
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    return {name: float(metadata[name]) for name in RECORDED if name in metadata}


@checked
def load_guided_diffusion(
    path: str | Path,
    network: Builder,
    *,
    steps: int = 1000,
    noise_schedule: str = "linear",
    learn_sigma: bool = True,
    timestep_respacing: str = "",
    rescale_timesteps: bool = False,
    predict_xstart: bool = False,
    timesteps: str = "round",
    condition: Mapping[str, Any] | None = None,
    key: str | None = None,
    trust: bool = False,
) -> Any:
    """A checkpoint of improved-diffusion or guided-diffusion as a model.

    Args:
        path: the state dict, as a file of torch.save or as safetensors.
        network: net(x, ts, **condition), built by that code's `create_model`.
        steps: number of timesteps of the original process (diffusion_steps).
        noise_schedule: "linear" or "cosine".
        learn_sigma: the network returns a variance as well, which is dropped.
        timestep_respacing: as there: "" for all timesteps, "250", "ddim25", or counts per section,
            "10,15,20". The network is called with the original timesteps.
        rescale_timesteps: the network was trained on timesteps times 1000/steps.
        predict_xstart: the network returns the image, not the noise.
        timesteps: "round", at the integers that it was trained at, or "interpolate", in between as
            well (with all timesteps only).
        condition: further keyword arguments of the network, for example y=labels, int64 of shape
            (batch,).
        key: where in the file the state dict is; None for the whole.
        trust: allow the file to execute code (see `read_checkpoint`).

    Returns:
        The adapter, with a `Discrete` schedule over the timesteps kept and the further attribute
        `data_range`: images are in [−1, 1], and `data_range.decode(x)` maps samples to [0, 1].

    Raises:
        CheckpointError: if the file cannot be read or does not fit the network, which is then
            unchanged.
        ValueError: for a number of steps, noise schedule or respacing that is not allowed, before
            the file is read.

    Source: Nichol & Dhariwal, arXiv 2102.09672; Dhariwal & Nichol, arXiv 2105.05233;
    guided-diffusion, `script_util.py`.
    """
    check_choice("steps (timesteps of the training)", steps, range(3, MOST_STEPS + 1))
    # The published betas of the linear schedule keep their sum when the number of steps is not
    # 1000.
    tables = {
        "linear": lambda: linear_betas(steps, 0.1 / steps, 20.0 / steps),
        "cosine": lambda: cosine_betas(steps),
    }
    if noise_schedule not in tables:
        raise unknown("noise_schedule", noise_schedule, tuple(tables))
    module = built(network)
    model: Any = IDDPMAdapter(
        module,
        Discrete.from_betas(tables[noise_schedule]()),
        prediction="data" if predict_xstart else "noise",
        rescale_timesteps=rescale_timesteps,
        timesteps=timesteps,
        kept=respaced_timesteps(steps, timestep_respacing),
        learn_sigma=learn_sigma,
        condition=condition,
    )
    load_weights(module, read_weights(path, key, trust), path)
    model.data_range = DataRange(-1.0, 1.0)
    return model
