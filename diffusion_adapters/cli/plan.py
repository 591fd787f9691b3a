"""`expint plan`: print what a solver computes, without running it."""

import json
from typing import Any

import click

from diffusion_adapters.cli.options import plan_arguments, plan_options
from expint import plan_sampling, schedules

__all__ = ["plan"]


@click.command()
@click.option(
    "--schedule",
    "name",
    required=True,
    metavar="NAME",
    help=f"One of: {', '.join(schedules.names())}.",
)
@plan_options
@click.option(
    "--sigma-data",
    type=float,
    metavar="X",
    help="The network's sigma_data; the form precond needs it.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print all numbers as JSON instead of a table."
)
def plan(name: str, sigma_data: float | None, as_json: bool, **options: Any) -> None:
    """Print the plan of a solver: one row of coefficients per network evaluation.

    Row i evaluates the network at `time` and forms the state at `-> time`: scale times the state at
    the start of the step, plus the weights times the evaluations named beside them, plus noise of
    the given standard deviation.
    """
    compiled = plan_sampling(
        schedules.get(name), **plan_arguments(**options), sigma_data=sigma_data
    )
    click.echo(json.dumps(compiled.to_dict(), indent=1) if as_json else compiled.table())
