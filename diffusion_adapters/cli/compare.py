"""`expint compare`: solvers side by side, distance from the data against network evaluations."""

from pathlib import Path
from typing import Any

import click

from diffusion_adapters.cli import options, output
from diffusion_adapters.cli.drawing import COMMON_PATH, KEEP, drawing, end_all_but_first
from diffusion_adapters.cli.given_data import read_data
from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.own_objects import model_of, solver_of
from diffusion_adapters.shipped import files as shipped
from diffusion_adapters.shipped.image_quality import EveryClass, frechet_judging
from expint import grids
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
from expint.results import new_figure
from expint.runs.model import describe
from expint.solvers import names

FILES = ("table.md", "compare.png", "compare.json")
_MODEL = (
    f"A shipped network (see `expint models`), an analytic target ({', '.join(target_names())}), "
    "or module:object: a target of your own, or a model with --data."
)
_DATA = "Images of MNIST, for its networks: an .npz file; samples, for a model of your own."
_SOLVERS = f"With commas: {', '.join(names())}, or module:object, a method or tableau of your own."
_USUAL_METRIC = (
    f"{EXACT}, which is exact, on Gaussian data; sliced-wasserstein on other targets; frechet, in "
    "a classifier's features, for networks"
)


@click.command()
@option("--model NAME", _MODEL, default="gaussian-64")
@option("--nfe LIST", "Network evaluations, with commas.", default="10,20,50,100")
@option("--solvers LIST", _SOLVERS, default="all")
@option("--grid NAME", options.one_of(grids.names()), usual="that of `expint sample`")
@options.FINAL
@options.FORM
@options.ELL
@option("--n N", "Samples per run; none are drawn for exact distances.", least=2)
@options.SEED
@option("--repeats N", "Runs to take the mean of.", default=1, least=1)
@option("--metric NAME", options.one_of([EXACT, *METRICS]), usual=_USUAL_METRIC)
@option("--tolerance X", "Distance that counts as the floor.", usual="1.2 times the floor")
@COMMON_PATH
@option("--data FILE", _DATA)
@KEEP
@options.OUT
@options.NO_PROGRESS
def compare(**given: Any) -> None:
    """Compare solvers by distance from the data against network evaluations.

    Writes table.md, compare.png and compare.json.
    """
    model, solvers, out = given.pop("model"), given.pop("solvers").strip(), given.pop("out")
    new_figure(1.0, 1.0)  # refuses to begin without matplotlib
    entries = chosen_solvers(solvers if solvers == "all" else _given(solvers))
    counts = options.listed("--nfe", given.pop("nfe"), int)
    sampled, distances = _model(model, given["n"], given.pop("data"))
    output.check_folder(out, FILES)
    distances |= drawing(sampled, given)
    distances |= {name: value for name, value in given.items() if value is not None}
    study = compare_quality(sampled, entries, counts, **distances, name=model)
    end_all_but_first()
    record = {"command": "expint compare", "options": options.asked("out", "data", "keep")}
    record |= study.to_dict() | output.origin()
    table = (study.table(markdown=True) + "\n").encode()
    content = (table, output.content_of(study.plot), output.json_bytes(record))
    written = output.write_files(out, dict(zip(FILES, content, strict=True)))
    click.echo("\n".join([study.table(), *_gaps(study), "", written]))


def _model(name: str, n: int | None, data: Path | None) -> tuple[Any, dict[str, Any]]:
    """The model, and what its samples are compared with."""
    if name in target_names():
        return analytic_target(name), {}
    if ":" in name:
        own = model_of(name, str)
        return own, {"reference": read_data(data, describe(own).shape)[0]} if data else {}
    if name not in shipped.names():
        raise unknown("network or target", name, [*target_names(), *shipped.names()])
    return EveryClass(name), frechet_judging(name, data, n)


def _given(solvers: str) -> Any:
    """The solvers of a list by name, or under the name module:object the user's own."""
    named = options.listed("--solvers", solvers)
    own = {name: {"solver": solver_of(name)} for name in named}
    return own if len(own) == len(named) else named


def _gaps(study: QualityStudy) -> list[str]:
    """One line per solver with gaps: where, and why the first one."""
    gaps = {curve.name: [p for p in curve.points if p.distance is None] for curve in study.curves}
    return [
        f"{name} has no distance at NFE {', '.join(str(p.nfe) for p in at)}: {at[0].reason}"
        for name, at in gaps.items()
        if at
    ]
