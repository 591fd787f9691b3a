"""`expint plan`: print what a solver computes, without running it."""

from typing import Any

import click

from diffusion_adapters.cli import options
from diffusion_adapters.cli.given_plans import schedule_for, show_and_save
from diffusion_adapters.cli.options import option
from expint import plan_sampling, schedules
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
    schedule = schedule_for(given["schedule"], given["plan"])
    arguments = options.sampling_arguments(schedule, given)
    compiled = plan_sampling(schedule, **arguments, sigma_data=given["sigma_data"])
    warn_of(compiled)
    show_and_save(compiled, given["json"], given["save"])
