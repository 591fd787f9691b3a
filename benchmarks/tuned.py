"""What tuning gains: plans of `expint.tune` beside fixed ones and grids from the network.

    python benchmarks/tuned.py digits-vp mnist-edm --nfe 5 --nfe 10
    python benchmarks/tuned.py --table             the figures that are there

For each network, number of evaluations and kind (stochastic: ℓ between 0.3 and 2 in every step;
deterministic: ℓ = 0) a plan is tuned, with its default budget and objective, and written to
benchmarks/plans/. Figures are those of benchmarks/defaults.py: the Fréchet distance in the features
of a classifier that the search does not know, of 3 × 1000 samples of runs that it does not use,
from samples of the network's own with 100 evaluations; and the floor. Beside it two solvers on the
default grid, on the grids of the network (KLUB, GITS, OSS), and on that of Align Your Steps.

Interrupted, it goes on where it was.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import defaults
import torch

import expint
from expint import tuning

FILE = Path(__file__).with_suffix(".json")
PLANS = Path(__file__).parent / "plans"
KINDS = {"stochastic": (0.3, 2.0), "deterministic": 0.0}
SEED = 7
FIXED = {"stochastic": ("seeds-ab2", "sa-solver"), "deterministic": ("unipc-2", "unipc-3")}


def fixed(problem: defaults.Problem, kind: str, nfe: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Plans that are not tuned, by name."""
    model = problem.model
    schedule, shape = model.schedule, model.shape
    images = problem.draw(10**7, 500, "seeds-ab2", nfe=30)
    curve = tuning.mmse_curve(model, images, 20, draws=200, progress=False)
    grids = {
        "default grid": None,
        "KLUB": partial(tuning.klub_grid, curve=curve),
        "GITS": partial(tuning.gits_grid, model=model, shape=(30, *shape)),
        "OSS": partial(tuning.oss_grid, model=model, shape=(30, *shape)),
        "Align Your Steps (sd15)": "ays_sd15",
    }
    for name, grid in grids.items():
        times = (
            None if grid is None else defaults.grid_for(schedule, "seeds-ab2", _built(grid), nfe)
        )
        for solver in FIXED[kind]:
            ell = 1.0 if kind == "stochastic" else 0.0
            yield f"{solver}, {name}", {"solver": solver, "ell": ell, **_steps(times, nfe)}


def _built(grid: Any) -> Any:
    return expint.grids.get(grid) if isinstance(grid, str) else grid


def _steps(times: Any, nfe: int) -> dict[str, Any]:
    return {"nfe": nfe} if times is None else {"grid": times}


def figure(problem: defaults.Problem, **how: Any) -> list[float]:
    """Of the samples of three runs together, then of each."""
    solver = how.pop("solver", None)
    drawn = [problem.features(problem.draw(run, problem.n, solver, **how)) for run in range(3)]
    return [float(f"{problem.distance(part):.4g}") for part in (torch.cat(drawn), *drawn)]


def tuned(problem: defaults.Problem, kind: str, nfe: int) -> tuple[Path, float]:
    """The file of the plan, and the seconds of processor time that it took."""
    path = PLANS / f"{problem.name}-{kind}-{nfe}.json"
    begun = time.process_time()
    if not path.exists():
        plan = expint.tune(problem.model, nfe, ell=KINDS[kind], seed=SEED)
        PLANS.mkdir(exist_ok=True)
        plan.save(path, network=problem.name, seed=SEED)
    return path, time.process_time() - begun


def measure(name: str, nfe: int, kind: str, only_tuned: bool) -> None:
    """Put the figures into the file."""
    problem = defaults.Problem(name, 1000)
    content = json.loads(FILE.read_text()) if FILE.exists() else {}
    known = content.setdefault(name, {}).setdefault(f"{kind} {nfe}", {})
    if "floor" not in content[name]:
        fine = [problem.law(10**6 + 1 + run, 1000) for run in range(3)]
        content[name]["floor"] = [
            float(f"{problem.distance(part):.4g}") for part in (torch.cat(fine), *fine)
        ]
    if "tuned" not in known:
        path, seconds = tuned(problem, kind, nfe)
        plan = expint.Plan.load(path, problem.model.schedule)
        known["tuned"] = {
            "figures": figure(problem, plan=plan),
            "solver": plan.solver,
            "seconds": round(seconds),
            "evaluations": plan.about["evaluations"],
        }
        _write(content)
    if only_tuned:
        return
    for label, how in fixed(problem, kind, nfe):
        if label not in known:
            known[label] = {"figures": figure(problem, **how)}
            _write(content)


def _write(content: dict[str, Any]) -> None:
    old = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name, found in content.items():
        old[name] = {**old.get(name, {}), **found}
    part = FILE.with_suffix(".part")
    part.write_text(json.dumps(dict(sorted(old.items())), indent=1) + "\n")
    part.replace(FILE)


@click.command()
@click.argument("problems", nargs=-1)
@click.option("--nfe", "nfes", multiple=True, type=int, default=(5, 8, 10))
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), default=list(KINDS))
@click.option("--only-tuned", is_flag=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--table", is_flag=True, help="Measure nothing: print the figures of the file.")
def main(
    problems: tuple[str, ...],
    nfes: tuple[int, ...],
    kinds: tuple[str, ...],
    only_tuned: bool,
    threads: int,
    table: bool,
) -> None:
    """Tune plans for PROBLEMS, and measure them and others."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore", expint.PlanWarning)
    for name in () if table else problems:
        for nfe in nfes:
            for kind in kinds:
                measure(name, nfe, kind, only_tuned)
    for name, found in json.loads(FILE.read_text()).items():
        print(f"{name} (floor {found['floor'][0]:.3g})")
        for setting, plans in found.items():
            if setting == "floor":
                continue
            best = sorted((each["figures"][0], label) for label, each in plans.items())
            print(f"  {setting}: " + "; ".join(f"{value:.3g} {label}" for value, label in best))


if __name__ == "__main__":
    main()
