"""From a model's output to F in the form of the plan, and to the denoised estimate, as affine maps
per row."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from expint.plans import Plan
from expint.runs.model import attributes


class Conversion(NamedTuple):
    """Affine maps from a model's output to F and to the denoiser, as (on_x, on_output) floats."""

    to_f: tuple[float, float]
    to_d: tuple[float, float]

    def apply(self, output: Tensor, x: Tensor) -> Tensor:
        """F."""
        return _affine(self.to_f, output, x)

    def denoised(self, output: Tensor, x: Tensor) -> Tensor:
        """The denoised estimate."""
        return _affine(self.to_d, output, x)


def _affine(rule: tuple[float, float], output: Tensor, x: Tensor) -> Tensor:
    output = output if output.dtype == x.dtype else output.to(x.dtype)
    if rule == (0.0, 1.0):
        return output
    return torch.mul(output, rule[1]).add_(x, alpha=rule[0])


def conversions(plan: Plan, model: Any) -> list[Conversion]:
    """How each row turns the model's output into F, for all rows at once."""
    diffusion = plan.sde.diffusion
    if not diffusion:
        same = (0.0, 1.0)
        return [Conversion(same, same)] * len(plan.rows)
    own = attributes(model)
    prediction = own.get("prediction")
    if prediction is None:
        raise ValueError(
            f"The model {type(model).__name__} has no attribute `prediction`: set it to what the "
            "network predicts ('data', 'noise', 'v', 'flow', 'score' or 'precond'), or wrap the "
            "network in an adapter."
        )
    times = torch.tensor([row.time for row in plan.rows], dtype=torch.float64)
    called = torch.tensor([row.evaluates for row in plan.rows])
    diffusion.check_schedule(own.get("schedule"), times[called])
    to_f = torch.zeros(len(times), 2, dtype=torch.float64)
    to_d = torch.zeros(len(times), 2, dtype=torch.float64)
    for target in {row.prediction for row in plan.rows}:
        mask = called & torch.tensor([row.prediction == target for row in plan.rows])
        rules = diffusion.conversions(prediction, target, times[mask], own.get("sigma_data"))
        to_f[mask], to_d[mask] = (torch.stack(list(rule), 1) for rule in rules)
    pairs = zip(to_f.tolist(), to_d.tolist(), strict=True)
    return [Conversion(tuple(f), tuple(d)) for f, d in pairs]


def conversion_rates(plan: Plan, model: Any) -> dict[int, tuple[float, float]]:
    """For the rows with a tangent, the time derivatives of the coefficients with which F = on_x · x
    + on_output · output."""
    rows = [i for i, row in enumerate(plan.rows) if row.tangent is not None]
    diffusion = plan.sde.diffusion
    if not diffusion or not rows:
        return dict.fromkeys(rows, (0.0, 0.0))
    own = attributes(model)
    with torch.inference_mode(False), torch.enable_grad():
        times = torch.tensor([plan.rows[i].time for i in rows], dtype=torch.float64)
        times.requires_grad_(True)
        rule, _ = diffusion.conversions(
            own["prediction"], diffusion.prediction, times, own.get("sigma_data")
        )
        slopes = [
            torch.autograd.grad(value.sum(), times, retain_graph=True)[0]
            if value.requires_grad
            else torch.zeros_like(times)
            for value in rule
        ]
    return dict(zip(rows, zip(*(slope.tolist() for slope in slopes), strict=True), strict=True))
