"""The noise that leads to a given sample."""

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from expint.guards.finite import check_state
from expint.guards.training import warn_in_training
from expint.noise import Gaussian, Replay, SubstepNoise, per_sample
from expint.plans import Plan
from expint.runs import Description, Run, describe, drive
from expint.runs.model import Counted
from expint.sampling import SamplingOptions, arguments_for, plan_sampling
from expint.solvers.registry import Solver
from expint.transitions.joint_laws import kernels
from expint.transitions.walk import Walk

_NEAR = {torch.float64: 1e-12, torch.float32: 1e-5}
"""How near a run must come to x0, over its largest entry if that is above 1."""
_MOST_RUNS = 40


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
    is also in a state that the model is called at: a fixed point, which takes some more runs.

    Args:
        model: as for `expint.sample`.
        x0: the samples, shape (batch, *event), float32 or float64: states at the plan's last time.
        solver, options: as for `expint.sample`; without a solver, a stochastic one by the number of
            evaluations. The grid ends at the schedule's smallest σ (`final="none"`), since a last
            step to σ = 0 gives a denoised estimate, which has no noise to solve for.
        seed, seeds, start: of the noise that is added, as for `expint.sample`.
        independent: noise each row on its own, as in the source, which leaves more of x0 in the
            normals, whose variance is larger than 1; default: along one path of the forward
            process, so that for a perfect network the normals are nearly standard.

    Returns:
        The state at the plan's first time, of the shape and dtype of x0, and the normals.

    Raises:
        TypeError, ValueError: before the first evaluation for anything that does not fit, for a
            plan without noise, and for one whose last state has none: after a last step to σ = 0.
        RuntimeError: if the fixed point is not reached.

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
    last = kernels(plan)[-1]
    if not last.loadings.get(len(plan.rows) - 1):
        raise ValueError(
            f"The last state of {plan.solver!r} on this grid has no noise: it is a function of the "
            "states before, such as a denoised estimate, and x0 need not be one of its values. Let "
            "the grid end at sigma > 0 (final='none'), with a solver whose last step adds noise, "
            "for example 'seeds-2' or 'dpmpp-2m-sde'."
        )
    own = per_sample(seed, len(x0), seeds=seeds, start=start)
    with torch.no_grad():
        noised = _noised(plan, x0, own, independent=independent)
        walk = Walk(plan, about, noised[-1], noised.__getitem__, x0.dtype)
        walk.go(model)
        normals = walk.normals()
        _refine(plan, model, about, noised[-1], normals, x0)
        return noised[-1], Replay(normals)


def _refine(
    plan: Plan, model: Any, about: Description, x: Tensor, normals: Tensor, x0: Tensor
) -> None:
    """Run with the normals, and move the last ones by what is missing at the end, until nothing is:
    rounding, and in a last row that shares its noise with an earlier one, a fixed point."""
    last = kernels(plan)[-1]
    loadings = torch.tensor(last.loadings[len(plan.rows) - 1], dtype=torch.float64)
    if last.free[-1] == len(plan.rows) - 1:  # the last u is in no other row
        loadings[:-1] = 0.0
    direction = loadings @ last.basis[: len(loadings)] / loadings.square().sum()
    own = normals[-len(direction) :]
    allowed = _NEAR[x0.dtype] * x0.abs().max().clamp(min=1.0)
    moved, before = torch.zeros_like(own[:1]), own[:1]
    missing = before
    for _ in range(_MOST_RUNS):
        run = Run(plan, Counted(about, None, None), x, Replay(normals))
        drive(run, model)
        missing = (x0 - run.result())[None].to(own)
        if missing.abs().max() <= allowed:
            return
        length = _dot(moved, moved) / _dot(moved, before - missing)
        moved = torch.where(length > 0.0, length, 1.0).clamp(0.01, 1.0) * missing
        own += torch.tensordot(direction.to(own)[:, None], moved, dims=1)
        before = missing
    raise RuntimeError(
        f"The last step of {plan.solver!r} calls the model at states of its own noise, and the "
        f"fixed point for it was not reached in {_MOST_RUNS} runs: {missing.abs().max():.3g} is "
        "missing. Take shorter steps at the end, or a solver of one evaluation a step, for example "
        "'seeds-ab2'."
    )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of each sample, shape (1, batch, 1, …)."""
    return (a * b).sum(dim=tuple(range(2, a.ndim)), keepdim=True)


def _noised(
    plan: Plan, x0: Tensor, seeds: Sequence[int], *, independent: bool
) -> dict[int, Tensor]:
    """x0 noised to the times of the free rows, and as −1 to the first time of the grid.

    x_i = (α_i/α_e) x0 + σ̄_i n_i; along the forward process, from low to high σ and n_e = 0,

        n_i = r n_(i−1) + √(1 − r²) z_i,   r = σ_(i−1)/σ_i;   independent: r = 0 after r_1 = σ_e/σ_i
    """
    assert plan.sde.diffusion
    schedule = plan.sde.diffusion.schedule
    free = [i for kernel in kernels(plan) for i in kernel.free]
    times = {i: float(plan.rows[i].target) for i in free} | {-1: plan.grid[0].item()}
    sigma = {i: schedule.sigma(t) for i, t in times.items()}
    last, end = free[-1], plan.grid[-1].item()
    end, alpha = schedule.sigma(end), schedule.alpha(end)
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
