"""`expint second-moment`: measure the statistic of Analytic-DPM on data."""

from pathlib import Path
from typing import Any

import click

from diffusion_adapters import load
from diffusion_adapters.cli import options, output
from diffusion_adapters.cli.given_data import images_of
from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.own_objects import model_of
from expint.second_moments import ESTIMATORS, second_moment

_DATA = (
    "Samples as the network knows them, floating, (n, *shape), without noise: .npy, .npz or "
    ".safetensors."
)
_USUAL_DATA = "the network's training images, where they come with scikit-learn"
_LABELS = "The file's array of classes, (n,), for a class-conditional network."
_ESTIMATOR = (
    "moment: the mean square of the predicted noise; residual: one minus that of its error, more "
    "precise at high noise."
)


@click.command("second-moment")
@options.MODEL
@option("--data FILE", _DATA, usual=_USUAL_DATA)
@option("--array NAME", "Which array of the file.", usual="the only one of the network's shape")
@option("--labels NAME", _LABELS)
@option("--times N", "How many, uniform in lambda.", default=50, least=1)
@option("--draws N", "Noisy samples per time.", usual="one per item of the data", least=2)
@options.SEED
@option("--batch N", "Computed at a time.", default=256, least=1)
@option(f"--estimator [{'|'.join(ESTIMATORS)}]", _ESTIMATOR, default=ESTIMATORS[0])
@option("--out FILE", "The .json file.", required=True)
@options.NO_PROGRESS
def second_moment_command(
    model: str, data: Path | None, array: str | None, labels: str | None, out: Path, **settings: Any
) -> None:
    """Measure how large the noise is that a network predicts, for the solver analytic-dpm.

    Writes a .json file that expint.SecondMoment.load reads.
    """
    network = model_of(model, load)
    images, conditions = images_of(model, network, data, array, labels)
    output.check_folder(out.parent, [out.name])
    moment = second_moment(network, images, **settings, **conditions)
    output.write_files(out.parent, {out.name: output.json_bytes(moment.to_dict())})
    click.echo(
        f"{len(moment.times)} times, {moment.count} draws each, of {model} on {len(images)} "
        f"samples: {out}"
    )
    columns = (moment.times, moment.lams, moment.values, moment.errors)
    for t, lam, value, error in zip(*columns, strict=True):
        click.echo(f"t = {t:<12.6g} lambda = {lam:<10.6g} moment = {value:.6g} +- {error:.2g}")
