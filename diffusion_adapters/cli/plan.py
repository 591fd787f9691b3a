"""`expint plan`: print what a solver computes, without running it."""

from json import dumps
from typing import Any

import click

from diffusion_adapters.cli import options
from diffusion_adapters.cli.options import option
from expint import plan_sampling, schedules


@click.command()
@option("--schedule NAME", options.one_of(schedules.names()), required=True)
@options.sampling_options
@options.SIGMA_DATA
@option("--json", "Print all numbers as JSON instead of a table.")
def plan(schedule: str, sigma_data: float | None, json: bool, **given: Any) -> None:
    """Print the plan of a solver: one row of coefficients per network evaluation.

    Row i evaluates the network at `time` and forms the state at `-> time`: scale times the state at
    the start of the step, plus the weights times the evaluations named beside them, plus noise of
    the given standard deviation.
    """
    arguments = options.sampling_arguments(**given)
    compiled = plan_sampling(schedules.get(schedule), **arguments, sigma_data=sigma_data)
    click.echo(dumps(compiled.to_dict(), indent=1) if json else compiled.table())
