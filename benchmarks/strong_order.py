"""Strong orders at full size: 4096 paths, ell = 1, 512 to 4096 equal steps in λ from σ = 5 to 0.1;
for SEEDS-3 and -3b, whose errors reach the limit later, half the paths and twice the steps.

The data are smooth enough that few paths do not decide the root mean square, and the steps are so
fine that the order is that of the limit: on the defaults the 95 % interval of every registered
solver holds its declared order or lies above it.

Prints a table per target and whether the intervals hold the declared orders. With --out it
draws them as well. A quarter of an hour on one thread; benchmarks/certify.py does the same for all
solvers.

    python benchmarks/strong_order.py [--paths 4096] [--steps 512,1024,2048,4096] [--out FOLDER]
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from expint.convergence import Comparison, OrderStudy, Problem, strong_orders
from expint.convergence.certification import has_path_noise
from expint.schedules import VP
from expint.solvers import Method, get
from expint.targets import Gaussian, GaussianMixture

SOLVERS = ("seeds-1", "seeds-2", "seeds-3", "seeds-sra", "seeds-sra3")
TARGETS = {
    "mixture": GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]], 0.6, None, VP()),
    "gaussian": Gaussian([0.7, -1.0], [0.3, 2.0], VP()),
}
PATHS, STEPS = 4096, (512, 1024, 2048, 4096)
LATE = ("seeds-3", "seeds-3b")


def strong_studies(
    methods: Iterable[Method], target: Any, steps: Sequence[int], paths: int
) -> dict[str, OrderStudy]:
    """The strong orders of those that have one, by name; all of one equation on the same paths."""
    groups: dict[tuple[str, float, int], list[Method]] = {}
    for method in methods:
        if has_path_noise(method) and method.strong_order > 0:
            finer = 2 if method.name in LATE else 1
            groups.setdefault((method.form, method.ell, finer), []).append(method)
    studies: dict[str, OrderStudy] = {}
    for (form, ell, finer), group in groups.items():
        found = strong_orders(
            group,
            Problem(target, form, ell),
            steps=[finer * n for n in steps],
            paths=paths // finer,
            refine=4,
            batch=512,
            progress=True,
        )
        studies |= {study.solver: study for study in found.studies}
    return studies


def holds(study: OrderStudy) -> bool:
    """Whether the interval of the order holds the declared one, or lies above it."""
    return study.order_interval is not None and study.order_interval[1] >= study.declared


@click.command()
@click.option("--paths", default=PATHS)
@click.option("--steps", default=",".join(map(str, STEPS)))
@click.option("--out", type=click.Path(path_type=Path))
def main(paths, steps, out):
    """Run it."""
    torch.set_num_threads(1)
    counts = tuple(int(n) for n in steps.split(","))
    for name, target in TARGETS.items():
        studies = strong_studies(map(get, SOLVERS), target, counts, paths)
        comparison = Comparison(tuple(studies.values()))
        click.echo(f"{comparison.table()}\n")
        for study in comparison.studies:
            verdict = "as declared" if holds(study) else "NOT as declared"
            click.echo(f"{study.solver}: {study.summary()}: {verdict}")
        at = {s.solver: s.errors[s.steps.index(counts[-1])] for s in comparison.studies}
        for solver in ("seeds-sra", "seeds-sra3"):
            ratio = at["seeds-3"] / at[solver]
            click.echo(f"{name}, {counts[-1]} steps: seeds-3 / {solver} = {ratio:.1f}")
        click.echo()
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            comparison.plot(out / f"orders-strong-{name}.png")


if __name__ == "__main__":
    main()
