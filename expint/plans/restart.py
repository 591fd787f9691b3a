"""Restart: a plan that goes back up to a higher noise level and down again, some times over."""

from dataclasses import replace
from itertools import accumulate

import torch

from expint import grids
from expint.numerics.float64 import are_numbers, is_whole
from expint.plans.compilation import compile_plan
from expint.plans.ends import added_noise, fresh_noise
from expint.plans.plan import Plan
from expint.plans.plan_files import coefficients


def restarted(
    plan: Plan, sigma_low: float, sigma_high: float, *, times: int = 1, steps: int | None = None
) -> Plan:
    """The plan with restarts: where it comes to `sigma_low`, noise is added up to `sigma_high` and
    the equation solved down again, `times` times, before it goes on. Exact steps keep the exact
    law; of errors made above, the noise hides a part each time.

    Args:
        plan: of a diffusion model. The grid time next to `sigma_low` is where it restarts.
        sigma_low, sigma_high: noise levels σ = σ̄/α, 0 < sigma_low < sigma_high, within the grid.
        times: restarts, the K of the source.
        steps: steps of each way down; default: as many as the plan has between the two levels. They
            are EDM's, with ρ = 7.

    Returns:
        A plan whose grid rises at each restart: the noise is added in a step of its own. It has no
        file.

    Raises:
        ValueError: for levels that do not lie in this order within the grid, another number of
            restarts or steps than 1 or more, a plan without a noise schedule, or one that was
            changed since it was compiled.

    Source: Restart sampling, arXiv 2306.14878, algorithm 1.

    Example:
        >>> import expint
        >>> plan = expint.plan_sampling(expint.schedules.EDM(), "heun", steps=12)
        >>> restarted(plan, 0.1, 1.0, times=2, steps=4).nfe - plan.nfe
        16
    """
    diffusion = plan.sde.diffusion
    if not diffusion:
        raise ValueError(f"Restarts add noise up to a level, and {plan.sde} has no noise schedule.")
    schedule, grid = diffusion.schedule, plan.grid
    sigma = torch.exp(-schedule.lam(grid))
    near = are_numbers(sigma_low, sigma_high) and 0.0 < sigma_low < sigma_high <= sigma[0]
    place = int((sigma - sigma_low).abs().argmin()) if near else 0
    if not 0 < place or not 0.0 < sigma[place] < sigma_high:
        raise ValueError(
            "Restarts go from sigma_low > 0 up to sigma_high > sigma_low, both within the grid, "
            f"from sigma = {sigma[0].item():.6g} to {sigma[-1].item():.6g}, and not to its first "
            f"or last time; got {sigma_low!r} and {sigma_high!r}."
        )
    for name, count in (("times", times), ("steps", 1 if steps is None else steps)):
        if not is_whole(count) or count < 1:
            raise ValueError(f"{name} is a positive integer, got {count!r}.")
    again = compile_plan(plan.sde, plan.method, grid)
    if not torch.equal(coefficients(again), coefficients(plan)):
        raise ValueError(
            "The plan is not what its solver and grid give, as plans with factors or with times of "
            "a table are not: add the restarts first, or use timesteps='interpolate'."
        )
    low, high = grid[place], schedule.t_of_sigma(torch.as_tensor(sigma_high, dtype=torch.float64))
    count = steps or max(1, int(((sigma < sigma_high) & (sigma >= sigma[place])).sum()))
    down = grids.karras(schedule, count, start=high.item(), stop=low.item(), final="none")
    (numbers,) = added_noise(diffusion, low[None], high[None], 1.0)
    lift, noise = fresh_noise(0, low.item(), high.item(), *numbers)
    back = compile_plan(plan.sde, plan.method, down)
    up = replace(back, grid=torch.stack([low, high]), rows=tuple(lift), noises=(noise,))
    parts = [compile_plan(plan.sde, plan.method, grid[: place + 1]), *[up, back] * times]
    if place + 1 < len(grid):
        parts.append(compile_plan(plan.sde, plan.method, grid[place:]))
    return _joined(parts)


def _joined(parts: list[Plan]) -> Plan:
    """One plan of all parts, each of which begins where the one before ends."""
    rows = []
    steps = accumulate((part.steps for part in parts), initial=0)
    substeps = accumulate((len(part.noises) for part in parts), initial=0)
    for part, step, substep in zip(parts, steps, substeps, strict=False):
        first = len(rows)
        rows += [
            row._replace(
                step=row.step + step,
                substep=row.substep + substep,
                weights=tuple((j + first if j >= 0 else j - first, w) for j, w in row.weights),
            )
            for row in part.rows
        ]
    grid = torch.cat([parts[0].grid[:1], *(part.grid[1:] for part in parts)])
    noises = tuple(noise for part in parts for noise in part.noises)
    return replace(parts[0], grid=grid, rows=tuple(rows), noises=noises)
