"""How much fewer samples plans need beside solutions along the same Brownian paths, and how far the
law of a network at other ℓ is from that at ℓ = 1.

    python benchmarks/pairs.py digits-edm --nfe 10              distances of lots of pairs
    python benchmarks/pairs.py digits-edm --laws --count 4000   Fréchet distances at several ℓ

The first prints for some solvers at ℓ = 1 on the default grid the energy distance from solutions,
once in pairs and once beside independent ones, over some lots: the mean and the standard deviation
of a lot, in floors of 1000 samples. The second compares fine samples (50 evaluations, karras, to
the end of the sampling range; above ℓ = 1, 100) in the features of the classifier.
"""

import statistics
from typing import Any

import click
import defaults
import torch
import tuned

import expint
from expint import grids
from expint.metrics import frechet_distance
from expint.tuning.objective import HELD_OUT, SEARCH
from expint.tuning.pathwise import Paths

SOLVERS = ("seeds-ab2", "seeds-ab3", "sa-solver")


def shares(own: Paths, samples: torch.Tensor, fine: Any) -> float:
    """The distance without its standard error."""
    views = [side.paired(view, 0) for side, view in zip(fine, own._seen(samples), strict=True)]
    return float(torch.stack(views).mean())


def lots(name: str, nfe: int, count: int, repeats: int) -> None:
    """Print the first table."""
    model = tuned.problem_of(name, 10, 10).model
    found: dict[str, list[tuple[float, float]]] = {solver: [] for solver in SOLVERS}
    for seed in range(repeats):
        own = Paths(model, model.shape, None, seed, {SEARCH: count, HELD_OUT: count})
        for solver in SOLVERS:
            plan = expint.plan_sampling(model.schedule, solver, nfe=nfe, ell=1.0)
            samples = own.samples(plan, count, SEARCH, path=True)
            sides = [own.solutions(1.0, part)[1] for part in (SEARCH, HELD_OUT)]
            found[solver].append((shares(own, samples, sides[0]), shares(own, samples, sides[1])))
    for solver, values in found.items():
        columns = [
            f"{statistics.fmean(column):.3f} ± {statistics.stdev(column):.3f}"
            for column in zip(*values, strict=True)
        ]
        click.echo(f"{solver:10} pairs {columns[0]:16} independent {columns[1]}")


def laws(name: str, count: int) -> None:
    """Print the second table."""
    study = defaults.Problem(name, count, count)

    def drawn(run: int, solver: str, nfe: int, ell: float) -> torch.Tensor:
        how: dict[str, Any] = {"nfe": nfe, "grid": grids.karras, "ell": ell}
        return study.features(study.draw(run, count, solver, **how))

    itself = frechet_distance(study.law(10**6 + 1, count), study.reference)
    click.echo(f"the SDE itself: {itself:.4g}")
    lower = [("seeds-ab2", 50, ell) for ell in (0.3, 0.5)]
    for solver, nfe, ell in (("unipc-3", 50, 0.0), *lower, ("seeds-ab2", 100, 2.0)):
        found = frechet_distance(drawn(7 - 2 * (ell == 0.0), solver, nfe, ell), study.reference)
        click.echo(f"ell = {ell:g}: {found:.4g}")


@click.command(help=__doc__)
@click.argument("name", type=click.Choice([*defaults.PROBLEMS]))
@click.option("--nfe", default=10, show_default=True)
@click.option("--count", default=400, show_default=True, help="Samples of a lot, or in a law.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--laws", "several", is_flag=True, help="The second table.")
def main(name: str, nfe: int, count: int, repeats: int, several: bool) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    with torch.no_grad():
        if several:
            laws(name, count)
        else:
            lots(name, nfe, count, repeats)


if __name__ == "__main__":
    main()
