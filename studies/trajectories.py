"""Pixels on their way from noise to an image, over discretisation, schedule and scaling, for SEEDS
and EDM's stochastic sampler (figure 2 of the SEEDS paper, on a shipped network): the section
"Trajectories" in docs/studies.md.

    python studies/trajectories.py           what is missing in the JSON beside it
    python studies/trajectories.py --page    the figures that are there into the page

One image of mnist-edm (seed 0, label 3) from σ = 80 to 0.002 with at most 41 evaluations: levels of
σ by Karras' rule, equal in λ, and those of equal steps in the time of VP and of the flow schedule;
with α = 1, as in VE and EDM, and with the α = 1/√(1 + σ²) of VP. Ten pixels of a middle column, at
each step; in units of √(α²σd² + σ̄²), their standard deviation, the largest change in one step and
the sum of all changes, means over the image; and how far the images of both scalings are apart.
"""

from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
from noise_decomposition import PAGE
from pages import filled, known
from torch import Tensor
from work_precision import cell

import expint
from diffusion_adapters import load
from expint.noise import initial_state, per_sample
from expint.results import new_figure, table_text, write_json
from expint.schedules import EDM, VP, Flow, FromCallables

FILE = Path(__file__).with_suffix(".json")
PICTURE = PAGE.parent / "img" / "trajectories.png"
FIRST, LAST, NFE, WIDTH = 80.0, 0.002, 41, 0.5
SOLVERS = {"SEEDS-3": "seeds-3", "stochastic EDM": "edm-stochastic"}
SCALINGS: dict[str, Any] = {
    "α = 1": EDM(),
    "α of VP": FromCallables(
        lambda t: (1.0 + t**2) ** -0.5, lambda t: t * (1.0 + t**2) ** -0.5, domain=(0.0, 100.0)
    ),
}
ROWS, COLUMN = slice(5, 25, 2), 14


class Under:
    """A denoiser of EDM's schedule under another scaling: D(x/α; σ), σ being the time."""

    prediction, sigma_data = "data", WIDTH

    def __init__(self, model: Any, schedule: Any) -> None:
        self.model, self.schedule, self.device = model, schedule, torch.device("cpu")

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.model(x / self.schedule.alpha(t).to(x), t)


def levels(name: str, steps: int) -> Tensor:
    """σ from FIRST to LAST, and 0."""
    if name in ("Karras", "equal λ"):
        builder = expint.grids.karras if name == "Karras" else expint.grids.uniform_lambda
        return builder(EDM(), steps)
    schedule: Any = VP() if name.startswith("VP") else Flow()
    first, last = (float(schedule.t_of_sigma(sigma)) for sigma in (FIRST, LAST))
    sigmas = schedule.sigma(torch.linspace(first, last, steps, dtype=torch.float64))
    sigmas[0], sigmas[-1] = FIRST, LAST
    return torch.cat([sigmas, torch.zeros(1)])


LEVELS = ("Karras", "equal λ", "VP, equal t", "flow, equal t")


def run(solver: str, name: str, schedule: Any) -> tuple[list[float], Tensor]:
    """Levels of σ, and the states there."""
    model = Under(load("mnist-edm", labels=[3]), schedule)
    plans = (
        expint.plan_sampling(schedule, solver, grid=levels(name, steps), sigma_data=WIDTH)
        for steps in range(NFE, 1, -1)
    )
    plan = next(plan for plan in plans if plan.nfe <= NFE)
    start = initial_state(per_sample(0, 1), (1, 28, 28), torch.float32)
    sigmas, states = [FIRST], [start * float(schedule.std(FIRST))]

    def keep(step: int, nfe: int, t: float, x: Tensor, denoised: Tensor) -> None:
        sigmas.append(t)
        states.append(x.clone())

    expint.sample(model, states[0].shape, plan=plan, seed=0, progress=False, callback=keep)
    return sigmas, torch.cat(states).double()


def figures(solver: str, name: str) -> dict[str, Any]:
    """Of a solver and levels: under both scalings, and the difference."""
    found: dict[str, Any] = {"pixels": {}}
    ends = []
    for scaling, schedule in SCALINGS.items():
        sigmas, states = run(solver, name, schedule)
        ends.append(states[-1])
        pixels = states[:, 0, ROWS, COLUMN].tolist()
        found["pixels"][scaling] = [[float(f"{v:.4g}") for v in row] for row in pixels]
        sigma = torch.tensor(sigmas, dtype=torch.float64)[:, None, None, None]
        unit = states / schedule.alpha(sigma) / (sigma**2 + WIDTH**2).sqrt()
        changes = unit.diff(dim=0).abs()
        found |= {"sigmas": [float(f"{v:.4g}") for v in sigmas]}
        found |= {"largest": float(changes.amax(0).mean()), "sum": float(changes.sum(0).mean())}
    return found | {"apart": float((ends[0] - ends[1]).abs().max())}


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks."""
    head = ("solver", "levels of σ", "steps", "of them below σ = 1", "largest change of a pixel",
            "sum of its changes", "apart under the scalings")  # fmt: skip
    rows: list[tuple[str, ...]] = [head]
    for key, found in done["figures"].items():
        solver, name = key.split(": ")
        sigmas = found["sigmas"]
        counts = (len(sigmas) - 1, sum(sigma < 1.0 for sigma in sigmas[1:]))
        values = (cell(found["largest"]), cell(found["sum"]), f"{found['apart']:.0e}")
        rows.append((solver, name, *map(str, counts), *values))
    return filled(text, "trajectories", table_text(rows, markdown=True))


def draw(done: dict[str, Any]) -> None:
    """Pixels against σ."""
    figure = new_figure(12.0, 8.0)
    rows = [(solver, scaling) for solver in SOLVERS for scaling in SCALINGS]
    axes = figure.subplots(len(rows), len(LEVELS), sharex=True, sharey="row")
    for (solver, scaling), line in zip(rows, axes, strict=True):
        for name, ax in zip(LEVELS, line, strict=True):
            found = done["figures"][f"{solver}: {name}"]
            # The end, σ = 0, is drawn where the last level is.
            sigmas = [max(sigma, LAST) for sigma in found["sigmas"]]
            ax.plot(sigmas, found["pixels"][scaling], ".-", linewidth=0.8, markersize=3)
            ax.set(xscale="log")
            if scaling == "α = 1":
                ax.set_yscale("symlog", linthresh=1.0)
            ax.grid(visible=True, color="0.92")
        line[0].set_ylabel(f"{solver}, {scaling}")
    axes[0, 0].invert_xaxis()
    for name, ax in zip(LEVELS, axes[0], strict=True):
        ax.set_title(name, fontsize=11)
    for ax in axes[-1]:
        ax.set_xlabel("σ")
    figure.savefig(PICTURE, dpi=120)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done = known(FILE)
    for solver, registered in () if page else SOLVERS.items():
        for name in LEVELS:
            if f"{solver}: {name}" not in done["figures"]:
                done["figures"][f"{solver}: {name}"] = figures(registered, name)
                done["made"] = date.today().isoformat()
                write_json(FILE, done)
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw(done)


if __name__ == "__main__":
    main()
