"""Errors along the path: fitted strong orders of SEEDS and of schemes beside it, at the end and in
the supremum over the grid, which theorem 4.1 of the SEEDS paper is about. The section "Strong
orders" in docs/studies.md.

    python studies/strong_orders.py           what is missing in the JSON beside it
    python studies/strong_orders.py --page    the figures that are there into the page

`expint.convergence.strong_orders` with 1024 paths, 16 to 256 equal steps in λ from σ = 5 to 0.1 at
ℓ = 1 under VP, against `seeds-sra3` with eight times as many on the same paths: Gaussian data in
two dimensions, and a mixture of three overlapping modes.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
from noise_decomposition import PAGE, finished
from pages import filled
from work_precision import cell

from expint.convergence import Problem, strong_orders
from expint.results import MARKERS, new_figure, table_text, write_json
from expint.schedules import VP
from expint.targets import Gaussian, GaussianMixture

FILE = Path(__file__).with_suffix(".json")
PICTURE = PAGE.parent / "img" / "strong-orders.png"
SOLVERS = ("seeds-1", "seeds-2", "seeds-3", "er-sde-3", "sa-solver", "seeds-sra", "seeds-sra3")
STEPS, PATHS = (16, 32, 64, 128, 256), 1024
TARGETS = {
    "Gaussian": Gaussian([0.7, -1.0], [0.3, 2.0], VP()),
    "mixture": GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]], 0.6, None, VP()),
}


def measured(name: str) -> dict[str, Any]:
    """Of one target: by solver what its study found."""
    found = strong_orders(SOLVERS, Problem(TARGETS[name]), steps=STEPS, paths=PATHS)
    fields = ("declared", "errors", "others", "order", "order_interval", "other_orders")
    studies = {s.solver: {field: s.to_dict()[field] for field in fields} for s in found.studies}
    ranges = {s.solver: {"fitted": s.fitted_steps} for s in found.studies}
    figures = {solver: studies[solver] | ranges[solver] for solver in studies}
    return {"made": date.today().isoformat(), "figures": figures}


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks."""
    head = ("data", "solver", "order by its conditions", "measured order, 95 %", "over steps",
            "order of the supremum", *(f"error, {n} steps" for n in STEPS[::2]))  # fmt: skip
    rows: list[tuple[str, ...]] = [head]
    for name, problem in done.items():
        for solver, found in problem["figures"].items():
            low, high = found["order_interval"]
            also = found["other_orders"].get("sup over the grid")
            rows.append((
                name, f"`{solver}`", f"{found['declared']:g}",
                f"{found['order']:.2f} ({low:.2f} to {high:.2f})",
                " to ".join(map(str, found["fitted"])), f"{also:.2f}" if also else "–",
                *map(cell, found["errors"][::2]),
            ))  # fmt: skip
    return filled(text, "strong orders", table_text(rows, markdown=True))


def draw(done: dict[str, Any]) -> None:
    """Errors against steps."""
    figure = new_figure(9.0, 4.4)
    for ax, (name, problem) in zip(figure.subplots(1, len(done)), done.items(), strict=True):
        for marker, (solver, found) in zip(MARKERS, problem["figures"].items(), strict=False):
            ax.plot(STEPS, found["errors"], f"{marker}-", markersize=4, label=solver)
        for order, at in ((1.0, found["errors"][0] * 6), (1.5, found["errors"][0] / 3)):
            line = [at * (n / STEPS[0]) ** -order for n in STEPS]
            ax.plot(STEPS, line, ":", color="0.5", linewidth=1)
            ax.annotate(f"{order:g}", (STEPS[-1], line[-1]), color="0.5", fontsize=9)
        ax.set(xscale="log", yscale="log", xlabel="steps", title=name)
        ax.set_xticks(STEPS, [str(n) for n in STEPS])
        ax.minorticks_off()
        ax.grid(visible=True, color="0.92")
    finished(figure, PICTURE, 4)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in () if page else [name for name in TARGETS if name not in done]:
        done[name] = measured(name)
        write_json(FILE, done)
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw(done)


if __name__ == "__main__":
    main()
