"""Integrate along a plan of one's own."""

from typing import Any

from torch import Tensor

from expint import runs
from expint.guards.finite import check_state
from expint.guards.start import check_callback, check_noise, check_scale
from expint.guards.training import warn_in_training
from expint.noise import NoiseSource
from expint.plans import Plan
from expint.soundness import warn_of


def execute(
    plan: Plan,
    model: Any,
    x: Tensor,
    noise: NoiseSource | None = None,
    callback: runs.Callback | None = None,
) -> Tensor:
    """Integrate from state `x` at the first time of the plan's grid to the last.

    Args:
        plan: from `compile_plan`.
        model: callable model(x, t) → tensor of the shape of x, t a 0-dimensional float64 tensor.
            For a diffusion plan it has attributes `schedule` and `prediction` (and `sigma_data` if
            that is "precond"); for any other SDE it is F itself.
        x: initial state, shape (batch, *event), float32 or float64 (or half types), on any device.
            It is not changed. Half types are held in float32, and the model sees them in its own.
        noise: a noise source; may be None if the plan uses no noise.
        callback: called after every step as callback(step, nfe, t, x, denoised), with tensors of
            its own: to change them changes nothing.

    Returns:
        The state at the end, same shape, dtype and device as `x`.

    Raises:
        TypeError: for another kind of plan, model, noise or callback.
        ValueError: before the first evaluation for a state, model or noise source that does not
            fit; at an evaluation whose output has the wrong shape.
        FloatingPointError: if the state became NaN or infinite, with the first step, time and
            samples where it did; at the latest one step later.
        RuntimeError: for a model that begins to overwrite its input or an earlier output in the
            middle of a run. (One that does so from its first evaluation on is given copies.)

    Warns:
        expint.PlanWarning: for a plan that cannot give good samples, once.
        UserWarning: for a state whose size is far from that of the states at the first time, and
            for a network in train mode.
    """
    if not isinstance(plan, Plan):
        raise TypeError(f"plan is a Plan, from compile_plan or plan_sampling, got {plan!r}.")
    if not callable(model):
        raise TypeError(f"The model is called as model(x, t), got {model!r}.")
    check_noise(noise)
    check_callback(callback)
    warn_in_training(model)
    _check_event(plan, x)
    if plan.sde.diffusion:
        check_scale(x, plan.sde.diffusion.schedule, plan.grid[0].item())
        warn_of(plan)
    return runs.execute(plan, model, x, noise, callback)


def _check_event(plan: Plan, x: Tensor) -> None:
    """Refuse a state without the component axis of matrices, or whose event diagonal coefficients
    do not broadcast against: it would be enlarged."""
    check_state(x)
    if plan.sde.blocks:
        return plan.sde.blocks.check_state(x)
    row, event = plan.rows[0], tuple(x.shape[1:])
    for value in (row.scale, *row.noise, *(weight for _, weight in row.weights)):
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        pairs = zip(shape[::-1], event[::-1], strict=False)
        if len(shape) > len(event) or not all(a in (1, b) for a, b in pairs):
            raise ValueError(
                f"The coefficients of {plan.sde} have shape {shape}, which does not broadcast "
                f"against the event of the state, {event} of (batch, *event) = {tuple(x.shape)}."
            )
