"""Every registered solver at its own settings on the default grid, against the best of them.

    python benchmarks/every_solver.py            what is missing in benchmarks/every_solver.json
    python benchmarks/every_solver.py --table    the figures that are there

The Fréchet distance of 1000 samples (one run, the same for all) from the law of the network, as in
`benchmarks/defaults.py`, but from a reference in which the classes are as frequent as among the
samples: which classes a run happens to draw moves the distance by up to 0.4, tens of times the
differences between good solvers. So nothing is said here of how frequent the classes are. The
floor is the mean distance of thirds of the reference from the rest.

A solver that is more than 3 times as far as the best, or as the floor where this is more, should
give `expint.PlanWarning`, and others not: the tests read the figures and ask the library which
plans it warns of. Names that have the plan of another one ("ddim" that of "dpm-solver-1", "ddpm"
that of "seeds-1", …) are left out.
About 10 minutes.
"""

import json
from pathlib import Path

import click
import torch
from defaults import PROBLEMS, Problem
from torch import Tensor
from tqdm import tqdm

from expint import solvers
from expint.metrics import frechet_distance

FILE = Path(__file__).with_suffix(".json")
NETWORKS = ("digits-vp-table", "digits-edm")
NFES = (8, 10)
COUNT = 1000
TWICE = ("ddim", "deis-tab1", "ddpm", "gddim", "euler-ancestral", "etd-rk3a")


def distance(problem: Problem, samples: Tensor, law: Tensor) -> float:
    """Between features, each class of the law repeated to be as frequent as among the samples."""
    with torch.inference_mode():
        classes, of_law = (problem._classifier.head(x).argmax(1) for x in (samples, law))
    parts = []
    for each in classes.unique():
        rows, count = law[of_law == each], 3 * int((classes == each).sum())
        parts.append(rows[torch.arange(count) % len(rows)])
    return float(f"{frechet_distance(samples, torch.cat(parts)):.4g}")


def floor(problem: Problem, law: Tensor) -> float:
    """The mean distance of thirds of the reference from the rest."""
    thirds = law.chunk(3)
    others = [torch.cat([x for x in thirds if x is not each]) for each in thirds]
    found = [distance(problem, each, rest) for each, rest in zip(thirds, others, strict=True)]
    return float(f"{sum(found) / 3:.4g}")


def figure(problem: Problem, solver: str, nfe: int) -> float | None:
    """The distance; None where there is no such plan, for a network that is called on a table."""
    try:
        samples = problem.draw(0, COUNT, solver, nfe=nfe)
    except ValueError:
        return None
    return distance(problem, problem.features(samples), problem.reference)


@click.command()
@click.argument("networks", nargs=-1, type=click.Choice(list(PROBLEMS)))
@click.option("--nfe", "nfes", multiple=True, type=int, help="Default: 8 and 10.")
@click.option("--table", is_flag=True, help="Measure nothing: print the figures of the file.")
def main(networks: tuple[str, ...], nfes: tuple[int, ...], table: bool) -> None:
    """Measure every solver on NETWORKS (both of the study by default)."""
    content = json.loads(FILE.read_text()) if FILE.exists() else {}
    torch.set_num_threads(1)
    for network in () if table else networks or NETWORKS:
        problem = Problem(network, COUNT)
        own = content.setdefault(network, {})
        own["floor"] = floor(problem, problem.reference)
        for nfe in nfes or NFES:
            found = own.setdefault(str(nfe), {})
            for solver in tqdm(solvers.names(), desc=f"{network}, {nfe}"):
                if solver in found or solver in TWICE or solvers.get(solver).tableau.slopes:
                    continue
                found[solver] = figure(problem, solver, nfe)
                FILE.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    for network, own in content.items():
        for nfe in sorted(own.keys() - {"floor"}, key=int):
            ranked = sorted((d, name) for name, d in own[nfe].items() if d is not None)
            best = max(ranked[0][0], own["floor"])
            click.echo(f"{network}, {nfe} evaluations, floor {own['floor']:.3g}")
            for value, solver in ranked:
                click.echo(f"  {value:9.4g} {value / best:8.3g}  {solver}")


if __name__ == "__main__":
    main()
