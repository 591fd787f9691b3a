"""Rollouts: samples with the densities of the steps that led to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.guards.finite import check_state
from expint.guards.start import check_dtype
from expint.guards.training import warn_in_training
from expint.model_plans import title
from expint.noise import per_sample
from expint.plans import Plan
from expint.runs import Run, describe, drive
from expint.runs.model import Counted
from expint.runs.start import start_state
from expint.sampling import SamplingOptions, arguments_for, plan_sampling
from expint.solvers.registry import Solver
from expint.soundness import warn_of
from expint.transitions.joint_laws import kernels
from expint.transitions.walk import Walk, checkpointed


@dataclass(frozen=True, eq=False)
class Rollout:
    """Samples, and the states and densities of the transitions that led to them.

    A step of one stage, or of several steps, has one row with noise; a step of k stages has k of
    them, whose density is joint.

    Attributes:
        plan: what was run.
        states: the initial state, then that of every row with noise of its own, shape (rows + 1,
            batch, *event), in the dtype of the run, float32 at least.
        means: of these rows given the states before, shape (rows, batch, *event).
        log_probs: log p of each transition, of the states of its rows given all before them, shape
            (transitions, batch), float64 where the device has it.
        samples: what `expint.sample` returns for the same arguments, bit for bit.
    """

    plan: Plan
    states: Tensor
    means: Tensor
    log_probs: Tensor
    samples: Tensor

    @property
    def steps(self) -> tuple[int, ...]:
        """The step of the grid of each transition; steps without noise have none."""
        return tuple(kernel.step for kernel in kernels(self.plan))

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """Of each transition the lower triangular factor L of the covariance L Lᵀ of its rows, the
        same for every component, float64, shape (rows, rows): for one row its standard
        deviation."""
        return tuple(kernel.factor for kernel in kernels(self.plan))

    @property
    def stds(self) -> Tensor:
        """Standard deviation of each row's state about its mean, float64, shape (rows,)."""
        return torch.cat([factor.norm(dim=1) for factor in self.factors])


def rollout(
    model: Any,
    shape: Sequence[int] | Tensor,
    solver: Solver | None = None,
    *,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    start: int = 0,
    progress: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **options: Unpack[SamplingOptions],
) -> Rollout:
    """Draw samples and keep the states and densities of the transitions that led to them.

    It takes as many evaluations as `expint.sample`, and gives the same samples, bit for bit. All
    states and, until the densities are known, all outputs of the model are held.

    The densities are exact, for one row a step; in a step of several stages for the states of its
    rows jointly, since each is where the network is called next. Rows without noise of their own (a
    last step to σ = 0, the deterministic part of an ancestral step, a correction) have no density:
    their states are functions of those before them, and are computed again with the model.

    Args:
        model, shape, solver, seed, seeds, start, progress, dtype, device, options: as for
            `expint.sample`; without a solver, a stochastic one by the number of evaluations.

    Returns:
        The rollout, without gradients.

    Raises:
        ValueError: before the first evaluation for a plan without noise, ell=0: it has no
            transition density. Otherwise as `expint.sample`.

    Source: Gaussian transitions of a plan's rows; their use as a policy: DDPO, arXiv 2305.13301,
    and Flow-GRPO, arXiv 2505.05470.

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.Flow())
        >>> drawn = rollout(target, (3, 2), "seeds-1", steps=5, progress=False)
        >>> tuple(drawn.samples.shape), tuple(drawn.log_probs.shape)
        ((3, 2), (4, 3))
        >>> torch.equal(log_prob(target, drawn), drawn.log_probs)
        True
    """
    about = describe(model)
    warn_in_training(model)
    # `noise` as if it were given: the default then is a stochastic solver.
    plan = plan_sampling(about.schedule, **arguments_for(about, solver, options, noise=True))
    free = {i for kernel in kernels(plan) for i in kernel.free}
    warn_of(plan)
    seeding = partial(per_sample, seed, seeds=seeds, start=start)
    outputs, states = list[Tensor](), list[Tensor]()

    def kept(x: Tensor, t: Tensor) -> Tensor:
        outputs.append(model(x, t).clone())
        return outputs[-1]

    def see(i: int, state: Tensor) -> None:
        if i in free:
            states.append(state)

    bar = tqdm(total=plan.nfe, disable=not progress, unit="NFE", desc=title(plan))
    with torch.no_grad(), bar:
        x, noise = start_state(about, shape, plan, seeding, None, dtype, device)
        _check_real(x)
        run = Run(plan, Counted(about, model, bar), x, noise, see)
        states.insert(0, x.to(run.x.dtype))
        drive(run, Counted(about, kept, bar))
        left = iter(outputs)
        follow = iter(states[1:])
        walk = Walk(plan, about, states[0], lambda i: next(follow), x.dtype)
        walk.go(lambda x, t: next(left))
        parts = torch.stack(states), torch.stack(walk.means), walk.log_probs()
        return Rollout(plan, *parts, run.result())


def log_prob(
    model: Any,
    states: Rollout | Tensor,
    plan: Plan | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """log p of the transitions of a stored rollout under a model, differentiable with respect to
    the model's parameters: log_prob(new, …) − log_prob(old, …) is the log-ratio that policy
    gradients need.

    With gradients, every evaluation is made a second time in the backward pass, in place of keeping
    its activations. The last step to σ = 0 is not evaluated. For the model that the rollout is of
    the result is `Rollout.log_probs`, bit for bit unless the solver has a corrector, which is
    computed again to rounding.

    Args:
        model: as for `rollout`, for example with other weights.
        states: a rollout; or its states, shape (rows + 1, batch, *event), float32 or float64, for
            example of a part of its samples, and the plan.
        plan: that of the states. May be left out for a rollout.
        dtype: in which the model sees the states; default: that of the rollout's samples or of the
            given states.

    Returns:
        log p, shape (transitions, batch), float64 where the device has it; see `Rollout`.

    Raises:
        TypeError, ValueError: before the first evaluation for a plan without noise, states of
            another shape or not finite, a rollout of another plan, or a model with another
            schedule.
    """
    about = describe(model)
    warn_in_training(model)
    if isinstance(states, Rollout):
        same = isinstance(plan, Plan) and plan.to_dict() == states.plan.to_dict()
        if plan is not None and not same:
            raise ValueError(
                f"The rollout is of another plan: of {_words(states.plan)}, not of {_words(plan)}. "
                "Leave the plan out, or give rollout.plan."
            )
        plan, dtype, states = states.plan, dtype or states.samples.dtype, states.states
    elif plan is None:
        raise TypeError("States alone do not say which plan made them: give plan=rollout.plan.")
    rows = sum(len(kernel.free) for kernel in kernels(plan)) + 1
    check_state(states)
    _check_real(states)
    if states.ndim < 2 or len(states) != rows:
        raise ValueError(
            f"The states of {plan.solver!r} with {plan.steps} steps have shape ({rows}, batch, "
            f"*event), the initial one and one for each row with noise; got {tuple(states.shape)}."
        )
    if about.shape is not None and tuple(states.shape[2:]) != about.shape:
        raise ValueError(
            f"The model's samples have shape {about.shape}, but the states are of shape "
            f"{tuple(states.shape)}: (rows + 1, batch, *event)."
        )
    if dtype is not None:
        check_dtype(dtype)
    follow = iter(states[1:])
    walk = Walk(plan, about, states[0], lambda i: next(follow), dtype or states.dtype)
    walk.go(checkpointed(model))
    return walk.log_probs()


def _words(plan: Any) -> str:
    known = isinstance(plan, Plan)
    return f"{plan.solver!r} with {plan.steps} steps on {plan.sde}" if known else repr(plan)


def _check_real(x: Tensor) -> None:
    if x.is_complex():
        raise TypeError(f"Densities are for real states, got {x.dtype}.")
