"""Time of a step of a field over its floor, and strong orders of Allen–Cahn at 256 modes.

Floor of a step: the two FFTs (torch.fft.rfftn and irfftn, of arrays that lie ready) and the
reaction of each evaluation, at the points of the dealiased grid, and its normals, from the same
source. Both are measured in one run, interleaved, on one thread, in time of the processor: from
evaluation to evaluation, each the least of all repeats. The strong orders are on common paths.

    python benchmarks/fields.py [--repeats 15] [--paths 64] [--plot docs/img/fields-orders.png]
"""

import math
import time
from pathlib import Path

import click
import torch
from torch import Tensor

from expint import compile_plan, execute, noise
from expint.convergence import SemiLinearProblem, strong_orders
from expint.fields import Box

SPAN, SPECTRA = (0.0, 2.0), {"|k|^-2": 1.0, "|k|^-4": 2.0, "white": 0.0}


def reaction(u: Tensor, t: Tensor) -> Tensor:
    """Allen and Cahn's."""
    return u - u**3


def cost(box: Box, batch: int, solver: str, repeats: int, steps: int = 16) -> tuple[float, float]:
    """Milliseconds per step, and of the floor; periodic boxes."""
    dims = tuple(range(-len(box.modes), 0))
    points = box.points(3)
    grid = torch.linspace(0.0, 0.1, steps + 1, dtype=torch.float64)
    plan = compile_plan(box.sde(1e-3, 0.1, span=(0.0, 0.1)), solver, grid)
    x = torch.zeros(batch, *box.modes)
    F, source = box.nonlinearity(reaction, degree=3), noise.Gaussian(range(batch))
    half = torch.fft.rfftn(torch.zeros(batch, *points), dim=dims)
    marks: list[float] = []

    def marked(x: Tensor, t: Tensor) -> Tensor:
        marks.append(time.process_time())
        return F(x, t)

    def floor() -> None:
        stream = source.stream(x, plan.run)
        for substep in plan.run:
            for _ in range(plan.nfe // steps):
                marks.append(time.process_time())
                torch.fft.rfftn(reaction(torch.fft.irfftn(half, points, dim=dims), x), dim=dims)
            list(stream.normals(substep))

    runs = (lambda: execute(plan, marked, x, source)), floor
    least = torch.full((2, plan.nfe), math.inf, dtype=torch.float64)
    for _ in range(repeats + 1):
        for own, run in zip(least, runs, strict=True):
            marks.clear()
            run()
            marks.append(time.process_time())
            torch.minimum(own, torch.tensor(marks, dtype=torch.float64).diff(), out=own)
    ours, floors = (least.sum(1) / steps * 1e3).tolist()
    return ours, floors


def orders(decay: float, paths: int):
    """Strong orders of Allen–Cahn on 256 cosine modes, spectrum 0.1/(1 + (k/4π)²)^decay."""
    box = Box(256, boundary="neumann")
    sde = box.sde(1e-3, lambda k: 0.1 / (1 + (k / (4 * math.pi)) ** 2) ** decay, span=SPAN)
    start = box.to_modes(0.5 * torch.cos(3 * math.pi * box.places((256,))[0]))
    problem = SemiLinearProblem(sde, box.nonlinearity(reaction, degree=3), start)
    solvers = ["seeds-1", "seeds-2", "seeds-sra"]
    return strong_orders(solvers, problem, steps=(16, 32, 64, 128), paths=paths, refine=4, batch=32)


@click.command(help=__doc__)
@click.option("--repeats", default=15)
@click.option("--paths", default=64)
@click.option("--plot", type=click.Path(path_type=Path))
def main(repeats: int, paths: int, plot: Path | None) -> None:
    """Run it."""
    torch.set_num_threads(1)
    for modes, batch in ((256, 64), (256, 256), ((64, 64), 64), ((16, 16, 16), 64)):
        for solver in ("seeds-1", "seeds-sra"):
            a, b = cost(Box(modes), batch, solver, repeats)
            print(f"{modes!s:>12} x {batch}, {solver:>9}: {a:7.2f} ms, floor {b:7.2f}, {a / b:.2f}")
    for name, decay in SPECTRA.items():
        found = orders(decay, paths)
        print(f"\nspectrum {name}\n\n{found.table()}")
        if plot is not None and name == "|k|^-2":
            found.plot(plot)


if __name__ == "__main__":
    main()
