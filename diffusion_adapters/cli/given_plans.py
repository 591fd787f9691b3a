"""The option --plan, a file in place of a solver and its steps, and plans that are shown and saved
for it."""

from collections.abc import Mapping
from json import dumps
from typing import Any

import click

from diffusion_adapters.cli.own_objects import schedule_of
from expint.plans import Plan
from expint.plans.file_format import read_content
from expint.plans.plan_files import load_plan
from expint.schedules import Schedule

_FIXED = ("steps", "nfe", "form", "ell", "noise_scale", "eta", "solver", "grid", "sigmas", "final")

PLAN = click.option(
    "--plan",
    metavar="PLAN",
    help="A file of `expint plan --save`, or its text, in place of the solver and its steps.",
)


def plan_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The content of --plan as an argument of `plan_sampling`, which refuses what is given beside
    it.

    Args:
        given: the options of the command by name, --plan among them.

    Raises:
        ValueError: for a file that is not a plan's.
    """
    beside = {name: given[name] for name in _FIXED}
    return beside | {"operations": given["operation"], "plan": read_content(given["plan"])}


def schedule_for(name: str | None, plan: str | None) -> Schedule:
    """The schedule of a name, or without one that of --plan.

    Raises:
        ValueError: for an unknown name, and for a file that is not a plan's or does not hold its
            schedule.
    """
    if name is not None:
        return schedule_of(name)
    if plan is None:
        raise click.UsageError("Give --schedule, or a plan with --plan.")
    equation = load_plan(plan).sde.diffusion
    assert equation
    return equation.schedule


def show_and_save(plan: Plan, as_json: bool, file: Any) -> None:
    """Print a plan and what is known of it, or all its numbers as JSON; write it to a file, if
    there is one."""
    if as_json:
        click.echo(dumps(plan.to_dict(), indent=1))
    else:
        about = (f"{key}: {value}" for key, value in plan.about.items())
        click.echo("\n".join([plan.table(), *about]))
    if file is not None:
        plan.save(file)
