"""Compile an SDE, a tableau and a grid into a plan; everything is computed here, once, in float64,
for all steps together.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from expint import grids
from expint.equations.sde import SemiLinearSDE
from expint.numerics.float64 import as_float64
from expint.plans.plan import Plan, Row
from expint.plans.stage_coefficients import StepStages, step_stages
from expint.solvers import Tableau, get
from expint.solvers.operations import Operation, levels

__all__ = ["compile_plan"]

_INF = float("inf")


def compile_plan(
    sde: SemiLinearSDE,
    solver: str | Tableau,
    grid: Sequence[float] | Tensor,
    *,
    round_time: Callable[[Tensor], Tensor] | None = None,
    operations: Sequence[Operation] = (),
) -> Plan:
    """The plan of `solver` for `sde` on `grid`.

    Args:
        sde: what to integrate, for example `reverse_sde(schedule)`.
        solver: a registered name or a tableau.
        grid: times from noise to data, shape (steps + 1,). A grid that ends at σ = 0 ends with the
            exact first-order step x = αD; one that starts at σ = ∞ starts with a first-order step.
        round_time: maps the times of the evaluations to those that the network knows; the rounded
            times are then used everywhere.
        operations: what is done around each step, after the tableau's own operations.

    Raises:
        ValueError: for an unknown solver, a grid that is not monotone or leaves the domain, or a
            combination that does not exist.

    Source: design of the engine: variation of constants, SEEDS, arXiv 2305.14267, eq. (10),
    integrated row by row.
    """
    tableau = get(solver)
    around = (*tableau.operations, *operations)
    _check_operations(sde, tableau, around)
    if tableau.slopes:
        _check_derivatives(sde, tableau, rounded=round_time is not None)
    times = _check_grid(sde, grid)
    if round_time is not None:
        moving = [operation for operation in around if operation.between_steps]
        if moving:
            raise ValueError(
                f"{_names(moving)} moves the noise level off the table that the network is called "
                "on: use timesteps='interpolate', or leave the operation out."
            )
        clean = sde.schedule is not None and sde.schedule.lam(times[-1].item()) == _INF
        kept = round_time(times[:-1] if clean else times)
        times = _check_grid(sde, torch.cat([kept, times[-1:]]) if clean else kept)
    starts, ends = _degenerate_ends(sde, times)
    inner = times[int(starts) : len(times) - int(ends)]
    begin, stop = _levels(sde, around, inner, len(times) - 1)
    assembly = _Assembly(sde, tableau, times.detach())
    if starts:
        assembly.leg(_first_from_infinity(sde, times))
    if len(inner) > 1:
        assembly.regular(inner, begin, stop, around, int(starts), int(ends), round_time)
    if ends and not (starts and len(times) == 2):
        assembly.last_to_zero(begin[-1])
    return assembly.plan()


_Step = tuple[list[Row], Tensor | None, Tensor | None]


def _names(operations: Sequence[Operation]) -> str:
    return " and ".join(type(operation).__name__ for operation in operations)


def _check_operations(
    sde: SemiLinearSDE, tableau: Tableau, operations: Sequence[Operation]
) -> None:
    wrong = [operation for operation in operations if not isinstance(operation, Operation)]
    if wrong:
        raise TypeError(
            "operations are those of expint.solvers (Churn, Ancestral, Langevin, ...), got "
            f"{wrong[0]!r}."
        )
    if operations and sde.schedule is None:
        raise ValueError(
            f"{_names(operations)} changes a noise level, but {sde} has no noise schedule."
        )
    between = [operation for operation in operations if operation.between_steps]
    if between and tableau.reuse:
        raise ValueError(
            f"{tableau.name!r} corrects a step with the evaluation at its end, which the next step "
            f"uses again; {_names(between)} changes the state in between, so that the evaluation "
            "would not be at the state. Use a solver without a corrector."
        )
    for operation in operations:
        if operation.changes_variance and (len(tableau.stages) > 1 or not sde.is_stochastic):
            raise ValueError(
                f"{type(operation).__name__} gives the noise of a step another variance; that is "
                f"for a solver of one stage with ell > 0, not for {tableau.name!r} on {sde}."
            )
        reason = "" if isinstance(sde.rho, Tensor) else operation.misfit(sde.prediction, sde.rho)
        if reason:
            raise ValueError(f"{type(operation).__name__} does not go with {sde}: {reason}.")


def _check_derivatives(sde: SemiLinearSDE, tableau: Tableau, *, rounded: bool) -> None:
    if sde.is_stochastic:
        raise ValueError(
            f"{tableau.name!r} takes the derivative of F along the ODE, and paths with noise have "
            f"none: use it with ell=0, not on {sde}."
        )
    if sde.rate is not None:
        raise ValueError(
            f"{tableau.name!r} needs a derivative of F that {sde} does not have: use form='data', "
            "'noise' or 'precond'."
        )
    if rounded:
        raise ValueError(
            f"{tableau.name!r} takes the network's derivative in time, which one that is called on "
            "a table only does not have: use timesteps='interpolate', or a solver without "
            "derivatives."
        )


def _levels(
    sde: SemiLinearSDE, operations: Sequence[Operation], inner: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Times between which the solver steps: the starts of all inner steps and of the one after
    them, and the ends.
    """
    if not operations or sde.schedule is None:
        return inner, inner[1:]
    schedule = sde.schedule
    sigma = schedule.sigma(inner)
    noisiest = max(schedule.domain)
    limit = schedule.sigma(noisiest) if math.isfinite(noisiest) else _INF
    raised, lowered = levels(operations, sigma, torch.cat([sigma[1:], sigma[-1:]]), steps, limit)
    lowered = lowered[:-1]
    begin = torch.where(raised == sigma, inner, schedule.t_of_sigma(raised))
    stop = torch.where(lowered == sigma[1:], inner[1:], schedule.t_of_sigma(lowered))
    return begin, stop


class _Assembly:
    """Collects rows in order of execution, and the noise clocks of each leg."""

    def __init__(self, sde: SemiLinearSDE, tableau: Tableau, grid: Tensor) -> None:
        self.sde, self.tableau, self.grid = sde, tableau, grid
        self.rows: list[Row] = []
        self.taus: list[Tensor | None] = []
        self.local: list[Tensor | None] = []
        self.carried: int | None = None
        self.added = 1.0

    def plan(self) -> Plan:
        return Plan(
            self.sde,
            self.tableau.name,
            self.grid,
            tuple(self.rows),
            tuple(self.taus),
            tuple(self.local),
        )

    def leg(self, part: _Step) -> None:
        """Rows that share a start and noise; rows are told which leg they are in."""
        rows, taus, local = part
        self.rows += [row._replace(leg=len(self.taus)) for row in rows]
        self.taus.append(taus)
        self.local.append(local)

    def regular(
        self,
        inner: Tensor,
        begin: Tensor,
        stop: Tensor,
        operations: Sequence[Operation],
        first: int,
        after: int,
        round_time: Callable[[Tensor], Tensor] | None,
    ) -> None:
        """All steps with finite clocks; those of one scheme are computed together."""
        count = len(inner) - 1
        schemes = [self.tableau.at(k, count + after) for k in range(count)]
        if self.tableau.history and count > 1 and not self.sde.event_ndim:
            h = self.sde.clock(stop.detach()) - self.sde.clock(begin[:-1].detach())
            jumps = (torch.nonzero(h[1:] > self.tableau.max_ratio * h[:-1]).flatten() + 1).tolist()
            for k in jumps:
                schemes[k] = schemes[k].without_history()
        gain = _gain(self.sde, operations, begin[:-1], stop)
        place: dict[int, tuple[StepStages, int]] = {}
        for scheme in {id(scheme): scheme for scheme in schemes}.values():
            chosen = [k for k in range(count) if schemes[k] is scheme]
            index = torch.tensor(chosen)
            earlier = [begin[index - j - 1] for j in range(scheme.history)]
            if scheme.history > chosen[0]:
                raise ValueError(
                    f"Tableau {scheme.name!r} looks back {scheme.history} steps in step "
                    f"{chosen[0] + 1}."
                )
            numbers = step_stages(
                self.sde,
                scheme,
                begin[index],
                stop[index],
                earlier,
                round_time=round_time,
                gain=None if gain is None else gain[index],
            )
            place |= {k: (numbers, i) for i, k in enumerate(chosen)}
        self.added = math.prod(operation.added for operation in operations)
        ratios = [ratio for operation in operations for ratio in operation.langevin]
        starts: list[int] = []  # row of the evaluation 0 of each step
        grid, begins, stops = (
            inner.detach().tolist(),
            begin.detach().tolist(),
            stop.detach().tolist(),
        )
        before = self.added_noise(inner[:-1], begin[:-1]) if operations else []
        behind = self.added_noise(stop, inner[1:]) if operations else []
        for k in range(count):
            if begins[k] != grid[k]:
                self.leg(_fresh_noise(first + k, grid[k], begins[k], *before[k]))
            numbers, i = place[k]
            lifted = stops[k] != grid[k + 1]
            self.step(
                first + k, schemes[k], numbers, i, starts, ends_step=not lifted and not ratios
            )
            if lifted:
                self.leg(
                    _fresh_noise(first + k, stops[k], grid[k + 1], *behind[k], ends_step=not ratios)
                )
            for n, ratio in enumerate(ratios):
                self.leg(
                    _langevin(
                        self.sde,
                        first + k,
                        len(self.rows),
                        grid[k + 1],
                        ratio,
                        n == len(ratios) - 1,
                    )
                )

    def step(
        self,
        step: int,
        scheme: Tableau,
        numbers: StepStages,
        i: int,
        starts: list[int],
        *,
        ends_step: bool,
    ) -> None:
        """The rows of one step; `starts` gets the row of its first evaluation."""
        base, last = len(self.rows), len(scheme.stages) - 1
        reused = self.carried if scheme.reuse else None
        starts.append(base if reused is None else reused)
        rows = []
        for n, stage in enumerate(numbers.stages):
            weights = tuple(
                (starts[j - 1] if j <= 0 else base + j, w[i]) for j, w in stage.weights.items()
            )
            weights += tuple((~(base + j), w[i]) for j, w in stage.slopes.items())
            rows.append(
                Row(
                    step=step,
                    time=stage.evaluation[i],
                    prediction=self.sde.prediction,
                    target=stage.target[i],
                    scale=stage.scale[i],
                    weights=weights,
                    node=stage.node,
                    ends_step=n == last and ends_step,
                    ends_leg=n == last,
                    evaluates=n > 0 or reused is None,
                    share=scheme.stages[n].share,
                    tangent=stage.tangent[i] if stage.tangent is not None else None,
                    **{name: values[i] for name, values in stage.kick.items()},
                )
            )
        taus, local = (
            (None, None) if numbers.taus is None else (numbers.taus[i], numbers.local_taus[i])
        )
        self.leg((rows, taus, local))
        self.carried = base + last if scheme.reuse and last else None

    def added_noise(self, start: Tensor, end: Tensor) -> list[tuple[float, float]]:
        """Factor of the state, and standard deviation of the noise, that bring it from `start` to
        noisier times `end`.
        """
        schedule = self.sde.schedule
        assert schedule is not None
        low, high, alpha = schedule.sigma(start), schedule.sigma(end), schedule.alpha(end)
        std = alpha * torch.sqrt(((high - low) * (high + low)).clamp(min=0.0)) * self.added
        return list(zip((alpha / schedule.alpha(start)).tolist(), std.tolist(), strict=True))

    def last_to_zero(self, begin: Tensor) -> None:
        """The last step to σ = 0, where every form has the same first-order limit: x = α D, without
        noise.
        """
        schedule = self.sde.schedule
        assert schedule is not None
        step, start, end = len(self.grid) - 2, self.grid[-2].item(), self.grid[-1].item()
        if begin.item() != start:
            ((scale, std),) = self.added_noise(self.grid[-2:-1], begin.reshape(1))
            self.leg(_fresh_noise(step, start, begin.item(), scale, std))
            start = begin.item()
        here = len(self.rows)
        source = here if self.carried is None else self.carried
        row = Row(
            step,
            start,
            "data",
            end,
            0.0,
            ((source, float(schedule.alpha(end))),),
            None,
            None,
            0,
            True,
            evaluates=source == here,
        )
        self.leg(([row], None, None))


def _gain(
    sde: SemiLinearSDE, operations: Sequence[Operation], start: Tensor, end: Tensor
) -> Tensor | None:
    """Product of the factors that the operations give the noise of the steps."""
    if sde.schedule is None:
        return None
    gains = [
        gain
        for operation in operations
        if (gain := operation.gain(sde.schedule, start, end)) is not None
    ]
    return torch.stack(gains).prod(0) if gains else None


def _fresh_noise(
    step: int,
    start: float,
    end: float,
    scale: float,
    std: float,
    weights: Any = (),
    *,
    ends_step: bool = False,
) -> _Step:
    """A row whose noise is not the path's, but fresh: it has no place in the noise clock of the
    SDE.
    """
    row = Row(
        step, start, "data", end, scale, weights, None, std, 1, ends_step, evaluates=bool(weights)
    )
    return [row], None, torch.tensor([0.0, 1.0], dtype=torch.float64)


def _langevin(
    sde: SemiLinearSDE, step: int, index: int, time: float, ratio: float, ends_step: bool
) -> _Step:
    """x + ε s + √(2ε) z with ε = 2 (r σ̄)² and s = (αD − x)/σ̄²."""
    schedule = sde.schedule
    assert schedule is not None
    weights = ((index, 2.0 * ratio**2 * schedule.alpha(time)),)
    std = 2.0 * ratio * schedule.std(time)
    return _fresh_noise(step, time, time, 1.0 - 2.0 * ratio**2, std, weights, ends_step=ends_step)


def _check_grid(sde: SemiLinearSDE, grid: Any) -> Tensor:
    if sde.schedule is not None:
        return grids.check(sde.schedule, grid)
    times = as_float64(grid)
    if times.ndim != 1 or len(times) < 2 or not torch.isfinite(times).all():
        raise ValueError(
            f"A grid is a 1-D sequence of at least 2 finite times, got shape {tuple(times.shape)}: "
            f"{grid!r}."
        )
    mu = sde.clock(times)
    flat = torch.nonzero(~(mu[1:] > mu[:-1]))
    if len(flat):
        i = int(flat[0])
        raise ValueError(
            f"The clock of {sde} must increase along the grid, but between grid[{i}] = "
            f"{times[i].item():.9g} and grid[{i + 1}] = {times[i + 1].item():.9g} it goes from "
            f"{mu[i].item():.9g} to {mu[i + 1].item():.9g}."
        )
    return times


def _degenerate_ends(sde: SemiLinearSDE, times: Tensor) -> tuple[bool, bool]:
    if sde.schedule is None:
        return False, False
    lam = sde.schedule.lam(times.detach())
    return lam[0].item() == -_INF, lam[-1].item() == _INF


def _first_from_infinity(sde: SemiLinearSDE, times: Tensor) -> _Step:
    """The first step from σ = ∞, where every form has the same limit, of first order: x_t = P x_s +
    α_t D + noise.

    ℓ > 0: P = 0 and the noise has standard deviation σ̄_t; ℓ = 0: P = σ̄_t/σ̄_s and no noise. In
    between are noise scales for which φ/σ stays finite as σ → ∞, such as windows: P = (σ̄_t/σ̄_s)
    √q and variance σ̄_t² (1 − q) with q = τ_s/τ_t.
    """
    schedule = sde.schedule
    assert schedule is not None
    start, end = times[0].item(), times[1].item()
    std = float(schedule.std(end))
    weights = ((0, float(schedule.alpha(end))),)
    if not sde.is_stochastic or std == 0.0:
        scale = std / float(schedule.std(start))
        return [Row(0, start, "data", end, scale, weights, None, None, 0, True)], None, None
    # In the global clock the first interval starts at τ(σ=∞): 0 in every form but the noise form,
    # where it is −∞ and only fresh noise can serve.
    tau = torch.stack([sde.noise_clock(times[0]), sde.noise_clock(times[1])])
    kept = min(float(tau[0] / tau[1]), 1.0) if sde.noise_sign > 0 else 0.0
    scale = math.sqrt(kept) * std / float(schedule.std(start))
    noise = std / math.sqrt(tau[1] if sde.noise_sign > 0 else tau[1] - tau[0])
    row = Row(0, start, "data", end, scale, weights, noise, std, 1, True)
    return [row], tau, torch.tensor([0.0, 1.0 - kept], dtype=torch.float64)
