"""How much fewer samples plans need beside solutions along the same Brownian paths, how far plans
are from the law in the classifier's features then, and how far the law of a network at other ℓ is.

    python benchmarks/pairs.py digits-edm --nfe 10              distances of lots of pairs
    python benchmarks/pairs.py mnist-edm --nfe 8 --best 8       the best plans, in those features
    python benchmarks/pairs.py digits-edm --laws --count 4000   Fréchet distances at several ℓ

The first prints for some solvers at ℓ = 1 on the default grid the energy distance from solutions,
once in pairs and once beside independent ones, over some lots: the mean and the standard deviation
of a lot, in floors of 1000 samples. The second does so, of the plans with ℓ = 1 that had the lowest
figures in benchmarks/tuned.json, in the features of the classifier, which no search knows: the
distance and its standard error. The third compares fine samples (50 evaluations, karras, to
the end of the sampling range; above ℓ = 1, 100) in the features of the classifier.
"""

import math
import statistics
from typing import Any

import click
import defaults
import torch
import tuned
import tuned_pages

import expint
from expint import grids
from expint.metrics import frechet_distance
from expint.tuning.objective import HELD_OUT, SEARCH, Side
from expint.tuning.pairs import ell_of
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


def in_features(name: str, nfe: int, count: int, best: int) -> None:
    """Print the second table."""
    problem = tuned.problem_of(name, count, count)
    assert isinstance(problem, tuned.Network)
    schedule, features = problem.model.schedule, problem.study.features
    own = Paths(problem.model, problem.model.shape, None, 17, {SEARCH: count})
    side = Side(features(own.solutions(1.0, SEARCH)[0]), local=False)
    known = tuned_pages.read(tuned.FILE)[name]["plans"][f"stochastic {nfe}"]
    labels = tuned_pages.best_labels(known, best)
    made = dict(tuned.fixed(problem, "stochastic", nfe))
    plans = {"tuned": tuned.tuned_plan(problem, "stochastic", nfe, 0)[0]}
    plans |= {label: expint.plan_sampling(schedule, **made[label]()) for label in labels}
    for label, plan in plans.items():
        figures = known[label]["figures"]
        if ell_of(plan) == 1.0:
            samples = own.samples(plan, count, SEARCH, path=True)
            found = side.paired(features(samples), 0)
            noise = float(found.std()) / math.sqrt(count)
            click.echo(
                f"{label:36} {figures[0]:.3g}  pairs {float(found.mean()):.3f} ± {noise:.3f}"
            )


def laws(name: str, count: int) -> None:
    """Print the third table."""
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
@click.option("--laws", "several", is_flag=True, help="The third table.")
@click.option("--best", default=0, help="The second table, of so many fixed plans.")
def main(name: str, nfe: int, count: int, repeats: int, several: bool, best: int) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    with torch.no_grad():
        if several:
            laws(name, count)
        elif best:
            in_features(name, nfe, count, best)
        else:
            lots(name, nfe, count, repeats)


if __name__ == "__main__":
    main()
