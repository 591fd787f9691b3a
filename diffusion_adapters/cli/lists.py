"""`expint solvers`, `schedules`, `grids`, `models`: what there is, one line each."""

from collections.abc import Iterable
from typing import Any

import click

from diffusion_adapters import load
from diffusion_adapters.shipped import files as shipped
from expint import grids as time_grids
from expint import schedules as noise_schedules
from expint.results import table_text
from expint.solvers import entries, get

_SOLVERS = "name NFE/step form ell ODE strong weak Gaussians/step what source"


@click.command()
def solvers() -> None:
    """List the solvers.

    ODE, strong and weak are the orders of convergence at ell=0, and with noise along each path and
    in distribution (linear problems); 0 where added noise is not the path's, or leaves a bias. Form
    and ell are those that a solver takes by default; Gaussians are those used per step and
    component at ell>0.
    """
    rows = []
    for entry in entries():
        method, tableau = get(entry.name), get(entry.name).tableau
        noise = f"{method.ell:g}" if method.noise_scale is None else method.noise_scale
        orders = (method.deterministic_order, method.strong_order, method.weak_order)
        row = (entry.name, tableau.evaluations, method.form, noise, *orders, tableau.normals)
        rows.append((*row, entry.summary, method.source))
    _print(_SOLVERS.split(), *rows)


@click.command()
def schedules() -> None:
    """List the noise schedules."""
    names = noise_schedules.names()
    _print(*((name, _first_line(type(noise_schedules.get(name)))) for name in names))


@click.command()
def grids() -> None:
    """List the time grids."""
    _print(*((name, _first_line(time_grids.get(name))) for name in time_grids.names()))


@click.command()
def models() -> None:
    """List the shipped networks."""
    rows = []
    for name in shipped.names():
        model = load(name)
        shape = "x".join(map(str, model.shape))
        rows.append((name, shape, model.prediction, model.label_dim or "none", model.schedule))
    _print("name shape predicts classes schedule".split(), *rows)


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().split("\n")[0]


def _print(*rows: Iterable[Any]) -> None:
    click.echo(table_text([[str(value) for value in row] for row in rows]))
