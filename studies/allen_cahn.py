"""Error along paths of a stochastic Allen–Cahn equation in 256 modes against evaluations and
seconds, for exponential schemes and for Euler–Maruyama: a section of docs/work-precision.md.

    python studies/allen_cahn.py           what is missing in the JSON beside it
    python studies/allen_cahn.py --page    the figures that are there into the page

u_t = ν Δu + u − u³ + noise on [0, 1] without flux, ν = 0.001, 256 cosine modes, the noise of
spectrum 0.1/(1 + (k/4π)²), from u = cos(3πx)/2 at t = 0 to t = 2. All schemes see the same 64
paths. The error is the root mean square over paths of the distance at the end in L², over that of
the field from 0; the fine solution is `seeds-sra` with 2304 steps, the floor its distance from one
of half as many. An evaluation is one of u − u³ on a grid without aliasing; equal steps. Euler–
Maruyama takes νΔ with the drift; where it is "linearly implicit", by (1 − hνΔ)⁻¹. Its increments
are those of the paths, given the exponential schemes' on 2304 steps.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch
from pages import known, with_table
from torch import Tensor
from work_precision import PAGE, cell, machine, rows_of

from expint import Plan, compile_plan, execute, noise
from expint.convergence.plans_path import PlansPath
from expint.fields import Box
from expint.results import write_json
from expint.solvers import get

FILE = Path(__file__).with_suffix(".json")
SPAN, VISCOSITY, COUNT, BATCH = 2.0, 1e-3, 64, 16
NFES, FINE = (24, 96, 384, 768), 2304
SOLVERS = ("seeds-1", "seeds-2", "seeds-3", "seeds-3b", "seeds-sra", "seeds-sra3", "seeds-ab2",
           "seeds-ab3", "etd-rk2a", "etd-rk3b", "etd-rk4", "pece-2", "pece-3")  # fmt: skip
EULER = {"explicit Euler–Maruyama": False, "linearly implicit Euler–Maruyama": True}


class Field:
    """The equation.

    Args:
        modes: how many.
    """

    def __init__(self, modes: int) -> None:
        box = Box(modes, boundary="neumann")
        self.spectrum = 0.1 / (1 - box.laplacian / (4 * math.pi) ** 2)
        self.sde = box.sde(VISCOSITY, self.spectrum, span=(0.0, SPAN))
        self.linear = VISCOSITY * box.laplacian
        self.F = box.nonlinearity(lambda u, t: u - u**3, degree=3)
        self.start = box.to_modes(0.5 * torch.cos(3 * math.pi * box.places((modes,))[0]))

    def plan(self, solver: str, steps: int) -> Plan:
        """Of equal steps."""
        return compile_plan(self.sde, solver, torch.linspace(0.0, SPAN, steps + 1).double())

    def increments(self, normals: Tensor) -> Tensor:
        """∫ g dω of fine steps, given the standard normals of ∫ e^{A(t−s)} g dω, both of shape
        (steps, paths, modes)."""
        h = SPAN / len(normals)
        z = -self.linear * h  # with φ(z) = (1 − e^−z)/z: cov(∫ dω, ∫ e^… dω) = hφ(z)
        phi, own = (torch.where(y > 0, -torch.expm1(-y) / y, 1.0) for y in (z, 2.0 * z))
        given = phi / own.sqrt()
        gen = torch.Generator().manual_seed(0)
        others = torch.randn(normals.shape, generator=gen, dtype=normals.dtype)
        rest = (1.0 - given**2).clamp(min=0.0).sqrt()
        return (h * self.spectrum).sqrt() * (given * normals + rest * others)

    def euler(self, increments: Tensor, steps: int, *, implicit: bool) -> Tensor:
        """Ends of Euler–Maruyama on the paths of these increments."""
        h, x = SPAN / steps, self.start.expand(increments.shape[1:]).clone()
        for dw in increments.reshape(steps, -1, *increments.shape[1:]).sum(1):
            explicit = 0.0 if implicit else h * self.linear * x
            x = x + h * self.F(x, torch.tensor(0.0)) + dw + explicit
            x = x / (1.0 - h * self.linear) if implicit else x
        return x


Runs = dict[tuple[str, int], tuple[int, Callable[[], Tensor]]]
"""By name and evaluations allowed: those used, and the run."""


def runs(field: Field, names: Sequence[str], nfes: Sequence[int], fine: int) -> Iterator[Runs]:
    """Of each batch of paths; "fine" and "half" among them."""
    plans = {(n, nfe): field.plan(n, nfe // get(n).tableau.evaluations)
             for n in names if n not in EULER for nfe in nfes}  # fmt: skip
    plans |= {
        ("fine", 0): field.plan("seeds-sra", fine),
        ("half", 0): field.plan("seeds-sra", fine // 2),
    }
    steps = field.plan("seeds-1", fine)
    path = PlansPath(field.sde, [*plans.values(), steps])
    for first in range(0, COUNT, BATCH):
        start = field.start.expand(BATCH, -1).clone()
        opened = path.open(noise.per_sample(0, BATCH, start=first), start)
        found: Runs = {
            key: (plan.nfe, partial(execute, plan, field.F, start, opened.of(plan)))
            for key, plan in plans.items()
        }
        stream = opened.of(steps).stream(start, steps.run)
        dw = field.increments(torch.stack([stream.normals(s)[0] for s in steps.run]))
        for name, nfe in product(set(EULER) & set(names), nfes):
            found[name, nfe] = nfe, partial(field.euler, dw, nfe, implicit=EULER[name])
        yield found


def errors(
    field: Field, names: Sequence[str], nfes: Sequence[int] = NFES, fine: int = FINE
) -> tuple[dict[str, dict[str, Any]], float]:
    """[error, evaluations, seconds] by name and evaluations allowed, and the floor."""
    sums: dict[tuple[str, int], list[float]] = {}
    for batch in runs(field, names, nfes, fine):
        exact = batch["fine", 0][1]()
        for key, (used, run) in batch.items():
            total = sums.setdefault(key, [0.0, used, 0.0])
            began = time.perf_counter()
            try:
                total[0] += float((run() - exact).square().sum())
            except FloatingPointError:
                total[0] = math.inf
            total[2] += time.perf_counter() - began
        size = sums.setdefault(("size", 0), [0.0, 0, 0.0])
        size[0] += float(exact.square().sum())
    whole, floor = sums.pop(("size", 0))[0], sums.pop(("half", 0))[0]
    sums.pop(("fine", 0))
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for (name, nfe), (square, used, seconds) in sums.items():
        error = math.sqrt(square / whole)
        point = [float(f"{error:.4g}"), int(used), float(f"{seconds:.3g}")]
        found[name][str(nfe)] = point if error < 1e3 else "not finite"
    return found, float(f"{math.sqrt(floor / whole):.2g}")


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks."""
    said = f"Floor {cell(done['floor'])}. {done['made']}; {done['machine']}."
    return with_table(text, "allen-cahn", rows_of(done), said)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done = known(FILE)
    missing = [name for name in (*SOLVERS, *EULER) if name not in done["figures"]]
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
    elif missing:
        found, floor = errors(Field(256), missing)
        done["figures"] |= found
        done |= {"made": date.today().isoformat(), "machine": machine(), "floor": floor}
        write_json(FILE, done)


if __name__ == "__main__":
    main()
