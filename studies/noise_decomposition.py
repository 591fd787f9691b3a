"""What the exact decomposition of the noise gains: SEEDS-2 and -3 with the joint law of the noise
of their stages, and with independent noise in each stage, of the right variance. Seeds of the
section "Noise of the stages" in docs/studies.md.

    python studies/noise_decomposition.py           what is missing in the JSON beside it
    python studies/noise_decomposition.py --page    the figures that are there into the page

At ℓ = 1 in the data form, on equal steps in λ from σ = 80 to 0.002 and a denoising evaluation.
gaussian-64: the exact Wasserstein-2 distance over the root of the total variance. grid-25 and
ring: sliced Wasserstein-2 of 5000 samples of one run, the same for both.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
from pages import filled
from tqdm import tqdm
from work_precision import Law, cell

import expint
from expint import Plan
from expint.gaussian_data import exact_moments
from expint.results import new_figure, table_text, write_json
from expint.runs import execute

FILE = Path(__file__).with_suffix(".json")
DOCS = FILE.parents[1] / "docs"
PAGE, PICTURE = DOCS / "studies.md", DOCS / "img" / "noise-decomposition.png"
PROBLEMS, STEPS = ("gaussian-64", "grid-25", "ring"), (4, 8, 16, 32)
SOLVERS = ("seeds-2", "seeds-3")


def independent(plan: Plan) -> Plan:
    """The plan with a normal of its own in each stage, of the same variance."""
    rows, first = [], 0
    for i, row in enumerate(plan.rows):
        first = i if i == 0 or plan.ends_substep[i - 1] else first
        noise = (*(0.0 for _ in range(i - first)), plan.noise_std(row)) if row.noise else ()
        rows.append(row._replace(noise=noise))
    return replace(plan, rows=tuple(rows))


def error(law: Law, plan: Plan) -> float:
    """How far what a plan makes is from the law."""
    if law.name == "gaussian-64":
        right = law.model.variances.sqrt()
        ratios, means = exact_moments(plan, right.tolist(), mean=0.0)
        return law.exact(torch.tensor(ratios) * right, torch.tensor(means) * right)
    seeds = expint.noise.per_sample(0, law.count)
    x = expint.noise.initial_state(seeds, law.shape, torch.float64)
    x = x * law.model.schedule.std(plan.grid[0])
    with torch.no_grad():
        return law.error(execute(plan, law.model, x, expint.noise.Gaussian(seeds)))


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks."""
    head = ("problem", "solver", "noise", *(f"{n} steps" for n in STEPS), "floor")
    rows: list[tuple[str, ...]] = [head]
    for name, problem in done.items():
        for key, errors in problem["errors"].items():
            solver, kind = key.split(", ")
            floor = cell(problem["floor"]) if problem["floor"] else "0"
            rows.append((name, f"`{solver}`", kind, *map(cell, errors), floor))
    return filled(text, "noise", table_text(rows, markdown=True))


def draw(done: dict[str, Any]) -> None:
    """Errors against steps."""
    figure = new_figure(10.0, 3.4)
    for ax, (name, problem) in zip(
        figure.subplots(1, len(done), sharey=True), done.items(), strict=True
    ):
        for key, errors in problem["errors"].items():
            solver, kind = key.split(", ")
            style = "o-" if kind == "exact" else "s--"
            ax.plot(STEPS, errors, style, color=f"C{SOLVERS.index(solver)}", label=key)
        if problem["floor"]:
            ax.axhline(problem["floor"], color="0.5", linestyle=":")
        ax.set(xscale="log", yscale="log", xlabel="steps", title=name)
        ax.set_xticks(STEPS, [str(n) for n in STEPS])
        ax.minorticks_off()
        ax.grid(visible=True, color="0.92")
    finished(figure, PICTURE, 4)


def plans_of(law: Law) -> Iterator[tuple[str, Plan]]:
    """What is measured, by the name of its row."""
    for solver in SOLVERS:
        for n in STEPS:
            grid = expint.grids.uniform_lambda(law.model.schedule, n + 1)
            plan = expint.plan_sampling(law.model.schedule, solver, grid=grid)
            yield f"{solver}, exact", plan
            yield f"{solver}, independent", independent(plan)


def finished(figure: Any, picture: Path, columns: int) -> None:
    """With labels, into its file."""
    figure.axes[0].set_ylabel("error")
    labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=columns, fontsize=8)
    figure.savefig(picture, dpi=120)


def study(
    file: Path, page: bool, plans: Callable[[Law], Iterator[tuple[str, Any]]],
    page_of: Callable[[str, dict[str, Any]], str], draw: Callable[[dict[str, Any]], None],
    measure: Callable[[Law, Any], float] = error,
) -> None:  # fmt: skip
    """Measure the problems that are missing in a file, or put what is there into the page."""
    torch.set_num_threads(1)
    done = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in () if page else tqdm([p for p in PROBLEMS if p not in done]):
        law = Law(name)
        errors: dict[str, list[float]] = {}
        for row, plan in plans(law):
            errors.setdefault(row, []).append(float(f"{measure(law, plan):.4g}"))
        floor = float(f"{law.floor():.4g}")
        done[name] = {"made": date.today().isoformat(), "floor": floor, "errors": errors}
        write_json(file, done)
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw(done)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    study(FILE, page, plans_of, page_of, draw)


if __name__ == "__main__":
    main()
