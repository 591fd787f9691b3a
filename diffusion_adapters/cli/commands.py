"""The command line `expint`: the group, and how errors are shown.

A subcommand is in a module of its own.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import click
import torch
from tqdm.auto import tqdm

import expint
from diffusion_adapters.cli import compare, convergence, convert, lists, plan, sample, second_moment
from diffusion_adapters.cli.evaluate import evaluate_command
from diffusion_adapters.cli.likelihood import likelihood_command
from diffusion_adapters.cli.tune import tune_command

_REFUSALS = (ValueError, TypeError, click.UsageError)
_FAILURES = (FloatingPointError, ImportError, OSError, MemoryError, torch.OutOfMemoryError)
# Shows the help, which is what was asked for.
_HELP = getattr(click.exceptions, "NoArgsIsHelpError", ())


class OneLineErrors(click.Group):
    """A group that shows errors, the library's own and click's, as one line instead of a traceback
    or a page.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The options of the group itself."""
        return _in_one_line(ctx, super().parse_args, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand: exit status 2 for what is refused, 1 for a state that did not stay
        finite, a package or memory that is missing, and files that cannot be written.
        """
        return _in_one_line(ctx, super().invoke, ctx)


def _in_one_line(ctx: click.Context, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _shown
            return call(*arguments)
    except _HELP:
        raise
    except (*_REFUSALS, *_FAILURES) as error:
        text = str(error)
        if isinstance(error, click.UsageError):
            path = error.ctx.command_path if error.ctx else ctx.command_path
            text = f"{error.format_message()} See `{path} --help`."
        click.echo(f"Error: {' '.join(text.split()) or type(error).__name__}", err=True)
        ctx.exit(2 if isinstance(error, _REFUSALS) else 1)


def _shown(message: Warning | str, *_: Any) -> None:
    """A warning in one line, without the place in the source."""
    tqdm.write(f"Warning: {' '.join(str(message).split())}", file=sys.stderr)  # above a bar


_COMMANDS = [
    sample.sample, plan.plan, evaluate_command, compare.compare, convergence.convergence,
    likelihood_command, convert.convert, second_moment.second_moment_command, tune_command,
    lists.solvers, lists.schedules, lists.grids, lists.models,
]  # fmt: skip


@click.group(
    cls=OneLineErrors,
    commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(expint.__version__, prog_name="expint", message="%(prog)s %(version)s")
def main() -> None:
    """Exponential integrators for sampling diffusion models."""
