"""Quality against S_churn for SEEDS-3 and EDM's stochastic sampler (figure 1c of the SEEDS paper,
on data whose law is known): the section "Churn" in docs/studies.md.

    python studies/churn.py           what is missing in the JSON beside it
    python studies/churn.py --page    the figures that are there into the page

Churn at all noise levels, s_noise = 1, Karras' grid (ρ = 7) from σ = 80 to 0.002, at most 41
evaluations with a denoising one at the end. Distances as in studies/noise_decomposition.py.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
from noise_decomposition import PAGE, PROBLEMS, error
from tqdm import tqdm
from work_precision import Law, cell

import expint
from expint.results import new_figure, table_text, write_json

FILE = Path(__file__).with_suffix(".json")
PICTURE = PAGE.parent / "img" / "churn.png"
CHURN, NFE = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0), 41
SAMPLERS = {
    "EDM (Heun, ℓ = 0)": ("heun", None),
    "SEEDS-3, ℓ = 0": ("seeds-3", 0.0),
    "SEEDS-3, ℓ = 1": ("seeds-3", 1.0),
}


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks."""
    rows: list[tuple[str, ...]] = [("problem", "sampler", *(f"S = {s:g}" for s in CHURN), "floor")]
    for name, problem in done.items():
        floor = cell(problem["floor"]) if problem["floor"] else "0"
        for sampler, errors in problem["errors"].items():
            rows.append((name, sampler, *map(cell, errors), floor))
    before, rest = text.split("<!-- churn -->")
    after = rest.split("<!-- end of churn -->")[1]
    table = table_text(rows, markdown=True)
    return f"{before}<!-- churn -->\n\n{table}\n\n<!-- end of churn -->{after}"


def draw(done: dict[str, Any]) -> None:
    """Errors against S_churn."""
    figure = new_figure(10.0, 3.4)
    for ax, (name, problem) in zip(figure.subplots(1, len(done)), done.items(), strict=True):
        for sampler, errors in problem["errors"].items():
            ax.plot(CHURN, errors, "o-", markersize=4, label=sampler)
        if problem["floor"]:
            ax.axhline(problem["floor"], color="0.5", linestyle=":")
        ax.set(yscale="log" if not problem["floor"] else "linear", xlabel="S_churn", title=name)
        ax.grid(visible=True, color="0.92")
    figure.axes[0].set_ylabel("error")
    labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(PICTURE, dpi=120)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in () if page else tqdm([p for p in PROBLEMS if p not in done]):
        law = Law(name)
        errors: dict[str, list[float]] = {}
        for sampler, (solver, ell) in SAMPLERS.items():
            for s in CHURN:
                around = (expint.solvers.churn(s),) if s else ()
                plan = expint.plan_sampling(
                    law.model.schedule, solver, nfe=NFE, grid="karras", ell=ell, operations=around
                )
                errors.setdefault(sampler, []).append(float(f"{error(law, plan):.4g}"))
        floor = float(f"{law.floor():.4g}")
        done[name] = {"made": date.today().isoformat(), "floor": floor, "errors": errors}
        write_json(FILE, done)
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw(done)


if __name__ == "__main__":
    main()
