"""Run many plans on one Brownian path, beside a reference run on a finer grid of the same path."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.convergence.problem import Problem
from expint.noise import NoiseSource
from expint.noise.paths.path import Shared
from expint.noise.paths.union import UnionPath, union_of_times
from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan
from expint.runs.run import execute
from expint.solvers import Method, get
from expint.solvers.registry import Solver

PathMaker = Callable[[Sequence[int]], NoiseSource]
"""Makes a path from seeds, for example `lambda seeds: BrownianPath(seeds, resolution=64)`."""


class PathOptions(TypedDict, total=False):
    """Options of the studies that sample paths.

    paths: how many Brownian paths, with seeds seed, seed + 1, …
    seed: the first seed.
    reference: solver of the reference, of strong order 3/2.
    refine: steps of the reference, in units of the largest number of steps.
    path: makes another path from seeds; default: a `UnionPath` over all times that the runs ask
        for.
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


class Runs(NamedTuple):
    """Results of one solver.

    Attributes:
        ends: states at the end, shape (steps, paths, *event).
        squared: squared distances from the reference there, shape (steps, paths).
        largest: the largest of them over the grid, shape (steps, paths).
    """

    ends: Tensor
    squared: Tensor
    largest: Tensor


class PathRuns(NamedTuple):
    """Results of all solvers on the same paths.

    Attributes:
        runs: by the solver's name.
        exact, half: the reference's states at the end, and those at half its steps, shape (paths,
            *event).
        reference: what the reference is, in words.
    """

    runs: dict[str, Runs]
    exact: Tensor
    half: Tensor
    reference: str


def run_on_common_paths(
    methods: Sequence[Method],
    problem: Problem,
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
    counts = _checked(steps)
    common = math.lcm(*counts)
    fine = common * max(2, -(-refine * counts[-1] // common))
    fine += fine % 2
    repeated = sorted({t.name for t in methods if [u.name for u in methods].count(t.name) > 1})
    if repeated:
        raise ValueError(f"Solvers are distinguished by name, but {repeated} came more than once.")
    plans = {t.name: {n: problem.plan(t, n) for n in counts} for t in methods}
    exact, half = (
        compile_plan(problem.sde(), reference, problem.grid(n)) for n in (fine, fine // 2)
    )
    every = [plan for own in plans.values() for plan in own.values()] + [exact, half]
    asked = [noise for plan in every for noise in plan.run]
    if path is None:
        taus = union_of_times(asked)
        path = lambda seeds: UnionPath(seeds, taus)  # noqa: E731
    found: dict[str, list[Runs]] = {t.name: [] for t in methods}
    ends: list[tuple[Tensor, Tensor]] = []
    chunks = [range(seed + i, seed + min(i + batch, paths)) for i in range(0, paths, batch)]
    total = sum(plan.nfe for plan in every) * len(chunks)
    with torch.no_grad(), tqdm(total=total, disable=not progress, unit="NFE") as bar:
        for seeds in chunks:
            x = problem.start(seeds)
            opened = Shared(path(seeds).stream(x, asked))
            states = partial(_states, problem.model, x, opened, bar.update)
            solution = states(exact, fine // common)
            ends.append((solution[-1], states(half, fine // 2)[-1]))
            for name, own in plans.items():
                parts = [
                    _compared(states(plan), solution[:: common // n]) for n, plan in own.items()
                ]
                found[name].append(Runs(*(torch.stack(part) for part in zip(*parts, strict=True))))
    joined = {name: Runs(*map(_joined, zip(*parts, strict=True))) for name, parts in found.items()}
    words = f"{get(reference).name} with {fine} steps on the same {paths} paths"
    full, rough = (torch.cat(part) for part in zip(*ends, strict=True))
    return PathRuns(joined, full, rough, words)


def _checked(steps: Sequence[int]) -> list[int]:
    counts = list(steps)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in counts)
    if not counts or not whole or counts != sorted(set(counts)):
        raise ValueError(f"steps are increasing positive integers, got {steps!r}.")
    if math.lcm(*counts) > 8 * counts[-1]:
        raise ValueError(
            "Step counts must be nested, so that one fine grid holds them all, for example 8, 16, "
            f"32; got {steps!r}."
        )
    return counts


def _states(
    model: Any,
    x: Tensor,
    source: NoiseSource,
    count: Callable[[int], Any],
    plan: Plan,
    stride: int = 1,
) -> Tensor:
    """States at every `stride`-th time of the plan's grid, shape (times, paths, *event)."""
    states = [x]

    def keep(step: int, nfe: int, t: float, state: Tensor, denoised: Tensor) -> None:
        if step % stride == 0:
            states.append(state)

    execute(plan, model, x, source, keep)
    count(plan.nfe)
    return torch.stack(states)


def _compared(states: Tensor, exact: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One run beside the solution, both of shape (times, paths, *event)."""
    squared = (states - exact).square().flatten(2).sum(2)
    return states[-1], squared[-1], squared.amax(0)


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat(parts, 1)
