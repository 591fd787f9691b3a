"""Evaluations that a pipeline makes and a plan does not use."""

from dataclasses import replace

from expint.plans import Plan, Row


def with_idle(plan: Plan, index: int) -> Plan:
    """The plan with an evaluation before row `index`, the first of a substep, that changes
    nothing."""
    at = plan.rows[index].substep

    def moved(row: Row) -> Row:
        weights = ((j + (j >= index) - (~j >= index), w) for j, w in row.weights)
        return row._replace(substep=row.substep + (row.substep >= at), weights=tuple(weights))

    same = plan.rows[index]
    idle = same._replace(target=same.time, scale=1.0, weights=(), noise=(), tangent=None)
    rows = [moved(row) for row in plan.rows]
    rows.insert(index, idle)
    return replace(plan, rows=tuple(rows), noises=(*plan.noises[:at], None, *plan.noises[at:]))
