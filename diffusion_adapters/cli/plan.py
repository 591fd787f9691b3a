"""`expint plan`: print what a solver computes, without running it."""

from json import dumps
from typing import Any

import click

from diffusion_adapters.cli import options
from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.own_objects import schedule_of
from expint import plan_sampling, schedules
from expint.plans.plan_files import load_plan
from expint.soundness import warn_of

_SCHEDULES = f"{options.one_of(schedules.names())} Or module:object for a schedule of your own."


@click.command()
@option("--schedule NAME", _SCHEDULES, usual="that of --plan")
@options.sampling_options
@options.SIGMA_DATA
@option("--json", "Print all numbers as JSON instead of a table.")
@option("--save FILE", "Write the plan to a file, for --plan.")
def plan(**given: Any) -> None:
    """Print the plan of a solver: one row of coefficients per network evaluation.

    Row i evaluates the network at `time` and forms the state at `-> time`: scale times the state at
    the start of the step, plus the weights times the evaluations named beside them, plus noise of
    the given standard deviation.
    """
    name = given["schedule"]
    if name is None and given["plan"] is None:
        raise click.UsageError("Give --schedule, or a plan with --plan.")
    # A file may need the schedule, and says so.
    own = None if name else load_plan(given["plan"]).sde.diffusion
    noise = own.schedule if own else schedule_of(str(name))
    arguments = options.sampling_arguments(noise, given)
    compiled = plan_sampling(noise, **arguments, sigma_data=given["sigma_data"])
    warn_of(compiled)
    click.echo(dumps(compiled.to_dict(), indent=1) if given["json"] else compiled.table())
    about = arguments["plan"]["about"] if "plan" in arguments else {}
    if about and not given["json"]:
        click.echo("\n".join(f"{key}: {value}" for key, value in about.items()))
    if given["save"] is not None:
        compiled.save(given["save"], **about)
