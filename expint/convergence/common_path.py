"""Run many plans on one Brownian path, beside a reference run on a finer grid of the same path."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.equations.forms import reverse_sde
from expint.equations.sde import SemiLinearSDE
from expint.noise import NoiseSource, NoiseStream, initial_state
from expint.noise.paths.union import UnionPath, union_of_clocks
from expint.noise.source import ChecksRuns
from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan
from expint.runs.run import execute
from expint.sampling import model_schedule
from expint.solvers import Tableau, get

__all__ = ["PathMaker", "Problem", "Runs", "run_on_common_paths"]

PathMaker = Callable[[Sequence[int]], NoiseSource]
"""Makes a path from seeds, for example `lambda seeds: BrownianPath(seeds, resolution=64)`."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is integrated in a study: a model along its reverse SDE, from one noise level to
    another, in equal steps of λ.

    Args:
        model: any model; the analytic targets of `expint.targets` cost nothing.
        form: "data", "noise" or "precond".
        ell: stochasticity.
        sigmas: first and last noise level, both finite and > 0.
        sigma_data: for the preconditioned form; default: the model's own.
        shape: of the event; default: the model's own attribute `shape`.
        planner: builds the plans that are studied: planner(sde, tableau, grid). The reference is
            never built by it.

    Raises:
        ValueError, TypeError: for noise levels outside the schedule's domain or in the wrong order,
            or a model that does not say its schedule or shape.
    """

    model: Any
    form: str = "data"
    ell: float = 1.0
    sigmas: tuple[float, float] = (5.0, 0.1)
    sigma_data: float | None = None
    shape: tuple[int, ...] | None = None
    planner: Callable[[SemiLinearSDE, Tableau, Tensor], Plan] = compile_plan
    ends: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        schedule = model_schedule(self.model)
        first, last = self.sigmas
        if not math.inf > first > last > 0:
            raise ValueError(
                "sigmas are the first and the last noise level, finite with first > last > 0, got "
                f"{self.sigmas!r}."
            )
        low, high = sorted(schedule.sigma(t) for t in schedule.domain)
        if first > high * (1 + 1e-9) or last < low * (1 - 1e-9):
            raise ValueError(
                f"sigmas {self.sigmas!r} leave the noise levels of {schedule}, {low:.6g} to "
                f"{high:.6g}."
            )
        object.__setattr__(self, "ends", (-math.log(first), -math.log(last)))
        shape = self.shape if self.shape is not None else getattr(self.model, "shape", None)
        if shape is None:
            raise ValueError(
                f"{type(self.model).__name__} has no attribute `shape`: give the event's shape, "
                "shape=(d,)."
            )
        object.__setattr__(self, "shape", tuple(shape))
        if self.sigma_data is None:
            object.__setattr__(self, "sigma_data", getattr(self.model, "sigma_data", None))
        self.sde()

    def sde(self) -> SemiLinearSDE:
        """The reverse SDE."""
        return reverse_sde(self.model.schedule, self.form, self.ell, sigma_data=self.sigma_data)

    def grid(self, steps: int) -> Tensor:
        """Times of `steps` equal steps in λ."""
        return self.model.schedule.t_of_lam(
            torch.linspace(*self.ends, steps + 1, dtype=torch.float64)
        )

    def plan(self, solver: str | Tableau, steps: int) -> Plan:
        """The plan under study."""
        return self.planner(self.sde(), get(solver), self.grid(steps))

    def start(self, seeds: Sequence[int]) -> Tensor:
        """Initial states σ̄ times standard normals, float64, one per seed."""
        assert self.shape is not None
        return initial_state(seeds, self.shape, torch.float64) * self.model.schedule.std(
            self.grid(1)[0]
        )

    def __str__(self) -> str:
        name = type(self.model).__name__
        return f"{self.sde().name}, {name}, {self.sigmas[0]:g} > sigma > {self.sigmas[1]:g}"


@dataclass(frozen=True, eq=False)
class Runs:
    """Results of one solver.

    Attributes:
        ends: states at the end, shape (steps, paths, *event).
        squared: squared distances from the reference there, shape (steps, paths).
        largest: the largest of them over the grid, shape (steps, paths).
    """

    ends: Tensor
    squared: Tensor
    largest: Tensor


def run_on_common_paths(
    solvers: Sequence[str | Tableau],
    problem: Problem,
    steps: Sequence[int],
    *,
    paths: int,
    seed: int = 0,
    reference: str | Tableau = "seeds-sra3",
    refine: int = 8,
    path: PathMaker | None = None,
    batch: int = 1024,
    progress: bool = False,
) -> tuple[dict[str, Runs], Tensor, Tensor, int]:
    """Every solver at every step count on the same paths from the same starts.

    Returns:
        {solver: runs}; the reference's states at the end, (paths, *event); those of the reference
        at half its steps; its steps.
    """
    counts = _check_steps(steps)
    common = math.lcm(*counts)
    fine = common * max(2, -(-refine * counts[-1] // common))
    fine += fine % 2
    tableaus = [get(solver) for solver in solvers]
    repeated = sorted({t.name for t in tableaus if [u.name for u in tableaus].count(t.name) > 1})
    if repeated:
        raise ValueError(f"Solvers are told apart by name, but {repeated} came more than once.")
    plans = {(tableau.name, n): problem.plan(tableau, n) for tableau in tableaus for n in counts}
    references = {
        n: compile_plan(problem.sde(), reference, problem.grid(n)) for n in (fine, fine // 2)
    }
    every = [*plans.values(), *references.values()]
    make = path or _union_maker(every)
    parts: dict[str, list[Runs]] = {tableau.name: [] for tableau in tableaus}
    reference_ends: list[list[Tensor]] = [[], []]
    chunks = [range(seed + i, seed + min(i + batch, paths)) for i in range(0, paths, batch)]
    with (
        torch.no_grad(),
        tqdm(
            total=sum(p.nfe for p in every) * len(chunks), disable=not progress, unit="NFE"
        ) as bar,
    ):
        for seeds in chunks:
            x = problem.start(seeds)
            drawn = make(seeds)
            if isinstance(drawn, ChecksRuns):
                drawn.check_run(x, [item for plan in every for item in plan.clocks()])
            source = _Opened(drawn.stream(x))

            def run(plan: Plan, x: Tensor = x, source: _Opened = source) -> Iterator[Tensor]:
                bar.update(plan.nfe)
                return _states(plan, problem.model, x, source)

            states = list(_every(run(references[fine]), fine // common))
            reference_ends[0].append(list(run(references[fine // 2]))[-1])
            reference_ends[1].append(states[-1])
            for name, found in parts.items():
                found.append(_compare({n: run(plans[name, n]) for n in counts}, states))
    half, full = (torch.cat(kept) for kept in reference_ends)
    joined = {
        name: Runs(
            *(
                torch.cat([getattr(part, what) for part in found], 1)
                for what in ("ends", "squared", "largest")
            )
        )
        for name, found in parts.items()
    }
    return joined, full, half, fine


def _check_steps(steps: Sequence[int]) -> list[int]:
    counts = list(steps)
    if (
        any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in counts)
        or counts != sorted(set(counts))
        or not counts
    ):
        raise ValueError(f"steps are increasing positive integers, got {steps!r}.")
    if math.lcm(*counts) > 8 * counts[-1]:
        raise ValueError(
            "Step counts must be nested, so that one fine grid holds them all, for example 8, 16, "
            f"32; got {steps!r}."
        )
    return counts


def _union_maker(plans: Sequence[Plan]) -> PathMaker:
    taus = union_of_clocks(clock for plan in plans for clock in plan.taus)
    return lambda seeds: UnionPath(seeds, taus)


@dataclass(frozen=True, eq=False)
class _Opened:
    """A path that is already drawn: every run sees the same one."""

    path: NoiseStream
    memoryless: bool = False

    def stream(self, like: Tensor, intervals: int | None = None) -> NoiseStream:
        return self.path


def _states(plan: Plan, model: Any, x: Tensor, source: NoiseSource) -> Iterator[Tensor]:
    """States at all times of the plan's grid."""
    states = [x]
    execute(plan, model, x, source, lambda step, nfe, t, state, denoised: states.append(state))
    return iter(states)


def _every(states: Iterator[Tensor], stride: int) -> Iterator[Tensor]:
    return (state for i, state in enumerate(states) if i % stride == 0)


def _compare(runs: Mapping[int, Iterator[Tensor]], reference: Sequence[Tensor]) -> Runs:
    ends, squared, largest = [], [], []
    for n, states in runs.items():
        stride = (len(reference) - 1) // n
        distance = torch.zeros(reference[0].shape[0], dtype=torch.float64)
        last = worst = distance
        state = reference[0]
        for i, state in enumerate(states):
            last = ((state - reference[i * stride]) ** 2).flatten(1).sum(1)
            worst = torch.maximum(worst, last)
        ends.append(state)
        squared.append(last)
        largest.append(worst)
    return Runs(torch.stack(ends), torch.stack(squared), torch.stack(largest))
