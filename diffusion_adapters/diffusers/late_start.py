"""Plans that begin at one of the evaluations of another plan: image to image with a step-by-step
scheduler.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan
from expint.solvers import Operation, Tableau, seeds1

__all__ = ["begin_at", "evaluation_times"]

_SAME = 1e-9  # relative difference within which two times are one


def evaluation_times(plan: Plan) -> Tensor:
    """Times of the network evaluations in order, float64, shape (nfe,)."""
    return torch.tensor([row.time for row in plan.rows if row.evaluates], dtype=torch.float64)


def begin_at(
    plan: Plan,
    index: int,
    tableau: Tableau,
    round_time: Callable[[Tensor], Tensor] | None = None,
    operations: Sequence[Operation] = (),
) -> Plan:
    """The plan of the evaluations `index`, `index` + 1, … of `plan`, at the same times, from a
    state given at the first of them.

    A solver of one step goes on as if it came from before. One of several steps starts anew, with
    less history. Inside a step, the evaluations that are left of it become steps of first order.

    Args:
        plan: the whole plan. At index 0, noise that it adds before the first evaluation is taken as
            part of the given state.
        index: of the first evaluation.
        tableau, round_time, operations: with which `plan` was compiled.

    Raises:
        ValueError: if there is no such plan, with the indices from which there is one.
    """
    times = evaluation_times(plan)
    found = (
        _begin_at(plan, index, times, tableau, round_time, operations)
        if 0 <= index < len(times)
        else None
    )
    if found is None:
        known = [
            i
            for i in range(min(len(times), 64))
            if _begin_at(plan, i, times, tableau, round_time, operations) is not None
        ]
        raise ValueError(
            f"{plan.solver!r} cannot begin at evaluation {index} of {len(times)}, inside one of "
            f"its steps: it can begin at {known}{' ...' if len(times) > 64 else ''}."
        )
    return found


def _begin_at(
    plan: Plan,
    index: int,
    times: Tensor,
    tableau: Tableau,
    round_time: Callable[[Tensor], Tensor] | None,
    operations: Sequence[Operation],
) -> Plan | None:
    rest = _cut(plan, index)
    if rest is not None:
        return rest
    single = replace(seeds1(), form=tableau.form)
    for extra in range(min(tableau.evaluations + 1, len(times) - index)):
        (places,) = torch.nonzero(_near(plan.grid, times[index + extra]), as_tuple=True)
        if not len(places):
            continue
        grid = torch.cat([times[index : index + extra], plan.grid[int(places[0]) :]])
        for start in (tableau.start, (single,) * len(tableau.start)):
            changed = replace(tableau, start=(single,) * extra + tuple(start))
            try:
                other = compile_plan(
                    plan.sde, changed, grid, round_time=round_time, operations=operations
                )
            except ValueError:  # two of the times are one, or nothing is left
                continue
            wanted, reached = times[index:], evaluation_times(other)
            if len(reached) == len(wanted) and bool(_near(reached, wanted).all()):
                return _cut(other, 0)
    return None


def _near(times: Tensor, other: Tensor) -> Tensor:
    return (times - other).abs() <= _SAME * (1e-3 + other.abs())


def _cut(plan: Plan, index: int) -> Plan | None:
    """The rows from an evaluation on, or None if they need what is before.

    Noise that is added before it is left out.
    """
    first = [i for i, row in enumerate(plan.rows) if row.evaluates][index]
    rows = plan.rows[first:]
    if first == 0:
        return plan
    leg, step = rows[0].leg, rows[0].step
    if plan.rows[first - 1].leg == leg or any(
        (j if j >= 0 else ~j) < first for row in rows for j, _ in row.weights
    ):
        return None
    moved = tuple(
        row._replace(
            step=row.step - step,
            leg=row.leg - leg,
            weights=tuple(
                (j - first if j >= 0 else j + first, weight) for j, weight in row.weights
            ),
        )
        for row in rows
    )
    return replace(
        plan,
        grid=plan.grid[step:],
        rows=moved,
        taus=plan.taus[leg:],
        local_taus=plan.local_taus[leg:],
    )
