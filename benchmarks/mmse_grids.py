"""Grids over the mmse curve of a network: where they put ten evaluations.

    python benchmarks/mmse_grids.py          docs/img/mmse-grids.png, for digits-edm

The curve is measured on the network's training images, the paths of GITS and OSS are 32 of its own.
A few minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import expint
from diffusion_adapters import load
from diffusion_adapters.shipped.image_quality import real_images
from expint import defaults, grids, tuning
from expint.results import new_figure, save_figure

PICTURE = Path(__file__).parent.parent / "docs" / "img" / "mmse-grids.png"
NAME, SCALES = "digits-edm", (0.0, 0.1, 0.5)


def builders(model: Any, curve: tuning.MmseCurve) -> dict[str, Callable[..., Tensor]]:
    """Grids by name, those that are fitted to the network last; GITS and OSS are searched once."""
    paths = {"model": model, "shape": (32, *model.shape)}
    named = {name: grids.get(name) for name in ("karras", "uniform_lambda", "ays_sd15", "beta")}
    return {
        "default": defaults.grid,
        **named,
        "kl_optimal, std 0.5": partial(grids.kl_optimal, std=0.5),
        "GITS": cache(partial(tuning.gits_grid, **paths)),
        "OSS": cache(partial(tuning.oss_grid, **paths)),
        **{f"KLUB, c = {c:g}": partial(tuning.klub_grid, curve=curve, c=c) for c in SCALES},
    }


def draw(
    path: Path, name: str, model: Any, curve: tuning.MmseCurve, made: dict[str, Any], own: str
) -> None:
    """The curve, and below it the noise levels of ten steps; names with `own` stand out."""
    figure = new_figure(8.5, 6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.0, 1.3])
    sigma = torch.tensor(curve.sigmas, dtype=torch.float64)
    mmse = curve(sigma)
    above.loglog(sigma, mmse, color="C0", label=f"mmse of {name}")
    above.loglog(sigma, sigma**2, color="0.6", linestyle=":", label="σ²")
    above.set_ylim(float(mmse.min()) / 2, 2 * float(mmse.max()))
    above.set_ylabel("E|D − x₀|²/d")
    above.legend(frameon=False, loc="lower right")
    for row, (label, builder) in enumerate(reversed(made.items())):
        levels = model.schedule.sigma(builder(model.schedule, 10))[:-1]
        color = "C1" if own in label else "C0" if label == "default" else "0.35"
        below.plot(levels, [row] * len(levels), "|-", color=color, linewidth=0.6, markersize=9)
    below.set_yticks(range(len(made)), reversed(made))
    below.set_xlabel("σ of the ten evaluations")
    save_figure(figure, path)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=PICTURE, show_default=True)
def main(out: Path) -> None:
    """Draw the picture, and print the bounds."""
    torch.set_num_threads(1)
    model = load(NAME)
    curve = expint.mmse_curve(model, real_images(NAME)[0])
    made = builders(model, curve)
    draw(out, NAME, model, curve, made, "KLUB")
    click.echo(f"KLUB of 10 steps, in nats per component, at c = {', '.join(map(str, SCALES))}")
    for name, builder in made.items():
        times = builder(model.schedule, 10)
        values = [tuning.klub(model.schedule, times, curve, c) for c in SCALES]
        click.echo("  ".join([f"{name:20}", *(f"{value:8.3g}" for value in values)]))


if __name__ == "__main__":
    main()
