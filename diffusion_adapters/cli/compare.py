"""`expint compare`: solvers side by side, distance from the data against network evaluations."""

import io
from pathlib import Path
from typing import Any

import click

from diffusion_adapters.cli.output import check_folder, json_bytes, write_files
from diffusion_adapters.shipped import files as shipped
from diffusion_adapters.shipped.image_quality import EveryClass, frechet_judging
from expint import grids, solvers
from expint.equations.forms import form_names
from expint.noise import BrownianPath
from expint.quality import (
    EXACT,
    METRICS,
    QualityStudy,
    analytic_target,
    chosen_solvers,
    compare_quality,
    target_names,
)
from expint.registry import unknown

__all__ = ["FILES", "compare"]

FILES = ("table.md", "compare.png", "compare.json")
# leaves of a common path per e-fold of the noise clock: enough for steps of a sixtieth of an e-fold
_RESOLUTION = 64


@click.command()
@click.option(
    "--model",
    "name",
    default="gaussian-64",
    show_default=True,
    metavar="NAME",
    help=f"A network (see `expint models`) or an analytic target: {', '.join(target_names())}.",
)
@click.option(
    "--nfe",
    default="10,20,50,100",
    show_default=True,
    metavar="LIST",
    help="Network evaluations, with commas.",
)
@click.option(
    "--solvers",
    "listed",
    default="all",
    show_default=True,
    metavar="LIST",
    help=f"With commas: {', '.join(solvers.names())}.",
)
@click.option(
    "--grid",
    metavar="NAME",
    help=f"One of: {', '.join(grids.names())}.  [default: that of `expint sample`]",
)
@click.option(
    "--final",
    type=click.Choice(["denoise", "none"]),
    default="denoise",
    show_default=True,
    help="How runs end.",
)
@click.option(
    "--form",
    metavar="NAME",
    help=f"One of: {', '.join(form_names())}.  [default: each solver's own]",
)
@click.option("--ell", type=float, help="Stochasticity.  [default: each solver's own]")
@click.option(
    "--n",
    "num",
    type=click.IntRange(min=2),
    metavar="N",
    help="Samples per run; none are drawn for exact distances.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Sample i has seed N + i.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs to take the mean of.",
)
@click.option(
    "--metric",
    metavar="NAME",
    help=f"One of: {', '.join([EXACT, *METRICS])}.  [default: {EXACT}, which is exact, on Gaussian data; sliced-wasserstein on "
    "other targets; frechet, in a classifier's features, for networks]",
)
@click.option(
    "--tolerance",
    type=float,
    metavar="X",
    help="Distance that counts as the floor.  [default: 1.2 times the floor]",
)
@click.option(
    "--common-path",
    is_flag=True,
    help="One Brownian path per sample for all runs, instead of fresh normals.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Images of MNIST, for its networks: an .npz file.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder for the files.",
)
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@click.pass_context
def compare(
    ctx: click.Context,
    name: str,
    nfe: str,
    listed: str,
    grid: str | None,
    num: int | None,
    metric: str | None,
    common_path: bool,
    data: Path | None,
    out: Path,
    no_progress: bool,
    **common: Any,
) -> None:
    """Compare solvers by distance from the data against network evaluations.

    Writes table.md, compare.png and compare.json.
    """
    entries = chosen_solvers("all" if listed.strip() == "all" else _parts(listed, "--solvers"))
    counts = _counts(nfe)
    if grid is not None:
        grids.get(grid)
    if metric is not None and metric not in (known := [EXACT, *METRICS]):
        raise unknown("metric", metric, known)
    model, judging = _model(name, num, data)
    check_folder(out, FILES)
    study = compare_quality(
        model,
        entries,
        counts,
        **judging | ({} if metric is None else {"metric": metric}),
        **common,
        grid=grid,
        path=(lambda seeds: BrownianPath(seeds, resolution=_RESOLUTION)) if common_path else None,
        name=name,
        progress=not no_progress,
    )
    options = {
        key: value for key, value in ctx.params.items() if key not in ("out", "no_progress", "data")
    }
    content = {"command": "expint compare", "options": options, **study.to_dict()}
    table = (study.table(markdown=True) + "\n").encode()
    write_files(out, dict(zip(FILES, (table, _picture(study), json_bytes(content)), strict=True)))
    click.echo(study.table())
    for gap in _gaps(study):
        click.echo(gap)
    click.echo(f"\n{', '.join(FILES)} in {out}")


def _model(name: str, num: int | None, data: Path | None) -> tuple[Any, dict[str, Any]]:
    """The model, and what its samples are compared with."""
    if name in target_names():
        return analytic_target(name), {} if num is None else {"n": num}
    if name not in shipped.names():
        raise unknown("network or target", name, [*target_names(), *shipped.names()])
    return EveryClass(name), frechet_judging(name, data, num)


def _counts(text: str) -> list[int]:
    try:
        return [int(part) for part in _parts(text, "--nfe")]
    except ValueError as error:
        raise ValueError(
            f"--nfe takes whole numbers with commas between them, got {text!r}."
        ) from error


def _parts(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"{option} takes values with commas between them, got {text!r}.")
    return parts


def _gaps(study: QualityStudy) -> list[str]:
    """One line per solver with gaps: where, and why the first one."""
    lines = []
    for curve in study.curves:
        gaps = [point for point in curve.points if point.distance is None]
        if gaps:
            lines.append(
                f"{curve.name} has no distance at NFE "
                f"{', '.join(str(point.nfe) for point in gaps)}: {gaps[0].reason}"
            )
    return lines


def _picture(study: QualityStudy) -> bytes:
    buffer = io.BytesIO()
    study.plot(buffer)
    return buffer.getvalue()
