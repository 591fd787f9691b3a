"""Critically-damped Langevin diffusion on a mixture of 25 Gaussians with the exact score: sliced
Wasserstein distance by solver and number of evaluations; the table in docs/blocks-and-fields.md.

    python studies/cld.py           what is missing in the JSON beside it
    python studies/cld.py --page    the table into the page

Means at {−2, …, 2}² times 0.7, standard deviation 0.05; 10,000 samples, and as many of the data,
400 of each mode; 128 directions. The floor is the mean of 8 sets of independent data. All start
from the exact law at t = 1, run to t = 0.001, and end with one denoising evaluation, which counts.
Each solver takes the better of two grids, uniform in λ or in √t.
"""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import click
from pages import with_table
from torch import Tensor

from expint import Plan, compile_plan, execute, metrics, noise
from expint.phase_space import GDDIM, Denoised, Mixture, reverse_cld, split_score, sscs_plan
from expint.results import new_figure
from expint.schedules import CLD
from expint.solvers import get

FILE = Path(__file__).with_suffix(".json")
PAGE = FILE.parents[1] / "docs" / "blocks-and-fields.md"
NFE, SAMPLES, END = (10, 20, 50, 100, 200), 10_000, 1e-3
PROCESS = CLD()
TARGET = Mixture([[0.7 * i, 0.7 * j] for i, j in product(range(-2, 3), repeat=2)], 0.05, PROCESS)
GRIDS = {"lambda": None, "root": 2.0}

# Name: solver, form, ell.
SOLVERS: dict[str, tuple[str, str, float]] = {
    **{f"{name}, ℓ = 1": (name, "data", 1.0) for name in ("seeds-1", "seeds-2", "seeds-3")},
    "seeds-sra, ℓ = 1": ("seeds-sra", "data", 1.0),
    "seeds-ab2, ℓ = 1": ("seeds-ab2", "data", 1.0),
    "seeds-ab2, ℓ = 0.5": ("seeds-ab2", "data", 0.5),
    "seeds-2, noise form (Cholesky), ℓ = 1": ("seeds-2", "noise", 1.0),
    "SSCS": ("seeds-1", "sscs", 1.0),
    "Euler–Maruyama": ("seeds-1", "drift", 1.0),
    "seeds-3, ℓ = 0": ("seeds-3", "data", 0.0),
    "seeds-ab2, ℓ = 0": ("seeds-ab2", "data", 0.0),
    "gDDIM, two steps, ℓ = 0": ("seeds-ab2", "gddim", 0.0),
}


def run_of(name: str, nfe: int, rho: float | None) -> tuple[Plan, Callable[..., Tensor]]:
    """The plan, with one evaluation left for denoising, and its F."""
    solver, form, ell = SOLVERS[name]
    steps = (nfe - 1) // get(solver).tableau.evaluations
    grid = PROCESS.grid(steps, END, rho)
    if form == "sscs":
        return sscs_plan(PROCESS, grid), split_score(PROCESS, Denoised(PROCESS, TARGET, "score"))
    if form == "gddim":
        gddim = GDDIM(PROCESS, end=END)
        return compile_plan(gddim.sde, solver, grid), gddim(TARGET)
    sde = reverse_cld(PROCESS, form, ell, end=END)
    return compile_plan(sde, solver, grid), Denoised(PROCESS, TARGET, form, ell)


def distance(name: str, nfe: int, rho: float | None, data: Tensor) -> float:
    """Of the denoised samples from the data."""
    plan, F = run_of(name, nfe, rho)
    end = execute(plan, F, TARGET.start(SAMPLES, seed=1), noise.Gaussian(range(SAMPLES)))
    return metrics.sliced_wasserstein(TARGET(end, END)[:, 0], data).item()


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks; what has left the data's range is a dash."""
    rows = [("solver", *(f"NFE {n}" for n in NFE))]
    for name in SOLVERS:
        found = [[done.get(f"{name} | {n} | {g}") for g in GRIDS] for n in NFE]
        best = [min((v for v in pair if v is not None), default=None) for pair in found]
        rows.append((name, *("–" if v is None or v > 10.0 else f"{v:.4f}" for v in best)))
    rows.append(("independent data", *(f"{done['floor']:.4f}" for _ in NFE)))
    return with_table(text, "cld", rows)


def draw() -> None:
    """Phase space of three modes on a line, from noise to data."""
    process, samples = PROCESS, 3000
    target = Mixture([[-1.2], [0.1], [1.1]], 0.08, process)
    times = (1.0, 0.14, 0.08, 0.04, END)
    figure = new_figure(10.0, 2.5)
    for ax, t in zip(figure.subplots(1, len(times), sharex=True, sharey=True), times, strict=True):
        u = target.start(samples, seed=3)
        if t < 1.0:
            plan = compile_plan(reverse_cld(process, end=t), "seeds-2", process.grid(40, t))
            u = execute(plan, Denoised(process, target), u, noise.Gaussian(range(samples)))
        ax.plot(u[:, 0, 0], u[:, 1, 0], ".", markersize=1.5, alpha=0.5)
        ax.set(title=f"t = {t:g}", xlabel="x", xlim=(-3, 3), ylim=(-1.8, 1.8))
    figure.axes[0].set_ylabel("v")
    figure.savefig(PAGE.parent / "img" / "cld-phase-space.png", dpi=110)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    done: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw()
        return
    centres = TARGET.means.repeat(SAMPLES // len(TARGET.means), 1)
    data = centres + TARGET.std * noise.initial_state(range(SAMPLES), (2,), centres.dtype)
    others = [TARGET.start(SAMPLES, seed, t=1e-9)[:, 0] for seed in range(100, 108)]
    done["floor"] = mean(metrics.sliced_wasserstein(data, x).item() for x in others)
    for nfe, name, (grid, rho) in product(NFE, SOLVERS, GRIDS.items()):
        key = f"{name} | {nfe} | {grid}"
        if key not in done:
            done[key] = distance(name, nfe, rho, data)
            click.echo(f"{key}: {done[key]:.4f} (floor {done['floor']:.4f})")
            FILE.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
