"""The command line `expint`: the group, and how errors are shown. A subcommand is in a `cli_*.py` and is entered in COMMANDS."""

from typing import Any

import click

import expint
from diffusion_adapters import cli_compare, cli_convergence, cli_convert, cli_lists, cli_plan, cli_sample, cli_second_moment

COMMANDS: tuple[click.Command, ...] = (
    cli_sample.sample,
    cli_plan.plan,
    cli_compare.compare,
    cli_convergence.convergence,
    cli_convert.convert,
    cli_second_moment.second_moment_command,
    cli_lists.solvers,
    cli_lists.schedules,
    cli_lists.grids,
    cli_lists.models,
)


class Refusal(click.ClickException):
    """What was asked for does not fit; shown as one line."""

    exit_code = 2


class Failure(click.ClickException):
    """What was asked for fits, but went wrong on the way; shown as one line."""

    exit_code = 1


class CleanErrors(click.Group):
    """A group that shows the library's own errors as one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand: exit status 2 for ValueError and TypeError, 1 for a state that did not stay finite."""
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError) as error:
            raise Refusal(_one_line(error)) from error
        except FloatingPointError as error:
            raise Failure(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@click.group(cls=CleanErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(expint.__version__, prog_name="expint", message="%(prog)s %(version)s")
def main() -> None:
    """Exponential integrators for sampling diffusion models."""


for _command in COMMANDS:
    main.add_command(_command)
