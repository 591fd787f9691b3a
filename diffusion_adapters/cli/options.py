"""Options that several subcommands share: which solver, on which grid, in which form."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from expint import grids, solvers
from expint.equations.forms import form_names

__all__ = ["plan_arguments", "plan_options"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--solver",
        default="seeds-3",
        show_default=True,
        metavar="NAME",
        help=f"One of: {', '.join(solvers.names())}.",
    ),
    click.option(
        "--steps",
        type=int,
        metavar="N",
        help="Steps of the grid, the final denoising step included.  [default: 20]",
    ),
    click.option(
        "--nfe", type=int, metavar="N", help="As many steps as need at most N network evaluations."
    ),
    click.option(
        "--form",
        metavar="NAME",
        help=f"One of: {', '.join(form_names())}.  [default: the solver's own]",
    ),
    click.option(
        "--ell",
        type=float,
        help="Stochasticity: 0 is the probability-flow ODE, 1 the reverse SDE.  [default: the solver's own]",
    ),
    click.option("--eta", type=float, help="DDIM's eta, in place of --ell."),
    click.option(
        "--operation",
        "operations",
        multiple=True,
        metavar="TEXT",
        help="Around each step: churn(s_churn=40), ancestral(eta=1), langevin(snr=0.16), noise-gain(s_noise=1), large-variance.",
    ),
    click.option(
        "--grid",
        metavar="NAME",
        help=f"One of: {', '.join(grids.names())}; or times from noise to data, with commas.  "
        "[default: uniform_lambda; uniform_time where sigma starts at infinity]",
    ),
    click.option(
        "--final",
        metavar="KIND",
        help="denoise: end with an evaluation that takes sigma to 0; none: keep the noise of the last sigma.  [default: denoise]",
    ),
)


def plan_options(function: F) -> F:
    """Decorator: the options that `plan_arguments` understands."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def plan_arguments(
    *,
    solver: str,
    steps: int | None,
    nfe: int | None,
    form: str | None,
    ell: float | None,
    eta: float | None,
    operations: tuple[str, ...],
    grid: str | None,
    final: str | None,
) -> dict[str, Any]:
    """The values of `plan_options` as arguments of `expint.plan_sampling` and `expint.sample`.

    Raises:
        ValueError: for times that are not numbers, or `final` beside a grid of times, which says
            itself where it ends.
    """
    times = _times(grid)
    if times is not None and final is not None:
        raise ValueError(
            f"--final={final} does not go with a grid of times: let the last time say where to end."
        )
    arguments = {"solver": solver, "steps": steps, "nfe": nfe, "form": form, "ell": ell, "eta": eta}
    if operations:
        arguments["operations"] = [solvers.operation(text) for text in operations]
    return arguments | (
        {"grid": grid, "final": final or "denoise"} if times is None else {"grid": times}
    )


def _times(grid: str | None) -> list[float] | None:
    if grid is None or "," not in grid:
        return None
    try:
        return [float(part) for part in grid.split(",")]
    except ValueError as error:
        raise ValueError(
            f"--grid takes the name of a grid or numbers with commas between them, got {grid!r}."
        ) from error
