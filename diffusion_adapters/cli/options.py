"""The options that commands share, each declared once, and the parsing of their values."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from diffusion_adapters.cli.given_plans import PLAN, plan_arguments
from diffusion_adapters.cli.own_objects import solver_of
from diffusion_adapters.cli.per_step import ELL, ETA
from expint import grids, solvers
from expint.equations.forms import form_names
from expint.equations.noise_scales import noise_scale_names
from expint.schedules import Schedule

F = TypeVar("F", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)
_TYPES: dict[str, Any] = {"": bool, "N": int, "X": float, "DIR": _PATH, "FILE": _PATH}


def option(declared: str, help: str, *, usual: str | None = None, **settings: Any) -> Any:
    """`click.option`, declared as the help shows it.

    Args:
        declared: the option and its value, which says its type: "--seed N" (a whole number), "--ell
            X" (a number), "--out FILE" or "DIR" (a path), "--dtype [a|b]" (a choice), "--compile"
            (a flag), else a text.
        help: what it does.
        usual: the default in words, where it is not a value.
        settings: those of `click.option`; and `least` and `most`, the whole numbers allowed.
    """
    name, _, metavar = declared.partition(" ")
    kind = _TYPES.get(metavar, str)
    if metavar.startswith("["):
        kind = click.Choice(metavar.strip("[]").split("|"))
    elif "least" in settings:
        kind = click.IntRange(settings.pop("least"), settings.pop("most", None))
    return click.option(
        name,
        type=kind,
        metavar=metavar or None,
        is_flag=None if metavar else True,
        help=help,
        show_default=usual or True,
        **settings,
    )


def one_of(names: Iterable[str]) -> str:
    """The names, for a help text."""
    return f"One of: {', '.join(names)}."


FORMS = one_of(form_names())
_OPERATIONS = (
    "Around each step: churn(s_churn=40), ancestral(eta=1), langevin(snr=0.16), "
    "noise-factor(s_noise=1), steady-churn(gamma=0.8), large-variance. May be repeated."
)
_SCALES = f"A noise-scale function in place of --ell. {one_of(noise_scale_names())}"
_GRIDS = f"{one_of(('default', *grids.names()))} Or times from noise to data, with commas."
_USUAL_GRID = "equal steps of arctan sigma, to an end that the number of evaluations sets"
_FINAL = "denoise: a last evaluation takes sigma to 0; none: keep the noise of the last sigma."

_SOLVERS = f"{one_of(solvers.names())} Or module:object, a method or tableau of your own."
_MODEL = "A shipped network (see `expint models`), or module:object, a model of your own."
_DEVICE = "Where to compute, such as cuda or cpu."

SOLVER = option("--solver NAME", _SOLVERS, usual="by the number of evaluations")
STEPS = option("--steps N", "Steps of the grid, the final denoising step included.", usual="20")
NFE = option("--nfe N", "As many steps as need at most N network evaluations.")
FORM = option("--form NAME", FORMS, usual="the solver's own")
NOISE_SCALE = option("--noise-scale NAME", _SCALES)
OPERATION = option("--operation TEXT", _OPERATIONS, multiple=True)
GRID = option("--grid NAME", _GRIDS, usual=_USUAL_GRID)
FINAL = option("--final KIND", _FINAL, usual="denoise")
SIGMAS = option("--sigmas LIST", "Noise levels in place of --grid, falling, with commas.")
DEVICE = option("--device NAME", _DEVICE, usual="where the network is: the CPU if it is shipped")
MODEL = option("--model NAME", _MODEL, default="digits-edm")
SIGMA_DATA = option("--sigma-data X", "The network's sigma_data; the form precond needs it.")
RUN = "The run: sample i is a function of N and i, and neighbouring N share nothing."
_MOST_SEEDS = 10**6
SEED = option("--seed N", RUN, default=0, least=0)
OUT = option("--out DIR", "Folder for the files.", required=True)
NO_PROGRESS = click.option(
    "--no-progress",
    "progress",
    is_flag=True,
    callback=lambda ctx, param, given: not given,
    help="No progress bar.",
)


def sampling_options(function: F) -> F:
    """Decorator: the solver, and the options that `expint.sampling.SamplingOptions` holds."""
    noise = (FORM, ELL, NOISE_SCALE, ETA, OPERATION)
    for declared in reversed((SOLVER, STEPS, NFE, *noise, GRID, SIGMAS, FINAL, PLAN)):
        function = declared(function)
    return function


def sampling_arguments(schedule: Schedule, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `sampling_options` as arguments of `expint.sample` and `plan_sampling`.

    Args:
        schedule: of the model.
        given: the options of the command by name.

    Raises:
        ValueError: for times or noise levels that are not numbers, or `final` beside them, which
            say themselves where they end.
    """
    if given["plan"] is not None:
        return plan_arguments(given)
    grid, sigmas, final = given["grid"], given["sigmas"], given["final"]
    times: Any = grid
    if grid is not None and sigmas is not None:
        raise ValueError("--grid and --sigmas both say where the steps lie: give one of them.")
    if sigmas is not None:
        levels = listed("--sigmas", sigmas, float)
        if not all(0.0 <= level < math.inf for level in levels):
            raise ValueError(f"--sigmas takes finite noise levels >= 0, got {sigmas!r}.")
        times = schedule.t_of_sigma(levels).tolist()
    elif grid is not None and "," in grid:
        times = listed("--grid", grid, float, what="the name of a grid or numbers")
    if not isinstance(times, str | None) and final is not None:
        raise ValueError("Leave out --final with times: let the last time say where to end.")
    return {name: given[name] for name in ("steps", "nfe", "form", "ell", "noise_scale", "eta")} | {
        "solver": given["solver"] and solver_of(given["solver"]),
        "grid": times,
        "final": final or "denoise",
        "operations": [solvers.operation(text) for text in given["operation"]],
    }


def listed(option: str, text: str, kind: Any = str, *, count: int = 0, what: str = "") -> list[Any]:
    """The values of an option that takes several, with commas between them.

    Args:
        option: its name, for messages.
        text: what was given.
        kind: str, int or float: what each value is.
        count: how many there must be; 0 for any number.
        what: what they are, for messages.

    Raises:
        ValueError: for an empty value, one of another kind, or another number of them.
    """
    what = what or {str: "values", int: "whole numbers"}.get(kind, "numbers")
    parts = [part.strip() for part in text.split(",")]
    try:
        values = [kind(part) for part in parts]
    except ValueError:
        values = []
    if not values or not all(parts):
        raise ValueError(f"{option} takes {what} with commas between them, got {text!r}.")
    if count not in (0, len(values)):
        raise ValueError(f"{option} takes {count} {what}, got {text!r}.")
    return values


def seeds_in(text: str) -> list[int]:
    """The whole numbers and ranges, first-last, of --seeds, in their order.

    Raises:
        ValueError: for anything else, or more than a million.
    """
    found: list[int] = []
    for part in listed("--seeds", text):
        ends = [end.strip() for end in part.split("-")]
        whole = len(ends) <= 2 and all(map(str.isdecimal, ends))
        span = range(int(ends[0]), int(ends[-1]) + 1) if whole else range(0)
        if not span or len(found) + len(span) > _MOST_SEEDS:
            raise ValueError(
                f"--seeds takes up to {_MOST_SEEDS} seeds, numbers and ranges such as 0-63, the "
                f"first of a range not above its last, got {part!r}."
            )
        found += span
    return found


def asked(*left_out: str) -> dict[str, Any]:
    """The options of the running command by name, in the order of its help, for a JSON file."""
    context = click.get_current_context()
    names = [option.name for option in context.command.params if option.name in context.params]
    return {name: context.params[name] for name in names if name not in (*left_out, "progress")}
