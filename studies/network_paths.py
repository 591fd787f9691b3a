"""How far samples of mnist-edm are from those that the network gives exactly for the same noise,
against evaluations and seconds: a section of docs/work-precision.md.

    python studies/network_paths.py           what is missing in the JSON beside it
    python studies/network_paths.py --page    the figures that are there into the page

16 samples, classes in turn. The error is the root-mean-square distance per pixel at the end, over
the standard deviation of the pixels, from a fine solution: for ℓ = 0 from the same initial state,
by `seeds-3`; for an SDE on the same Brownian path as well, by `seeds-sra3` in the solver's own
equation. It says how well the equation is solved, and nothing about the quality of the samples. The
floors are the distances of the fine solutions from those of half as many steps. Solvers take
Karras' grid from σ = 80 to 0.002 and a denoising evaluation; the default has a grid of its own.
diffusers' deterministic schedulers take the same noise at their own first σ, 80 or, for those of
the linear table, 157, and so does their fine solution. Seconds are those of one run of all samples.
Interrupted, it goes on.
"""

import json
import math
import time
from collections.abc import Callable
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import torch
from pages import with_table
from torch import Tensor
from tqdm import tqdm
from work_precision import (
    LARGEST,
    PAGE,
    Law,
    Point,
    by_scheduler,
    cell,
    machine,
    measured,
    rows_of,
    schedulers,
)  # fmt: skip

import expint
from diffusion_adapters import load
from expint import Plan, compile_plan, noise, solvers
from expint.results import write_json

FILE = Path(__file__).with_suffix(".json")
COUNT, NFES = 16, (5, 10, 20, 40)
FINE = {"seeds-3": 300, "seeds-sra3": 400}  # steps
RANDOM = ("DDPM", "SDE-DPM++", "SA-Solver", "Euler ancestral", "EDM SDE-DPM++")


class Paths:
    """A network, and how far its samples are from the fine solution of the same noise.

    Args:
        model: what is sampled, with labels for `COUNT` samples where it takes any.
        fine: steps of the fine solutions, by their solvers.
    """

    def __init__(self, model: Any, fine: dict[str, int]) -> None:
        self.law, self.steps = Law("mnist-edm"), fine
        self.law.model, self.law.count = model, COUNT
        self.floors: dict[str, float] = {}
        self._found: dict[str, Tensor] = {}

    def run(self, plan: Plan, first: float = LARGEST) -> Tensor:
        """The end of a plan, for noise at its first σ, or at a larger one."""
        seeds = noise.per_sample(0, COUNT)
        path = noise.BrownianPath(seeds, resolution=2**12) if plan.sde.is_stochastic else None
        x = LARGEST * self.noise()
        if first > LARGEST:  # D is that of x/σ at σ = 80 down to there, and x/σ hardly changes
            x += (1.0 - LARGEST / first) * self.law.denoised(x, LARGEST)
        return expint.sample(self.law.model, x, plan=plan, seed=0, noise=path, progress=False)

    def noise(self) -> Tensor:
        """The normals of the initial state."""
        return noise.initial_state(noise.per_sample(0, COUNT), self.law.shape, torch.float32)

    def fine(self, plan: Plan | None, first: float = LARGEST) -> Tensor:
        """The fine solution of a plan's equation on its path; None: at ℓ = 0."""
        sde = plan.sde if plan is not None and plan.sde.is_stochastic else None
        name = "ℓ = 0" if sde is None else sde.name.split(", EDM")[0]
        name += f" from σ = {first:.0f}" if first > LARGEST else ""
        if name not in self._found:
            solver = "seeds-3" if sde is None else "seeds-sra3"
            ends = list[Tensor]()
            for steps in (self.steps[solver] // 2, self.steps[solver]):
                options: Any = {"steps": steps, "grid": "uniform_lambda", "ell": float(bool(sde))}
                made = expint.plan_sampling(self.law.model.schedule, solver, **options)
                plan = made if sde is None else compile_plan(sde, solver, made.grid)
                ends.append(self.run(plan, first))
            self.floors[name] = float(f"{relative(*ends):.2g}")
            self._found[name] = ends[1]
        return self._found[name]

    def ours(self, solver: str | None, nfe: int) -> Point:
        """A registered solver; None is what a user gets who names none."""
        options: Any = {"grid": "default" if solver is None else "karras", "nfe": nfe}
        schedule, sigma_data = self.law.model.schedule, getattr(self.law.model, "sigma_data", None)
        plan = expint.plan_sampling(schedule, solver, sigma_data=sigma_data, **options)
        if (plan.normals and not plan.sde.is_stochastic) or plan.method.ell == math.inf:
            raise ValueError("it follows no path")
        began = time.perf_counter()
        x = self.run(plan)
        seconds = time.perf_counter() - began
        return relative(x, self.fine(plan)), plan.nfe, seconds

    def theirs(self, make: Callable[[], Any], nfe: int) -> Point:
        """A deterministic scheduler of diffusers."""
        table = getattr(make(), "alphas_cumprod", None)
        first = LARGEST if table is None else float((1.0 / table[-1] - 1.0).sqrt())
        self.law.calls, began = 0, time.perf_counter()
        x = by_scheduler(self.law, make, nfe, lambda _: self.noise())
        seconds, used = time.perf_counter() - began, self.law.calls
        return relative(x, self.fine(None, first)), used, seconds


def relative(x: Tensor, exact: Tensor) -> float:
    """Root-mean-square distance over the standard deviation."""
    return float((x - exact).double().square().mean().sqrt() / exact.std())


@cache
def paths() -> Paths:
    """Of mnist-edm."""
    model = load("mnist-edm")
    return Paths(model.with_labels([i % model.label_dim for i in range(COUNT)]), FINE)


def entries() -> dict[str, Callable[[int], Point]]:
    """All that is compared, by name; the network is loaded when one of them is called."""
    found: dict[str, Any] = {"expint default": lambda nfe: paths().ours(None, nfe)}
    found |= {name: partial(lambda s, nfe: paths().ours(s, nfe), name) for name in solvers.names()}
    for name, make in schedulers().items():
        if name.removeprefix("diffusers ") not in RANDOM:
            found[name] = partial(lambda m, nfe: paths().theirs(m, nfe), make)
    return found


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks; what follows no path has no row."""
    rows = [row for row in rows_of(done) if set(row[1:-1]) != {"–"}]
    floors = "; ".join(f"{cell(v)} ({name})" for name, v in sorted(done["floors"].items()))
    said = f"Floors: {floors}. {done['made']}; {done['machine']}."
    return with_table(text, "network-paths", rows, said)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done: dict[str, Any] = {"figures": {}, "floors": {}}
    if FILE.exists():
        done = json.loads(FILE.read_text(encoding="utf-8"))
    missing = {k: v for k, v in entries().items() if k not in done["figures"]}
    for name, run in () if page else tqdm(missing.items(), disable=not missing):
        done["figures"][name] = {str(nfe): measured(run, nfe) for nfe in NFES}
        done |= {"made": date.today().isoformat(), "machine": machine()}
        done["floors"] |= paths().floors
        write_json(FILE, done)
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")


if __name__ == "__main__":
    main()
