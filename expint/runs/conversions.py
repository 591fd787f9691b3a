"""What an output of the model says: F in the form of the plan, and the denoised estimate, as affine
maps per row.
"""

import contextlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from expint.equations.predictions import conversion, to_denoiser
from expint.plans.plan import Plan
from expint.schedules import Schedule

__all__ = ["Conversion", "conversions"]


class Conversion(NamedTuple):
    """Affine maps from a model's output to F and to the denoiser, as (on_x, on_output) floats."""

    to_f: tuple[float, float]
    to_d: tuple[float, float]

    def apply(self, output: Tensor, x: Tensor) -> Tensor:
        return _affine(self.to_f, output, x)

    def denoised(self, output: Tensor, x: Tensor) -> Tensor:
        return _affine(self.to_d, output, x)


def _affine(rule: tuple[float, float], output: Tensor, x: Tensor) -> Tensor:
    output = output if output.dtype == x.dtype else output.to(x.dtype)
    if rule == (0.0, 1.0):
        return output
    return torch.mul(output, rule[1]).add_(x, alpha=rule[0])


def conversions(plan: Plan, model: Any) -> list[Conversion]:
    """How each row turns the model's output into F, for all rows at once."""
    schedule = plan.sde.schedule
    if schedule is None:
        same = (0.0, 1.0)
        return [Conversion(same, same)] * len(plan.rows)
    prediction, sigma_data = getattr(model, "prediction", None), getattr(model, "sigma_data", None)
    if prediction is None:
        raise ValueError(
            f"The model {type(model).__name__} has no attribute `prediction`: set it to what the "
            "network predicts ('data', 'noise', 'v', 'flow', 'score' or 'precond'), or wrap the "
            "network in an adapter."
        )
    times = torch.tensor([row.time for row in plan.rows], dtype=torch.float64)
    _check_schedule(
        schedule, getattr(model, "schedule", None), times[[row.evaluates for row in plan.rows]]
    )
    to_f, to_d = (
        torch.zeros(2, len(times), dtype=torch.float64),
        torch.zeros(2, len(times), dtype=torch.float64),
    )
    for target in {row.prediction for row in plan.rows}:
        mask = torch.tensor([row.evaluates and row.prediction == target for row in plan.rows])
        denoiser = to_denoiser(prediction, schedule, times[mask], sigma_data)
        to_d[0, mask], to_d[1, mask] = denoiser
        if target == "rate" and plan.sde.rate is not None:
            on_x, on_data = plan.sde.rate(times[mask])
            rule = (on_x + on_data * denoiser.on_x, on_data * denoiser.on_output)
        else:
            rule = conversion(
                prediction,
                target,
                schedule,
                times[mask],
                source_sigma_data=sigma_data,
                target_sigma_data=plan.sde.sigma_data,
            )
        to_f[0, mask], to_f[1, mask] = rule
    return [
        Conversion(tuple(f), tuple(d))
        for f, d in zip(to_f.T.tolist(), to_d.T.tolist(), strict=True)
    ]


def _check_schedule(planned: Schedule, own: Any, times: Tensor) -> None:
    """Refuse a model of another noise schedule than the plan's, unless they agree at all times of
    the plan.
    """
    if own is None or own is planned or own == planned:
        return
    if isinstance(own, Schedule):
        with contextlib.suppress(ValueError):  # outside its domain: they do not agree
            pairs = ((planned.log_alpha, own.log_alpha), (planned.lam, own.lam))
            if all(torch.allclose(f(times), g(times), rtol=1e-6, atol=1e-6) for f, g in pairs):
                return
    raise ValueError(
        f"The plan is for the schedule {planned}, but the model has {own}: compile the plan for "
        "the model's schedule."
    )
