"""Quality against S_churn for SEEDS-3 and EDM's stochastic sampler (figure 1c of the SEEDS paper,
on data whose law is known): the section "Churn" in docs/studies.md.

    python studies/churn.py           what is missing in the JSON beside it
    python studies/churn.py --page    the figures that are there into the page

Churn at all noise levels, s_noise = 1, Karras' grid (ρ = 7) from σ = 80 to 0.002, at most 41
evaluations with a denoising one at the end. Distances as in studies/noise_decomposition.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from noise_decomposition import PAGE, finished, study
from pages import filled
from work_precision import Law, cell

import expint
from expint.results import new_figure, table_text

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
    return filled(text, "churn", table_text(rows, markdown=True))


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
    finished(figure, PICTURE, 3)


def plans_of(law: Law) -> Iterator[tuple[str, expint.Plan]]:
    """What is measured, by the name of its row."""
    for sampler, (solver, ell) in SAMPLERS.items():
        for s in CHURN:
            around = (expint.solvers.churn(s),) if s else ()
            plan = expint.plan_sampling(
                law.model.schedule, solver, nfe=NFE, grid="karras", ell=ell, operations=around
            )
            yield sampler, plan


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    study(FILE, page, plans_of, page_of, draw)


if __name__ == "__main__":
    main()
