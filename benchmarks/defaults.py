"""Which grid and solver to take where a user names none: the study behind `expint.defaults`.

    python benchmarks/defaults.py                      all problems, into benchmarks/defaults.json
    python benchmarks/defaults.py mixture-table digits-vp --nfe 6 --nfe 10
    python benchmarks/defaults.py --table              the figures that are there, as tables

Every shipped network, the table networks of diffusers' convention among them, digits as flow
matching, and mixtures whose law is known, at 5 to 50 evaluations. A network's samples are compared
with 3000 of its own from 100 evaluations (seeds-3 at ℓ = 1, another run): the Fréchet distance in
the features of the classifier of its data set; those of a mixture with exact ones: the energy
distance. A figure is the distance of the samples of three runs (seeds) together, and those of each
of them; all plans see the same runs. The floor is that of fine samples of other runs, as many as
are compared: what differs by less than the floors of single runs do is equal.

Interrupted, it goes on where it was: a figure that is in the file is not measured again.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import expint
from diffusion_adapters import IDDPMAdapter, VPAdapter, load
from diffusion_adapters.shipped import files
from diffusion_adapters.shipped.image_quality import EveryClass
from expint import grids
from expint.metrics import energy_distance, frechet_distance
from expint.schedules import EDM, VP, Discrete, Flow
from expint.targets import GaussianMixture

FILE = Path(__file__).with_suffix(".json")
NFES = (5, 6, 8, 10, 15, 20, 30, 50)
STOPS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
PAGE = FILE.parent.parent / "docs" / "defaults.md"
BEGIN, END = "<!-- figures: python benchmarks/defaults.py --page -->\n\n", "\n<!-- end -->"
FINE, REFERENCE = 100, 3000
DEFAULT, PEER, SWAPPED = "default", "diffusers", "swapped"
TABLES = ("digits-iddpm-table", "digits-vp-table")
_BATCH = 500


# --- the networks and mixtures


class AsFlow:
    """An EDM network as one of flow matching: D(x/α; σ), with x/α and σ capped at the network's
    first σ, where x is all noise."""

    prediction, schedule, device = "data", Flow(), torch.device("cpu")

    def __init__(self, model: Any) -> None:
        self.model, self.shape = model, model.shape

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        sigma = min(float(self.schedule.sigma(t)), 80.0)
        scale = sigma / float(self.schedule.std(t))
        return self.model(x * scale, torch.tensor(sigma, dtype=torch.float64))


def vp_table() -> Any:
    """digits-vp as a network on a linear table of 1000 timesteps."""
    model = load("digits-vp")
    times = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    network = model.network
    adapter = VPAdapter(
        lambda x, labels: network(x, 0.999 * (labels.to(torch.float32) + 1.0)),
        Discrete(VP().alpha(times) ** 2),
    )
    adapter.shape = model.shape
    return adapter


def iddpm_table() -> Any:
    """digits-iddpm, called at the entries of its table only."""
    model = load("digits-iddpm")
    adapter = IDDPMAdapter(model.network, model.schedule, timesteps="round")
    adapter.shape = model.shape
    return adapter


class OnTable:
    """A target called at the entries of a linear table of 1000 timesteps only."""

    prediction = "data"

    def __init__(self, target: Any) -> None:
        self.target, self.schedule, self.shape = target, target.schedule, target.shape

    def round_time(self, t: Tensor) -> Tensor:
        return t.round()

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.target(x, t)


def mixture(schedule: Any, dimension: int) -> GaussianMixture:
    """25 modes on a lattice in two dimensions, or 10 random ones in more, of width .05 and scale
    about that of images."""
    if dimension == 2:
        line = torch.linspace(-1.0, 1.0, 5)
        means, std = torch.cartesian_prod(line, line), 0.05
    else:
        gen = torch.Generator().manual_seed(0)
        means, std = 0.6 * torch.randn(10, dimension, generator=gen), 0.1
    return GaussianMixture(means, std, torch.ones(len(means)) / len(means), schedule)


TABLE = Discrete(torch.cumprod(1.0 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0))
PROBLEMS: dict[str, tuple[str, Callable[[], Any]]] = {
    "mixture-table": ("table", lambda: OnTable(mixture(TABLE, 16))),
    "mixture-vp": ("vp", lambda: mixture(VP(), 2)),
    "mixture-edm": ("edm", lambda: mixture(EDM(), 2)),
    "mixture-flow": ("flow", lambda: mixture(Flow(), 16)),
    "digits-iddpm-table": ("table", iddpm_table),
    "digits-vp-table": ("table", vp_table),
    "digits-iddpm": ("vp", lambda: load("digits-iddpm")),
    "digits-vp": ("vp", lambda: load("digits-vp")),
    "digits-edm": ("edm", lambda: EveryClass("digits-edm")),
    "digits-ve": ("ve", lambda: load("digits-ve")),
    "digits-flow": ("flow", lambda: AsFlow(EveryClass("digits-edm"))),
    "mnist-edm": ("edm", lambda: EveryClass("mnist-edm")),
}


# --- what is compared


def falling(schedule: Any, steps: int, spread: str) -> Tensor:
    """n equal steps of a spread from its noise end to σ = 0, the last evaluation one step before:
    of the time, of the angle arctan σ, or of the time of the linear VP schedule."""
    first = schedule.sampling_range[0]
    rest = 1.0 - torch.arange(steps, dtype=torch.float64) / steps
    if spread == "time":
        times = first * rest
    elif spread == "cosine":
        angle = math.atan(schedule.sigma(first))
        times = schedule.t_of_lam(-torch.log(torch.tan(angle * rest)))
    else:
        own = VP()
        start = min(1.0, float(own.t_of_sigma(min(float(schedule.sigma(first)), 1e4))))
        times = schedule.t_of_lam(own.lam(start * rest))
    times[0] = first
    low = schedule.sampling_range[1]
    times = torch.clamp(times, min=low)
    clean = torch.as_tensor(schedule.t_of_lam(math.inf), dtype=torch.float64).reshape(1)
    return torch.cat([times, clean])


def on_table(schedule: Any, steps: int, spacing: str) -> Tensor:
    """diffusers' timesteps, then σ = 0."""
    m = schedule.steps
    if spacing == "linspace":
        entries = torch.linspace(0, m - 1, steps + 1, dtype=torch.float64).round().flip(0)[:-1]
    elif spacing == "leading":
        entries = (torch.arange(steps, dtype=torch.float64) * (m // steps)).flip(0)
    else:
        entries = (m - m / steps * torch.arange(steps, dtype=torch.float64)).round() - 1
    clean = torch.as_tensor(schedule.t_of_lam(math.inf), dtype=torch.float64).reshape(1)
    return torch.cat([entries, clean])


def candidates(family: str) -> dict[str, Callable[[Any, int], Tensor]]:
    """Grids by name, each a function of schedule and steps."""
    found: dict[str, Callable[[Any, int], Tensor]] = {}
    if family == "table":
        found["discrete"] = grids.discrete
        for spacing in ("linspace", "leading", "trailing"):
            found[spacing] = partial(on_table, spacing=spacing)
    elif family in ("vp", "flow"):
        found["uniform_time"] = grids.uniform_time
        found["falling time"] = partial(falling, spread="time")
    for spread in ("cosine", "vp"):
        found[f"falling {spread}"] = partial(falling, spread=spread)
    for stop in STOPS:
        for builder in (grids.uniform_lambda, grids.karras):
            found[f"{builder.__name__} {stop:g}"] = partial(_stopped, builder, stop)
    return found


def _stopped(builder: Any, stop: float, schedule: Any, steps: int) -> Tensor:
    low = schedule.sampling_range[1]
    if not stop or schedule.sigma(low) >= stop:
        if schedule.sigma(low) == 0.0:
            low = schedule.t_of_sigma(0.002)
        return builder(schedule, steps, stop=low)
    return builder(schedule, steps, stop=schedule.t_of_sigma(stop))


SOLVERS: dict[str, tuple[str, float]] = {
    f"{solver} {ell:g}": (solver, ell)
    for solver, ells in {
        "seeds-1": (1.0,),
        "seeds-2": (1.0,),
        "seeds-3": (1.0,),
        "seeds-ab2": (0.0, 0.5, 1.0),
        "seeds-ab3": (0.0, 0.5, 1.0),
        "dpmpp-2m-sde": (1.0,),
        "er-sde-3": (1.0,),
        "sa-solver": (1.0, 0.5),
        "unipc-2": (0.0,),
        "unipc-3": (0.0,),
    }.items()
    for ell in ells
}


# --- measuring


class Problem:
    """A model, and how far samples are from its law; n samples a run, against `size` of its own."""

    def __init__(self, name: str, n: int, size: int = REFERENCE) -> None:
        self.name, self.n, self.size = name, n, size
        self.family, make = PROBLEMS[name]
        self.model = make()
        self.exact = isinstance(self.model, (GaussianMixture, OnTable))
        if self.exact:
            self.reference = self.law(10**6, size)
        else:
            self._classifier, _ = files.load_classifier(f"{name.split('-')[0]}-classifier")
            self.reference = self._fine()

    def _fine(self) -> Tensor:
        """The reference, kept in out/ for the next time."""
        size = "" if self.size == REFERENCE else f"-{self.size}"
        kept = Path("out/defaults") / f"{self.name}{size}.npy"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, self.law(10**6, self.size).numpy())
        return torch.from_numpy(np.load(kept))

    def law(self, run: int, count: int) -> Tensor:
        """Features of samples of the law."""
        if self.exact:
            return getattr(self.model, "target", self.model).sample(count, seed=run).float()
        grid = grids.get("discrete" if self.name in TABLES else "uniform_lambda")
        times = grid_for(self.model.schedule, "seeds-3", grid, FINE)
        return self.features(self.draw(run, count, "seeds-3", grid=times))

    def draw(self, run: int, count: int, solver: str | None, **how: Any) -> Tensor:
        """Samples 0 … count − 1 of a run."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", expint.PlanWarning)
            parts = [
                expint.sample(
                    self.model,
                    (min(_BATCH, count - start), *self.model.shape),
                    solver,
                    seed=run,
                    start=start,
                    progress=False,
                    **how,
                )
                for start in range(0, count, _BATCH)
            ]
        return torch.cat(parts)

    def features(self, samples: Tensor) -> Tensor:
        """What the distance is measured in."""
        if self.exact:
            return samples
        with torch.inference_mode():
            parts = samples.clamp(-1.5, 1.5).split(_BATCH)
            return torch.cat([self._classifier.features(part) for part in parts])

    def distance(self, features: Tensor) -> float:
        """From the law."""
        metric = energy_distance if self.exact else frechet_distance
        return float(metric(features, self.reference))

    def figure(self, grid: str, solver: str, nfe: int, runs: int) -> list[float]:
        """Of a plan with at most `nfe` evaluations: the distance of the samples of all runs
        together, then those of each. Empty where there is no such plan on the network's table, or
        the samples are not finite."""
        try:
            drawn = [self.features(self.samples(grid, solver, nfe, run)) for run in range(runs)]
        except (FloatingPointError, ValueError):
            return []
        return [float(f"{self.distance(part):.4g}") for part in (torch.cat(drawn), *drawn)]

    def samples(self, grid: str, solver: str, nfe: int, run: int) -> Tensor:
        """Of a plan of the study, of the default, or of diffusers."""
        if solver in peers():
            return by_peer(self.model, peers()[solver], run, self.n, nfe)
        if grid == SWAPPED:
            return by_peer(self.model, swapped, run, self.n, nfe)
        if solver == DEFAULT:
            return self.draw(run, self.n, None, nfe=nfe, grid="default")
        name, ell = SOLVERS[solver]
        times = grid_for(self.model.schedule, name, candidates(self.family)[grid], nfe)
        return self.draw(run, self.n, name, grid=times, ell=ell)


def grid_for(schedule: Any, solver: str, builder: Any, nfe: int) -> Tensor:
    """The grid with the most steps for at most `nfe` evaluations."""
    steps = nfe
    while steps > 1:
        times = builder(schedule, steps)
        if expint.plan_sampling(schedule, solver, grid=times).nfe <= nfe:
            return times
        steps -= 1
    raise ValueError(f"{solver} has no plan with {nfe} evaluations.")


def key(grid: str, solver: str, nfe: int) -> str:
    """Of the figures of a plan in the file."""
    return " | ".join([grid, solver, str(nfe)])


# --- what users have today


def peers() -> dict[str, Callable[..., Any]]:
    """diffusers' schedulers with their own defaults."""
    from diffusers import DPMSolverMultistepScheduler, SASolverScheduler, UniPCMultistepScheduler

    return {
        "sde-dpmsolver++": partial(DPMSolverMultistepScheduler, algorithm_type="sde-dpmsolver++"),
        "UniPC": UniPCMultistepScheduler,
        "SASolver": SASolverScheduler,
    }


def swapped(**betas: Any) -> Any:
    """Ours in place of one of them, with its configuration."""
    from diffusion_adapters.diffusers import ExpIntScheduler

    return ExpIntScheduler.from_config(peers()["UniPC"](**betas).config)


def by_peer(model: Any, make: Callable[..., Any], run: int, count: int, nfe: int) -> Tensor:
    """Samples of a network on a table by a scheduler of diffusers."""
    alphas = model.schedule.alpha(torch.arange(model.schedule.steps, dtype=torch.float64)) ** 2
    betas = 1.0 - alphas / torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    scheduler = make(trained_betas=betas.tolist(), num_train_timesteps=len(betas))
    drawn = []
    for start in range(0, count, _BATCH):
        gen = torch.Generator().manual_seed(1000 * run + start)
        x = torch.randn(min(_BATCH, count - start), *model.shape, generator=gen)
        scheduler.set_timesteps(nfe)
        for t in scheduler.timesteps:
            with torch.no_grad():
                output = model(x, torch.as_tensor(float(t), dtype=torch.float64))
            own = {} if make is peers()["UniPC"] else {"generator": gen}
            x = scheduler.step(output, t, x, **own).prev_sample
        drawn.append(x)
    return torch.cat(drawn)


# --- the file and the command line


def load_file() -> dict[str, Any]:
    """The figures that there are."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def wanted(
    problem: str, nfes: tuple[int, ...], chosen: tuple[str, ...], solvers: tuple[str, ...]
) -> Iterator[tuple[str, str, int]]:
    """What is to be measured: grids × solvers × evaluations; the default; and peers."""
    family = PROBLEMS[problem][0]
    for nfe in nfes:
        for solver in solvers or SOLVERS:
            for grid in candidates(family):
                if not chosen or grid in chosen:
                    yield grid, solver, nfe
        if problem in TABLES:
            for peer in peers():
                yield PEER, peer, nfe
            yield SWAPPED, DEFAULT, nfe
    for nfe in nfes:
        yield DEFAULT, DEFAULT, nfe


@click.command()
@click.argument("problems", nargs=-1, type=click.Choice(list(PROBLEMS)))
@click.option("--nfe", "nfes", multiple=True, type=int, help="Default: 5, 6, 8, 10, … 50.")
@click.option("--grid", "chosen", multiple=True, help="Default: all.")
@click.option("--solver", "solvers", multiple=True, help="Such as 'seeds-ab2 1'. Default: all.")
@click.option("--runs", default=3, show_default=True, help="Seeds.")
@click.option("--count", default=1000, show_default=True, help="Samples per run.")
@click.option("--threads", default=1, show_default=True)
@click.option("--table", is_flag=True, help="Measure nothing: print the figures of the file.")
@click.option("--page", is_flag=True, help="Measure nothing: put the table into docs/defaults.md.")
@click.option("--plot", type=click.Path(path_type=Path), help="Measure nothing: draw them.")
def main(
    problems: tuple[str, ...],
    nfes: tuple[int, ...],
    chosen: tuple[str, ...],
    solvers: tuple[str, ...],
    runs: int,
    count: int,
    threads: int,
    table: bool,
    plot: Path | None,
    page: bool,
) -> None:
    """Measure grids and solvers on PROBLEMS (all by default)."""
    if plot is not None:
        draw_figures(plot)
        return
    if page:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + page_table() + END + rest.partition(END)[2])
        return
    torch.set_num_threads(threads)
    for name in problems or PROBLEMS:
        if not table:
            measure(name, list(wanted(name, nfes or NFES, chosen, solvers)), runs, count)
        click.echo(show(name, load_file().get(name, {})))


def measure(name: str, plans: list[tuple[str, str, int]], runs: int, count: int) -> None:
    """Put the figures of one problem into the file."""
    before = load_file().get(name, {})
    known, floors = before.get("figures", {}), before.get("floor")
    missing = [plan for plan in plans if key(*plan) not in known]
    if not missing:
        return
    problem = Problem(name, count)
    if floors is None:
        fine = [problem.law(10**6 + 1 + run, count) for run in range(runs)]
        floors = [float(f"{problem.distance(part):.4g}") for part in (torch.cat(fine), *fine)]
    for plan in tqdm(missing, desc=name):
        known[key(*plan)] = problem.figure(*plan, runs)
        content = load_file()  # another process may measure another problem
        sizes = {"family": problem.family, "count": count, "runs": runs}
        content[name] = {**sizes, "floor": floors, "figures": dict(sorted(known.items()))}
        part = FILE.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")
        part.replace(FILE)


def by_nfe_of(found: dict[str, Any]) -> dict[int, dict[str, list[tuple[float, str]]]]:
    """Per number of evaluations the distances, sorted, with what was run: of the default, of the
    plans of the study, and of diffusers."""
    result: dict[int, dict[str, list[tuple[float, str]]]] = {}
    for entry, values in found["figures"].items():
        grid, solver, nfe = entry.split(" | ")
        kind = grid if grid in (DEFAULT, PEER, SWAPPED) else "study"
        kinds = result.setdefault(int(nfe), {DEFAULT: [], "study": [], PEER: [], SWAPPED: []})
        what = solver if kind in (PEER, SWAPPED) else f"{solver}, {grid}"
        if values:
            kinds[kind].append((values[0], what))
            kinds[kind].sort()
    return dict(sorted(result.items()))


def show(name: str, found: dict[str, Any], most: int = 4) -> str:
    """Per number of evaluations the default, the best plans and the peers."""
    if not found:
        return f"{name}: nothing measured"
    floor = found["floor"][0]
    lines = [f"{name} ({found['runs']} runs of {found['count']} samples, floor {floor:.3g})"]
    for nfe, kinds in by_nfe_of(found).items():
        rows = [*kinds[DEFAULT], *kinds[SWAPPED], *kinds["study"][:most], *kinds[PEER]]
        lines += [f"  NFE {nfe}", *(f"    {value:8.4g}  {what}" for value, what in rows)]
    return "\n".join(lines)


def page_table() -> str:
    """The table of docs/defaults.md: per problem and number of evaluations the default, the best
    plan of the study, the best of diffusers' schedulers, and ours in place of one of these."""
    lines = [
        "| problem (floors) | NFE | default | best of the study | best of diffusers | swapped in |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in load_file().items():
        floors = f"{found['floor'][0]:.3g}; {max(found['floor'][1:]):.3g}"
        for nfe, kinds in by_nfe_of(found).items():
            best, peer = (
                f"{kinds[kind][0][0]:.3g} ({kinds[kind][0][1]})" if kinds[kind] else ""
                for kind in ("study", PEER)
            )
            own, swap = (
                f"{kinds[kind][0][0]:.3g}" if kinds[kind] else "" for kind in (DEFAULT, SWAPPED)
            )
            lines.append(f"| {name} ({floors}) | {nfe} | {own} | {best} | {peer} | {swap} |")
    return "\n".join(lines) + "\n"


def draw_figures(path: Path) -> None:
    """Distance against evaluations, a panel per problem."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    content = load_file()
    columns = 4
    rows = -(-len(content) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(12, 2.9 * rows), squeeze=False)
    for axis in axes.flat[len(content) :]:
        axis.axis("off")
    for axis, (name, found) in zip(axes.flat, content.items(), strict=False):
        by_nfe = by_nfe_of(found)
        for nfe, kinds in by_nfe.items():
            values = [mean for mean, _ in kinds["study"]]
            axis.plot([nfe] * len(values), values, "_", color="0.75", markersize=9, zorder=1)
        for what, style in (("UniPC", "C1o-"), ("sde-dpmsolver++", "C2s-"), ("SASolver", "C4^-")):
            line = [(n, m) for n, kinds in by_nfe.items() for m, w in kinds[PEER] if w == what]
            if line:
                axis.plot(*zip(*line, strict=True), style, label=f"diffusers {what}", lw=1, ms=4)
        line = [(n, m) for n, kinds in by_nfe.items() for m, _ in kinds[DEFAULT]]
        axis.plot(*zip(*line, strict=True), "C0o-", lw=2, label="default", zorder=3)
        floor = found["floor"][0]
        axis.axhline(floor, color="k", lw=0.8, ls=":", label="floor")
        axis.set(title=name, xscale="log", yscale="log", ylim=(0.3 * floor, 40 * floor))
        ticks = sorted(by_nfe)
        axis.set_xticks(ticks, map(str, ticks))
        axis.minorticks_off()
    for axis in axes[-1]:
        axis.set_xlabel("network evaluations")
    for row in axes:
        row[0].set_ylabel("distance")
    handles = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=5, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
