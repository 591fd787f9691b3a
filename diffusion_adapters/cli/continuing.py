"""`expint sample --out DIR` alone: the options of the run in the folder."""

from typing import Any

import click
from click.core import ParameterSource

from diffusion_adapters.runs import RunFolder
from diffusion_adapters.runs.folder import is_run

_FREE = {"out", "batch", "device", "compile", "merge", "progress"}  # samples do not depend on them


def continued(asked: dict[str, Any]) -> dict[str, Any]:
    """The options of the command by name; those of the run in its folder, if none is given that
    samples depend on.

    Raises:
        ValueError: for a run that was not begun by the command.
    """
    source = click.get_current_context().get_parameter_source
    given = {name for name in asked if source(name) is not ParameterSource.DEFAULT}
    if given - _FREE or not is_run(asked["out"]):
        return asked
    about = RunFolder(asked["out"]).manifest["about"]
    if "model" not in about:
        begun = f"The run in {str(asked['out'])!r} was not begun by `expint sample`"
        raise ValueError(f"{begun}: make the call of `draw` again that began it.")
    return asked | {name: value for name, value in about.items() if name not in given}
