"""How far each step trusts its extrapolation: a factor that turns a step gradually into one of
first order, with 1 the solver's own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64
from expint.plans.plan import Plan, Row


def extrapolated(plan: Plan, factors: Sequence[float] | Tensor) -> Plan:
    """The plan with the weights of each step's evaluations other than its first one times a factor,
    and the weight of the first one such that their sum, and so the step for constant F, stays:

        w_j ← γ w_j (j ≠ 0),    w_0 ← w_0 + (1 − γ) Σ_{j≠0} w_j.

    With γ = 0 every row is one of first order, with γ = 1 nothing changes. A γ other than 1 costs
    the order; the noise, and so its covariance, is not touched.

    Args:
        plan: one without derivatives.
        factors: one per step of the grid, finite; they may carry gradients.

    Raises:
        ValueError: for another number of factors, one that is not finite, or a plan with
            derivatives.
    """
    if plan.has_tangents:
        raise ValueError(f"{plan.solver!r} takes derivatives, whose weights have no factor.")
    values = as_float64(factors)
    if values.shape != (plan.steps,) or not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"There is one finite factor for each of the {plan.steps} steps, got {factors!r}."
        )
    each: Sequence[Any] = values.unbind(0) if values.requires_grad else values.tolist()
    first: dict[int, int] = {}  # row with which each substep begins
    for i, row in enumerate(plan.rows):
        first.setdefault(row.substep, i)
    rows = tuple(_scaled(row, first[row.substep], each[row.step]) for row in plan.rows)
    kept = plan.factors or (1.0,) * plan.steps
    both = tuple(a * b for a, b in zip(kept, values.tolist(), strict=True))
    return replace(plan, rows=rows, factors=both)


def _scaled(row: Row, first: int, factor: Any) -> Row:
    """The row of a substep whose first row is `first`."""
    known = [j for j, _ in row.weights if j <= first]
    if len(row.weights) < 2 or not known:
        return row
    anchor = max(known)  # the latest evaluation at the start of the step
    others = sum(w for j, w in row.weights if j != anchor)
    weights = tuple(
        (j, w + (1.0 - factor) * others if j == anchor else factor * w) for j, w in row.weights
    )
    return row._replace(weights=weights)
