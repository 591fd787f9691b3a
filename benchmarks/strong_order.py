"""How much closer to the path seeds-sra and seeds-sra3 come than SEEDS-3, at the same number of
steps, on data from smooth to rough: 64 to 256 equal steps in λ from σ = 5 to 0.1 (ell = 1).

Root mean squares over the paths, and medians: where the modes of the data are separate, the few
paths that change mode decide the root mean square of every solver.

    python benchmarks/strong_order.py [--paths 1024] [--steps 64,128,256] [--out FOLDER]
"""

from pathlib import Path

import click
import torch

from expint.convergence import Problem, strong_orders
from expint.results import table_text
from expint.schedules import VP
from expint.targets import Gaussian, GaussianMixture

SOLVERS = ("seeds-3", "seeds-sra", "seeds-sra3")
MEANS = [[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]]
WIDE = [[-4.0, 0.0], [4.0, 1.0], [0.5, -4.0]]
TARGETS = {
    "Gaussian": Gaussian([0.7, -1.0], [0.3, 2.0], VP()),
    "overlapping modes": GaussianMixture(MEANS, 0.6, None, VP()),
    "narrow modes": GaussianMixture(MEANS, 0.3, None, VP()),
    "separate modes": GaussianMixture(WIDE, 0.3, None, VP()),
}


@click.command(help=__doc__)
@click.option("--paths", default=1024)
@click.option("--steps", default="64,128,256")
@click.option("--out", type=click.Path(path_type=Path))
def main(paths: int, steps: str, out: Path | None) -> None:
    """Run it."""
    torch.set_num_threads(1)
    counts = tuple(int(n) for n in steps.split(","))
    rows: list[tuple[str, ...]] = [
        ("data", "solver", "RMS error", "median", "RMS ratio", "median ratio")
    ]
    for name, target in TARGETS.items():
        found = strong_orders(SOLVERS, Problem(target), steps=counts, paths=paths, progress=True)
        click.echo(f"{name}\n{found.table()}\n")
        if out is not None:
            found.plot(out / f"orders-strong-{name.replace(' ', '-')}.png")
        own = [(study.errors[-1], study.others["median"][-1]) for study in found.studies]
        for study, errors in zip(found.studies, own, strict=True):
            ratios = [f"{a / b:.2g}" for a, b in zip(own[0], errors, strict=True)]
            rows.append((name, f"`{study.solver}`", *(f"{e:.2g}" for e in errors), *ratios))
    click.echo(f"Errors at {counts[-1]} steps, and those of SEEDS-3 over them:\n")
    click.echo(table_text(rows, markdown=True))


if __name__ == "__main__":
    main()
