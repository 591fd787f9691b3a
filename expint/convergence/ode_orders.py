"""Order of convergence without noise (ℓ = 0)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from expint.convergence.order_fitting import root_mean
from expint.convergence.problem import Problem, check_problem
from expint.convergence.studies import Comparison, OrderStudy, order_study
from expint.equations.predictions import to_denoiser
from expint.runs.model import describe
from expint.runs.run import execute
from expint.solvers import get
from expint.solvers.registry import Solver


class StartOptions(TypedDict, total=False):
    """Options of the studies without noise.

    steps: step counts.
    starts: how many initial states.
    seed: of the first of them.
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

    The reference shares nothing with the engine: the classical Runge–Kutta method on dz/dλ = D − z,
    z = x/α, in λ.

    Args:
        solvers: names or tableaus.
        problem: its ℓ is replaced by 0.
        steps: step counts.
        starts: how many initial states.
        seed: of the first of them.

    Raises:
        TypeError: for a model in the place of the problem.
        ValueError: if fewer than three errors are resolved.
    """
    check_problem(problem)
    quiet = replace(problem, ell=0.0)
    x = quiet.start(range(seed, seed + starts))
    fine = 2 * max(512, *steps)
    with torch.no_grad():
        exact, rough = (_runge_kutta(quiet, x, n) for n in (fine, fine // 2))
    own = _distance(exact, rough)
    floor = max(5.0 * own, 1e-11 * float(exact.abs().max()))
    studies = []
    for method in map(get, solvers):
        with torch.no_grad():
            ends = [execute(quiet.plan(method, n), quiet.model, x) for n in steps]
        study = order_study(
            "deterministic",
            method,
            quiet,
            steps,
            [_distance(end, exact) for end in ends],
            [floor] * len(ends),
            declared=method.deterministic_order,
            measure="RMS error",
            reference=f"classical Runge-Kutta in lambda, {fine} steps, own error below {own:.1e}",
        )
        studies.append(study)
    return Comparison(tuple(studies))


def _distance(x: Tensor, y: Tensor) -> float:
    """Root mean square distance over the starts."""
    return float(root_mean((x - y).flatten(1).square().sum(1)[None]))


def _runge_kutta(problem: Problem, x: Tensor, steps: int) -> Tensor:
    model = problem.model
    schedule, prediction, sigma_data = describe(model)[:3]
    times = problem.grid(2 * steps)
    alphas = torch.as_tensor(schedule.alpha(times), dtype=torch.float64)
    rule = to_denoiser(prediction, schedule, times, sigma_data)
    h = (problem.ends[1] - problem.ends[0]) / steps

    def rate(z: Tensor, i: int) -> Tensor:
        x = alphas[i] * z
        return rule.on_x[i] * x + rule.on_output[i] * model(x, times[i]) - z

    z = x / alphas[0]
    for i in range(0, 2 * steps, 2):
        k1 = rate(z, i)
        k2 = rate(z + 0.5 * h * k1, i + 1)
        k3 = rate(z + 0.5 * h * k2, i + 1)
        k4 = rate(z + h * k3, i + 2)
        z = z + h / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
    return alphas[-1] * z
