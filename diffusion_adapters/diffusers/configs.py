"""What the configuration of a diffusers scheduler says: what the network predicts, where the steps
lie, and how its output is limited. The noise schedule is in `tables`.

Configurations are mappings of JSON values, so that nothing here needs diffusers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.diffusers.spacings import SPACED, spaced
from diffusion_adapters.diffusers.tables import shifted
from diffusion_adapters.guidance.constraints import sample_quantile
from expint import defaults, grids
from expint.grids.layout import MOST_STEPS, finish
from expint.numerics.float64 import as_float64
from expint.registry import check_choice
from expint.schedules import Flow, Schedule
from expint.schedules.discrete import TabulatedVP

_PREDICTIONS = {
    "epsilon": "noise",
    "sample": "data",
    "v_prediction": "v",
    "flow_prediction": "flow",
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
    "snr_shift_scale": 1.0,
    "sigma_min": None,
    "sigma_max": None,
    "continuous": None,
}
_ROUNDED = 1e-3  # relative difference at which a level beyond an end of the table means the end
# Keys of schedulers whose noise levels or states are others, which their remaining entries do not
# hold; with the value, if any, at which they change nothing.
_FOREIGN: dict[str, Any] = dict.fromkeys(("sampling_eps", "scaler", "mask_token_id"))
_FOREIGN |= {"num_vec_classes": None, "invert_sigmas": False}
# Keys of other schedulers that choose where the steps lie, and the grid that each of them means.
_GRID_KEYS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
    "use_lu_lambdas": "uniform_lambda",
}


def read_config(config: Any, solver: Any = None) -> Any:
    """The configuration of any diffusers scheduler in the words of `ExpIntScheduler`; its own
    configuration, and what is none, passes unchanged.

    Args:
        config: from `scheduler.config` or a scheduler_config.json.
        solver: the one that is asked for: its steps lie exactly where the spacing says.

    Returns:
        All entries of `config`, with `grid`, `final`, `shift` and `prediction_type` set where it
        says so in other words.

    Raises:
        ValueError: for schedulers whose network is called in a way of its own (EDM's
            preconditioning), and for those with noise levels that the table does not hold.
    """
    if not isinstance(config, Mapping) or "solver_options" in config:
        return config
    # Of the schedulers with a sigma_data, Stable Audio's is the one with an order and no algorithm.
    atan = "solver_order" in config and "algorithm_type" not in config
    if "sigma_data" in config and not (atan and config["sigma_data"] == 1.0):
        raise ValueError(
            "This configuration is for a network with EDM's preconditioning: use expint.sample "
            "with diffusion_adapters.EDMAdapter, or a model(x, t) of your own."
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
    if values.get("prediction_type") == "v_prediction":
        log = values.get("timestep_type") == "continuous"
        values["continuous"] = "atan" if "sigma_data" in values else "log" if log else None
    if "snr_shift_scale" in values:  # CogVideoX: these schedulers have the entry, and do not clip
        values["clip_sample"] = False
    if "sigma_schedule" in values:
        values["grid"] = values["sigma_schedule"]
    named = [grid for key, grid in _GRID_KEYS.items() if values.get(key)]
    found, like = values.get("timestep_spacing"), "" if solver else "like_"
    spacing = "trailing" if values.get("use_flow_sigmas") else found and like + found
    if named or spacing:
        values["grid"] = named[0] if named else None if values.get("continuous") else spacing
    return values


def prediction_of(config: Mapping[str, Any]) -> str:
    """What the network predicts, in the words of `expint.equations.predictions`."""
    kind = config["prediction_type"]
    check_choice("prediction_type", kind, sorted(_PREDICTIONS))
    return _PREDICTIONS[kind]


def step_times(
    config: Mapping[str, Any],
    schedule: Schedule,
    *,
    steps: int | None = None,
    timesteps: Sequence[float] | Tensor | None = None,
    sigmas: Sequence[float] | Tensor | None = None,
    mu: float | None = None,
    **usual: Any,
) -> Tensor:
    """The grid, float64, shape (steps + 1,), from a number of steps or from the times at which they
    begin.

    Args:
        config: with num_train_timesteps, grid, final, steps_offset, shift, use_dynamic_shifting,
            time_shift_type, shift_terminal, and the ends sigma_min, sigma_max (as with other
            schedulers not of entries of the table) and lambda_min_clipped.
        schedule: from `schedule_of`.
        steps: number of steps, the last of which takes σ to 0 for final="denoise".
        timesteps: the network's timesteps at which the steps begin; with final="none" the last is
            where the run ends. Repeated ones count once.
        sigmas: likewise noise levels: σ̄/α on a table, σ̄ (before it is shifted) for flow matching.
            A last 0 is the clean end, and a level beyond an end of the table by rounding is that
            end. Of flow matching both may be given: the timesteps are labels only.
        mu: resolution-dependent shift of flow matching, for use_dynamic_shifting.
        usual: method and table of `expint.defaults.grid`.

    Raises:
        ValueError: unless exactly one of steps, timesteps and sigmas is given; for what the grid
            cannot be made of.
    """
    given = {"timesteps": timesteps, "sigmas": sigmas}
    given = {name: as_float64(value) for name, value in given.items() if value is not None}
    check_choice("final", config["final"], grids.FINALS)
    flow = isinstance(schedule, Flow)
    if len(given) > 1 + flow or (steps is None and not given):
        raise ValueError("Give the number of steps, or timesteps=, or sigmas=: one of them.")
    if not given:
        return _named_times(config, schedule, steps, mu, **usual)
    name, starts = given.popitem()
    if starts.ndim != 1 or not len(starts):
        raise ValueError(f"{name} is a 1-D sequence, got shape {tuple(starts.shape)}.")
    if name == "timesteps":
        starts = starts / config["num_train_timesteps"] if flow else starts
    else:
        starts = starts[:-1] if len(starts) > 1 and starts[-1] == 0 else starts
        level = schedule.std if flow else schedule.sigma
        ends = level(as_float64([schedule.sampling_range[0]])), level(schedule.sampling_range[1])
        near = [(starts / end - 1.0).abs() < _ROUNDED for end in ends]
        starts = torch.where(near[0], starts.clamp(max=ends[0]), starts)
        starts = torch.where(near[1], starts.clamp(min=ends[1]), starts)
        starts = _shift_times(config, starts, mu) if flow else schedule.t_of_sigma(starts)
    if steps is not None and steps != len(starts):
        raise ValueError(f"num_inference_steps={steps}, but {len(starts)} {name} came.")
    return finish(schedule, torch.unique_consecutive(starts), config["final"])


def _named_times(
    config: Mapping[str, Any], schedule: Schedule, steps: Any, mu: float | None, **usual: Any
) -> Tensor:
    name, final, ends = config["grid"], config["final"], dict[str, Any]()
    noise, data = schedule.sampling_range
    most = schedule.steps if isinstance(schedule, TabulatedVP) else MOST_STEPS
    check_choice("num_inference_steps", int(steps), range(1, most + 1))
    if isinstance(schedule, Flow) and name in (None, *SPACED):
        # The first and last level are those of training, already shifted; the points between them
        # are shifted once more.
        last = 1.0 / config["num_train_timesteps"] if config["use_dynamic_shifting"] else data
        even = name == "trailing" and final == "denoise"  # the last step is as long as the others
        last = 1.0 / steps if even else last
        levels = torch.linspace(1.0, last, steps + (final == "none"), dtype=torch.float64)
        return finish(schedule, _shift_times(config, levels, mu), final)
    clipped, low, high = (config[key] for key in ("lambda_min_clipped", "sigma_min", "sigma_max"))
    if isinstance(schedule, TabulatedVP):
        noise = min(noise, schedule.t_of_lam(clipped))
        if name not in SPACED:
            noise = min(noise, schedule.t_of_sigma(high or math.inf))
            data = max(data, schedule.t_of_sigma(low or 0.0))
        ends |= {"start": noise, "stop": data}
    if steps == 1 and final == "denoise":
        return finish(schedule, as_float64([noise]), final)
    if name is None:
        return defaults.grid(schedule, steps, final=final, **usual, **ends)
    if name in SPACED:
        return spaced(config, schedule, steps, usual, final=final, **ends)
    return grids.get(name)(schedule, steps, final=final, **ends)


def _shift_times(config: Mapping[str, Any], levels: Tensor, mu: float | None) -> Tensor:
    """Levels of flow matching after the constant or, from `mu`, the resolution-dependent shift.

    With a shift_terminal, 1 − t is in proportion such that the last of several levels is that.
    """
    shift, last = config["shift"], config.get("shift_terminal")
    if config["use_dynamic_shifting"]:
        if mu is None:
            raise ValueError("use_dynamic_shifting=True needs mu in set_timesteps: pass mu=.")
        kinds = {"exponential": math.exp(mu), "linear": mu}
        check_choice("time_shift_type", config["time_shift_type"], sorted(kinds))
        shift = kinds[config["time_shift_type"]]
    levels = shifted(levels, shift)
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
