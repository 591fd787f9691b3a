"""`expint likelihood`: bits per dimension of data under a network."""

from pathlib import Path
from typing import Any

import click

import expint
from diffusion_adapters import load
from diffusion_adapters.cli import options, output
from diffusion_adapters.cli.given_data import images_of
from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.own_objects import model_of, solver_of
from expint.likelihoods.probability_flow import TRACES

_DATA = "Samples as the network knows them, floating, (n, *shape): .npy, .npz or .safetensors."
_USUAL_DATA = "the held-out images, where they come with scikit-learn"
_LABELS = "The file's array of classes, (n,), for a class-conditional network."
_LEVELS = "Distance of the levels of the data, such as 0.00784314 for 256 levels in [-1, 1]."
_USUAL_LEVELS = "none: a density"


@click.command("likelihood")
@options.MODEL
@option("--data FILE", _DATA, usual=_USUAL_DATA)
@option("--array NAME", "Which array of the file.", usual="the only one of the network's shape")
@option("--labels NAME", _LABELS)
@option("--num N", "How many of the samples.", usual="all", least=1)
@option("--levels X", _LEVELS, usual=_USUAL_LEVELS)
@option("--bound", "The variational bound of the SDE, without derivatives.")
@option(f"--trace [{'|'.join(TRACES)}]", "Of the Jacobian.", default=TRACES[0])
@option("--draws N", "Probes, and draws of noise, for each sample.", default=1, least=1)
@option("--solver NAME", "What `expint solvers` lists.", usual="etd-rk4; none for --bound")
@option("--steps N", "Steps of the grid.", usual="20")
@option("--nfe N", "As many steps as need at most N evaluations.")
@option("--grid NAME", "What `expint grids` lists.", usual="uniform_lambda")
@options.SEED
@option("--batch N", "Computed at a time.", default=256, least=1)
@option("--out FILE", "A .json file with all numbers.", usual="none")
@options.NO_PROGRESS
def likelihood_command(
    model: str, data: Path | None, array: str | None, labels: str | None, num: int | None,
    solver: str | None, out: Path | None, **settings: Any,
) -> None:  # fmt: skip
    """Measure the likelihood of data under a network, in nats and bits per dimension.

    Along the probability-flow ODE, with the density of the noise that it leads to, or by a bound.
    """
    network = model_of(model, load)
    images, conditions = images_of(model, network, data, array, labels, held_out=True)
    if out is not None:
        output.check_folder(out.parent, [out.name])
    chosen = None if solver is None else solver_of(solver)
    kept = {name: value for name, value in settings.items() if value is not None}
    found = expint.log_likelihood(network, images[:num], chosen, **kept, **conditions)
    click.echo(found.table())
    if out is not None:
        output.write_files(out.parent, {out.name: output.json_bytes(found.to_dict())})
