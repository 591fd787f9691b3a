"""Steps that go further than they should: the step scale of samplers of protein structures."""

import math
from dataclasses import replace

from expint.numerics.float64 import are_numbers
from expint.plans.plan import Plan, Row


def step_scaled(plan: Plan, factor: float) -> Plan:
    """The plan with every step η times as long: r x_s + η (x − r x_s) in place of x, r = α_t/α_s.
    For α = 1 these are η times the solver's steps, the one to σ = 0 among them.

    The law is then not that of the data, but a narrower one. Noise is not touched.

    Args:
        plan: of a diffusion model, whose steps add no noise themselves; with operations, such as
            churn, that do.
        factor: the step scale η > 0; 1 changes nothing.

    Raises:
        ValueError: for another factor, or a plan with noise within its steps.

    Source: AlphaFold 3, Nature 630 (2024), supplementary algorithm 18, with η = 1.5.
    """
    diffusion = plan.sde.diffusion
    if not (are_numbers(factor) and 0.0 < factor < math.inf):
        raise ValueError(f"The step scale is a positive number, got {factor!r}.")
    if not diffusion or any(row.noise and row.weights for row in plan.rows):
        raise ValueError(
            f"The step scale is for steps without noise of a diffusion model, not for "
            f"{plan.solver!r} on {plan.sde}: take ell=0, and add noise by operations such as churn."
        )
    starts = {row.substep: row.time for row in reversed(plan.rows)}
    alpha, rows = diffusion.schedule.alpha, list[Row]()
    for row in plan.rows:
        ratio = float(alpha(row.target)) / float(alpha(starts[row.substep])) if row.weights else 1.0
        scale = ratio + factor * (row.scale - ratio) if row.weights else row.scale
        weights = tuple((j, factor * weight) for j, weight in row.weights)
        rows.append(row._replace(scale=scale, weights=weights))
    return replace(plan, rows=tuple(rows))
