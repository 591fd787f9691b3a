"""Critically-damped Langevin diffusion on a mixture of 25 Gaussians with the exact score: sliced
Wasserstein distance by solver and number of evaluations; the tables in docs/blocks-and-fields.md.

    python studies/cld.py           what is missing in the JSON beside it
    python studies/cld.py --page    the tables into the page, and the animation of phase space

Means at {−2, …, 2}² times 0.7, standard deviation 0.05; 10,000 samples, and as many of the data,
400 of each mode; 128 directions. The floor is the mean of 8 sets of independent data. All start
from the exact law at t = 1, run to t = 0.001, and end with one denoising evaluation, which counts.
Grids are uniform in λ or in t^(1/ρ), and each solver takes the best of them: of four in the large
table, of eight, each the mean of three seeds, in that of few evaluations; gDDIM's has ρ = 2, its
authors' choice.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import click
from pages import with_table
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from expint import Plan, compile_plan, execute, integrate, metrics, noise
from expint.numerics.float64 import as_float64
from expint.phase_space import GDDIM, Denoised, Mixture, reverse_cld, split_score, sscs_plan
from expint.results import new_figure
from expint.schedules import CLD, PSLD
from expint.solvers import get

FILE = Path(__file__).with_suffix(".json")
PAGE = FILE.parents[1] / "docs" / "blocks-and-fields.md"
NFE, GDDIM_NFE, SEEDS = (10, 20, 50, 100, 200), (20, 27, 50, 100), (1, 2, 3)
SAMPLES, END = 10_000, 1e-3
DATA = [[0.7 * i, 0.7 * j] for i, j in product(range(-2, 3), repeat=2)]
RHO = {"λ": None, "2": 2.0, "2.5": 2.5, "3": 3.0, "3.5": 3.5, "4": 4.0, "5": 5.0, "7": 7.0}
GRIDS = ("λ", "2", "3.5", "5")

# Name: solver, form, ell.
SOLVERS: dict[str, tuple[str, str, float]] = {
    **{f"{name}, ℓ = 1": (name, "data", 1.0) for name in ("seeds-1", "seeds-2", "seeds-3")},
    "seeds-sra, ℓ = 1": ("seeds-sra", "data", 1.0),
    "etd-rk3b, ℓ = 1": ("etd-rk3b", "data", 1.0),
    "seeds-ab2, ℓ = 1": ("seeds-ab2", "data", 1.0),
    "seeds-ab2, ℓ = 0.5": ("seeds-ab2", "data", 0.5),
    "seeds-2, noise form (Cholesky), ℓ = 1": ("seeds-2", "noise", 1.0),
    "SSCS": ("seeds-1", "sscs", 1.0),
    "Euler–Maruyama": ("seeds-1", "drift", 1.0),
    "seeds-3, ℓ = 0": ("seeds-3", "data", 0.0),
    "seeds-ab2, ℓ = 0": ("seeds-ab2", "data", 0.0),
    "gDDIM, two steps, ℓ = 0": ("seeds-ab2", "gddim", 0.0),
    "PSLD, seeds-ab2, ℓ = 1": ("seeds-ab2", "psld", 1.0),
}
STEPS = ("seeds-1", "seeds-ab2", "seeds-ab3", "seeds-ab4")
GDDIM_ROWS: dict[str, tuple[str, str, float]] = {
    **{f"R, q = {q}": (name, "gddim", 0.0) for q, name in enumerate(STEPS)},
    **{f"L, q = {q}": (name, "noise", 0.0) for q, name in enumerate(STEPS)},
    **{f"R, stochastic step, λ = {ell:g}": ("seeds-1", "data", ell) for ell in (0.3, 0.5, 1.0)},
    "R, noise form, q = 1, ℓ = 0.3": ("seeds-ab2", "gddim", 0.3),
}
FEW = {
    "SSCS": (20, 25, 27, 29, 30, 31, 32, 35, 40),
    "Euler–Maruyama": (7, 10, 13, 16, 20, 25),
    "etd-rk3b, ℓ = 1": (7, 10, 13),
    "seeds-3, ℓ = 1": (7, 10, 13, 16),
    "seeds-ab2, ℓ = 1": (10, 13, 16, 20),
}


def run_of(name: str, nfe: int, rho: float | None) -> tuple[Mixture, Plan, Callable[..., Tensor]]:
    """The target, the plan, with one evaluation left for denoising, and its F."""
    solver, form, ell = (SOLVERS | GDDIM_ROWS)[name]
    steps = (nfe - 1) // get(solver).tableau.evaluations
    process = PSLD() if form == "psld" else CLD()
    target, grid = Mixture(DATA, 0.05, process), process.grid(steps, END, rho)
    if form == "sscs":
        F = split_score(process, Denoised(process, target, "score"))
        return target, sscs_plan(process, grid), F
    if form == "gddim":
        gddim = GDDIM(process, ell=ell, end=END)
        return target, compile_plan(gddim.sde, solver, grid), gddim(target)
    form = "data" if form == "psld" else form
    plan = compile_plan(reverse_cld(process, form, ell, end=END), solver, grid)
    return target, plan, Denoised(process, target, form, ell)


def distance(name: str, nfe: int, grid: str, seed: int, data: Tensor) -> float:
    """Of the denoised samples from the data."""
    target, plan, F = run_of(name, nfe, RHO[grid])
    fresh = noise.Gaussian(range((seed - 1) * SAMPLES, seed * SAMPLES))
    end = execute(plan, F, target.start(SAMPLES, seed=seed), fresh)
    return metrics.sliced_wasserstein(target(end, END)[:, 0], data).item()


def key_of(name: str, nfe: int, grid: str, seed: int) -> str:
    """Of a figure in the JSON."""
    return f"{name} | {nfe} | {grid} | {seed}"


def wanted() -> Iterator[tuple[str, int, str, int]]:
    """All runs."""
    for name, budgets in FEW.items():
        yield from product([name], budgets, RHO, SEEDS)
    for nfe in NFE:
        yield from product(SOLVERS, [nfe], GRIDS, [1])
    yield from product(GDDIM_ROWS, GDDIM_NFE, ["2"], [1])


def best(done: dict[str, Any], name: str, nfe: int, grids: Iterable[str], seeds: Any) -> Any:
    """The smallest mean over the seeds of the grids that are there, and its grid."""
    runs = [([key_of(name, nfe, grid, seed) for seed in seeds], grid) for grid in grids]
    found = [
        (mean(done[key] for key in keys), grid) for keys, grid in runs if done.keys() >= set(keys)
    ]
    return min(found, default=(math.inf, ""))


def table_of(done: dict[str, Any], names: Iterable[str], nfes: Any, grids: Any) -> Any:
    """Rows by solver; what has left the data's range is a dash."""
    rows = [("solver", *(f"NFE {n}" for n in nfes))]
    for name in names:
        cells = [best(done, name, n, grids, [1])[0] for n in nfes]
        rows.append((name, *("–" if v > 10.0 else f"{v:.4f}" for v in cells)))
    rows.append(("independent data", *(f"{done['floor']:.4f}" for _ in nfes)))
    return rows


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the tables between their marks."""
    text = with_table(text, "cld", table_of(done, SOLVERS, NFE, GRIDS))
    text = with_table(text, "gddim", table_of(done, GDDIM_ROWS, GDDIM_NFE, ["2"]))
    rows, least = [("solver", "evaluations", "grid", "distance", "in units of the floor")], {}
    for name, budgets in FEW.items():
        for nfe in budgets:
            value, grid = best(done, name, nfe, RHO, SEEDS)
            times = value / done["floor"]
            rows.append((name, str(nfe), grid, f"{value:.4f}", f"{times:.2f}"))
            if times <= 1.2:
                least.setdefault(name, nfe)
    reached = ", ".join(f"{name} with {nfe}" for name, nfe in least.items())
    return with_table(text, "few", rows, f"Within 1.2 times the floor, at the earliest: {reached}.")


def draw() -> None:
    """Phase space of three modes on a line, from noise to data, of one run: five of its states
    side by side, and all of them as an animation."""
    process, samples = CLD(), 1500
    target = Mixture([[-1.2], [0.1], [1.1]], 0.08, process)
    grid, u = process.grid(40, END, 3.0), target.start(samples, seed=3)
    F, fresh = Denoised(process, target), noise.Gaussian(range(samples))
    run = integrate(reverse_cld(process), F, u, grid, "seeds-3", fresh, save=True)
    assert run.states is not None
    states = run.states[:, :, :, 0]
    mode = (states[-1, :, :1] - target.means[:, 0]).abs().argmin(1)
    figure = new_figure(10.0, 2.5)
    chosen = [int((grid - t).abs().argmin()) for t in (1.0, 0.14, 0.08, 0.04, END)]
    for ax, i in zip(
        figure.subplots(1, len(chosen), sharex=True, sharey=True), chosen, strict=True
    ):
        for k in range(3):
            ax.plot(*states[i, mode == k].T, ".", markersize=1.5, alpha=0.5)
        ax.set(title=f"t = {grid[i]:.2g}", xlabel="x", xlim=(-3, 3), ylim=(-1.8, 1.8))
    figure.axes[0].set_ylabel("v")
    file = PAGE.parent / "img" / "cld-phase-space.png"
    figure.savefig(file, dpi=110)
    frames = [frame(x, mode, float(t)) for x, t in zip(states, grid, strict=True)]
    times = [600, *[110] * (len(frames) - 2), 3500]
    frames[0].save(
        file.with_suffix(".gif"), save_all=True, append_images=frames[1:], duration=times, loop=0
    )


def frame(u: Tensor, mode: Tensor, t: float) -> Image.Image:
    """Position to the right, velocity upwards, colours by the mode at the end."""
    width, height, scale = 540, 330, 88
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    pen.line((20, height / 2, width - 20, height / 2), fill="#c8ced5")
    pen.line((width / 2, 20, width / 2, height - 20), fill="#c8ced5")
    colours = ("#1f77b4", "#ff7f0e", "#2ca02c")
    for (x, v), k in zip(u.tolist(), mode.tolist(), strict=True):
        a, b = width / 2 + scale * x, height / 2 - scale * v
        pen.rectangle((a - 0.5, b - 0.5, a + 0.5, b + 0.5), fill=colours[k])
    font, ink = ImageFont.load_default(15), "#1b1f24"
    pen.text((width - 32, height / 2 + 4), "x", fill=ink, font=font)
    pen.text((width / 2 + 8, 16), "v", fill=ink, font=font)
    pen.text((16, 14), f"t = {t:.3f}", fill=ink, font=font)
    return picture.quantize(16)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    done: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw()
        return
    data = as_float64(DATA).repeat(SAMPLES // len(DATA), 1)
    data += 0.05 * noise.initial_state(range(SAMPLES), (2,), data.dtype)
    target = Mixture(DATA, 0.05, CLD())
    others = [target.start(SAMPLES, seed, t=1e-9)[:, 0] for seed in range(100, 108)]
    done["floor"] = mean(metrics.sliced_wasserstein(data, x).item() for x in others)
    for run in wanted():
        if key_of(*run) not in done:
            done[key_of(*run)] = distance(*run, data)
            click.echo(f"{key_of(*run)}: {done[key_of(*run)]:.4f} (floor {done['floor']:.4f})")
            FILE.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
