"""Plans that a model brings with it, taken where the caller chooses nothing."""

from collections.abc import Mapping
from typing import Any

from expint import defaults
from expint.numerics.float64 import is_whole
from expint.plans import Plan
from expint.plans.plan_files import fitting_plan
from expint.runs import Description


def own_plan(model: Description, choices: Mapping[str, Any]) -> Plan | None:
    """The model's own plan where it has one and nothing but `nfe` is chosen, else None.

    Args:
        model: `plan_for` of which gives the plan, its file, or None.
        choices: the solver, the noise source and the options of `expint.sample`.

    Raises:
        TypeError: for a `plan_for` that is no function.
        ValueError: if the plan does not fit the model, or takes more evaluations.
    """
    nfe = defaults.STEPS if choices.get("nfe") is None else choices["nfe"]
    others = {name: value for name, value in choices.items() if name != "nfe"}
    others["operations"] = others.get("operations") or None
    if others.get("final") == "denoise":
        del others["final"]
    free = is_whole(nfe) and all(value is None for value in others.values())
    if model.plan_for is None or not free:
        return None
    if not callable(model.plan_for):
        raise TypeError(
            "plan_for is a function of the number of evaluations that gives a plan or None, got "
            f"{type(model.plan_for).__name__}: for a dict of plans give its method get."
        )
    made = model.plan_for(nfe)
    plan = None if made is None else fitting_plan(made, model.schedule, model.round_time)
    if plan is not None and plan.nfe > nfe:
        raise ValueError(
            f"The model's own plan for {nfe} evaluations takes {plan.nfe}: give plan_for(nfe) one "
            "with at most nfe evaluations, or None."
        )
    return plan


def title(plan: Plan) -> str:
    """The solver; of a tuned plan that it is one, and for how many evaluations."""
    tuned = "distance" in plan.about
    return f"tuned plan for {plan.nfe} evaluations: {plan.solver}" if tuned else plan.solver
