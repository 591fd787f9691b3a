"""`expint solvers`, `schedules`, `grids`, `models`: what there is, one line each."""

from collections.abc import Iterable, Sequence
from typing import Any

import click

from diffusion_adapters import load
from diffusion_adapters.shipped import files as shipped
from expint import grids as time_grids
from expint import schedules as noise_schedules
from expint.solvers import entries

__all__ = ["grids", "models", "schedules", "solvers"]


@click.command()
def solvers() -> None:
    """List the solvers.

    ODE, strong and weak are the orders of convergence at ell=0, and with noise along each path and
    in distribution (linear problems); 0 where added noise is not the path's, or leaves a bias. Form
    and ell are those that a solver takes by default; Gaussians are those used per step and
    component at ell>0.
    """
    rows: list[Sequence[Any]] = [
        (
            "name",
            "NFE/step",
            "form",
            "ell",
            "ODE",
            "strong",
            "weak",
            "Gaussians/step",
            "what",
            "source",
        )
    ]
    for entry in entries():
        tableau = entry.build()
        orders = (tableau.deterministic_order, tableau.strong_order, tableau.weak_order)
        ell = f"{tableau.ell:g}" if tableau.noise_scale is None else tableau.noise_scale
        rows.append(
            (
                entry.name,
                tableau.evaluations,
                tableau.form,
                ell,
                *orders,
                tableau.gaussians,
                entry.summary,
                tableau.source,
            )
        )
    _print_table(rows)


@click.command()
def schedules() -> None:
    """List the noise schedules."""
    _print_table(
        (name, _first_line(type(noise_schedules.get(name)))) for name in noise_schedules.names()
    )


@click.command()
def grids() -> None:
    """List the time grids."""
    _print_table((name, _first_line(time_grids.get(name))) for name in time_grids.names())


@click.command()
def models() -> None:
    """List the shipped networks."""
    rows: list[Sequence[Any]] = [("name", "shape", "predicts", "classes", "schedule")]
    for name in shipped.names():
        model = load(name)
        shape = "x".join(map(str, model.shape))
        rows.append((name, shape, model.prediction, model.label_dim or "none", model.schedule))
    _print_table(rows)


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().split("\n")[0]


def _print_table(rows: Iterable[Sequence[Any]]) -> None:
    cells = [[str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        click.echo(
            "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        )
