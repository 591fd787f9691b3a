"""Order of convergence without noise (ℓ = 0)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from expint.convergence.common_path import Problem
from expint.convergence.order_fitting import asymptotic_range, root_mean
from expint.convergence.studies import Comparison, OrderStudy, order_study
from expint.equations.predictions import to_denoiser
from expint.runs.run import execute
from expint.solvers import Tableau, get

__all__ = ["SPREAD", "check_problem", "deterministic_order", "deterministic_orders"]

SPREAD = 0.1
"""By how much local orders may differ in the range that is fitted."""


def check_problem(problem: Any) -> None:
    """Refuse a model in the place of a `Problem`."""
    if not isinstance(problem, Problem):
        raise TypeError(
            f"What is integrated is an expint.convergence.Problem, got {type(problem).__name__}: "
            "for a model, give Problem(model), which also says form, ell and noise levels."
        )


def deterministic_order(solver: str | Tableau, problem: Problem, **options: Any) -> OrderStudy:
    """Order at ℓ = 0: distance from the solution of the probability-flow ODE.

    Args:
        solver: a name or a tableau.
        problem: its ℓ is replaced by 0.
        options: see `deterministic_orders`.
    """
    return deterministic_orders([solver], problem, **options).studies[0]


def deterministic_orders(
    solvers: Iterable[str | Tableau],
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
    own = float(root_mean((exact - rough).flatten(1).square().sum(1)[None]))
    floors = (max(5.0 * own, 1e-11 * float(exact.abs().max())),) * len(steps)
    studies = []
    for tableau in [get(solver) for solver in solvers]:
        with torch.no_grad():
            ends = [execute(quiet.plan(tableau, n), quiet.model, x) for n in steps]
        errors = root_mean(
            torch.stack([(end - exact).flatten(1).square().sum(1) for end in ends])
        ).tolist()
        fitted = asymptotic_range(steps, errors, floors, spread=SPREAD)
        study = order_study(
            "deterministic",
            tableau,
            errors,
            fitted,
            steps=steps,
            setting=str(quiet),
            measure="RMS error",
            floors=floors,
            declared=float(tableau.deterministic_order),
            reference=f"classical Runge-Kutta in lambda, {fine} steps, own error below {own:.1e}",
        )
        studies.append(study)
    return Comparison(tuple(studies))


def _runge_kutta(problem: Problem, x: Tensor, steps: int) -> Tensor:
    model, schedule = problem.model, problem.model.schedule
    times = problem.grid(2 * steps)
    alphas = torch.as_tensor(schedule.alpha(times), dtype=torch.float64)
    rule = to_denoiser(model.prediction, schedule, times, getattr(model, "sigma_data", None))
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
