"""Orders without noise, strong and weak orders, and studies of several solvers side by side."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from expint.convergence.common_path import PathOptions, checked_steps, run_on_common_paths
from expint.convergence.linear_response import gaussian_moments
from expint.convergence.order_fitting import root_mean
from expint.convergence.problem import Problem, SemiLinearProblem, check_problem
from expint.convergence.studies import Comparison, OrderStudy, order_study
from expint.metrics import gaussian_wasserstein
from expint.noise import per_sample
from expint.numerics.float64 import is_whole
from expint.runs.run import execute
from expint.solvers import Method, get
from expint.solvers.registry import Solver
from expint.targets import Gaussian

STEPS = (16, 32, 64, 128)
PATHS = 4096


class StartOptions(TypedDict, total=False):
    """Options of the studies without noise.

    steps: step counts.
    starts: how many initial states.
    seed: the run whose initial states they are.
    """

    steps: Sequence[int]
    starts: int
    seed: int


def deterministic_order(
    solver: Solver, problem: Problem, **options: Unpack[StartOptions]
) -> OrderStudy:
    """Order at ℓ = 0: distance from the solution of the probability-flow ODE.

    Args:
        solver: a name or a tableau.
        problem: its ℓ is replaced by 0.
        options: see `deterministic_orders`.
    """
    return deterministic_orders([solver], problem, **options).studies[0]


def deterministic_orders(
    solvers: Iterable[Solver],
    problem: Problem,
    *,
    steps: Sequence[int] = (16, 32, 64, 128, 256),
    starts: int = 64,
    seed: int = 0,
) -> Comparison:
    """Orders at ℓ = 0 of several solvers: root mean square distance from the probability-flow ODE's
    solution, over random starts.

    The reference is `Problem.without_noise`, which shares nothing with the engine.

    Args:
        solvers: names or tableaus.
        problem: its ℓ is replaced by 0.
        steps: step counts.
        starts: how many initial states.
        seed: the run whose initial states they are.

    Raises:
        TypeError: for a model in the place of the problem.
        ValueError: if fewer than three errors are resolved.
    """
    check_problem(problem)
    steps = checked_steps(steps, nested=False)
    if not is_whole(starts) or starts < 1:
        raise ValueError(f"starts must be an integer of at least 1, got {starts!r}.")
    quiet = replace(problem, ell=0.0)
    x = quiet.start(per_sample(seed, starts))
    fine = 2 * max(512, *steps)
    with torch.no_grad():
        exact, rough = (quiet.without_noise(x, n) for n in (fine, fine // 2))
    own = float(root_mean(_squared([rough], exact)))
    studies = []
    for method in map(get, solvers):
        with torch.no_grad():
            ends = [execute(quiet.plan(method, n), quiet.model, x) for n in steps]
        study = order_study(
            "deterministic",
            method,
            quiet,
            steps,
            _squared(ends, exact),
            root_mean,
            max(5.0 * own, 1e-11 * float(exact.abs().max())),
            declared=method.deterministic_order,
            measure="RMS error",
            reference=f"classical Runge-Kutta in lambda, {fine} steps, own error below {own:.1e}",
        )
        studies.append(study)
    return Comparison(tuple(studies))


def _squared(ends: list[Tensor], exact: Tensor) -> Tensor:
    """Squared distances, shape (steps, starts)."""
    return (torch.stack(ends) - exact).flatten(2).square().sum(2)


def strong_order(
    solver: Solver,
    problem: Problem | SemiLinearProblem,
    *,
    steps: Sequence[int] = STEPS,
    **options: Unpack[PathOptions],
) -> OrderStudy:
    """Strong order: distance from a reference run on the same Brownian path.

    Args:
        solver: a name or a tableau.
        problem: with ell > 0, or a `SemiLinearProblem` with noise.
        steps, options: see `strong_orders`.

    Source: the error of SEEDS, arXiv 2305.14267, theorem 4.1, (E sup_i |x_i − x(t_i)|²)^½, is the
    one called "sup over the grid".
    """
    return strong_orders([solver], problem, steps=steps, **options).studies[0]


def strong_orders(
    solvers: Iterable[Solver],
    problem: Problem | SemiLinearProblem,
    *,
    steps: Sequence[int] = STEPS,
    **options: Unpack[PathOptions],
) -> Comparison:
    """Strong orders of several solvers on the same paths.

    Errors over the paths: root mean square at the end of the grid (to which the order is fitted),
    the same for the largest distance over the grid, and the median at the end.

    Args:
        solvers: names or tableaus.
        problem: with ell > 0, or a `SemiLinearProblem` with noise.
        steps: step counts, nested: all divide a common one that is not much larger.
        options: see `PathOptions`; default 4096 paths, and a reference by `seeds-sra3` with 8 times
            the largest of `steps`.

    Raises:
        TypeError: for a model in the place of the problem.
        ValueError: for ell = 0, steps that are not nested, or if fewer than three errors are
            resolved.
    """
    check_problem(problem, SemiLinearProblem)
    chosen = [get(solver) for solver in solvers]
    _need_noise(problem)
    found = run_on_common_paths(chosen, problem, steps, **{"paths": PATHS, **options})
    # At half the steps a reference of strong order 3/2 is further off by 2^1.5 − 1 times its own
    # error, or more.
    own = float(root_mean(_squared([found.exact[1]], found.exact[0]))) / (2**1.5 - 1)
    studies = []
    for method, squared, largest in zip(chosen, found.squared, found.largest, strict=True):
        median = squared.median(1).values.sqrt()
        study = order_study(
            "strong",
            method,
            problem,
            steps,
            squared,
            root_mean,
            5.0 * own,
            declared=method.strong_order,
            measure="RMS error",
            reference=f"{found.reference}, own error about {own:.1e}",
            seed=options.get("seed", 0),
            others={"sup over the grid": root_mean(largest), "median": median},
        )
        studies.append(study)
    return Comparison(tuple(studies))


def weak_order(
    solver: Solver,
    problem: Problem | SemiLinearProblem,
    *,
    steps: Sequence[int] | None = None,
    **options: Unpack[PathOptions],
) -> OrderStudy:
    """Weak order: distance of the law of the result from the exact one.

    On Gaussian data there is no Monte Carlo: the run starts in the exact law of x_s, its mean and
    variance at the end come from `gaussian_moments`, and the error is the Wasserstein-2 distance
    from the law of x_t. On other data the error is the Euclidean norm of the mean differences, over
    paths shared with the reference, of the functions x, x² and cos x of every component; errors
    below three standard deviations of the Monte Carlo are not fitted.

    Args:
        solver: a name or a tableau.
        problem: on a `targets.Gaussian` at any ℓ, or on another model at ell > 0, or a
            `SemiLinearProblem` with noise.
        steps: step counts; default 40, 80, …, 640 on Gaussian data, else 4, 8, 16, 32.
        options: see `PathOptions`, unused on Gaussian data; default 16 384 paths, and a reference
            by `seeds-sra3` with 4 times the largest of `steps`.

    Raises:
        TypeError: for a model in the place of the problem.
        ValueError: if fewer than three errors are resolved.
    """
    check_problem(problem, SemiLinearProblem)
    method = get(solver)
    if isinstance(problem, Problem) and isinstance(problem.model, Gaussian):
        return _gaussian_weak_order(method, problem, steps or (40, 80, 160, 320, 640))
    _need_noise(problem)
    counts = steps or (4, 8, 16, 32)
    sampled = {"paths": 4 * PATHS, "refine": 4, **options}
    found = run_on_common_paths([method], problem, counts, **sampled)
    values = _observables(found.ends[0].flatten(2)) - _observables(found.exact[0].flatten(1))
    return order_study(
        "weak",
        method,
        problem,
        counts,
        values,
        _mean_norm,
        3.0 * torch.sqrt(values.var(1).sum(-1) / values.shape[1]),
        # Order 3 is a matter of linear problems: beyond, additive noise has further conditions.
        declared=min(method.weak_order, 2),
        measure="difference of E x, E x^2 and E cos x",
        reference=found.reference,
        spread=0.5,
        seed=options.get("seed", 0),
    )


def _need_noise(problem: Problem | SemiLinearProblem) -> None:
    if not problem.sde().is_stochastic:
        raise ValueError(
            "Strong and weak orders by sampling need noise, ell > 0; at ell = 0 use "
            "deterministic_order."
        )


def _observables(x: Tensor) -> Tensor:
    """x, x² and cos x of every component, side by side; x has its components in the last
    dimension.
    """
    return torch.cat([x, x**2, torch.cos(x)], -1)


def _mean_norm(values: Tensor) -> Tensor:
    return values.mean(1).norm(dim=-1)


def _gaussian_weak_order(method: Method, problem: Problem, steps: Sequence[int]) -> OrderStudy:
    target: Gaussian = problem.model
    steps = checked_steps(steps, nested=False)
    exact = target.moments(problem.grid(1)[-1])
    found = [gaussian_moments(problem.plan(method, n), target) for n in steps]
    return order_study(
        "weak",
        method,
        problem,
        steps,
        torch.stack([gaussian_wasserstein(*moments, *exact) for moments in found])[:, None],
        lambda distances: distances.mean(1),
        1e-12 * float(exact[1].max().sqrt()),
        declared=method.weak_order if problem.ell > 0 else method.deterministic_order,
        measure="Wasserstein-2 distance",
        reference="exact moments",
        others={
            name: torch.stack([(moments[i] - exact[i]).abs().max() for moments in found])
            for i, name in enumerate(("mean", "variance"))
        },
        fit_others=False,  # the mean may be exact
    )


def compare(
    solvers: Iterable[Solver],
    problem: Problem | SemiLinearProblem,
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
    chosen = [get(solver) for solver in solvers]
    given: dict[str, Any] = {"seed": seed} | ({} if steps is None else {"steps": steps})
    sampled: dict[str, Any] = {**given, "progress": progress}
    quiet: Any = problem  # refused below unless it is a Problem
    studies: dict[str, Callable[[], Iterable[OrderStudy]]] = {
        "strong": lambda: strong_orders(chosen, problem, paths=paths, **sampled).studies,
        "weak": lambda: [weak_order(t, problem, paths=4 * paths, **sampled) for t in chosen],
        "deterministic": lambda: deterministic_orders(chosen, quiet, **given).studies,
    }
    unknown = [kind for kind in kinds if kind not in studies]
    if unknown or not kinds or not chosen:
        raise ValueError(
            f"Choose solvers, and kinds among {list(studies)}; got {[t.name for t in chosen]} and "
            f"{list(kinds)}."
        )
    return Comparison(tuple(study for kind in dict.fromkeys(kinds) for study in studies[kind]()))
