"""The solvers that the SEEDS paper compares, and some that came later, on networks: quality
against evaluations (figures 1a and 1b, the ranking of table 1) and against S_churn (figure 1c). The
sections "Quality on networks" and "Churn on a network" in docs/studies.md.

    python studies/networks.py                        what is missing in the JSON beside it
    python studies/networks.py digits-edm --nfe 10    some of it
    python studies/networks.py --page                 the figures that are there into the page

Named solvers take Karras' grid (ρ = 7) from σ = 80 to 0.002 and a denoising evaluation, with their
own defaults, so SEEDS at ℓ = 1 in the data form; `seeds-1` is DDPM's ancestral sampling and
`dpm-solver-1` DDIM. The default and the tuned plans have grids of their own. Fréchet distance in
the features of the classifier of the data set: of digits from the network's own samples of 100
evaluations, of MNIST from the 10000 images held out (--images, see `real_images`); of the mixture
the energy distance from exact samples. A figure is that of the samples of all runs together, then
that of each; so is the floor, of fine samples, of training images, of other exact samples. All
plans see the same seeds; digits at 20 evaluations are one run. Churn as in studies/churn.py.
Interrupted, it goes on.
"""

import json
import math
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
from noise_decomposition import PAGE, finished
from pages import filled
from tqdm import tqdm
from work_precision import cell

import expint
from diffusion_adapters.shipped.image_quality import real_images
from expint.results import new_figure, table_text, write_json

FILE = Path(__file__).with_suffix(".json")
ROOT, IMG = FILE.parents[1], PAGE.parent / "img"
SHIPPED = ROOT / "diffusion_adapters" / "shipped" / "plans"
# Samples of a run, of the reference; evaluations, and runs with as many.
PROBLEMS: dict[str, tuple[int, int, dict[int, int]]] = {
    "digits-edm": (2000, 6000, {5: 3, 10: 3, 20: 1}),
    "mnist-edm": (1000, 10_000, {10: 1}),
    "mixture-edm": (2000, 6000, {5: 3, 10: 3, 20: 3, 40: 3}),
}
STOCHASTIC = (
    "seeds-3", "er-sde-3", "sa-solver", "seeds-2", "seeds-1", "edm-stochastic", "seeds-sra",
    "euler-maruyama",
)  # fmt: skip
ODE = ("dpm-solver-3", "dpm-solver-2", "dpm-solver-1")
DEFAULT, TUNED = "default", ("tuned, stochastic", "tuned, deterministic")
TITLES = {
    "seeds-1": "`seeds-1` (DDPM)",
    "dpm-solver-1": "`dpm-solver-1` (DDIM)",
    **{row: row for row in (DEFAULT, *TUNED)},
}
CHURNED, CHURN, CHURN_NFE, CHURN_RUNS = "digits-edm", (0.0, 2.0, 5.0, 10.0), 41, 1
SAMPLERS = {"EDM (Heun, ℓ = 0)": ("heun", None), "SEEDS-3, ℓ = 1": ("seeds-3", 1.0)}
BATCH = {"mnist-edm": 50}  # what fits into the cache of one core; samples do not depend on it


class Judge:
    """A problem of benchmarks/defaults.py, and how far runs are from its law."""

    def __init__(self, name: str, images: Path | None) -> None:
        sys.path.insert(0, str(ROOT / "benchmarks"))
        import defaults

        self.name, (self.count, size, runs) = name, PROBLEMS[name]
        self.runs = max(runs.values())
        self._real = real_images(name, images) if name == "mnist-edm" else None
        defaults._BATCH = BATCH.get(name, defaults._BATCH)
        if self._real is None:
            self._problem = defaults.Problem(name, self.count, size)
        else:
            held_out = self._real[1]

            class OfImages(defaults.Problem):
                def _fine(self) -> torch.Tensor:
                    return self.features(held_out)

            self._problem = OfImages(name, self.count, size)
        self.model = self._problem.model

    def figure(self, how: dict[str, Any], runs: int) -> list[float] | str:
        """Of the samples of all runs, then of each; or why there is none."""
        solver, rest = how.get("solver"), {k: v for k, v in how.items() if k != "solver"}
        draw, features = self._problem.draw, self._problem.features
        try:
            drawn = [features(draw(run, self.count, solver, **rest)) for run in range(runs)]
        except (ValueError, FloatingPointError) as reason:
            return str(reason).split(":")[0]
        return self.compared(drawn)

    def floor(self) -> list[float]:
        """Of other images, of fine samples, as benchmarks/tuned.py has it, or of exact ones."""
        if self._real is not None:
            return self.compared([self._problem.features(self._real[0][: self.count])])
        if self.name == "digits-edm":
            known = json.loads((ROOT / "benchmarks" / "tuned.json").read_text(encoding="utf-8"))
            return known[self.name]["floor"]["figures"]
        seeds = range(10**6 + 1, 10**6 + 1 + self.runs)
        return self.compared([self._problem.law(seed, self.count) for seed in seeds])

    def compared(self, runs: list[torch.Tensor]) -> list[float]:
        """Their distance from the reference."""
        parts = (torch.cat(runs), *runs)
        return [float(f"{self._problem.distance(part):.4g}") for part in parts]


def wanted(name: str) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Part, row and column of a figure, and the arguments of `expint.sample` that it is of."""
    schedule = expint.schedules.EDM()
    for sampler, (solver, ell) in SAMPLERS.items() if name == CHURNED else ():
        for s in CHURN:
            around = (expint.solvers.churn(s),) if s else ()
            how: dict[str, Any] = {"nfe": CHURN_NFE, "grid": "karras", "operations": around}
            yield "churn", sampler, f"{s:g}", {"solver": solver, "ell": ell, **how}
    for nfe in PROBLEMS[name][2]:
        yield "nfe", DEFAULT, str(nfe), {"nfe": nfe, "grid": "default"}
        for row in TUNED:
            path = SHIPPED / f"{name}-{row.split()[1]}-{nfe}.json"
            if path.exists():
                yield "nfe", row, str(nfe), {"plan": expint.Plan.load(path, schedule)}
        for solver in (*STOCHASTIC, *ODE):
            yield "nfe", solver, str(nfe), {"solver": solver, "nfe": nfe, "grid": "karras"}


def first(found: Any) -> float:
    """Of all runs together; infinite where there is none."""
    return found[0] if isinstance(found, list) else math.inf


def value(found: Any) -> str:
    """The same for the page."""
    return cell(found[0]) if isinstance(found, list) else "–"


def quality_table(name: str, problem: dict[str, Any]) -> str:
    """The least distance at 10 evaluations first."""
    count, size, nfes = PROBLEMS[name]
    runs = max(nfes.values())
    rows = sorted(problem["nfe"].items(), key=lambda row: first(row[1].get("10")))
    head = ("solver", *(f"NFE {n}{', one run' if r < runs else ''}" for n, r in nfes.items()))
    lines = [
        (TITLES.get(row, f"`{row}`"), *(value(found.get(str(n))) for n in nfes))
        for row, found in rows
    ]
    own = f"of single runs {cell(min(problem['floor'][1:]))} to {cell(max(problem['floor'][1:]))}"
    said = f"**{name}**: {runs} × {count} samples, a reference of {size}; floor "
    said += f"{cell(problem['floor'][0])}{', ' + own if runs > 1 else ''}. {problem['made']}."
    return f"{said}\n\n{table_text([head, *lines], markdown=True)}"


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with its tables between their marks."""
    tables = [quality_table(name, done[name]) for name in PROBLEMS]
    text = filled(text, "quality", "\n\n".join(tables))
    problem = done[CHURNED]
    rows = [("sampler", *(f"S = {s:g}" for s in CHURN))]
    for sampler, found in problem["churn"].items():
        rows.append((sampler, *(value(found[f"{s:g}"]) for s in CHURN)))
    return filled(text, "network churn", table_text(rows, markdown=True))


def draw(done: dict[str, Any]) -> None:
    """Distances of the first runs against evaluations."""
    figure = new_figure(12.0, 4.6)
    axes = figure.subplots(1, len(done), width_ratios=[2.0, 1.0, 3.0])
    for name, ax in zip(PROBLEMS, axes, strict=True):
        nfes, problem = PROBLEMS[name][2], done[name]
        for i, row in enumerate((*STOCHASTIC, *ODE, DEFAULT, *TUNED)):
            found = problem["nfe"].get(row, {})
            points = [(n, found[str(n)][1]) for n in nfes if isinstance(found.get(str(n)), list)]
            style = "s--" if row in ODE else "D:" if row in TUNED else "o-"
            color = "0.1" if row == DEFAULT else f"C{i % 10}"
            x, y = ([point[k] for point in points] for k in (0, 1))
            ax.plot(x, y, style, color=color, markersize=4, label=row)
        single = problem["floor"][1:]
        ax.axhspan(min(single), max(single), color="0.5", alpha=0.25)
        ax.set(xscale="log", yscale="log", xlabel="network evaluations", title=name)
        top = max(first(figure) for found in problem["nfe"].values() for figure in found.values())
        ax.set_ylim(0.4 * problem["floor"][0], min(2.0 * top, 1e3 * problem["floor"][0]))
        ax.set_xticks([*nfes], map(str, nfes))
        ax.minorticks_off()
        ax.grid(visible=True, color="0.92")
    finished(figure, IMG / "quality-networks.png", 5)
    figure = new_figure(5.0, 3.2)
    ax = figure.subplots()
    for sampler, found in done[CHURNED]["churn"].items():
        ax.plot(CHURN, [found[f"{s:g}"][0] for s in CHURN], "o-", label=sampler)
    ax.axhline(done[CHURNED]["floor"][1], color="0.5", linestyle=":")
    ax.set(xlabel="S_churn", title=CHURNED, ylim=(0.0, None))
    ax.grid(visible=True, color="0.92")
    finished(figure, IMG / "churn-network.png", 2)


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice([*PROBLEMS]))
@click.option("--nfe", "columns", multiple=True, help="Evaluations, or S of churn. Default: all.")
@click.option("--images", type=click.Path(path_type=Path), help="MNIST as an .npz file.")
@click.option("--page", is_flag=True)
def main(names: tuple[str, ...], columns: tuple[str, ...], images: Path | None, page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in () if page else names or PROBLEMS:
        problem = done.setdefault(name, {"nfe": {}, "churn": {}})
        missing = [
            figure
            for figure in wanted(name)
            if figure[2] not in problem[figure[0]].get(figure[1], {})
            and (not columns or figure[2] in columns)
        ]
        if not missing:
            continue
        judge = Judge(name, images)
        if "floor" not in problem:
            problem |= {"floor": judge.floor()}
            write_json(FILE, done)
        for part, row, column, how in tqdm(missing, desc=name):
            runs = PROBLEMS[name][2][int(column)] if part == "nfe" else CHURN_RUNS
            found = judge.figure(how, runs)
            problem[part].setdefault(row, {})[column] = found
            problem["made"] = date.today().isoformat()
            write_json(FILE, done)
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw(done)


if __name__ == "__main__":
    main()
