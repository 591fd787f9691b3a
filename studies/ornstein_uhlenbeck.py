"""Error against evaluations on a stiff Ornstein–Uhlenbeck process, for exponential schemes and for
torchsde's methods: a section of docs/work-precision.md.

    python studies/ornstein_uhlenbeck.py           what is missing in the JSON beside it
    python studies/ornstein_uhlenbeck.py --page    the figures that are there into the page

A chain of 16 components, dx = [−diag(k) x + F(x)] dt + dω from x = 1 at t = 0 to t = 1, with rates
k from 1 to 100, log-spaced, and springs between neighbours, F_i = 2 (x_{i−1} − 2 x_i + x_{i+1}).
The law at the end is normal and known. The error is the Wasserstein-2 distance over the root of the
total variance: exact where a method is a map of normals, by moments of 5000 samples for torchsde,
with the floor of as many exact samples. Equal steps; an evaluation is one of F, or of the drift.
"""

import time
from collections.abc import Callable
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import torch
from pages import known, with_table
from torch import Tensor
from tqdm import tqdm
from work_precision import PAGE, Point, cell, machine, measured, rows_of

import expint
from expint import SemiLinearSDE, compile_plan
from expint.metrics import gaussian_wasserstein
from expint.noise import Replay
from expint.results import write_json
from expint.runs import execute

FILE = Path(__file__).with_suffix(".json")
D, T, COUNT, NFES = 16, 1.0, 5000, (10, 20, 40, 80)
SOLVERS = ("seeds-1", "seeds-2", "seeds-3", "seeds-3b", "seeds-sra", "seeds-sra3", "seeds-ab2",
           "seeds-ab3", "seeds-ab4", "etd-rk2a", "etd-rk3a", "etd-rk3b", "etd-rk4", "etd-rk4-ho",
           "pece-2", "pece-3")  # fmt: skip
RATES = torch.logspace(0.0, 2.0, D, dtype=torch.float64)


def force(x: Tensor, t: Tensor) -> Tensor:
    """Springs to both neighbours, and to walls at 0."""
    padded = torch.nn.functional.pad(x, (1, 1))
    return 2.0 * (padded[..., :-2] - 2.0 * x + padded[..., 2:])


@cache
def law() -> tuple[Tensor, Tensor]:
    """Exact mean and covariance at the end."""
    eye = torch.eye(D, dtype=torch.float64)
    drift = force(eye, torch.tensor(0.0)) - RATES.diag()
    values, vectors = torch.linalg.eigh(drift)  # symmetric
    mean = vectors @ ((values * T).exp() * (vectors.T @ torch.ones(D, dtype=torch.float64)))
    return mean, vectors @ (torch.expm1(2.0 * values * T) / (2.0 * values)).diag() @ vectors.T


def distance(mean: Tensor, covariance: Tensor) -> float:
    """From the law."""
    exact = law()
    return float(gaussian_wasserstein(mean, covariance, *exact) / exact[1].trace().sqrt())


def equation() -> SemiLinearSDE:
    """The linear part and the noise."""
    return SemiLinearSDE.from_coefficients(-RATES, g=1.0, span=(0.0, T))


def ours(solver: str, nfe: int) -> Point:
    """A registered solver: each normal of each component alone is 1 in one entry of the batch, and
    none of them in the last."""
    for steps in range(nfe, 0, -1):
        grid = torch.linspace(0.0, T, steps + 1, dtype=torch.float64)
        plan = compile_plan(equation(), solver, grid)
        if plan.nfe <= nfe:
            break
    else:
        raise ValueError("too few evaluations")
    size = plan.normals * D
    units = torch.eye(size + 1, size, dtype=torch.float64).T.reshape(plan.normals, D, size + 1)
    x = torch.ones(size + 1, D, dtype=torch.float64)
    ends = execute(plan, force, x, Replay(units.transpose(1, 2)))
    spread = ends[:-1] - ends[-1]
    began = time.perf_counter()
    normals = torch.randn(plan.normals, COUNT, D, dtype=torch.float64)
    execute(plan, force, torch.ones(COUNT, D, dtype=torch.float64), Replay(normals))
    return distance(ends[-1], spread.T @ spread), plan.nfe, time.perf_counter() - began


def theirs(method: str, nfe: int) -> Point:
    """torchsde, from samples."""
    import torchsde

    calls = 0

    def counted(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return force(x, t)

    sde = expint.to_torchsde(equation(), counted, event_shape=(D,), span=(0.0, T))
    span = torch.tensor([0.0, T], dtype=torch.float64)
    steps = nfe
    while True:
        calls, began = 0, time.perf_counter()
        x = torch.ones(COUNT, D, dtype=torch.float64)
        bm = torchsde.BrownianInterval(
            0.0, T, (COUNT, D), dtype=torch.float64, entropy=1,
            levy_area_approximation="space-time",
        )  # fmt: skip
        dt = T / steps * (1 + 1e-9)
        with torch.no_grad():
            y = torchsde.sdeint(sde, x, span, bm=bm, method=method, dt=dt)[-1]
        if calls <= nfe:
            return distance(y.mean(0), y.T.cov()), calls, time.perf_counter() - began
        if steps == 1:
            raise ValueError("too few evaluations")
        steps = max(1, min(steps - 1, int(steps * nfe / calls)))


def floor() -> float:
    """Of exact samples: the mean of ten sets."""
    mean, covariance = law()
    gen, factor = torch.Generator().manual_seed(0), torch.linalg.cholesky(covariance)
    found = []
    for _ in range(10):
        y = torch.randn(COUNT, D, dtype=torch.float64, generator=gen) @ factor.T + mean
        found.append(distance(y.mean(0), y.T.cov()))
    return sum(found) / len(found)


def entries() -> dict[str, Callable[[int], Point]]:
    """All that is compared, by name."""
    found: dict[str, Any] = {name: partial(ours, name) for name in SOLVERS}
    for method in ("euler", "milstein", "srk"):
        found[f"torchsde {method}"] = partial(theirs, method)
    return found


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks."""
    said = f"Floor {cell(done['floor'])} for torchsde. {done['made']}; {done['machine']}."
    return with_table(text, "ornstein-uhlenbeck", rows_of(done), said)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done = known(FILE)
    missing = {k: v for k, v in entries().items() if k not in done["figures"]}
    about = {"made": date.today().isoformat(), "machine": machine(), "floor": floor()}
    for name, run in () if page else tqdm(missing.items()):
        done["figures"][name] = {str(nfe): measured(run, nfe) for nfe in NFES}
        done |= about
        write_json(FILE, done)
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")


if __name__ == "__main__":
    main()
