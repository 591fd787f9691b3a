"""Four fields on periodic boxes with noise of a given spectrum: the heat equation, Allen–Cahn on a
square, Burgers and Kuramoto–Sivashinsky, each in a few lines of `expint.fields`.

    python examples/fields.py --out out/fields.png
"""

from __future__ import annotations

import math
from pathlib import Path

import click
import torch
from torch import Tensor

from expint import integrate, noise
from expint.fields import Box


def heat(steps: int) -> tuple[Tensor, float]:
    """du = 0.01 Δu dt + white noise: exact in one step. The variance of the field at a point, of
    2000 samples, over the exact one."""
    box, span = Box(128), (0.0, 2.0)
    sde = box.sde(0.01, 1.0, span=span)
    x = torch.zeros(2000, 128, dtype=torch.float64)
    grid = torch.linspace(*span, steps + 1)
    x = integrate(sde, lambda x, t: 0 * x, x, grid, "seeds-1", noise.Gaussian(range(2000))).x
    rates = 0.02 * -box.laplacian
    exact = torch.where(rates > 0, -torch.expm1(-2.0 * rates) / rates.clamp(min=1e-30), 2.0).sum()
    u = box.to_points(x)
    return u[0], float(u.var() / exact)


def allen_cahn(steps: int, modes: int = 96) -> Tensor:
    """du = [0.0005 Δu + u − u³] dt + coloured noise on a square."""
    box, span = Box((modes, modes)), (0.0, 12.0)
    sde = box.sde(5e-4, lambda k: 1e-3 * torch.exp(-((k / 40) ** 2)), span=span)
    F = box.nonlinearity(lambda u, t: u - u**3, degree=3)
    x = torch.zeros(1, modes, modes)
    grid = torch.linspace(*span, steps + 1)
    return box.to_points(integrate(sde, F, x, grid, "seeds-sra", noise.Gaussian([0])).x)[0]


def burgers(steps: int, modes: int = 255) -> Tensor:
    """du = [0.02 u_xx − (u²/2)_x] dt + noise in large waves: the field at all times."""
    box, span = Box(modes, 2 * math.pi), (0.0, 4.0)
    sde = box.sde(0.02, lambda k: 0.2 * torch.exp(-(k**2) / 8) * (k > 0), span=span)
    square = box.nonlinearity(lambda u, t: -0.5 * u**2, degree=2)
    x = box.to_modes(torch.sin(box.places((512,))[0]))[None]
    found = integrate(
        sde,
        lambda x, t: box.derivative(square(x, t)),
        x,
        torch.linspace(*span, steps + 1),
        "seeds-2",
        noise.Gaussian([0]),
        save=True,
    )
    return box.to_points(found.states)[:, 0]


def kuramoto_sivashinsky(steps: int, modes: int = 255) -> Tensor:
    """du = [−u_xx − u_xxxx − (u²/2)_x] dt + weak noise: the field at all times."""
    box, span = Box(modes, 32 * math.pi), (0.0, 120.0)
    sde = box.sde(lambda d: -d - d**2, lambda k: 0.01 * torch.exp(-(k**2)), span=span)
    square = box.nonlinearity(lambda u, t: -0.5 * u**2, degree=2)
    (places,) = box.places((512,))
    x = box.to_modes(torch.cos(places / 16) * (1 + torch.sin(places / 16)))[None]
    found = integrate(
        sde,
        lambda x, t: box.derivative(square(x, t)),
        x,
        torch.linspace(*span, steps + 1),
        "seeds-3",
        noise.Gaussian([1]),
        save=True,
    )
    return box.to_points(found.states)[:, 0]


def picture(u: Tensor, ac: Tensor, wave: Tensor, chaos: Tensor, out: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 4, figsize=(15, 3.7), layout="constrained")
    panels[0].plot((torch.arange(len(u)) / len(u)).numpy(), u.numpy(), lw=0.8)
    panels[0].set(title="Heat equation, white noise", xlabel="x", ylabel="u")
    frame = {"origin": "lower", "aspect": "auto", "cmap": "RdBu_r"}
    panels[1].imshow(ac.numpy(), extent=(0, 1, 0, 1), vmin=-1.1, vmax=1.1, **frame)
    panels[1].set(title="Allen–Cahn, t = 12", xlabel="x", ylabel="y")
    panels[2].imshow(wave.T.numpy(), extent=(0, 4, 0, 2 * math.pi), **frame)
    panels[2].set(title="Burgers", xlabel="t", ylabel="x")
    panels[3].imshow(chaos.T.numpy(), extent=(0, 120, 0, 32 * math.pi), **frame)
    panels[3].set(title="Kuramoto–Sivashinsky", xlabel="t", ylabel="x")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
    plt.close(figure)


@click.command(help=__doc__)
@click.option("--scale", default=1.0, help="Factor on all numbers of steps.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/fields.png"))
def main(scale: float, out: Path) -> None:
    """Run it."""

    def count(steps: int) -> int:
        return max(2, round(scale * steps))

    u, ratio = heat(1)
    click.echo(f"heat equation in one step: variance of the field over the exact one {ratio:.3f}")
    fields = allen_cahn(count(60)), burgers(count(400)), kuramoto_sivashinsky(count(480))
    for name, field in zip(("Allen–Cahn", "Burgers", "Kuramoto–Sivashinsky"), fields, strict=True):
        click.echo(f"{name}: largest |u| {field.abs().max():.3g}")
    picture(u, *fields, out)
    click.echo(f"picture: {out}")


if __name__ == "__main__":
    main()
