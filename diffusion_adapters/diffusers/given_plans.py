"""A plan in the configuration of a scheduler, in place of its solver and grid."""

from collections.abc import Mapping
from typing import Any

import torch

from expint.plans import Plan
from expint.plans.compilation import RoundTime
from expint.plans.file_format import read_content
from expint.plans.plan_files import fitting_plan, plan_content
from expint.schedules import Schedule
from expint.schedules.discrete import TabulatedVP

FIXED: dict[str, Any] = {
    **dict.fromkeys(("solver", "solver_options", "operations", "form", "ell", "eta")),
    **dict.fromkeys(("noise_scale", "grid")),
    "steps_offset": 0,
    "final": "denoise",
}
"""What a plan says in place of a configuration, with the values that say nothing."""


def held_plan(config: Mapping[str, Any], schedule: Schedule) -> dict[str, Any]:
    """What to enter into a configuration: the content of its plan's file, if there is one, and for
    flow matching the flag by which pipelines know whether to pass sigmas.

    Raises:
        ValueError: for entries beside the plan that it fixes, and for what `fitting_plan` refuses.
    """
    plan, flow = config["plan"], config["prediction_type"] == "flow_prediction"
    if plan is None:  # pipelines that find this flag leave out their sigmas, and the user's
        return {"use_flow_sigmas": False} if flow else {}
    beside = {name: config[name] for name, usual in FIXED.items() if config[name] != usual}
    fitting_plan(plan, schedule, beside=beside)
    content = plan_content(plan) if isinstance(plan, Plan) else read_content(plan)
    # Pipelines that do not find this flag pass sigmas of their own.
    return {"plan": content, "use_flow_sigmas": flow}


def given_plan(
    config: Mapping[str, Any], schedule: Schedule, given: Mapping[str, Any]
) -> tuple[Plan, RoundTime | None]:
    """The plan of a configuration, and the rounding that leaves all its times as they are, if it is
    for the entries of a table.

    Raises:
        ValueError: for another number of steps than the plan's, or for timesteps or sigmas.
    """
    table = schedule if isinstance(schedule, TabulatedVP) else None
    wanted = table.round if table and config["round_timesteps"] else None
    plan = fitting_plan(config["plan"], schedule, wanted)
    listed = [name for name in ("timesteps", "sigmas") if given[name] is not None]
    if listed:
        raise ValueError(f"The plan fixes where the steps lie: leave out {', '.join(listed)}.")
    if given["steps"] not in (None, plan.steps):
        raise ValueError(
            f"The plan has {plan.steps} steps ({plan.nfe} evaluations): give "
            f"num_inference_steps={plan.steps}, not {given['steps']}."
        )
    times = plan.times[[row.evaluates for row in plan.rows]]
    whole = bool(torch.isclose(times, times.round(), 0.0, 1e-9).all())
    return plan, table.round if table and whole else None


def without_fixed(config: Any, given: Mapping[str, Any]) -> Any:
    """A configuration to which a plan is given, without what the plan fixes."""
    if given.get("plan") is None or not isinstance(config, Mapping):
        return config
    return {name: value for name, value in config.items() if name not in FIXED}


def check_begin(config: Mapping[str, Any], first: int) -> None:
    """Refuse to begin in the middle of a plan, as image to image does with strength < 1."""
    if config["plan"] is not None and first > 0:
        raise ValueError(
            f"A plan is run from its first evaluation on, not from {first}: give strength=1, or a "
            "solver in place of the plan."
        )
