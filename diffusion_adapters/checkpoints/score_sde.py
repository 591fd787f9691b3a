"""Checkpoints of score_sde (PyTorch) as models: VP, sub-VP and VE, in continuous and discrete
time.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from diffusion_adapters.checkpoints.pickles import CheckpointError, read_checkpoint
from diffusion_adapters.checkpoints.published import DataRange, NumberedVEAdapter
from diffusion_adapters.checkpoints.state_dicts import (
    Builder,
    built,
    entries,
    flat_tensors,
    is_state_dict,
    load_weights,
    select,
    with_prefix_of,
)
from diffusion_adapters.families.adapters import VEAdapter, VPAdapter
from expint.grids.layout import MOST_STEPS
from expint.guards.arguments import checked
from expint.registry import check_choice, unknown
from expint.schedules import VE, VP, Discrete, SubVP, linear_betas


@checked
def load_score_sde(
    path: str | Path,
    network: Builder,
    sde: str = "vp",
    *,
    centered: bool | None = None,
    continuous: bool = True,
    ema: bool = True,
    trust: bool = False,
    **parameters: float,
) -> Any:
    """A checkpoint of score_sde (PyTorch) as a model.

    The network is called as there: VP and sub-VP with 999 t (or the index, in discrete time), and
    its output is −std·score, which is the noise; VE with σ (or the number of the level, the largest
    first), and its output, already divided by σ, is the score. The state is in the range of the
    training data: the networks themselves map [0, 1] to [−1, 1] where they need to.

    Args:
        path: {"ema": {"shadow_params": [...]}, "model": {...}, ...}, as a file of torch.save or as
            converted by `expint convert --key ema --key model`; or, with ema=False, a state dict.
        network: net(x, labels), built by that code's `create_model`, with or without DataParallel.
        sde: "vp", "subvp" or "ve".
        centered: the training data were in [−1, 1] (config.data.centered), not [0, 1]. Default: as
            in the published configurations, True for VP and sub-VP and False for VE.
        continuous: trained in continuous time (config.training.continuous).
        ema: the averaged weights, instead of the last ones. They are stored as a list in the order
            of the parameters that require gradients, so don't freeze the network before.
        trust: allow the file to execute code (see `read_checkpoint`).
        parameters: beta_min=0.1, beta_max=20, num_scales=1000 (in discrete time) and t_min=1e-3 (in
            continuous time) of "vp" and "subvp"; sigma_min=0.01, sigma_max=50 and num_scales=1000
            (in discrete time) of "ve".

    Returns:
        The adapter, with the further attribute `data_range`: `data_range.decode(x)` maps samples to
        [0, 1].

    Raises:
        CheckpointError: if the file cannot be read or does not fit the network, which is then
            unchanged.
        ValueError: for an unknown sde or parameter, before the file is read.

    Source: Song et al., arXiv 2011.13456; score_sde_pytorch, `models/utils.get_score_fn`,
    `models/ema.py` and `datasets.py`.
    """
    if sde not in _PARAMETERS:
        raise unknown("sde", sde, tuple(_PARAMETERS))
    defaults = _PARAMETERS[sde]
    if wrong := sorted(parameters.keys() - defaults.keys()):
        raise ValueError(f"The sde {sde!r} has no parameters {wrong}; it has {sorted(defaults)}.")
    scales = parameters.get("num_scales", 2)
    known = range(2, MOST_STEPS + 1)
    check_choice("num_scales", int(scales) if float(scales).is_integer() else scales, known)
    if sde == "subvp" and not continuous:
        raise ValueError("score_sde trains sub-VP in continuous time only: leave continuous=True.")
    module = built(network)
    model = _score_sde_adapter(module, sde, continuous, defaults | parameters)
    load_weights(module, _score_sde_weights(path, module, ema, trust), path)
    centered = sde != "ve" if centered is None else centered
    model.data_range = DataRange(-1.0 if centered else 0.0, 1.0)
    return model


_PARAMETERS: dict[str, dict[str, float]] = {
    "vp": {"beta_min": 0.1, "beta_max": 20.0, "t_min": 1e-3, "num_scales": 1000},
    "subvp": {"beta_min": 0.1, "beta_max": 20.0, "t_min": 1e-3},
    "ve": {"sigma_min": 0.01, "sigma_max": 50.0, "num_scales": 1000},
}


def _score_sde_adapter(net: nn.Module, sde: str, continuous: bool, given: dict[str, float]) -> Any:
    if sde == "ve":
        schedule = VE(sigma_min=given["sigma_min"], sigma_max=given["sigma_max"])
        if continuous:
            return VEAdapter(net, schedule)
        return NumberedVEAdapter(net, schedule, int(given["num_scales"]))
    low, high = given["beta_min"], given["beta_max"]
    if continuous:
        kind = VP if sde == "vp" else SubVP
        return VPAdapter(net, kind(beta_d=high - low, beta_min=low, t_min=given["t_min"]))
    steps = int(given["num_scales"])
    return VPAdapter(net, Discrete.from_betas(linear_betas(steps, low / steps, high / steps)))


def _score_sde_weights(
    path: str | Path, network: nn.Module, ema: bool, trust: bool
) -> dict[str, Tensor]:
    """The state dict for `network`: the last weights, and over them the average of those that
    require gradients.
    """
    state = read_checkpoint(path, trust)
    bare = dict(entries(state))
    converted = any(name.startswith(("ema.", "model.")) for name in bare)
    if is_state_dict(bare) and not converted:
        if ema:
            raise CheckpointError(
                f"{str(path)!r} is a bare state dict, not {{'ema': ..., 'model': ...}}, so its "
                "weights may be averages or not: pass ema=False to load them as they are."
            )
        return bare
    weights = flat_tensors(select(state, "model", path))[0]
    if not ema:
        return weights
    numbered = flat_tensors(select(state, "ema.shadow_params", path))[0]
    shadow = [numbered[number] for number in sorted(numbered, key=int)]
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if len(shadow) != len(trained):
        raise CheckpointError(
            f"{str(path)!r} averages {len(shadow)} parameters, but {len(trained)} of the network's "
            "require gradients: it is another network, or frozen. Nothing was loaded."
        )
    averages = {id(p): value for (_, p), value in zip(trained, shadow, strict=True)}
    # A parameter that is used under two names appears once in the list and twice in the state dict.
    every = network.named_parameters(remove_duplicate=False)
    named = {name: averages[id(p)] for name, p in every if id(p) in averages}
    return weights | with_prefix_of(weights, named)
