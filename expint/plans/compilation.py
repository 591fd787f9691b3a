"""Compile an SDE, a method and a grid into a plan; everything is computed here, once, in float64,
for all steps together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from expint.equations import SemiLinearSDE
from expint.equations.diffusion import Diffusion
from expint.noise import SubstepNoise
from expint.plans.block_coefficients import block_numbers
from expint.plans.ends import (
    Substep,
    added_noise,
    first_from_infinity,
    fresh_noise,
    langevin,
    langevin_row,
    last_to_zero,
)
from expint.plans.fresh_steps import step_numbers, tableaus
from expint.plans.plan import Plan, Row, each
from expint.plans.stage_coefficients import NodeTimes, StepNumbers
from expint.solvers import Method, Operation, Tableau, get
from expint.solvers.operations import levels

_INF = float("inf")
RoundTime = Callable[[Tensor], Tensor]


def compile_plan(
    sde: SemiLinearSDE,
    solver: str | Method | Tableau,
    grid: Sequence[float] | Tensor,
    *,
    round_time: RoundTime | None = None,
    operations: Sequence[Operation] = (),
) -> Plan:
    """The plan of `solver` for `sde` on `grid`.

    Args:
        sde: what to integrate, for example `reverse_sde(schedule)`.
        solver: a registered name, a method or a tableau.
        grid: times from noise to data, shape (steps + 1,). A grid that ends at σ = 0 ends with the
            exact first-order step x = αD; one that starts at σ = ∞ starts with a first-order step.
        round_time: maps the times of the evaluations to those that the network knows; the rounded
            times are then used everywhere.
        operations: what is done around each step, after the method's own operations.

    Raises:
        ValueError: for an unknown solver, a grid that is not monotone or leaves the domain, or a
            combination that does not exist.

    Source: design of the engine: variation of constants, SEEDS, arXiv 2305.14267, eq. (10),
    integrated row by row.
    """
    if not isinstance(sde, SemiLinearSDE):
        raise TypeError(
            f"sde is a SemiLinearSDE, for example expint.reverse_sde(schedule), got {sde!r}."
        )
    method = get(solver)
    method = replace(method, operations=(*method.operations, *operations))
    _check_operations(sde, method)
    if method.tableau.slopes:
        _check_derivatives(sde, method, rounded=round_time is not None)
    times = sde.check_grid(grid)
    if round_time is not None:
        times = _rounded(sde, method, times, round_time)
    if not sde.diffusion:
        assembly = _Assembly(sde, method, times)
        assembly.regular(_Inner(times, times, times[1:]), 0, 0, round_time)
        return assembly.plan()
    first, last = sde.diffusion.schedule.lam(times[[0, -1]].detach()).tolist()
    starts, ends = first == -_INF, last == _INF
    inner = times[int(starts) : len(times) - int(ends)]
    around = _levels(sde.diffusion, method, inner, len(times) - 1)
    assembly = _Assembly(sde, method, times)
    if starts:
        assembly.substep(*first_from_infinity(sde, sde.diffusion, times))
    if len(inner) > 1:
        assembly.regular(around, int(starts), int(ends), round_time)
    if ends and not (starts and len(times) == 2):
        assembly.end(sde.diffusion, around.begin[-1])
    return assembly.plan()


def _names(operations: Sequence[Operation]) -> str:
    return " and ".join(map(str, operations))


def _check_operations(sde: SemiLinearSDE, method: Method) -> None:
    operations = method.operations
    wrong = [operation for operation in operations if not isinstance(operation, Operation)]
    if wrong:
        raise TypeError(
            "operations are those of expint.solvers (churn, ancestral, langevin, ...), got "
            f"{wrong[0]!r}."
        )
    if operations and not sde.diffusion:
        raise ValueError(
            f"{_names(operations)} changes a noise level, but {sde} has no noise schedule."
        )
    between = [operation for operation in operations if operation.between_steps]
    if between and method.tableau.reuse:
        raise ValueError(
            f"{method.name!r} corrects a step with the evaluation at its end, which the next step "
            f"uses again; {_names(between)} changes the state in between, so that the evaluation "
            "would not be at the state. Use a solver without a corrector."
        )
    for operation in operations:
        one_stage = len(method.tableau.stages) == 1 and sde.is_stochastic
        if operation.own_variance and not one_stage:
            raise ValueError(
                f"{operation} gives the noise of a step another variance; that is for a solver of "
                f"one stage with ell > 0, not for {method.name!r} on {sde}."
            )
        if operation.ell is not None and not _in_data_form(sde, operation.ell):
            raise ValueError(
                f"{operation} does not go with {sde}: it is for the data form with ell = "
                f"{operation.ell:g}."
            )


def _in_data_form(sde: SemiLinearSDE, ell: float) -> bool:
    own = sde.diffusion.ell if sde.diffusion and sde.diffusion.form == "data" else None
    return own is not None and math.isclose(own, ell)


def _check_derivatives(sde: SemiLinearSDE, method: Method, *, rounded: bool) -> None:
    if sde.is_stochastic:
        raise ValueError(
            f"{method.name!r} takes the derivative of F along the ODE, and paths with noise have "
            f"none: use it with ell=0, not on {sde}."
        )
    if sde.diffusion and sde.diffusion.rate is not None:
        raise ValueError(
            f"{method.name!r} needs a derivative of F that {sde} does not have: use form='data', "
            "'noise' or 'precond'."
        )
    if rounded:
        raise ValueError(
            f"{method.name!r} takes the network's derivative in time, which one that is called on "
            "a table only does not have: use timesteps='interpolate', or a solver without "
            "derivatives."
        )


def _rounded(sde: SemiLinearSDE, method: Method, times: Tensor, round_time: RoundTime) -> Tensor:
    moving = [operation for operation in method.operations if operation.between_steps]
    if moving:
        raise ValueError(
            f"{_names(moving)} moves the noise level off the table that the network is called on: "
            "use timesteps='interpolate', or leave the operation out."
        )
    clean = bool(sde.diffusion) and sde.diffusion.schedule.lam(times[-1].item()) == _INF
    kept = round_time(times[:-1] if clean else times)
    return sde.check_grid(torch.cat([kept, times[-1:]]) if clean else kept)


class _Inner:
    """Times of the steps between finite noise levels: those of the grid, and those between which
    the solver steps, the starts of all steps and of the one after them, and the ends."""

    def __init__(self, grid: Tensor, begin: Tensor, stop: Tensor) -> None:
        self.grid, self.begin, self.stop = grid, begin, stop


def _levels(diffusion: Diffusion, method: Method, inner: Tensor, steps: int) -> _Inner:
    if not method.operations:
        return _Inner(inner, inner, inner[1:])
    schedule = diffusion.schedule
    sigma = schedule.sigma(inner)
    noisiest = max(schedule.domain)
    limit = schedule.sigma(noisiest) if math.isfinite(noisiest) else _INF
    raised, lowered = levels(method.operations, sigma, steps, limit)
    begin = torch.where(raised == sigma, inner, schedule.t_of_sigma(raised))
    stop = torch.where(lowered == sigma[1:], inner[1:], schedule.t_of_sigma(lowered))
    return _Inner(inner, begin, stop)


class _Assembly:
    """Collects rows in order of execution, and what each substep asks of the noise."""

    def __init__(self, sde: SemiLinearSDE, method: Method, grid: Tensor) -> None:
        self.sde, self.method, self.grid = sde, method, grid
        self.rows: list[Row] = []
        self.noises: list[SubstepNoise | None] = []
        self.carried: int | None = None
        self.s_noise = math.prod(operation.s_noise for operation in method.operations)

    def plan(self) -> Plan:
        return Plan(self.sde, self.method, self.grid.detach(), tuple(self.rows), tuple(self.noises))

    def substep(self, rows: list[Row], noise: SubstepNoise | None) -> None:
        """Rows that share a start and normals."""
        self.rows += [row._replace(substep=len(self.noises)) for row in rows]
        self.noises.append(noise)

    def regular(self, around: _Inner, first: int, after: int, round_time: RoundTime | None) -> None:
        """All steps with finite clocks; `first` and `after` steps of the grid lie before and behind
        them."""
        grid, begin, stop = around.grid, around.begin, around.stop
        count = len(stop)
        numbers = self._numbers(around, count, after, round_time)
        before: list[Substep | None] = [None] * count
        behind: list[Substep | None] = [None] * count
        if self.sde.diffusion and self.method.operations:
            before = self._lifts(self.sde.diffusion, grid[:-1], begin[:-1], first)
            behind = self._lifts(self.sde.diffusion, stop, grid[1:], first)
        ratios = [ratio for operation in self.method.operations for ratio in operation.langevin]
        corrections = [
            langevin(self.sde.diffusion, grid[1:], ratio) for ratio in ratios if self.sde.diffusion
        ]
        starts: list[int] = []  # row of the evaluation 0 of each step
        for k, (tableau, values, i) in enumerate(numbers):
            if (raise_ := before[k]) is not None:
                self.substep(*raise_)
            self._step(first + k, tableau, values, i, starts)
            if (lift := behind[k]) is not None:
                self.substep(*lift)
            for numbers_of in corrections:
                self.substep(*langevin_row(first + k, len(self.rows), *numbers_of[k]))

    def _numbers(
        self, around: _Inner, count: int, after: int, round_time: RoundTime | None
    ) -> list[tuple[Tableau, StepNumbers, int]]:
        """For each step its tableau, and the numbers of all steps of that tableau with the place of
        the step among them: those of one tableau are computed together."""
        method, begin, stop = self.method, around.begin, around.stop
        own = tableaus(self.sde, method, begin[:-1], stop, after)
        factor = self._factor(begin[:-1], stop)
        found: dict[int, tuple[Tableau, StepNumbers, int]] = {}
        compute = block_numbers if self.sde.blocks else step_numbers
        for tableau in {id(tableau): tableau for tableau in own}.values():
            chosen = [k for k in range(count) if own[k] is tableau]
            index = torch.tensor(chosen)
            earlier = [begin[index - j - 1] for j in range(tableau.history)]
            at = NodeTimes(self.sde, tableau, begin[index], stop[index], earlier, round_time)
            part = None if factor is None else factor[index]
            numbers = compute(self.sde, tableau, at, part)
            found |= {k: (tableau, numbers, i) for i, k in enumerate(chosen)}
        return [found[k] for k in range(count)]

    def _factor(self, start: Tensor, end: Tensor) -> Tensor | None:
        """Product of the noise scale factors that the operations give the steps."""
        factors = [
            operation.factor(self.sde.diffusion.schedule, start, end)
            for operation in self.method.operations
            if operation.factor and self.sde.diffusion
        ]
        return torch.stack(factors).prod(0) if factors else None

    def _lifts(
        self, diffusion: Diffusion, start: Tensor, end: Tensor, first: int
    ) -> list[Substep | None]:
        """Per step the substep that adds noise between the two times, None where they are one."""
        added = added_noise(diffusion, start, end, self.s_noise)
        times = zip(each(start), each(end), added, strict=True)
        return [
            fresh_noise(first + k, low, high, *numbers) if low != high else None
            for k, (low, high, numbers) in enumerate(times)
        ]

    def _step(
        self, step: int, tableau: Tableau, numbers: StepNumbers, i: int, starts: list[int]
    ) -> None:
        """The rows of one step; `starts` gets the row of its first evaluation."""
        base, last = len(self.rows), len(tableau.stages) - 1
        reused = self.carried if tableau.reuse else None
        starts.append(base if reused is None else reused)
        prediction = self.sde.diffusion.prediction if self.sde.diffusion else "F"
        rows = []
        for n, stage in enumerate(numbers.stages):
            weights = [
                (starts[j - 1] if j <= 0 else base + j, w[i]) for j, w in stage.weights.items()
            ]
            weights += [(~(base + j), w[i]) for j, w in stage.slopes.items()]
            rows.append(
                Row(
                    step,
                    stage.time[i],
                    stage.target[i],
                    prediction,
                    stage.scale[i],
                    tuple(weights),
                    stage.noise[i],
                    evaluates=n > 0 or reused is None,
                    tangent=stage.tangent[i] if stage.tangent is not None else None,
                )
            )
        self.substep(rows, numbers.noises[i])
        self.carried = base + last if tableau.reuse and last else None

    def end(self, diffusion: Diffusion, begin: Tensor) -> None:
        """The last step to σ = 0, from `begin` after the noise that operations add."""
        step, start = len(self.grid) - 2, self.grid[-2]
        if begin != start:
            (lift,) = self._lifts(diffusion, start.reshape(1), begin.reshape(1), step)
            assert lift is not None
            self.substep(*lift)
            start = begin
        here = len(self.rows)
        source = here if self.carried is None else self.carried
        row = last_to_zero(diffusion, step, start, self.grid[-1], source)
        self.substep([row._replace(evaluates=source == here)], None)
