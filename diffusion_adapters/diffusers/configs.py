"""What the configuration of a diffusers scheduler says: the noise schedule, what the network
predicts, and where the steps lie.

Configurations are mappings of JSON values, so that nothing here needs diffusers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.guidance.constraints import sample_quantile
from expint import grids
from expint.grids import SPACINGS
from expint.grids.layout import MOST_STEPS, finish
from expint.numerics.float64 import as_float64
from expint.registry import check_choice, unknown
from expint.schedules import (
    Discrete,
    Flow,
    Schedule,
    cosine_betas,
    linear_betas,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
)

_PREDICTIONS = {
    "epsilon": "noise",
    "sample": "data",
    "v_prediction": "v",
    "flow_prediction": "flow",
}
_BETAS: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "squaredcos_cap_v2": lambda steps, first, last: cosine_betas(steps),
    "sigmoid": lambda steps, first, last: (
        first
        + (last - first) * torch.sigmoid(torch.linspace(-6.0, 6.0, steps, dtype=torch.float64))
    ),
}
# Of what a configuration may leave out of the noise schedule and the prediction.
DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "prediction_type": "epsilon",
    "use_flow_sigmas": False,
    "shift": 1.0,
}
# Keys of schedulers whose noise levels or states are others, which their remaining entries do not
# hold; with the value, if any, at which they change nothing.
_FOREIGN: dict[str, Any] = dict.fromkeys(("sampling_eps", "scaler", "mask_token_id"))
_FOREIGN |= {"num_vec_classes": None, "snr_shift_scale": 1.0, "invert_sigmas": False}
# Keys of other schedulers that choose where the steps lie, and the grid that each of them means.
_GRID_KEYS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
    "use_lu_lambdas": "uniform_lambda",
}


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of any diffusers scheduler in the words of `ExpIntScheduler`; its own
    configuration passes unchanged.

    Args:
        config: from `scheduler.config` or a scheduler_config.json.

    Returns:
        All entries of `config`, with `grid`, `final`, `shift` and `prediction_type` set where it
        says so in other words.

    Raises:
        ValueError: for schedulers whose network is called in a way of its own: EDM's
            preconditioning, a continuous timestep; and for those with noise levels that the table
            does not hold.
    """
    if "solver_options" in config:
        return dict(config)
    if "sigma_data" in config or config.get("timestep_type", "discrete") != "discrete":
        raise ValueError(
            "This configuration is for a network that is called with a continuous noise level: use "
            "expint.sample with diffusion_adapters.EDMAdapter, or a model(x, t) of your own."
        )
    foreign = [key for key, same in _FOREIGN.items() if config.get(key, same) != same]
    if foreign:
        raise ValueError(
            f"This configuration has {foreign[0]!r}, with noise levels or states of its own: use "
            "expint.sample with a model(x, t) of your own that has the network's schedule."
        )
    # A value that was left at the other class's default is still what its network was trained with.
    values = {key: value for key, value in config.items() if key != "_use_default_values"}
    if "shift" in values and "beta_start" not in values:
        values["prediction_type"] = "flow_prediction"
    if values.get("use_flow_sigmas") and "flow_shift" in values:
        values["shift"] = values["flow_shift"]
    if values.get("final_sigmas_type") == "sigma_min":
        values["final"] = "none"
    named = [grid for key, grid in _GRID_KEYS.items() if values.get(key)]
    spacing = values.get("timestep_spacing")
    if named or spacing:
        values["grid"] = named[0] if named else spacing
    return values


def schedule_of(config: Mapping[str, Any]) -> Schedule:
    """The noise schedule: `Flow` for flow matching, otherwise a table whose times are the network's
    timesteps.

    Raises:
        ValueError: for an unknown beta_schedule or a table that is not one.
    """
    count = config["num_train_timesteps"]
    check_choice("num_train_timesteps", count, range(3, MOST_STEPS + 1))
    if config["use_flow_sigmas"] or config["prediction_type"] == "flow_prediction":
        return Flow(t_min=_shifted(1.0 / count, config["shift"]))
    name, betas = config["beta_schedule"], config["trained_betas"]
    if betas is None:
        if name not in _BETAS:
            raise unknown("beta_schedule", name, sorted(_BETAS), ", or trained_betas")
        betas = _BETAS[name](count, config["beta_start"], config["beta_end"])
    if len(betas) != count:
        raise ValueError(f"trained_betas has {len(betas)} entries, num_train_timesteps is {count}.")
    table = Discrete.from_betas(as_float64(betas))
    if config["rescale_betas_zero_snr"]:
        return Discrete(rescale_zero_terminal_snr(table.alphas_cumprod))
    return table


def prediction_of(config: Mapping[str, Any]) -> str:
    """What the network predicts, in the words of `expint.equations.predictions`."""
    kind = config["prediction_type"]
    if kind not in _PREDICTIONS:
        raise unknown("prediction_type", kind, sorted(_PREDICTIONS))
    return _PREDICTIONS[kind]


def step_times(
    config: Mapping[str, Any],
    schedule: Schedule,
    *,
    steps: int | None = None,
    timesteps: Sequence[float] | Tensor | None = None,
    sigmas: Sequence[float] | Tensor | None = None,
    mu: float | None = None,
    rounds: bool = False,
) -> Tensor:
    """The grid, float64, shape (steps + 1,), from a number of steps or from the times at which they
    begin.

    Args:
        config: with num_train_timesteps, grid, final, steps_offset, shift, use_dynamic_shifting,
            time_shift_type, shift_terminal.
        schedule: from `schedule_of`.
        steps: number of steps, the last of which takes σ to 0 for final="denoise".
        timesteps: the network's timesteps at which the steps begin; with final="none" the last is
            where the run ends.
        sigmas: likewise noise levels: σ̄/α on a table, σ̄ (before it is shifted) for flow matching.
            A last 0 is the clean end.
        mu: resolution-dependent shift of flow matching, for use_dynamic_shifting.
        rounds: whether the network is called at entries of its table only.

    Raises:
        ValueError: unless exactly one of steps, timesteps and sigmas is given; for what the grid
            cannot be made of.
    """
    given = {"timesteps": timesteps, "sigmas": sigmas}
    given = {name: as_float64(value) for name, value in given.items() if value is not None}
    check_choice("final", config["final"], grids.FINALS)
    if len(given) > 1 or (steps is None and not given):
        raise ValueError("Give the number of steps, or timesteps=, or sigmas=: one of them.")
    if not given:
        return _named_times(config, schedule, steps, mu, rounds)
    name, starts = given.popitem()
    if starts.ndim != 1 or not len(starts):
        raise ValueError(f"{name} is a 1-D sequence, got shape {tuple(starts.shape)}.")
    flow = isinstance(schedule, Flow)
    if name == "timesteps":
        starts = starts / config["num_train_timesteps"] if flow else starts
    else:
        starts = starts[:-1] if len(starts) > 1 and starts[-1] == 0 else starts
        starts = _shift_times(config, starts, mu) if flow else schedule.t_of_sigma(starts)
    if steps is not None and steps != len(starts):
        raise ValueError(f"num_inference_steps={steps}, but {len(starts)} {name} came.")
    return finish(schedule, starts, config["final"])


def _named_times(
    config: Mapping[str, Any], schedule: Schedule, steps: Any, mu: float | None, rounds: bool
) -> Tensor:
    name, final = config["grid"], config["final"]
    noise, data = schedule.sampling_range
    most = MOST_STEPS if isinstance(schedule, Flow) else config["num_train_timesteps"]
    check_choice("num_inference_steps", int(steps), range(1, most + 1))
    if isinstance(schedule, Flow) and name in (None, *SPACINGS):
        # The first and last level are those of training, already shifted; the points between them
        # are shifted once more.
        last = 1.0 / config["num_train_timesteps"] if config["use_dynamic_shifting"] else data
        levels = torch.linspace(1.0, last, steps + (final == "none"), dtype=torch.float64)
        return finish(schedule, _shift_times(config, levels, mu), final)
    name = name or grids.default(schedule, table=rounds)
    if steps == 1 and final == "denoise":
        return finish(schedule, as_float64([noise]), final)
    if name in SPACINGS:
        offset = config["steps_offset"] if name == "leading" else 0
        return grids.discrete(schedule, steps, name, offset=offset, final=final)
    return grids.get(name)(schedule, steps, final=final)


def _shifted(level: Any, shift: float) -> Any:
    """s t/(1 + (s − 1) t)."""
    return shift * level / (1.0 + (shift - 1.0) * level)


def _shift_times(config: Mapping[str, Any], levels: Tensor, mu: float | None) -> Tensor:
    """Levels of flow matching after the constant or, from `mu`, the resolution-dependent shift.

    With a shift_terminal, 1 − t is in proportion such that the last of several levels is that.
    """
    shift, last = config["shift"], config.get("shift_terminal")
    if config["use_dynamic_shifting"]:
        if mu is None:
            raise ValueError("use_dynamic_shifting=True needs mu in set_timesteps: pass mu=.")
        kinds = {"exponential": math.exp(mu), "linear": mu}
        if config["time_shift_type"] not in kinds:
            raise unknown("time_shift_type", config["time_shift_type"], sorted(kinds))
        shift = kinds[config["time_shift_type"]]
    levels = _shifted(levels, shift)
    if not last or levels.ndim != 1 or len(levels) < 2:
        return levels
    if not 0.0 < last < 1.0:
        raise ValueError(f"shift_terminal, the last level, is in (0, 1), got {last!r}.")
    return 1.0 - (1.0 - levels) * (1.0 - last) / (1.0 - levels[-1])


def limit(denoised: Tensor, config: Mapping[str, Any]) -> Tensor:
    """The denoised estimate, shape (batch, *event), within the range that thresholding or
    clip_sample asks for.

    Source: dynamic thresholding: Saharia et al. (Imagen), arXiv 2205.11487, section 2.3, with the
        bound s at most sample_max_value.
    """
    if config["thresholding"]:
        fraction, most = config["dynamic_thresholding_ratio"], config["sample_max_value"]
        bound = sample_quantile(denoised.abs(), fraction).clamp(1.0, most)
        return denoised.clamp(-bound, bound) / bound
    if config["clip_sample"]:
        return denoised.clamp(-config["clip_sample_range"], config["clip_sample_range"])
    return denoised
