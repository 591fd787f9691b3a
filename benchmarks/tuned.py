"""What tuning gains: tuned plans beside every fixed one, and beside grids from the network.

    python benchmarks/tuned.py digits-vp mnist-edm --nfe 5 --nfe 10     figures, with their floors
    python benchmarks/tuned.py digits-vp --nfe 10 --beside some         or default, less to measure
    python benchmarks/tuned.py mnist-edm --transfer                     other seeds and classes
    python benchmarks/tuned.py mnist-edm --trained-again FOLDER         another network's samples
    python benchmarks/tuned.py --data gaussian --data modes             laws that are known
    python benchmarks/tuned.py --table | --page | --pictures            of figures that are there
    python benchmarks/tuned.py --record                  of the shipped plans, beside their files

For each problem, number of evaluations and kind (stochastic: ℓ between 0.3 and 2 in every step;
deterministic: ℓ = 0) the tuned plan is that which comes with the package, or else one that
`expint.tune` finds with --budget (for modes with MANY), kept in benchmarks/plans/. Beside it stand
all registered solvers of the kind on the default grid (where the law is known, on two others too),
at ℓ = 1 or 0 or else with their own noise, and two of them on the grids KLUB, GITS and OSS (made
for the network), DMN (for the solver) and that of Align Your Steps.

Samples of a network, of three runs that no search uses, are compared with its own from 100
evaluations: the Fréchet distance in the features of the classifier of its data set, which no search
knows. Runs and reference have all classes alike. A figure is the distance of the samples of all
runs together, then that of each run; its noise is the standard error of the latter. The floor is
that of fine samples of other runs, and of the ODE that of its fine samples: the law of an imperfect
network depends on ℓ, and the reference has ℓ = 1. Gaussian data: Wasserstein-2 over the root of the
total variance, exact. Modes: means over three runs of the sliced Wasserstein distance, of the total
variation of the modes' weights, and of the standard deviation within modes over the true one (from
the median distance to the nearest centre).

A fixed plan of which a quarter of the first run is more than twice as far away as that of the
tuned plan is not measured further, the default excepted.

Interrupted, it goes on where it was: a figure that is in the file is not measured again.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache, cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import click
import defaults
import torch
import tuned_pages
from torch import Tensor
from tqdm import tqdm

import expint
from diffusion_adapters import load
from diffusion_adapters.guidance.wrapping import ModelWrapper
from diffusion_adapters.shipped.files import load_network
from diffusion_adapters.shipped.tuned_plans import FIGURES
from expint import tuning
from expint.defaults import FEW
from expint.metrics import frechet_distance, gaussian_wasserstein, sliced_wasserstein
from expint.quality.comparison import analytic_target

FILE = Path(__file__).with_suffix(".json")
PLANS = Path(__file__).parent / "plans"
SHIPPED = FILE.parent.parent / "diffusion_adapters" / "shipped" / "plans"
KINDS: dict[str, Any] = {"stochastic": (0.3, 2.0), "deterministic": 0.0}
ELL = {"stochastic": 1.0, "deterministic": 0.0}
CHIEF = {"stochastic": ("seeds-ab2", "sa-solver"), "deterministic": ("unipc-2", "unipc-3")}
ORDERS = {"seeds-ab2": 2, "sa-solver": 3, "unipc-2": 2, "unipc-3": 3}  # for DMN
SEED, OTHER = 7, 1007
RUNS = 3
FINE = 50  # evaluations of the ODE itself
HOPELESS = 2.0
DATA = {"gaussian": "gaussian-64", "modes": "grid-25"}
MANY = 10_000_000  # evaluations of a search where they cost nothing: a minute of one core
SIZES = {"digits": (4000, 12_000), "mnist": (1000, defaults.REFERENCE), "modes": (50_000, 50_000)}
Figures = dict[str, Any]


# --- what is measured


class Problem(ABC):
    """A model, and how far what a plan makes of it is from its law.

    Args:
        name: of the problem.
        model: what is sampled.
        count, size: samples in each run, and in the reference.
    """

    classes = 0

    def __init__(self, name: str, model: Any, count: int, size: int) -> None:
        self.name, self.model, self.count, self.size = name, model, count, size

    @abstractmethod
    def figures(self, **how: Any) -> Figures:
        """Of the samples of `expint.sample(model, …, **how)`: "figures", the distance and that of
        each run, and what else there is."""

    @abstractmethod
    def floor(self) -> Figures:
        """The same of samples of the law."""

    @abstractmethod
    def tune(self, nfe: int, kind: str, seed: int, budget: int) -> expint.Plan:
        """With another seed there are other reference samples."""

    def grid(self, name: str, solver: str, nfe: int) -> Tensor:
        """One of GRIDS, or a registered one, with as many evaluations of a solver."""
        if name == "DMN":
            builder = partial(tuning.dmn_grid, order=ORDERS.get(solver, 3))
        else:
            builder = self._builders[name] if name in tuned_pages.GRIDS else expint.grids.get(name)
        return defaults.grid_for(self.model.schedule, solver, builder, nfe)

    @cached_property
    def _builders(self) -> dict[str, Any]:
        paths = {"model": self.model, "shape": (30, *self.model.shape)}
        return {
            "KLUB": partial(tuning.klub_grid, curve=self.curve),
            "GITS": cache(partial(tuning.gits_grid, **paths)),
            "OSS": cache(partial(tuning.oss_grid, **paths)),
            "Align Your Steps": expint.grids.get("ays_sd15"),
        }

    @cached_property
    def curve(self) -> tuning.MmseCurve:
        """The model's mmse, on samples of its own."""
        data = expint.sample(
            self.model, (500, *self.model.shape), "seeds-ab2", nfe=30, seed=10**7, progress=False
        )
        return tuning.mmse_curve(self.model, data, 20, draws=200, progress=False)


class Network(Problem):
    """One of those of benchmarks/defaults.py."""

    def __init__(self, name: str, count: int, size: int) -> None:
        super().__init__(name, defaults.PROBLEMS[name][1](), count, size)
        self.classes = classes_of(self.model)

    @cached_property
    def study(self) -> defaults.Problem:
        """What measures it."""
        return defaults.Problem(self.name, self.count, self.size)

    def figures(self, **how: Any) -> Figures:
        """See `Problem.figures`."""
        return self.compared([self._features(run, **how) for run in range(RUNS)])

    def floor(self) -> Figures:
        """See `Problem.floor`."""
        return self.compared([self.study.law(10**6 + 1 + run, self.count) for run in range(RUNS)])

    def tune(self, nfe: int, kind: str, seed: int, budget: int) -> expint.Plan:
        """See `Problem.tune`."""
        return expint.tune(self.model, nfe, ell=KINDS[kind], seed=seed, budget=budget)

    def tune_on(self, classes: list[int], nfe: int, kind: str, budget: int) -> expint.Plan:
        """A plan for some of the classes."""
        model: Any = OfClasses(load(self.name.replace("-flow", "-edm")), classes)
        model = defaults.AsFlow(model) if self.name.endswith("-flow") else model
        return expint.tune(model, nfe, ell=KINDS[kind], seed=SEED, budget=budget)

    def compared(self, runs: list[Tensor], classes: list[int] | None = None) -> Figures:
        """Features of runs with those of the reference, those of some classes only."""
        reference = self._some(self.study.reference, classes)
        runs = [self._some(run, classes) for run in runs]
        return {
            "figures": [short(frechet_distance(x, reference)) for x in (torch.cat(runs), *runs)]
        }

    def _some(self, features: Tensor, classes: list[int] | None) -> Tensor:
        if classes is None:
            return features
        own = torch.arange(len(features)) % self.classes
        return features[torch.isin(own, torch.tensor(classes))]

    def _features(self, run: int, count: int = 0, **how: Any) -> Tensor:
        solver = how.pop("solver", None)
        return self.study.features(self.study.draw(run, count or self.count, solver, **how))

    def glance(self, **how: Any) -> float:
        """The distance of a quarter of the first run."""
        return self.compared([self._features(0, max(2, self.count // 4), **how)])["figures"][0]

    def on_classes(self, classes: list[int], **how: Any) -> Figures:
        """Figures of some classes only."""
        return self.compared([self._features(run, **how) for run in range(RUNS)], classes)


class OfClasses(ModelWrapper):
    """A class-conditional network that samples some of its classes in turn."""

    def __init__(self, model: Any, classes: list[int]) -> None:
        super().__init__(model)
        self.classes = classes

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        labels = [self.classes[i % len(self.classes)] for i in range(len(x))]
        return self._evaluate(self.model.with_labels(labels), x, t)


def classes_of(model: Any) -> int:
    """The number of classes that a network inside wrappers has, or 0."""
    return getattr(_innermost(model), "label_dim", 0) or 0


class GaussianData(Problem):
    """In 64 dimensions, exactly."""

    def figures(self, **how: Any) -> Figures:
        """See `Problem.figures`; no samples, and so the same in every run."""
        plan = how.get("plan") or expint.plan_sampling(self.model.schedule, **how)
        moments, own = expint.convergence.gaussian_moments(plan, self.model), self.model.moments()
        distance = gaussian_wasserstein(*moments, *own) / own[1].sum().sqrt()
        return {"figures": [short(distance)]}

    def floor(self) -> Figures:
        """See `Problem.floor`."""
        return {"figures": [0.0]}

    def tune(self, nfe: int, kind: str, seed: int, budget: int) -> expint.Plan:
        """See `Problem.tune`."""
        exact = tuning.GaussianObjective(self.model)
        return expint.tune(self.model, nfe, ell=KINDS[kind], loss=exact, seed=seed, budget=budget)


class Modes(Problem):
    """25 modes in the plane."""

    def figures(self, **how: Any) -> Figures:
        """See `Problem.figures`, with "weights" and "width"."""
        shape = (self.count, *self.model.shape)
        return self._compared(
            [
                expint.sample(self.model, shape, seed=run, progress=False, **how)
                for run in range(RUNS)
            ]
        )

    def floor(self) -> Figures:
        """See `Problem.floor`."""
        return self._compared([self.model.sample(self.count, seed=100 + k) for k in range(RUNS)])

    def tune(self, nfe: int, kind: str, seed: int, budget: int) -> expint.Plan:
        """See `Problem.tune`."""
        return expint.tune(self.model, nfe, ell=KINDS[kind], seed=seed, budget=MANY)

    def _compared(self, runs: list[Tensor]) -> Figures:
        reference, parts = self.model.sample(self.size, seed=99), []
        for samples in runs:
            nearest = torch.cdist(samples.double(), self.model.means).argmin(1)
            apart = samples.double() - self.model.means[nearest]
            share = torch.bincount(nearest, minlength=len(self.model.means)) / len(samples)
            weights = 0.5 * (share - self.model.weights).abs().sum()
            # The median of the distance from the centre, which strays between modes do not move.
            width = apart.norm(dim=1).median() / (self.model.std * math.sqrt(2.0 * math.log(2.0)))
            parts.append((sliced_wasserstein(samples, reference), weights, width))
        distance, weights, width = ([short(v) for v in each] for each in zip(*parts, strict=True))
        return {
            "figures": [short(statistics.fmean(distance)), *distance],
            "weights": short(statistics.fmean(weights)),
            "width": short(statistics.fmean(width)),
        }


def short(value: Any) -> float:
    """Four digits."""
    return float(f"{float(value):.4g}")


def trained_again(name: str, folder: Path) -> str:
    """The name of the same problem with the network that examples/train_shipped.py wrote there."""
    family, make = defaults.PROBLEMS[name]

    def made() -> Any:
        model = make()
        _innermost(model).network = load_network(name, folder)[0]
        return model

    defaults.PROBLEMS[f"{name}-again"] = (family, made)
    return f"{name}-again"


def _innermost(model: Any) -> Any:
    while hasattr(model, "model"):
        model = model.model
    return model


def compiled(name: str) -> None:
    """Let the network of a problem be compiled (`torch.compile`, in float32) wherever it is made:
    outputs equal to rounding, in less time from some minutes on."""
    family, make = defaults.PROBLEMS[name]

    def made() -> Any:
        model = make()
        inner = _innermost(model)
        if hasattr(inner, "network"):
            inner.network = torch.compile(inner.network)
        return model

    defaults.PROBLEMS[name] = (family, made)


def problem_of(name: str, count: int | None = None, size: int | None = None) -> Problem:
    """The problem of a name, by default with the numbers of samples that figures need."""
    known = SIZES.get(name.split("-")[0], (0, 0))
    count, size = count or known[0], size or known[1]
    if name not in DATA:
        return Network(name, count, size)
    kind = GaussianData if name == "gaussian" else Modes
    return kind(name, analytic_target(DATA[name]), count, size)


# --- the plans


def fixed(problem: Problem, kind: str, nfe: int, beside: str = "all") -> Iterator[tuple[str, Any]]:
    """By name what stands beside a tuned plan: a function that makes the arguments of `figures`,
    and raises a ValueError where there is no such plan."""
    every = [None, "uniform_lambda", "karras"] if problem.name in DATA else [None]
    if beside == "default":
        pairs = [(None, tuned_pages.default_solver(kind, nfe))]
    elif beside == "some":
        few = (None, "DMN", "Align Your Steps")
        pairs = [(grid, solver) for grid in few for solver in CHIEF[kind]]
    else:
        on_grids = product(tuned_pages.GRIDS, CHIEF[kind])
        pairs = [*product(every, expint.solvers.names()), *on_grids]
    for grid, solver in pairs:
        how = partial(fixed_plan, problem, solver, kind, nfe, grid)
        yield f"{solver}, {grid or 'default grid'}", how


def fixed_plan(
    problem: Problem, solver: str, kind: str, nfe: int, grid: str | None = None
) -> dict[str, Any]:
    """A solver on the default or a named grid, at the ℓ of the kind or else with its own noise."""
    model = problem.model
    known = {name: getattr(model, name, None) for name in ("sigma_data", "round_time")}
    steps = {"nfe": nfe} if grid is None else {"grid": problem.grid(grid, solver, nfe)}
    options: tuple[dict[str, Any], ...] = ({"ell": ELL[kind]}, {})
    for how in options:
        try:
            plan = expint.plan_sampling(model.schedule, solver, **known, **steps, **how)
        except ValueError:
            continue
        if (plan.normals > 0) == (kind == "stochastic"):
            return {"solver": solver, **steps, **how}
    raise ValueError(f"{solver} has no {kind} plan of {nfe} evaluations.")


def file_of(name: str, kind: str, nfe: int, variant: str = "") -> Path:
    """Where a tuned plan is, or will be."""
    file = f"{name}-{kind}-{nfe}{variant and '-' + variant}.json"
    own = SHIPPED / file
    return PLANS / file if variant or not own.exists() else own


def tuned_plan(
    problem: Problem, kind: str, nfe: int, budget: int, variant: str = ""
) -> tuple[expint.Plan, Figures]:
    """That of the package or of benchmarks/plans/, or a new one, and how it came about; a variant,
    for transfer, is always one of the latter."""
    path = file_of(problem.name, kind, nfe, variant)
    about: Figures = {}
    if not path.exists():
        begun = time.process_time()
        if variant == "classes":
            assert isinstance(problem, Network)
            plan = problem.tune_on(halves(problem)[0], nfe, kind, budget)
        else:
            plan = problem.tune(nfe, kind, OTHER if variant else SEED, budget)
        PLANS.mkdir(exist_ok=True)
        plan.save(path, network=problem.name, seed=OTHER if variant == "seed" else SEED)
        about["seconds"] = round(time.process_time() - begun)
    plan = expint.Plan.load(path, problem.model.schedule)
    about["file"] = json.loads(path.read_text())["checksum"][:12]
    known = {key: plan.about[key] for key in ("evaluations", "begun with") if key in plan.about}
    return plan, {"solver": plan.solver, **known, **about}


def halves(problem: Problem) -> tuple[list[int], list[int]]:
    """The first half of the classes, and the others."""
    half = problem.classes // 2
    return list(range(half)), list(range(half, problem.classes))


# --- measuring


def put(file: Path, place: list[str], value: Any) -> None:
    """Into the file, which another process may have changed."""
    content = tuned_pages.read(file)
    *above, last = place
    inner = content
    for key in above:
        inner = inner.setdefault(key, {})
    inner[last] = value
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")
    part.replace(file)


def begin(problem: Problem, file: Path) -> None:
    """The numbers of samples, the floor and what the ODE itself has; figures of other numbers of
    samples go."""
    sizes = {"count": problem.count, "reference": problem.size, "runs": RUNS}
    found = tuned_pages.read(file).get(problem.name, {})
    if found.get("sizes") != sizes:
        put(file, [problem.name], {"sizes": sizes, "floor": problem.floor()})
        found = {}
    if "ode" not in found and isinstance(problem, Network):
        put(file, [problem.name, "ode"], problem.figures(solver="unipc-3", nfe=FINE, ell=0.0))


def measure(
    problem: Problem,
    nfe: int,
    kind: str,
    *,
    file: Path = FILE,
    beside: str = "all",
    budget: int = 500_000,
) -> None:
    """Put the figures of a number of evaluations and a kind into the file. A plan that does not
    exist, or whose samples are not finite, is there without figures."""
    begin(problem, file)
    place = [problem.name, "plans", f"{kind} {nfe}"]
    known = tuned_pages.read(file)[problem.name].get("plans", {}).get(place[-1], {})
    plan, about = tuned_plan(problem, kind, nfe, budget)
    if known.get("tuned", {}).get("file") != about["file"]:
        put(file, [*place, "tuned"], {**problem.figures(plan=plan), **about})
    missing = [pair for pair in fixed(problem, kind, nfe, beside) if pair[0] not in known]
    limit = None
    if missing and isinstance(problem, Network):
        limit = HOPELESS * problem.glance(plan=plan)
    for label, how in tqdm(missing, desc=f"{problem.name}, {kind}, {nfe}"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", expint.PlanWarning)
                full = label == tuned_pages.default_label(kind, nfe)
                figures = compared_with(problem, None if full else limit, how())
            if not all(value == value for value in figures["figures"]):
                figures = {}
        except (ValueError, FloatingPointError):
            figures = {}
        put(file, [*place, label], figures)


def compared_with(problem: Problem, limit: float | None, how: dict[str, Any]) -> Figures:
    """Figures of a plan; of one that a quarter of a run shows to be far above the tuned one that
    distance alone."""
    if limit is not None and isinstance(problem, Network):
        seen = problem.glance(**how)
        if not seen <= limit:
            return {"figures": [seen], "quarter": True}
    return problem.figures(**how)


def figures_text(file: Path) -> str:
    """The figures of the plans of shipped networks, each beside those of the default plan of as
    many evaluations: by them it is decided which plan is taken where nothing is chosen."""
    lines, content = [], tuned_pages.read(file)
    for stem in sorted(own.stem for own in SHIPPED.glob("*-*.json")):
        name, kind, nfe = stem.rsplit("-", 2)
        plans = content.get(name, {}).get("plans", {})
        usual = "stochastic" if int(nfe) > FEW else "deterministic"
        default = plans.get(f"{usual} {nfe}", {}).get(tuned_pages.default_label(usual, nfe))
        tuned = plans.get(f"{kind} {nfe}", {}).get("tuned")
        if tuned and default:
            entry = {
                "plan": tuned["file"],
                "tuned": tuned["figures"],
                "default": default["figures"],
            }
            lines.append(f" {json.dumps(stem)}: {json.dumps(entry)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def transfer(problem: Problem, nfe: int, kind: str, *, file: Path, budget: int = 500_000) -> None:
    """Plans that were tuned with another seed and other reference samples, and on half of the
    classes, measured on all samples or the other half of the classes: beside the plan itself."""
    begin(problem, file)
    place = [problem.name, "transfer", f"{kind} {nfe}"]
    known = tuned_pages.read(file)[problem.name].get("transfer", {}).get(place[-1], {})
    plan, _ = tuned_plan(problem, kind, nfe, budget)
    plans = {
        "default": fixed_plan(problem, tuned_pages.default_solver(kind, nfe), kind, nfe),
        "tuned": {"plan": plan},
    }
    variants = {} if isinstance(problem, GaussianData) else {"seed": problem.figures}
    if isinstance(problem, Network) and problem.classes:
        variants["classes"] = partial(problem.on_classes, halves(problem)[1])
    for variant, figures in variants.items():
        if variant in known:
            continue
        other, _ = tuned_plan(problem, kind, nfe, budget, variant)
        found = {name: figures(**how) for name, how in {**plans, "other": {"plan": other}}.items()}
        put(file, [*place, variant], found)


def again(name: str, problem: Problem, nfe: int, kind: str, *, file: Path) -> None:
    """The tuned plan of a network, and of the fixed ones that were measured on it the default and
    the three best, on one of the same kind that was trained again."""
    place = [name, "again"]
    if "floor" not in tuned_pages.read(file)[name].get("again", {}):
        put(file, [*place, "floor"], problem.floor())
    plans = tuned_pages.read(file)[name]["plans"][f"{kind} {nfe}"]
    usual = tuned_pages.default_label(kind, nfe)
    labels = dict.fromkeys([usual, *tuned_pages.best_labels(plans, 3)])
    how: dict[str, Any] = {
        label: fixed_plan(problem, solver, kind, nfe, None if grid == "default grid" else grid)
        for label, (solver, grid) in ((label, label.split(", ")) for label in labels)
    }
    path = file_of(name, kind, nfe)
    how["tuned"] = {"plan": expint.Plan.load(path, problem.model.schedule)}
    known = tuned_pages.read(file)[name]["again"].get(f"{kind} {nfe}", {})
    for label in [label for label in how if label not in known]:
        put(file, [*place, f"{kind} {nfe}", label], problem.figures(**how[label]))


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*defaults.PROBLEMS]))
@click.option("--data", multiple=True, type=click.Choice([*DATA]), help="Data known in full.")
@click.option("--nfe", "nfes", multiple=True, type=int, default=(5, 8, 10), show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice([*KINDS]), default=[*KINDS])
@click.option(
    "--beside",
    type=click.Choice(["all", "some", "default"]),
    default="all",
    show_default=True,
    help="Which fixed plans: some are two solvers on the default grid, DMN and Align Your Steps.",
)
@click.option("--transfer", "moved", is_flag=True, help="Plans tuned on other seeds and classes.")
@click.option("--trained-again", "folder", type=click.Path(path_type=Path), help="See above.")
@click.option("--count", type=int, help="Samples in a run. Default: 4000 of digits, 1000 of MNIST.")
@click.option("--reference", "size", type=int, help="Their number. Default: 12000 and 3000.")
@click.option("--budget", default=500_000, show_default=True, help="Evaluations of a search.")
@click.option("--file", type=click.Path(path_type=Path), default=FILE, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--compile", "faster", is_flag=True, help="Compile networks (needs a C++ compiler).")
@click.option("--table", is_flag=True, help="Measure nothing: print the figures of the file.")
@click.option("--page", is_flag=True, help="Measure nothing: put them into docs/choose-a-plan.md.")
@click.option("--record", is_flag=True, help="Measure nothing: put them beside the shipped plans.")
@click.option("--pictures", is_flag=True, help="Draw those of docs/img, of two NAMES.")
def main(
    names: tuple[str, ...],
    data: tuple[str, ...],
    nfes: tuple[int, ...],
    kinds: tuple[str, ...],
    beside: str,
    moved: bool,
    folder: Path | None,
    count: int | None,
    size: int | None,
    budget: int,
    file: Path,
    threads: int,
    faster: bool,
    table: bool,
    page: bool,
    record: bool,
    pictures: bool,
) -> None:
    """Measure tuned plans for NAMES, and others beside them."""
    torch.set_num_threads(threads)
    others = {} if folder is None else {name: trained_again(name, folder) for name in names}
    for name in (*names, *others.values()) if faster else ():
        compiled(name)
    if pictures:
        problems = [problem_of(name) for name in names or ("digits-edm", "mnist-edm")]
        tuned_pages.draw(
            file, problems, lambda one, kind, nfe: tuned_plan(one, kind, nfe, budget)[0]
        )
    elif page:
        tuned_pages.put_page(file)
    elif record:
        (SHIPPED / FIGURES).write_text(figures_text(file))
    elif others:
        for name, other in others.items():
            problem = problem_of(other, count, size)
            for nfe, kind in product(nfes, kinds):
                again(name, problem, nfe, kind, file=file)
    elif not table:
        for name in (*names, *data):
            problem = problem_of(name, count, size)
            for nfe in nfes:
                for kind in kinds:
                    measure(problem, nfe, kind, file=file, beside=beside, budget=budget)
                    if moved:
                        transfer(problem, nfe, kind, file=file, budget=budget)
    if not (page or record or pictures):
        click.echo(tuned_pages.tables(file))


if __name__ == "__main__":
    main()
