"""The options --ell and --eta: a number, or one for each step."""

from typing import Any

import click


def _numbers(ctx: Any, param: Any, text: str | None) -> float | list[float] | None:
    """The number, `inf` among them, or the list of those with commas between them."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(
            f"a number, or one for each step with commas between them, got {text!r}."
        ) from error
    return values[0] if len(values) == 1 else values


ELL = click.option(
    "--ell",
    callback=_numbers,
    metavar="X,...",
    show_default="the solver's own",
    help="Stochasticity: 0 is the probability-flow ODE, 1 the reverse SDE, inf fresh noise in "
    "every step; or one number for each step between finite noise levels.",
)
ETA = click.option(
    "--eta",
    callback=_numbers,
    metavar="X,...",
    help="DDIM's eta in place of --ell, one number or one for each step.",
)
