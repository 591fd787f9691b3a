"""Strong orders at full size: 4096 paths per target, data form, ell = 1, 16 to 256 equal steps in λ
from σ = 5 to 0.1.

Prints a table per target, with the errors of SEEDS-3 over those of the solvers of strong order 1.5
at the finest grid, and says whether the fitted orders are what the tableaus declare: 1.0 ± 0.1 for
SEEDS-1, -2 and -3, at least 1.4 for the others. With --out it draws them as well. A few minutes on
one thread.

    python benchmarks/strong_order.py [--paths 4096] [--steps 16,32,64,128,256] [--refine 8] [--out
    FOLDER]
"""

from pathlib import Path

import click
import torch

from expint.convergence import Problem, strong_orders
from expint.schedules import VP
from expint.targets import Gaussian, GaussianMixture

SOLVERS = ("seeds-1", "seeds-2", "seeds-3", "seeds-sra", "seeds-sra3")
TARGETS = {
    "gaussian": Gaussian([0.7, -1.0], [0.3, 2.0], VP()),
    "mixture": GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]], 0.6, None, VP()),
}


def verdict(study):
    """Whether the order is the declared one."""
    kept = study.order >= 1.4 if study.declared > 1 else abs(study.order - 1.0) <= 0.1
    return f"{study.solver}: {study.summary()}: {'as declared' if kept else 'NOT as declared'}"


@click.command()
@click.option("--paths", default=4096)
@click.option("--steps", default="16,32,64,128,256")
@click.option("--refine", default=8)
@click.option("--out", type=click.Path(path_type=Path))
def main(paths, steps, refine, out):
    """Run it."""
    torch.set_num_threads(1)
    for name, target in TARGETS.items():
        counts = tuple(int(n) for n in steps.split(","))
        comparison = strong_orders(
            SOLVERS, Problem(target), steps=counts, paths=paths, refine=refine
        )
        click.echo(f"{comparison.table()}\n")
        click.echo("\n".join(verdict(study) for study in comparison.studies))
        errors = {study.solver: study.errors[-1] for study in comparison.studies}
        for solver in ("seeds-sra", "seeds-sra3"):
            click.echo(
                f"{name}, {counts[-1]} steps: seeds-3 / {solver} = "
                f"{errors['seeds-3'] / errors[solver]:.1f}"
            )
        click.echo()
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            comparison.plot(out / f"orders-strong-{name}.png")


if __name__ == "__main__":
    main()
