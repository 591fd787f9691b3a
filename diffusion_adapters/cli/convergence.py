"""`expint convergence`: measure the orders of solvers, and certify them."""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from diffusion_adapters.cli.output import check_folder, json_bytes, write_files
from expint import schedules, solvers, targets
from expint.convergence import Comparison, Problem, compare
from expint.convergence.certification import Certificate, Orders, certify, declared_orders
from expint.convergence.orders import PATHS
from expint.equations.forms import form_names
from expint.schedules import Schedule
from expint.solvers import Tableau

__all__ = ["convergence"]

KINDS = ("deterministic", "weak", "strong")
PICTURES = (".png", ".svg", ".pdf")
_WAY_OUT = "Give module:object, for example my_solvers:my_tableau, with the module in this folder or installed."


@click.command()
@click.option(
    "--solver",
    "listed",
    default="seeds-1,seeds-2,seeds-3,seeds-sra,seeds-sra3",
    show_default=True,
    metavar="LIST",
    help=f"Solvers, with commas: {', '.join(solvers.names())}, or module:object for a tableau of your own.",
)
@click.option(
    "--schedule",
    "schedule_name",
    default="vp",
    show_default=True,
    metavar="NAME",
    help=f"One of: {', '.join(schedules.names())}; or module:object for a schedule of your own.",
)
@click.option(
    "--form",
    default="data",
    show_default=True,
    metavar="NAME",
    help=f"One of: {', '.join(form_names())}.",
)
@click.option(
    "--ell",
    type=float,
    default=1.0,
    show_default=True,
    help="Stochasticity of the weak and strong studies.",
)
@click.option(
    "--sigmas",
    default="5,0.1",
    show_default=True,
    metavar="A,B",
    help="First and last noise level.",
)
@click.option("--sigma-data", type=float, metavar="X", help="For the form precond.")
@click.option(
    "--kind",
    type=click.Choice([*KINDS, "all"]),
    help="Which order.  [default: strong; all with --certify]",
)
@click.option(
    "--target",
    type=click.Choice(["gaussian", "mixture"]),
    help="Data.  [default: a mixture; Gaussian for weak orders, which are then exact instead of sampled]",
)
@click.option(
    "--paths",
    type=click.IntRange(min=64),
    default=PATHS,
    show_default=True,
    help="Brownian paths of a strong study.",
)
@click.option(
    "--steps", metavar="LIST", help="Step counts, with commas, each a multiple of the one before."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="First seed of the paths.",
)
@click.option(
    "--certify",
    "certifying",
    is_flag=True,
    help="Check orders and stage covariances; exit with status 1 if one is off.",
)
@click.option(
    "--declare",
    metavar="D,W,S",
    help="Deterministic, weak and strong order to certify.  [default: those of the tableau]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Picture (.png, .svg, .pdf), or folder; JSON goes beside it.",
)
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@click.pass_context
def convergence(
    ctx: click.Context,
    listed: str,
    schedule_name: str,
    form: str,
    ell: float,
    sigmas: str,
    sigma_data: float | None,
    kind: str | None,
    target: str | None,
    paths: int,
    steps: str | None,
    seed: int,
    certifying: bool,
    declare: str | None,
    out: Path | None,
    no_progress: bool,
) -> None:
    """Measure the order of convergence of solvers on data whose denoiser is known.

    strong: distance along each Brownian path from a fine run on the same path; weak: distance of
    mean and variance on Gaussian data from the exact ones; deterministic: distance from the
    solution of the ODE (ell=0).
    """
    given = {
        name: _own(name, Tableau, "solver") if ":" in name else solvers.get(name)
        for name in _parts(listed, "--solver")
    }
    chosen = [
        replace(tableau, name=name) for name, tableau in given.items()
    ]  # variants of one solver are told apart by name
    schedule = (
        _own(schedule_name, Schedule, "schedule")
        if ":" in schedule_name
        else schedules.get(schedule_name)
    )
    kinds = _kinds(kind or ("all" if certifying else "strong"), ell)
    counts = [int(n) for n in _numbers(steps, "--steps", int)] if steps else None
    first, last = _numbers(sigmas, "--sigmas", float, 2)
    wanted = Orders(*_numbers(declare, "--declare", float, 3)) if declare else None
    problems = {
        name: Problem(
            _target(target or ("gaussian" if name == "weak" else "mixture"), schedule),
            form,
            ell,
            (first, last),
            sigma_data,
        )
        for name in kinds
    }
    files = _files(out)
    studies = [
        compare(
            chosen, problem, [name], paths=paths, seed=seed, steps=counts, progress=not no_progress
        )
        for name, problem in problems.items()
    ]
    found = Comparison(tuple(study for comparison in studies for study in comparison.studies))
    click.echo(found.table())
    certificates = [
        _certificate(
            tableau, found, problems, wanted or declared_orders(given[tableau.name]), paths, seed
        )
        for tableau in chosen
        if certifying
    ]
    for certificate in certificates:
        click.echo(f"\n{certificate.table()}")
    if files is not None:
        folder, picture, numbers = files
        settings = {
            name: value for name, value in ctx.params.items() if name not in ("out", "no_progress")
        }
        content = {"command": "expint convergence", "settings": settings, **found.to_dict()}
        if certifying:
            content["certificates"] = [certificate.to_dict() for certificate in certificates]
        write_files(
            folder, {picture: _picture(found, Path(picture).suffix), numbers: json_bytes(content)}
        )
        click.echo(f"\n{picture}, {numbers} in {folder}")
    if not all(certificate.passed for certificate in certificates):
        ctx.exit(1)


def _kinds(kind: str, ell: float) -> Sequence[str]:
    if kind != "all":
        return (kind,)
    return KINDS if ell > 0 else KINDS[:2]


def _certificate(
    tableau: Tableau,
    found: Comparison,
    problems: dict[str, Problem],
    wanted: Orders,
    paths: int,
    seed: int,
) -> Certificate:
    """The certificate from the studies that are already made; a weak order is certified on Gaussian
    data only.
    """
    made = {study.kind: study for study in found.studies if study.solver == tableau.name}
    if "weak" in made and not isinstance(problems["weak"].model, targets.Gaussian):
        made.pop("weak")
    problem = next(iter(problems.values()))
    return certify(
        tableau,
        problem,
        declared=wanted,
        kinds=tuple(problems),
        paths=paths,
        seed=seed,
        studies=made,
    )


def _target(name: str, schedule: Schedule) -> Any:
    if name == "gaussian":
        return targets.Gaussian([0.7, -1.0], [0.3, 2.0], schedule)
    return targets.GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]], 0.6, None, schedule)


def _parts(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"{option} takes values with commas between them, got {text!r}.")
    return parts


def _numbers(text: str, option: str, kind: Any, count: int | None = None) -> list[Any]:
    try:
        numbers = [kind(part) for part in _parts(text, option)]
    except ValueError as error:
        raise ValueError(
            f"{option} takes numbers with commas between them, got {text!r}."
        ) from error
    if count is not None and len(numbers) != count:
        raise ValueError(f"{option} takes {count} numbers, got {text!r}.")
    return numbers


def _own(name: str, kind: type, what: str) -> Any:
    """The user's object `module:object`; a class or a function is called without arguments."""
    module_name, _, attribute = name.partition(":")
    here, failing, way_out = os.getcwd(), f"Cannot load the {what} {name!r}", _WAY_OUT
    sys.path.insert(0, here)
    try:
        value = importlib.import_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
        if not isinstance(value, kind) and callable(value):
            failing, way_out = (
                f"Calling the {what} {name!r} failed",
                "It is called without arguments.",
            )
            value = value()
    except (Exception, SystemExit) as error:  # whatever the user's code does
        raise ValueError(
            f"{failing}: {type(error).__name__}: {str(error).rstrip('.')}. {way_out}"
        ) from error
    finally:
        sys.path.remove(here)
    if not isinstance(value, kind):
        raise ValueError(
            f"The {what} {name!r} must be a {kind.__name__}, or give one when it is called, got "
            f"{type(value).__name__}."
        )
    return value


def _files(out: Path | None) -> tuple[Path, str, str] | None:
    """Folder, picture and JSON, after checking that they can be written."""
    if out is None:
        return None
    folder, picture = (out.parent, out.name) if out.suffix else (out, "convergence.png")
    if Path(picture).suffix.lower() not in PICTURES:
        raise ValueError(
            f"--out is a picture ({', '.join(PICTURES)}) or a folder, got {str(out)!r}."
        )
    numbers = Path(picture).with_suffix(".json").name
    check_folder(folder, [picture, numbers])
    return folder, picture, numbers


def _picture(found: Comparison, suffix: str) -> bytes:
    buffer = io.BytesIO()
    found.plot(buffer, suffix.lstrip(".").lower())
    return buffer.getvalue()
