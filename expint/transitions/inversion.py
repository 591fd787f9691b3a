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
from expint.runs import Run, describe, drive
from expint.runs.model import Counted
from expint.sampling import SamplingOptions, arguments_for, plan_sampling
from expint.solvers.registry import Solver
from expint.step_ends import noised, normals_for
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
    A second run checks them. Where the end of a step has no noise but that of its several stages
    (`seeds-sra3`, `etd-rk4`) it is noised in their place: of the step's normals one is a fixed
    point of some rounds of the step, and the others are drawn. In a last step with a corrector, or
    with one stage, at its end, the noise is also in a state that the model is called at, and in a
    step of the ODE after the last noise (`edm-stochastic`) its start is to be found: fixed points,
    which take some more runs.

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
    several = any(len(k.free) > 1 and max(k.loadings) not in k.free for k in kernels(plan))
    own = per_sample(seed, len(x0), seeds=seeds, start=start)
    with torch.no_grad():

        def before(y: Tensor) -> Tensor:
            """The state after the last row with noise of its own."""
            return one_step_back(plan, model, about, y, *ends) if tail else y

        rows = [i for k in kernels(plan) for i in ([max(k.loadings)] if several else k.free)]
        asked = SubstepNoise(len(rows) + 1)
        stream = Gaussian(own).stream(x0, [asked, *plan.run])
        z = iter(stream.normals(asked))
        to = noised(plan, x0, rows, ends[1], z, independent=independent)
        first, allowed = before(x0), 0.3 * _NEAR[x0.dtype] * x0.abs().max().clamp(min=1.0)
        if several:
            drawn = torch.stack([z for noise in plan.run for z in stream.normals(noise)])
            normals = normals_for(plan, about, model, to, drawn, allowed.expand(len(x0)))
        else:
            to[free] = first
            walk = Walk(plan, about, to[-1], to.__getitem__, x0.dtype)
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
            run = Run(plan, Counted(about, None, None), to[-1], source, see)
            drive(run, model)
            return x0 - states[goal]

        best, reached = solve(missing, x0, allowed.expand(len(x0)), 10 if several else 40)
        largest = missing(best).abs().max()
    if not reached:
        raise RuntimeError(
            f"The last step of {plan.solver!r} calls the model at states of its own noise, and the "
            f"fixed point for it was not reached: {largest:.3g} is missing. Take more steps, x0 in "
            "the network's own dtype, or a solver of one evaluation a step, such as 'seeds-ab2'."
        )
    if to_zero:
        warn(
            "The last step goes to sigma = 0: x0 is the state before it, and a run returns its "
            f"denoised estimate, {(states[goal + 1] - x0).abs().max():.3g} from x0 at most. With "
            "final='none' a run returns x0."
        )
    return to[-1], Replay(normals)
