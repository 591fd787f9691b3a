"""The command line `expint`: the group, and how errors are shown.

A subcommand is in a module of its own.
"""

from typing import Any

import click

import expint
from diffusion_adapters.cli import compare, convergence, convert, lists, plan, sample, second_moment


class OneLineErrors(click.Group):
    """A group that shows the library's own errors as one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand: exit status 2 for ValueError and TypeError, 1 for a state that did
        not stay finite.
        """
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, FloatingPointError) as error:
            line = " ".join(str(error).split()) or type(error).__name__
            click.echo(f"Error: {line}", err=True)
            ctx.exit(1 if isinstance(error, FloatingPointError) else 2)


@click.group(
    cls=OneLineErrors,
    commands=[
        sample.sample,
        plan.plan,
        compare.compare,
        convergence.convergence,
        convert.convert,
        second_moment.second_moment_command,
        lists.solvers,
        lists.schedules,
        lists.grids,
        lists.models,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(expint.__version__, prog_name="expint", message="%(prog)s %(version)s")
def main() -> None:
    """Exponential integrators for sampling diffusion models."""
