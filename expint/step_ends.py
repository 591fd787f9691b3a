"""Samples noised to where the rows of a plan should lead, and normals with which its steps end
there."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from expint.fixed_points import solve
from expint.noise import Replay
from expint.plans import Plan
from expint.runs import Description, Run, drive
from expint.runs.model import Counted

_NEAR = 1e-3  # of the noise of a step before the last one


def noised(
    plan: Plan, x0: Tensor, rows: list[int], end: float, z: Iterator[Tensor], *, independent: bool
) -> dict[int, Tensor]:
    """x0 noised to the targets of the rows, and as −1 to the first time of the grid.

    x_i = (α_i/α_e) x0 + σ̄_i n_i; along the forward process, from low to high σ and n_e = 0,

        n_i = r n_(i−1) + √(1 − r²) z_i,   r = σ_(i−1)/σ_i;   independent: r = 0 after r_1 = σ_e/σ_i
    """
    assert plan.sde.diffusion
    schedule, last = plan.sde.diffusion.schedule, rows[-1]
    times = {i: float(plan.rows[i].target) for i in rows} | {-1: plan.grid[0].item()}
    sigma = {i: schedule.sigma(t) for i, t in times.items()}
    end, alpha = schedule.sigma(end), schedule.alpha(end)
    found, n, before = {last: x0}, torch.zeros_like(x0), end
    for i in sorted(set(times) - {last}, key=sigma.__getitem__):
        if independent:
            n, before = torch.zeros_like(x0), end
        r = min(before / sigma[i], 1.0)
        n, before = r * n + (1.0 - r * r) ** 0.5 * next(z), sigma[i]
        found[i] = (schedule.alpha(times[i]) / alpha) * x0 + schedule.std(times[i]) * n
    return found


def normals_for(
    plan: Plan,
    about: Description,
    model: Any,
    ends: Mapping[int, Tensor],
    normals: Tensor,
    allowed: Tensor,
) -> Tensor:
    """Standard normals with which each step of a plan ends at a given state.

    The noise of the end of a step is y = n·z. Of the step's normals z the part across n is kept as
    it was drawn, and y is solved for: since z is in the stages too, y is a fixed point of

        y ← end − (p x_s + Σ_j w_j F_j(y)),   z = z_drawn + n (y − n·z_drawn) / |n|²

    Args:
        plan: with noise.
        about: what the model says of itself.
        model: it is called along the way.
        ends: states, shape (batch, *event): the initial one as −1, others by the row that ends a
            substep. Before the last one they are reached to a
            thousandth of the step's noise, or as nearly as can be, and the way goes on from what
            is reached.
        normals: drawn, shape (normals, batch, *event), float32 or float64.
        allowed: root mean square by which the last end may be missed, shape (batch,).

    Returns:
        The normals, of the shape and dtype of those drawn.
    """
    normals, states, used, x = normals.clone(), dict[int, Tensor](), 0, ends[-1]
    held: tuple[Any, ...] | None = None

    def see(i: int, state: Tensor) -> None:
        if i in ends:
            states[i] = state.clone()

    def go(evaluations: int) -> Run:
        """A run over these evaluations with the normals as they are."""
        run = Run(plan, Counted(about, None, None), x, Replay(normals), see)
        if held is not None:
            run.restore(*held)
        drive(run, model, evaluations=evaluations)
        return run

    def missing(place: Callable[[Tensor], Any], end: int, calls: int, y: Tensor) -> Tensor:
        place(y)
        go(calls)
        return ends[end] - states[end]

    for substep, group in groupby(range(len(plan.rows)), key=lambda i: plan.rows[i].substep):
        *_, end = rows = list(group)
        noise, calls = plan.noises[substep], sum(plan.rows[i].evaluates for i in rows)
        count = noise.normals if noise else 0
        own, used = normals[used : used + count], used + count
        if calls and end in ends:
            n, drawn = own.new_zeros(count), own.clone()
            n[: len(plan.rows[end].noise)] = own.new_tensor(plan.rows[end].noise)
            place = partial(_place, own, drawn, n)
            near = allowed if end == max(ends) else _NEAR * n.norm().expand(len(x))
            y, _ = solve(partial(missing, place, end, calls), _sum(n, drawn), near)
            place(y)
        if calls:
            held = go(calls).snapshot()
    return normals


def _place(own: Tensor, drawn: Tensor, n: Tensor, y: Tensor) -> None:
    """z, whose n·z is y."""
    across = (y - _sum(n, drawn)) / n.square().sum()
    torch.add(drawn, n.reshape(-1, *[1] * y.ndim) * across, out=own)


def _sum(n: Tensor, z: Tensor) -> Tensor:
    return torch.tensordot(n, z, dims=1)
