"""The noise that leads to a given sample."""

import math
from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from expint.encoding import one_step_back
from expint.fixed_points import solve
from expint.guards.finite import check_state
from expint.guards.training import warn_in_training
from expint.guards.warning import warn
from expint.noise import Gaussian, Replay, SubstepNoise, per_sample
from expint.plans import Plan
from expint.runs import Run, describe, drive
from expint.runs.model import Counted
from expint.sampling import SamplingOptions, arguments_for, plan_sampling
from expint.solvers.registry import Solver
from expint.transitions.joint_laws import kernels
from expint.transitions.walk import Walk

_NEAR = {torch.float64: 1e-12, torch.float32: 1e-5}
"""How near a run must come to x0, over its largest entry if that is above 1."""


def invert(
    model: Any,
    x0: Tensor,
    solver: Solver | None = None,
    *,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    start: int = 0,
    independent: bool = False,
    **options: Unpack[SamplingOptions],
) -> tuple[Tensor, Replay]:
    """An initial state and the normals with which a plan returns given samples: `expint.sample(
    model, x, plan=plan, noise=normals)` is x0 to rounding. Under another condition of the model it
    is an edit of x0 that keeps what the noise determines.

    x0 is noised forward to every row with noise of its own, and each row is solved for its normals.
    A second run checks them. In a last step with a corrector, or with a stage at its end, the noise
    is also in a state that the model is called at, and in a step of the ODE after the last noise
    (`edm-stochastic`) its start is to be found: fixed points, which take some more runs.

    Args:
        model: as for `expint.sample`.
        x0: the samples, shape (batch, *event), float32 or float64: states at the plan's last time.
        solver, options: as for `expint.sample`; without a solver, a stochastic one by the number of
            evaluations. By default the grid ends at the schedule's smallest σ (`final="none"`). A
            last step to σ = 0 gives a denoised estimate, of which x0 need not be one: then x0 is
            the state before it, and a run returns the denoised x0.
        seed, seeds, start: of the noise that is added, as for `expint.sample`.
        independent: noise each row on its own, as in the source, which leaves more of x0 in the
            normals, whose variance is larger than 1; default: along one path of the forward
            process, so that for a perfect network the normals are nearly standard.

    Returns:
        The state at the plan's first time, of the shape and dtype of x0, and the normals.

    Raises:
        TypeError, ValueError: before the first evaluation for anything that does not fit, and for a
            plan without noise.
        RuntimeError: if the fixed point is not reached.

    Warns:
        UserWarning: of a last step to σ = 0, with how far from x0 a run then ends.

    Source: DDPM inversion, arXiv 2304.06140, for every row of a plan.

    Example:
        >>> import expint, torch
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
        >>> x0 = torch.tensor([[0.5, -1.0], [2.0, -2.5]])
        >>> plan = expint.plan_sampling(target.schedule, "seeds-2", steps=10, final="none")
        >>> x, noise = invert(target, x0, plan=plan)
        >>> again = expint.sample(target, x, plan=plan, noise=noise, progress=False)
        >>> torch.allclose(again, x0, atol=1e-5)
        True
    """
    about = describe(model)
    warn_in_training(model)
    check_state(x0)
    if x0.dtype not in _NEAR:
        raise TypeError(f"Samples to invert are float32 or float64, got {x0.dtype}.")
    if options.get("plan") is None:
        options.setdefault("final", "none")
    plan = plan_sampling(about.schedule, **arguments_for(about, solver, options, noise=True))
    last, to_zero = kernels(plan)[-1], about.schedule.lam(plan.grid[-1].item()) == math.inf
    goal, free = len(plan.rows) - 1 - to_zero, last.free[-1]
    ends = float(plan.rows[free].target), float(plan.rows[goal].target)
    if (tail := goal not in last.loadings) and plan.sde.is_stochastic:
        raise ValueError(
            f"The last state of {plan.solver!r} on this grid has no noise, though {plan.sde} has: "
            "let its last step above sigma = 0 add noise."
        )
    own = per_sample(seed, len(x0), seeds=seeds, start=start)
    with torch.no_grad():

        def before(y: Tensor) -> Tensor:
            """The state after the last row with noise of its own."""
            return one_step_back(plan, model, about, y, *ends) if tail else y

        noised = _noised(plan, about.schedule, x0, ends[1], own, independent=independent)
        first = noised[free] = before(x0)
        walk = Walk(plan, about, noised[-1], noised.__getitem__, x0.dtype)
        walk.go(model)
        normals = walk.normals()
        loadings = torch.tensor(last.loadings[free if tail else goal], dtype=torch.float64)
        if tail or free == goal:  # the last u is in no other row
            loadings[:-1] = 0.0
        # What moves the last row with noise by 1.
        direction = (last.basis[: len(loadings)].T @ loadings / loadings.square().sum()).to(normals)
        moving, states = normals[-len(direction) :], dict[int, Tensor]()
        base = moving.clone()

        def missing(y: Tensor) -> Tensor:
            moved = (before(y) - first)[None].to(base)
            torch.add(base, torch.tensordot(direction[:, None], moved, dims=1), out=moving)
            source, see = Replay(normals), lambda i, x: states.update({i: x.clone()})
            run = Run(plan, Counted(about, None, None), noised[-1], source, see)
            drive(run, model)
            return x0 - states[goal]

        allowed = 0.3 * _NEAR[x0.dtype] * x0.abs().max().clamp(min=1.0)
        best, reached = solve(missing, x0, allowed.expand(len(x0)))
        largest = missing(best).abs().max()
    if not reached:
        raise RuntimeError(
            f"The last step of {plan.solver!r} calls the model at states of its own noise, and the "
            f"fixed point for it was not reached: {largest:.3g} is missing. Take shorter steps at "
            "the end, or a solver of one evaluation a step, for example 'seeds-ab2'."
        )
    if to_zero:
        warn(
            "The last step goes to sigma = 0: x0 is the state before it, and a run returns its "
            f"denoised estimate, {(states[goal + 1] - x0).abs().max():.3g} from x0 at most. With "
            "final='none' a run returns x0."
        )
    return noised[-1], Replay(normals)


def _noised(
    plan: Plan, schedule: Any, x0: Tensor, end: float, seeds: Sequence[int], *, independent: bool
) -> dict[int, Tensor]:
    """x0 noised to the times of the free rows, and as −1 to the first time of the grid.

    x_i = (α_i/α_e) x0 + σ̄_i n_i; along the forward process, from low to high σ and n_e = 0,

        n_i = r n_(i−1) + √(1 − r²) z_i,   r = σ_(i−1)/σ_i;   independent: r = 0 after r_1 = σ_e/σ_i
    """
    free = [i for kernel in kernels(plan) for i in kernel.free]
    times = {i: float(plan.rows[i].target) for i in free} | {-1: plan.grid[0].item()}
    sigma = {i: schedule.sigma(t) for i, t in times.items()}
    last, end, alpha = free[-1], schedule.sigma(end), schedule.alpha(end)
    stream = Gaussian(seeds).stream(x0, [SubstepNoise(len(times))])
    drawn = iter(stream.normals(SubstepNoise(len(times))))
    noised, n, before = {last: x0}, torch.zeros_like(x0), end
    for i in sorted(set(times) - {last}, key=sigma.__getitem__):
        if independent:
            n, before = torch.zeros_like(x0), end
        r = min(before / sigma[i], 1.0)
        n, before = r * n + (1.0 - r * r) ** 0.5 * next(drawn), sigma[i]
        noised[i] = (schedule.alpha(times[i]) / alpha) * x0 + schedule.std(times[i]) * n
    return noised
