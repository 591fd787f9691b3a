"""Compare samplers: how far their output is from the data, against the network evaluations that
they use.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.convergence.common_path import PathMaker
from expint.numerics.float64 import is_whole
from expint.plans.plan import Plan
from expint.quality.distances import Distance, Drawing, Metric, Samples, distance_from_data
from expint.quality.studies import QualityCurve, QualityPoint, QualityStudy
from expint.registry import Registry, unknown
from expint.runs.model import Description, describe
from expint.sampling import SamplingOptions, plan_sampling
from expint.schedules import EDM, Schedule
from expint.solvers import Method, Tableau, get, names
from expint.solvers.registry import Solver
from expint.targets import Gaussian, GaussianMixture

Solvers = Solver | Iterable[Solver] | Mapping[str, Mapping[str, Any]]

NFE = (10, 20, 50, 100)
# What one solver may have of its own.
_SETTINGS = ("solver", "sigma_data", *sorted({*SamplingOptions.__annotations__} - {"steps", "nfe"}))
FLOOR_MARGIN = 1.2


def compare_quality(
    model: Any,
    solvers: Solvers = "all",
    nfe: Sequence[int] = NFE,
    *,
    n: int = 10_000,
    metric: str | Metric | None = None,
    grid: Any = None,
    final: str = "denoise",
    form: str | None = None,
    ell: Any = None,
    seed: int = 0,
    repeats: int = 1,
    path: PathMaker | None = None,
    tolerance: float | None = None,
    reference: Tensor | None = None,
    independent: Tensor | None = None,
    features: Callable[[Tensor], Tensor] | None = None,
    batch: int = 1000,
    draw: Drawing | None = None,
    name: str | None = None,
    progress: bool = False,
) -> QualityStudy:
    """Distance of samplers' output from the data, against network evaluations.

    Every solver starts from the same states, N(0, σ̄²) as `expint.sample` draws them, and has the
    noise of the same seeds.

    Args:
        model: an analytic target of `expint.targets`, or any model with an attribute `shape` (then
            with a `reference`).
        solvers: "all", a name, method or tableau, several of them, or {label: settings} with any of
            solver, form, ell, noise_scale, eta, operations, sigma_data, grid and final, which take
            the place of those given for all.
        nfe: network evaluations allowed.
        n: samples per run; a run without samples (metric "wasserstein") does not need them.
        metric: "wasserstein", the exact Wasserstein-2 distance over the root of the total variance,
            on Gaussian data only; "sliced-wasserstein", "frechet", "energy"; or a function of two
            sets of samples, (n, d) and (m, d). Default: the exact one on Gaussian data,
            "sliced-wasserstein" on other targets, "frechet" on other models.
        grid, final: as in `expint.sample`.
        form, ell: as in `expint.sample`; default: the solver's own.
        seed: the run whose samples are drawn: its first n, the next n for the second of the
            repeats, and so on; exact samples have a stream of their own.
        repeats: independent runs, whose mean distance is given.
        path: makes the noise of a run from its seeds, for example `lambda seeds:
            BrownianPath(seeds, resolution=64)`: all solvers then see one Brownian path. Default:
            fresh normals, of the exact law on every grid.
        tolerance: the distance that counts as reaching the floor; default: 1.2 times the floor, if
            there is one.
        reference: samples of the data, (m, *event), for models that are no targets.
        independent: further samples of the data; the floor is their distance from `reference`.
        features: makes (n, d) features of samples (n, *event); default: they are flattened.
        batch: samples computed at a time.
        draw: draws the samples of a plan at some places of the run `seed`, and gives them in parts
            of `batch`; for runs that are kept, for example. Fresh noise only.
        name: of the model, for print-outs.
        progress: show a progress bar of network evaluations.

    Returns:
        The study. A solver that cannot do with so few evaluations, or whose run is refused or does
        not stay finite, has a gap there, with the reason. The floor of a target is the mean
        distance between independent sets of n exact samples.

    Raises:
        ValueError, TypeError: before the first run, for names that do not exist, for a metric or
            reference that does not fit the model, and if no solver can run at all.

    Source: the exact distance is Dowson & Landau (1982) of the moments in
    `expint.convergence.gaussian_moments`.

    Example:
        >>> study = compare_quality(
        ...     analytic_target("gaussian-64"), ["seeds-1", "seeds-3"], [10, 40]
        ... )
        >>> study.best(40).name
        'seeds-3'
    """
    described = describe(model)
    counts = _counts(nfe, n=n, repeats=repeats, batch=batch)
    if tolerance is not None and not 0.0 < tolerance < math.inf:
        raise ValueError(f"tolerance is a distance, positive and finite, got {tolerance!r}.")
    common = {"grid": grid, "final": final, "form": form, "ell": ell}
    entries = {
        label: {key: value for key, value in (common | settings).items() if value is not None}
        for label, settings in chosen_solvers(solvers).items()
    }
    drawn = Samples(model, n, repeats, seed, path, reference, independent, features, batch, draw)
    plans = {
        label: [_planned(described, settings, count) for count in counts]
        for label, settings in entries.items()
    }
    possible = [plan for row in plans.values() for plan in row if isinstance(plan, Plan)]
    if not possible:
        raise next(plan for row in plans.values() for plan in row if isinstance(plan, ValueError))
    distance = distance_from_data(drawn, metric)
    limit = tolerance or FLOOR_MARGIN * (distance.floor or 0.0) or -math.inf
    curves = []
    total = distance.runs * sum(plan.nfe for plan in possible)
    with tqdm(total=total, disable=not progress, unit="NFE") as bar:
        for label, row in plans.items():
            bar.set_description(label)
            points = [
                _point(count, plan, distance, bar) for count, plan in zip(counts, row, strict=True)
            ]
            equations = (plan.sde.diffusion for plan in row if isinstance(plan, Plan))
            setting = next((equation.setting for equation in equations if equation), "")
            near = (p.nfe for p in points if p.distance is not None and p.distance <= limit)
            solver = get(entries[label]["solver"]).name
            curves.append(QualityCurve(label, solver, setting, tuple(points), next(near, None)))
    times = grid if grid is None or isinstance(grid, str) else [float(t) for t in grid]
    settings = {"schedule": str(described.schedule), **common, "grid": times}
    return QualityStudy(
        target=name or type(model).__name__,
        measure=distance.measure,
        nfe=counts,
        curves=tuple(curves),
        floor=distance.floor,
        threshold=None if math.isinf(limit) else limit,
        settings=settings | distance.settings,
    )


def chosen_solvers(solvers: Solvers) -> dict[str, dict[str, Any]]:
    """The settings of each solver by its label, for everything that `compare_quality` takes as
    solvers.

    Raises:
        ValueError: for a name or a setting that does not exist (with the nearest ones), or that
            comes twice.
    """
    if isinstance(solvers, str) and solvers == "all":
        solvers = names()
    if isinstance(solvers, (str, Method, Tableau)):
        solvers = [solvers]
    if isinstance(solvers, Mapping):
        pairs = [(str(label), {"solver": label, **own}) for label, own in solvers.items()]
    else:
        pairs = [(s if isinstance(s, str) else get(s).name, {"solver": s}) for s in solvers]
    if not pairs:
        raise ValueError("There is no solver to compare: give names, or 'all'.")
    entries: dict[str, dict[str, Any]] = {}
    for label, settings in pairs:
        if label in entries:
            raise ValueError(
                f"The solver {label!r} comes twice: give {{label: settings}} to compare variants "
                "of one solver."
            )
        for key in settings:
            if key not in _SETTINGS:
                raise unknown("setting", key, _SETTINGS)
        get(settings["solver"])
        entries[label] = settings
    return entries


def analytic_target(name: str, schedule: Schedule | None = None) -> Gaussian | GaussianMixture:
    """A target by name, on the schedule given or on EDM's (σ from 80 to 0.002).

    Args:
        name: "gaussian-64": zero mean, variances log-spaced from 0.001 to 1; "grid-25": a 5 × 5
            grid of modes in the plane, 0.5 apart, of standard deviation 0.03 and weights 1:2:3 in
            turn.
        schedule: the noise schedule.

    Raises:
        ValueError: for an unknown name; the message names the nearest ones.
    """
    return _TARGETS.get(name)(EDM() if schedule is None else schedule)


def target_names() -> list[str]:
    """Names of the analytic targets that `analytic_target` knows."""
    return _TARGETS.names()


_TARGETS = Registry[Callable[[Schedule], Gaussian | GaussianMixture]]("target")


@_TARGETS.register("gaussian-64")
def _gaussian_64(schedule: Schedule) -> Gaussian:
    return Gaussian([0.0] * 64, torch.logspace(-3.0, 0.0, 64, dtype=torch.float64), schedule)


@_TARGETS.register("grid-25")
def _grid_25(schedule: Schedule) -> GaussianMixture:
    means = [[0.5 * (i - 2), 0.5 * (j - 2)] for i in range(5) for j in range(5)]
    return GaussianMixture(means, 0.03, [1.0 + i % 3 for i in range(25)], schedule)


def _counts(nfe: Sequence[int], **sizes: Any) -> tuple[int, ...]:
    for name, value in sizes.items():
        if not is_whole(value) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    counts = tuple(nfe) if isinstance(nfe, Sequence) else (nfe,)
    if not counts or not all(is_whole(count) and count > 0 for count in counts):
        raise ValueError(f"nfe is a sequence of positive integers, got {nfe!r}.")
    return tuple(sorted({int(count) for count in counts}))


def _planned(model: Description, settings: Mapping[str, Any], nfe: int) -> Plan | ValueError:
    """The plan, or why there is none."""
    own = {"sigma_data": model.sigma_data, "round_time": model.round_time}
    try:
        return plan_sampling(model.schedule, **own | dict(settings), nfe=nfe)
    except ValueError as error:
        return error


def _point(nfe: int, plan: Plan | ValueError, distance: Distance, bar: Any) -> QualityPoint:
    if isinstance(plan, ValueError):
        return QualityPoint(nfe, reason=str(plan))
    end = bar.n + plan.nfe * distance.runs
    try:
        found = distance.between(plan, bar.update)
        if not math.isfinite(found):
            raise ValueError(f"The distance is {found}.")
    except (ValueError, FloatingPointError) as error:
        bar.update(end - bar.n)
        return QualityPoint(nfe, plan.nfe, plan.steps, reason=str(error))
    return QualityPoint(nfe, plan.nfe, plan.steps, found)
