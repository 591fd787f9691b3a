"""Convergence studies: what a solver really does, measured without Monte Carlo where that is
possible.

Every study returns a small object with `.table()`, `.plot(path)` and `.to_json()`. The order is
fitted over the range of step counts that the study itself finds to be asymptotic.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from expint.convergence.common_path import PathMaker, Problem, Runs, run_on_common_paths
from expint.convergence.linear_response import gaussian_moments
from expint.convergence.ode_orders import (
    SPREAD,
    check_problem,
    deterministic_order,
    deterministic_orders,
)
from expint.convergence.order_fitting import asymptotic_range, bootstrap, fitted_order, root_mean
from expint.convergence.stage_covariance import NoiseStudy, noise_covariance
from expint.convergence.studies import Comparison, OrderStudy, order_study
from expint.metrics import gaussian_wasserstein
from expint.solvers import Tableau, get
from expint.targets import Gaussian

__all__ = [
    "Comparison",
    "NoiseStudy",
    "OrderStudy",
    "PathMaker",
    "Problem",
    "compare",
    "deterministic_order",
    "deterministic_orders",
    "fitted_order",
    "gaussian_moments",
    "noise_covariance",
    "strong_order",
    "strong_orders",
    "weak_order",
]

Solver = str | Tableau

STEPS = (16, 32, 64, 128)
PATHS = 4096
SPREADS = {"deterministic": SPREAD, "weak": 0.05, "strong": 0.15}
"""By how much local orders may differ in the range that is fitted; weak ones on Gaussian data,
where nothing is sampled.
"""


def strong_order(solver: Solver, problem: Problem, **options: Any) -> OrderStudy:
    """Strong order: distance from a reference run on the same Brownian path.

    Args:
        solver: a name or a tableau.
        problem: with ell > 0.
        options: see `strong_orders`.

    Source: the error of SEEDS, arXiv 2305.14267, theorem 4.1, (E sup_i |x_i − x(t_i)|²)^½, is the
    one called "sup over the grid".
    """
    return strong_orders([solver], problem, **options).studies[0]


def strong_orders(
    solvers: Iterable[Solver],
    problem: Problem,
    *,
    steps: Sequence[int] = STEPS,
    paths: int = PATHS,
    seed: int = 0,
    reference: Solver = "seeds-sra3",
    refine: int = 8,
    path: PathMaker | None = None,
    batch: int = 1024,
    progress: bool = False,
) -> Comparison:
    """Strong orders of several solvers on the same paths.

    Errors over the paths: root mean square at the end of the grid (to which the order is fitted),
    the same for the largest distance over the grid, and the median at the end.

    Args:
        solvers: names or tableaus.
        problem: with ell > 0.
        steps: step counts, nested: all divide a common one that is not much larger.
        paths: how many Brownian paths, with seeds seed, seed + 1, …
        seed: the first seed.
        reference: solver of the reference, of strong order 3/2.
        refine: steps of the reference, in units of the largest of `steps`.
        path: makes another path from seeds; default: a `UnionPath` over all times that the runs ask
            for.
        batch: paths that are run together.
        progress: show a progress bar.

    Raises:
        TypeError: for a model in the place of the problem.
        ValueError: for ell = 0, steps that are not nested, or if fewer than three errors are
            resolved.
    """
    check_problem(problem)
    chosen = [get(solver) for solver in solvers]
    _need_noise(problem)
    runs, full, half, fine = run_on_common_paths(
        chosen,
        problem,
        steps,
        paths=paths,
        seed=seed,
        reference=reference,
        refine=refine,
        path=path,
        batch=batch,
        progress=progress,
    )
    # At half the steps a reference of strong order 3/2 is further off by 2^1.5 − 1 times its own
    # error, or more.
    own = float(root_mean((full - half).flatten(1).square().sum(1)[None])) / (2**1.5 - 1)
    described = f"{get(reference).name} with {fine} steps on the same {paths} paths, own error about {own:.1e}"
    return Comparison(
        tuple(
            _strong_study(t, runs[t.name], problem, steps, seed, 5.0 * own, described)
            for t in chosen
        )
    )


def _need_noise(problem: Problem) -> None:
    if not problem.ell > 0:
        raise ValueError(
            "Strong and weak orders by sampling need noise, ell > 0; at ell = 0 use "
            "deterministic_order."
        )


def _strong_study(
    tableau: Tableau,
    runs: Runs,
    problem: Problem,
    steps: Sequence[int],
    seed: int,
    floor: float,
    reference: str,
) -> OrderStudy:
    errors = root_mean(runs.squared).tolist()
    floors = (floor,) * len(errors)
    fitted = asymptotic_range(steps, errors, floors, spread=SPREADS["strong"])
    others = {
        "sup over the grid": root_mean(runs.largest),
        "median": runs.squared.median(1).values.sqrt(),
    }
    return order_study(
        "strong",
        tableau,
        errors,
        fitted,
        steps=steps,
        others={name: tuple(values.tolist()) for name, values in others.items()},
        sure=bootstrap(root_mean, runs.squared, steps, fitted, seed),
        declared=float(tableau.strong_order),
        setting=str(problem),
        measure="RMS error",
        reference=reference,
        floors=floors,
    )


def weak_order(
    solver: Solver,
    problem: Problem,
    *,
    steps: Sequence[int] | None = None,
    paths: int = 4 * PATHS,
    seed: int = 0,
    reference: Solver = "seeds-sra3",
    refine: int = 4,
    path: PathMaker | None = None,
    batch: int = 1024,
    progress: bool = False,
) -> OrderStudy:
    """Weak order: distance of the law of the result from the exact one.

    On Gaussian data there is no Monte Carlo: the run starts in the exact law of x_s, its mean and
    variance at the end come from `gaussian_moments`, and the error is the Wasserstein-2 distance
    from the law of x_t. On other data the error is the Euclidean norm of the mean differences, over
    paths shared with the reference, of the functions x, x² and cos x of every component; errors
    below three standard deviations of the Monte Carlo are not fitted.

    Args:
        solver: a name or a tableau.
        problem: on a `targets.Gaussian` at any ℓ, or on another model at ell > 0.
        steps: step counts; default 40, 80, …, 640 on Gaussian data, else 4, 8, 16, 32.
        paths, seed, reference, refine, path, batch, progress: as for `strong_orders`, unused on
            Gaussian data.

    Raises:
        TypeError: for a model in the place of the problem.
        ValueError: if fewer than three errors are resolved.
    """
    check_problem(problem)
    tableau = get(solver)
    if isinstance(problem.model, Gaussian):
        return _gaussian_weak_order(tableau, problem, steps or (40, 80, 160, 320, 640))
    _need_noise(problem)
    counts = steps or (4, 8, 16, 32)
    runs, full, _, fine = run_on_common_paths(
        [tableau],
        problem,
        counts,
        paths=paths,
        seed=seed,
        reference=reference,
        refine=refine,
        path=path,
        batch=batch,
        progress=progress,
    )
    values = _observables(runs[tableau.name].ends.flatten(2)) - _observables(full.flatten(1))
    errors = _mean_norm(values).tolist()
    floors = tuple((3.0 * torch.sqrt(values.var(1).sum(-1) / paths)).tolist())
    fitted = asymptotic_range(counts, errors, floors, spread=0.5)
    return order_study(
        "weak",
        tableau,
        errors,
        fitted,
        steps=counts,
        sure=bootstrap(_mean_norm, values, counts, fitted, seed),
        # Order 3 is a matter of linear problems: beyond, additive noise has further conditions.
        declared=float(min(tableau.weak_order, 2)),
        setting=str(problem),
        measure="difference of E x, E x^2 and E cos x",
        reference=f"{get(reference).name} with {fine} steps on the same {paths} paths",
        floors=floors,
    )


def _observables(x: Tensor) -> Tensor:
    """x, x² and cos x of every component, side by side; x has its components in the last
    dimension.
    """
    return torch.cat([x, x**2, torch.cos(x)], -1)


def _mean_norm(values: Tensor) -> Tensor:
    return values.mean(1).norm(dim=-1)


def _gaussian_weak_order(tableau: Tableau, problem: Problem, steps: Sequence[int]) -> OrderStudy:
    target: Gaussian = problem.model
    exact = target.moments(problem.grid(1)[-1])
    found = [gaussian_moments(problem.plan(tableau, n), target) for n in steps]
    errors = [float(gaussian_wasserstein(*moments, *exact)) for moments in found]
    floors = (1e-12 * float(exact[1].max().sqrt()),) * len(errors)
    fitted = asymptotic_range(steps, errors, floors, spread=SPREADS["weak"])
    study = order_study(
        "weak",
        tableau,
        errors,
        fitted,
        steps=steps,
        setting=str(problem),
        measure="Wasserstein-2 distance",
        declared=float(tableau.weak_order if problem.ell > 0 else tableau.deterministic_order),
        reference="exact moments",
        floors=floors,
    )
    # The mean may be exact, and then has no order.
    parts = {
        name: [float((moments[i] - exact[i]).abs().max()) for moments in found]
        for i, name in enumerate(("mean", "variance"))
    }
    return replace(study, others={name: tuple(values) for name, values in parts.items()})


def compare(
    solvers: Iterable[Solver],
    problem: Problem,
    kinds: Sequence[str] = ("strong",),
    *,
    paths: int = PATHS,
    seed: int = 0,
    steps: Sequence[int] | None = None,
    progress: bool = False,
) -> Comparison:
    """Studies of several solvers side by side, of each kind in `kinds`: "strong", "weak" and
    "deterministic".

    Args:
        solvers: names or tableaus.
        problem: what is integrated.
        kinds: which studies.
        paths, seed: of the studies that sample; a weak one takes four times as many paths.
        steps: step counts; default: those of each study.
        progress: show a progress bar.

    Raises:
        TypeError: for a model in the place of the problem.
        ValueError: for an unknown kind, and whatever the studies refuse.
    """
    check_problem(problem)
    chosen = [get(solver) for solver in solvers]
    given: dict[str, Any] = {} if steps is None else {"steps": steps}
    studies: dict[str, Callable[[], Iterable[OrderStudy]]] = {
        "strong": lambda: (
            strong_orders(
                chosen, problem, paths=paths, seed=seed, progress=progress, **given
            ).studies
        ),
        "weak": lambda: [
            weak_order(t, problem, paths=4 * paths, seed=seed, progress=progress, **given)
            for t in chosen
        ],
        "deterministic": lambda: deterministic_orders(chosen, problem, seed=seed, **given).studies,
    }
    unknown = [kind for kind in kinds if kind not in studies]
    if unknown or not kinds or not chosen:
        raise ValueError(
            f"Choose solvers, and kinds among {list(studies)}; got {[t.name for t in chosen]} and "
            f"{list(kinds)}."
        )
    return Comparison(tuple(study for kind in dict.fromkeys(kinds) for study in studies[kind]()))
