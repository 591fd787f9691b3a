"""1000 particles on their way from noise to data, by two solvers on one Brownian path: an
animation, and its last frame.

    python examples/draw_run.py [--out docs/img/noise-to-data.gif]

The data are the 45 modes of docs/play/, the letters SDE, with their exact denoiser; DDPM (seeds-1)
and SEEDS-3 for the reverse SDE, 10 evaluations each, equal steps in log σ, seed 1. Between the
evaluations particles are drawn on straight lines. In the corner stands the sliced W₂ distance from
1000 exact samples, and its floor, the largest distance of eight other sets of exact samples.
"""

import math
from pathlib import Path

import click
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import expint
from expint import noise
from expint.metrics import sliced_wasserstein
from expint.schedules import VP
from expint.targets import GaussianMixture

OUT = Path(__file__).resolve().parents[1] / "docs" / "img" / "noise-to-data.gif"
LETTERS = (
    "01110 10001 10000 01110 00001 10001 01110",
    "11110 10001 10001 10001 10001 10001 11110",
    "11111 10000 10000 11110 10000 10000 11111",
)
MODES = [
    [0.235 * (column + 7 * letter) - 2.1, 0.3 * (3 - line)]
    for letter, lines in enumerate(LETTERS)
    for line, bits in enumerate(lines.split())
    for column, bit in enumerate(bits)
    if bit == "1"
]
SCHEDULE = VP()
TARGET = GaussianMixture(MODES, 0.05, None, SCHEDULE)
PLANS = {"DDPM": "seeds-1", "SEEDS-3": "seeds-3"}
NFE, PARTICLES, SEED = 10, 1000, 1
WIDTH, HEIGHT, SCALE = 380, 300, 68
PAPER, INK, SOFT, GRAY = (255, 255, 255), (27, 31, 36), (91, 100, 112), (200, 206, 213)


def trajectory(solver: str, particles: int) -> list[tuple[float, Tensor]]:
    """After each step how far the run is, from 0 at the start to 1 at σ = 0 in equal parts of
    arctan σ, and the states, float64, shape (particles, 2)."""
    plan = expint.plan_sampling(SCHEDULE, solver, nfe=NFE, ell=1.0, grid="uniform_lambda")
    seeds = noise.per_sample(SEED, particles)
    x = noise.initial_state(seeds, (2,), torch.float64) * SCHEDULE.std(plan.grid[0])
    first = math.atan(SCHEDULE.sigma(plan.grid[0]))
    states = [(0.0, x)]

    def keep(step: int, nfe: int, t: float, state: Tensor, denoised: Tensor) -> None:
        states.append((1.0 - math.atan(SCHEDULE.sigma(t)) / first, state))

    expint.execute(plan, TARGET, x, noise.BrownianPath(seeds), keep)
    return states


def between(states: list[tuple[float, Tensor]], progress: float) -> Tensor:
    """Where the particles are drawn."""
    k = max(i for i, (place, _) in enumerate(states[:-1]) if place <= progress or i == 0)
    (before, x), (after, y) = states[k : k + 2]
    return x + min((progress - before) / (after - before), 1.0) * (y - x)


def panel(draw: ImageDraw.ImageDraw, left: int, x: Tensor, title: str, note: str) -> None:
    """The modes, the particles, and what they are."""
    centre_x, centre_y = left + WIDTH // 2, HEIGHT // 2 + 14

    def place(u: float, v: float) -> tuple[float, float]:
        return centre_x + SCALE * u, centre_y - SCALE * v

    r = 2 * TARGET.std * SCALE
    for u, v in MODES:
        a, b = place(u, v)
        draw.ellipse((a - r, b - r, a + r, b + r), outline=GRAY)
    for u, v in x.tolist():
        a, b = place(u, v)
        if left + 2 < a < left + WIDTH - 2 and 44 < b < HEIGHT - 2:
            draw.rectangle((a - 0.5, b - 0.5, a + 0.5, b + 0.5), fill=INK)
    draw.text((left + 14, 10), title, fill=INK, font=ImageFont.load_default(17))
    draw.text((left + 14, 31), note, fill=SOFT, font=ImageFont.load_default(12))


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
@click.option("--particles", default=PARTICLES, show_default=True)
@click.option("--frames", default=34, show_default=True)
def main(out: Path, particles: int, frames: int) -> None:
    """Draw it."""
    runs = {title: trajectory(solver, particles) for title, solver in PLANS.items()}
    exact = [TARGET.sample(particles, seed=100 + i) for i in range(9)]
    floor = max(float(sliced_wasserstein(own, exact[0])) for own in exact[1:])
    pictures = []
    for i in range(frames):
        image = Image.new("RGB", (2 * WIDTH, HEIGHT), PAPER)
        draw = ImageDraw.Draw(image)
        for k, (title, states) in enumerate(runs.items()):
            progress = i / (frames - 1)
            far = float(sliced_wasserstein(states[-1][1], exact[0]))
            end = f"sliced W2 from the exact law {far:.2f} (floor {floor:.2f})"
            sigma = math.tan((1.0 - progress) * math.atan(SCHEDULE.sigma(1.0)))
            note = end if i == frames - 1 else f"{NFE} evaluations, sigma = {sigma:.2g}"
            panel(draw, k * WIDTH, between(states, progress), title, note)
        draw.line((WIDTH, 14, WIDTH, HEIGHT - 14), fill=GRAY)
        pictures.append(image.quantize(4))
    out.parent.mkdir(parents=True, exist_ok=True)
    times = [400, *[95] * (frames - 2), 4000]
    pictures[0].save(out, save_all=True, append_images=pictures[1:], duration=times, loop=0)
    pictures[-1].save(out.with_suffix(".png"), optimize=True)
    click.echo(f"{out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
