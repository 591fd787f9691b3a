"""Bits per dimension of shipped networks along the ODE, by several solvers, and by the bound.

    python benchmarks/likelihood.py [--count 8] [--nfe 120]

digits-edm on held-out images of its data set, 17 levels. MNIST does not come with the package:
mnist-edm on its own samples, of all classes in turn, rounded to 256 levels. All solvers have the
same dequantisation and the same probes, so that they differ by their steps alone; the error of the
mean is that over the images.
"""

from typing import Any

import click
import torch
from torch import Tensor

import expint
from diffusion_adapters import load
from diffusion_adapters.shipped.image_quality import real_images

SOLVERS = (("etd-rk4", None), ("seeds-ab4", "noise"), ("unipc-3", "noise"), ("dpm-solver-3", None))


def images(name: str, count: int) -> tuple[Any, Tensor, float]:
    """The network with its classes, the images, and the distance of their levels."""
    if name == "digits-edm":
        return load(name), real_images(name)[1][:count], 1.0 / 8.0
    model = load(name, labels=torch.arange(count) % 10)
    samples = expint.sample(model, (count, 1, 28, 28), "seeds-3", steps=20, seed=3, progress=False)
    return model, ((samples.clamp(-1.0, 1.0) + 1.0) * 127.5).round() / 127.5 - 1.0, 1.0 / 127.5


@click.command(help=__doc__)
@click.option("--count", default=8, show_default=True, help="Images of each network.")
@click.option("--nfe", default=120, show_default=True, help="Evaluations.")
def main(count: int, nfe: int) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for name in ("digits-edm", "mnist-edm"):
        model, data, levels = images(name, count)
        for solver, form in SOLVERS:
            found = expint.log_likelihood(
                model, data, solver, form=form, nfe=nfe, grid="uniform_lambda", levels=levels
            )
            click.echo(f"{name} {solver:14} {found.mean:.4f} +- {found.mean_error:.4f}")
        found = expint.log_likelihood(model, data, bound=True, steps=nfe // 2, levels=levels)
        click.echo(f"{name} {'bound':14} {found.mean:.4f} +- {found.mean_error:.4f}")


if __name__ == "__main__":
    main()
