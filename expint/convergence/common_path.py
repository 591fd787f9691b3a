"""Run many plans on one Brownian path, beside a reference run on a finer grid of the same path."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.convergence.order_fitting import LEAST
from expint.convergence.plans_path import PlansPath
from expint.convergence.problem import Problem, SemiLinearProblem
from expint.noise import NoiseSource, per_sample
from expint.noise.paths.path import Shared
from expint.noise.source import Seeds
from expint.numerics.float64 import is_whole
from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan
from expint.runs.run import execute
from expint.solvers import Method, get
from expint.solvers.registry import Solver

PathMaker = Callable[[Sequence[int]], NoiseSource]
"""Makes a path from seeds, for example `lambda seeds: BrownianPath(seeds, resolution=64)`."""


_LEAST_PATHS = 16  # an interval of fewer says nothing


class PathOptions(TypedDict, total=False):
    """Options of the studies that sample paths.

    paths: how many Brownian paths, at least 16.
    seed: the run whose samples they are: path i is a function of (seed, i).
    reference: solver of the reference, of strong order 3/2.
    refine: steps of the reference, in units of the largest number of steps.
    path: makes another path from seeds; default: one drawn at all times that the runs ask for, in
        any noise clock, diagonal ones included.
    batch: paths that are run together.
    progress: show a progress bar.
    """

    paths: int
    seed: int
    reference: Solver
    refine: int
    path: PathMaker | None
    batch: int
    progress: bool


class PathRuns(NamedTuple):
    """Results of all solvers on the same paths.

    Attributes:
        ends: states at the end, shape (solvers, steps, paths, *event).
        squared: squared distances from the reference there, shape (solvers, steps, paths).
        largest: the largest of them over the grid, shape (solvers, steps, paths).
        exact: the reference's states at the end, and those at half its steps, shape (2, paths,
            *event).
        reference: what the reference is, in words.
    """

    ends: Tensor
    squared: Tensor
    largest: Tensor
    exact: Tensor
    reference: str


def run_on_common_paths(
    methods: Sequence[Method],
    problem: Problem | SemiLinearProblem,
    steps: Sequence[int],
    *,
    paths: int,
    seed: int = 0,
    reference: Solver = "seeds-sra3",
    refine: int = 8,
    path: PathMaker | None = None,
    batch: int = 1024,
    progress: bool = False,
) -> PathRuns:
    """Every solver at every step count on the same paths from the same starts."""
    counts = checked_steps(steps)
    for name, value, least in (("paths", paths, _LEAST_PATHS), ("seed", seed, 0),
                               ("refine", refine, 2), ("batch", batch, 1)):  # fmt: skip
        if not is_whole(value) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
    common = math.lcm(*counts)
    fine = common * max(2, -(-refine * counts[-1] // common))
    fine += fine % 2
    repeated = sorted({t.name for t in methods if [u.name for u in methods].count(t.name) > 1})
    if not methods:
        raise ValueError("There is no solver to study.")
    if repeated:
        raise ValueError(f"Solvers are distinguished by name, but {repeated} came more than once.")
    plans = [problem.plan(method, n) for method in methods for n in counts]
    exact, half = (
        compile_plan(problem.sde(), reference, problem.grid(n)) for n in (fine, fine // 2)
    )
    every = [*plans, exact, half]
    asked = [noise for plan in every for noise in plan.run]
    own = PlansPath(problem.sde(), every) if path is None else None
    every_seed = per_sample(seed, paths)
    chunks = [Seeds(every_seed[i : i + batch]) for i in range(0, paths, batch)]
    total = sum(plan.nfe for plan in every) * len(chunks)
    found: list[list[Tensor]] = []
    with torch.no_grad(), tqdm(total=total, disable=not progress, unit="NFE") as bar:
        for seeds in chunks:
            x = problem.start(seeds)
            given = path and Shared(path(seeds).stream(x, asked))
            opened = own and own.open(seeds, x)
            source = opened.of if opened else lambda plan, given=given: given
            states = partial(_states, problem.model, x, source, bar.update)
            solution = states(exact, fine // common)
            ends = (solution[-1], states(half, fine // 2)[-1])
            runs = [_compared(states(plan), solution[:: common // plan.steps]) for plan in plans]
            found.append([torch.stack(part) for part in (*zip(*runs, strict=True), ends)])
    ends, squared, largest, last = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    size = (len(methods), len(counts))
    words = f"{get(reference).name} with {fine} steps on the same {paths} paths"
    return PathRuns(
        ends.unflatten(0, size), squared.unflatten(0, size), largest.unflatten(0, size), last, words
    )


def checked_steps(steps: Sequence[int], *, nested: bool = True) -> list[int]:
    """The step counts of a study."""
    counts = list(steps)
    if not all(is_whole(n) and n > 0 for n in counts) or counts != sorted(set(counts)):
        raise ValueError(f"steps are increasing positive integers, got {steps!r}.")
    if len(counts) < LEAST:
        raise ValueError(f"An order needs at least {LEAST} step counts, got {steps!r}.")
    if nested and math.lcm(*counts) > 8 * counts[-1]:
        raise ValueError(
            "Step counts must be nested, so that one fine grid holds them all, for example 8, 16, "
            f"32; got {steps!r}."
        )
    return counts


def _states(
    model: Any,
    x: Tensor,
    source: Callable[[Plan], Any],
    count: Callable[[int], Any],
    plan: Plan,
    stride: int = 1,
) -> Tensor:
    """States at every `stride`-th time of the plan's grid, shape (times, paths, *event)."""
    states = [x]

    def keep(step: int, nfe: int, t: float, state: Tensor, denoised: Tensor) -> None:
        if step % stride == 0:
            states.append(state)

    execute(plan, model, x, source(plan), keep)
    count(plan.nfe)
    return torch.stack(states)


def _compared(states: Tensor, exact: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One run beside the solution, both of shape (times, paths, *event)."""
    squared = (states - exact).square().flatten(2).sum(2)
    return states[-1], squared[-1], squared.amax(0)
