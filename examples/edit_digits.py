"""Digits moved to another class that keep their slant: by encoding, by inversion, and with a part
of the noise only.

    python examples/edit_digits.py [--out docs/img/edit-digits.png]

The digits are samples of mnist-edm, ten classes in turn. The picture has one row for each way, the
table how many edits the classifier takes for the wanted class, the correlation of their slant with
that of the digit they were made from, and the root mean square of what was changed.
"""

from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import expint
from diffusion_adapters import load, load_classifier
from diffusion_adapters.pictures import pixels_of
from expint.schedules import Schedule

OUT = Path(__file__).resolve().parents[1] / "docs" / "img" / "edit-digits.png"
WANTED = torch.tensor([1, 7, 3, 8, 9, 6, 8, 9, 9, 3])  # of 0, 1, …, 9
SHOWN, SCALE, GAP = 10, 2, 4


def slant(images: Tensor) -> Tensor:
    """Columns to the right per row upwards, from the second moments of the ink, shape (n,)."""
    ink = 0.5 * (images[:, 0].double() + 1.0)
    ink = ink / ink.sum((1, 2), keepdim=True)
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in ink.shape[1:])
    across = columns - (ink.sum(1) @ columns)[:, None]
    down = rows - (ink.sum(2) @ rows)[:, None]
    return -torch.einsum("nij,ni,nj->n", ink, down, across) / (ink.sum(2) * down**2).sum(1)


def below(sigma: float) -> expint.grids.GridBuilder:
    """The grid "karras" from a noise level on: of an edit of less strength."""

    def grid(schedule: Schedule, steps: int, final: str) -> Tensor:
        return expint.grids.karras(
            schedule, steps, start=float(schedule.t_of_sigma(sigma)), final=final
        )

    return grid


def edits(own: Tensor, wanted: Tensor, steps: int) -> dict[str, Tensor]:
    """The digits, new samples of the wanted classes, and the digits moved there."""
    before, after = (load("mnist-edm", labels=labels) for labels in (own, wanted))
    shape = (len(own), 1, 28, 28)
    digits = expint.sample(before, shape, nfe=20, seed=1, progress=False)
    found = {"digits": digits}
    found["new samples"] = expint.sample(after, shape, nfe=20, seed=2, progress=False)
    for sigma in (80.0, 5.0, 2.0):
        for name, solver, ell in (("encode", "seeds-ab4", 0), ("invert", "seeds-ab2", 1)):
            plan = expint.plan_sampling(
                before.schedule, solver, ell=ell, steps=steps, grid=below(sigma), final="none"
            )
            noise = None
            if ell:
                x, noise = expint.invert(before, digits, plan=plan, seed=1)
            else:
                x = expint.encode(before, digits, plan=plan)
            edited = expint.sample(after, x, plan=plan, noise=noise, progress=False)
            found[f"{name}, from sigma = {sigma:g}"] = edited
    return found


def picture(rows: list[Tensor]) -> Image.Image:
    """A row of images for each row."""
    tiles = [pixels_of(images[:SHOWN, 0].numpy()) for images in rows]
    padded = [np.pad(tile, ((0, 0), (GAP // 2,) * 2, (GAP // 2,) * 2)) for tile in tiles]
    lines = [np.concatenate(list(tile), axis=1) for tile in padded]
    whole = Image.fromarray(np.concatenate(lines, axis=0))
    return whole.resize((whole.width * SCALE, whole.height * SCALE), Image.Resampling.NEAREST)


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True)
@click.option("--count", default=60, show_default=True, help="Digits.")
@click.option("--steps", default=20, show_default=True, help="Of each way.")
def main(out: Path, count: int, steps: int) -> None:
    """Edit, measure and draw."""
    torch.set_num_threads(1)
    own = torch.arange(count) % 10
    wanted = WANTED[own]
    classifier, _ = load_classifier("mnist-classifier")
    found = edits(own, wanted, steps)
    digits = found["digits"]
    for name, images in found.items():
        hits = int((classifier(images).argmax(1) == wanted).sum())
        alike = torch.corrcoef(torch.stack([slant(digits), slant(images)]))[0, 1]
        moved = (images - digits).square().mean().sqrt().item()
        click.echo(
            f"{name:24} wanted class {hits:3d} of {count}, slant {alike:5.2f}, changed {moved:.2f}"
        )
    shown = ("digits", "new samples", "encode, from sigma = 80", "encode, from sigma = 5")
    picture([found[name] for name in shown]).save(out, optimize=True)
    click.echo(f"picture: {out}")


if __name__ == "__main__":
    main()
