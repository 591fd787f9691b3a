"""What fair random signs (Rademacher noise) cost in place of normals: SEEDS-1 to -3, in the law of
their samples and along the path. The section "Signs in place of normals" in docs/studies.md.

    python studies/rademacher.py           what is missing in the JSON beside it
    python studies/rademacher.py --page    the figures that are there into the page

At ℓ = 1 in the data form, on equal steps in λ from σ = 80 to 0.002 and a denoising evaluation. In
the law, as in studies/noise_decomposition.py; on gaussian-64 the law of sums of signs is computed
on a lattice of 1/2000 of each standard deviation. Along the path: the root mean square distance of
a run with the signs of its normals from that with the normals (no other signs are nearer), over
the root of the total variance; exact on gaussian-64, of 5000 samples on mixtures.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from noise_decomposition import PAGE, PROBLEMS, finished, study
from pages import filled
from torch import Tensor
from work_precision import Law, cell

import expint
from expint import Plan
from expint.noise import Gaussian, Rademacher, Replay, SubstepNoise, initial_state, per_sample
from expint.results import new_figure, table_text
from expint.runs import execute

FILE = Path(__file__).with_suffix(".json")
PICTURE = PAGE.parent / "img" / "rademacher.png"
SOLVERS, STEPS = ("seeds-1", "seeds-2", "seeds-3"), (4, 8, 16, 32)
KINDS = ("normals", "signs", "along the path")
APART = 2.0 - 2.0 * math.sqrt(2.0 / math.pi)
"""E (z − sign z)² of a standard normal z."""


class Signs:
    """The signs of the normals of a source."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "Signs":
        """See `NoiseSource.stream`."""
        return Signs(self._source.stream(like, run))

    def normals(self, substep: SubstepNoise) -> Iterator[Tensor]:
        """See `NoiseStream.normals`."""
        return (z.sign() for z in self._source.normals(substep))


def coefficients(law: Law, plan: Plan) -> Tensor:
    """Of the normals, and last of the initial state's, in the samples of Gaussian data of mean 0:
    shape (normals + 1, d)."""
    d = law.shape[0]
    units = torch.eye(plan.normals + 1, dtype=torch.float64)[:, :-1, None].expand(-1, -1, d)
    x = torch.zeros(plan.normals + 1, d, dtype=torch.float64)
    x[-1] = law.model.schedule.std(plan.grid[0])
    return execute(plan, law.model, x, Replay(units.transpose(0, 1)))


def distance_of_signs(factors: Tensor, right: Tensor) -> Tensor:
    """Squared Wasserstein-2 distance of Σ c_k s_k + c_0 z, with signs s_k and a normal z, from
    N(0, right²).

    Args:
        factors: c_k and last c_0, shape (n + 1, d).
        right: shape (d,).

    Returns:
        Shape (d,).
    """
    half, per_std = 2**14, 2000
    scale = factors.norm(dim=0) / per_std
    places = torch.arange(-half, half + 1, dtype=torch.float64).expand(len(right), -1)
    edges = (places - 0.5) * scale[:, None] / factors[-1].abs().clamp(min=1e-300)[:, None]
    below = torch.special.ndtr(torch.cat([edges, edges[:, -1:].abs() + math.inf], 1))
    law = below.diff(dim=1)
    for shift in (factors[:-1] / scale).abs():
        whole = shift.floor()
        part = (shift - whole)[:, None]
        law = sum(
            0.5 * weight * _moved(law, sign * (whole.long() + more))
            for sign in (-1, 1)
            for more, weight in ((0, 1.0 - part), (1, part))
        )
    ends = torch.special.ndtri(law.cumsum(1).clamp(0.0, 1.0))
    density = (-0.5 * ends**2).exp() / math.sqrt(2.0 * math.pi)
    between = torch.cat([torch.zeros(len(right), 1), density], 1).diff(dim=1)
    y = places * scale[:, None]
    return (law * y**2).sum(1) + right**2 + 2.0 * right * (y * between).sum(1)


def _moved(law: Tensor, by: Tensor) -> Tensor:
    place = torch.arange(law.shape[1]) - by[:, None]
    inside = (place >= 0) & (place < law.shape[1])
    return torch.where(inside, law.gather(1, place.clamp(0, law.shape[1] - 1)), 0.0)


def error(law: Law, case: tuple[Plan, str]) -> float:
    """Of a plan with one kind of noise."""
    plan, kind = case
    if law.name == "gaussian-64":
        factors, right = coefficients(law, plan), law.model.variances.sqrt()
        if kind == "normals":
            return law.exact(factors.norm(dim=0), torch.zeros_like(right))
        if kind == "signs":
            squared = distance_of_signs(factors, right).clamp(min=0.0)
            return float(squared.sum().sqrt() / right.norm())
        return float((APART * factors[:-1] ** 2).sum().sqrt() / right.norm())
    seeds = per_sample(0, law.count)
    x = initial_state(seeds, law.shape, torch.float64) * law.model.schedule.std(plan.grid[0])
    noise: Any = Rademacher(seeds) if kind == "signs" else Gaussian(seeds)
    with torch.no_grad():
        samples = execute(plan, law.model, x, noise)
        if kind != "along the path":
            return law.error(samples)
        other = execute(plan, law.model, x, Signs(noise))
    spread = law.model.sample(law.count, seed=0).var(0).sum()
    return float(((samples - other).square().sum(1).mean() / spread).sqrt())


def plans_of(law: Law) -> Iterator[tuple[str, tuple[Plan, str]]]:
    """What is measured, by the name of its row."""
    for solver in SOLVERS:
        for n in STEPS:
            grid = expint.grids.uniform_lambda(law.model.schedule, n + 1)
            plan = expint.plan_sampling(law.model.schedule, solver, grid=grid)
            for kind in KINDS:
                yield f"{solver}, {kind}", (plan, kind)


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks."""
    head = ("problem", "solver", "noise", *(f"{n} steps" for n in STEPS), "floor")
    rows: list[tuple[str, ...]] = [head]
    for name, problem in done.items():
        for key, errors in problem["errors"].items():
            solver, kind = key.split(", ")
            floor = cell(problem["floor"]) if kind in KINDS[:2] and problem["floor"] else "–"
            rows.append((name, f"`{solver}`", kind, *map(cell, errors), floor))
    return filled(text, "rademacher", table_text(rows, markdown=True))


def draw(done: dict[str, Any]) -> None:
    """Errors against steps."""
    figure = new_figure(10.0, 3.6)
    for ax, name in zip(figure.subplots(1, len(PROBLEMS), sharey=True), PROBLEMS, strict=True):
        for key, errors in done[name]["errors"].items():
            solver, kind = key.split(", ")
            style = ("o-", "s--", "^:")[KINDS.index(kind)]
            ax.plot(
                STEPS, errors, style, color=f"C{SOLVERS.index(solver)}", markersize=4, label=key
            )
        if done[name]["floor"]:
            ax.axhline(done[name]["floor"], color="0.5", linestyle=":")
        ax.set(xscale="log", yscale="log", xlabel="steps", title=name)
        ax.set_xticks(STEPS, [str(n) for n in STEPS])
        ax.minorticks_off()
        ax.grid(visible=True, color="0.92")
    finished(figure, PICTURE, 3)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    study(FILE, page, plans_of, page_of, draw, error)


if __name__ == "__main__":
    main()
