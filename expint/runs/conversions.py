"""From a model's output to F in the form of the plan, and to the denoised estimate, as affine maps
per row."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64
from expint.plans import Plan
from expint.plans.plan import Coefficient
from expint.runs.model import attributes

Rule = tuple[Coefficient, Coefficient]


class Conversion(NamedTuple):
    """Affine maps from a model's output to F and to the denoiser, as (on_x, on_output) floats."""

    to_f: Rule
    to_d: Rule

    def apply(self, output: Tensor, x: Tensor) -> Tensor:
        """F."""
        return _affine(self.to_f, output, x)

    def denoised(self, output: Tensor, x: Tensor) -> Tensor:
        """The denoised estimate."""
        return _affine(self.to_d, output, x)


def _affine(rule: Rule, output: Tensor, x: Tensor) -> Tensor:
    output = output if output.dtype == x.dtype else output.to(x.dtype)
    on_x, on_output = rule
    if isinstance(on_x, Tensor):
        return x * on_x.to(x) + output * as_float64(on_output).to(x)
    if rule == (0.0, 1.0):
        return output
    return torch.mul(output, on_output).add_(x, alpha=on_x)


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
    times = plan.times
    called = torch.tensor([row.evaluates for row in plan.rows])
    diffusion.check_schedule(own.get("schedule"), times[called].detach())
    to_f = torch.zeros(len(times), 2, dtype=torch.float64)
    to_d = torch.zeros(len(times), 2, dtype=torch.float64)
    for target in {row.prediction for row in plan.rows}:
        mask = called & torch.tensor([row.prediction == target for row in plan.rows])
        rules = diffusion.conversions(prediction, target, times[mask], own.get("sigma_data"))
        to_f[mask], to_d[mask] = (torch.stack(list(rule), 1) for rule in rules)
    rules = (_pairs(to_f), _pairs(to_d))
    return [Conversion(f, d) for f, d in zip(*rules, strict=True)]


def _pairs(values: Tensor) -> list[Rule]:
    """The two numbers of each row: floats, or tensors that carry gradients."""
    if not values.requires_grad:
        return [(on_x, on_output) for on_x, on_output in values.tolist()]
    return [(on_x, on_output) for on_x, on_output in zip(*values.unbind(1), strict=True)]


def conversion_rates(plan: Plan, model: Any) -> dict[int, tuple[float, float]]:
    """For the rows with a tangent, the time derivatives of the coefficients with which F = on_x · x
    + on_output · output."""
    rows = [i for i, row in enumerate(plan.rows) if row.tangent is not None]
    diffusion = plan.sde.diffusion
    if not diffusion or not rows:
        return dict.fromkeys(rows, (0.0, 0.0))
    own = attributes(model)
    with torch.inference_mode(False), torch.enable_grad():
        times = plan.times[rows].detach().requires_grad_(True)
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
