"""What a network predicts, and the conversions between predictions: the only place where they are
written.

With x = αD + σ̄ε, every prediction determines the denoiser D (the posterior mean of the data) as an
affine function D = on_x · x + on_output · output:

    data      D
    noise     ε = (x − αD)/σ̄
    v         v = αε − σ̄D                        (Salimans & Ho, arXiv 2202.00512)
    flow      u = ε − D                           (arXiv 2210.02747, for α = 1 − t, σ̄ = t)
    score     s = (αD − x)/σ̄²                     (the gradient of the log-density of x)
    precond   D = c_skip x/α + c_out F            (EDM, arXiv 2206.00364, eq. (7),
                                                   with the network's own sigma_data)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64
from expint.registry import unknown
from expint.schedules.base import Schedule


class Affine(NamedTuple):
    """Coefficients of `on_x · x + on_output · output`, float64 tensors of the shape of the
    times.
    """

    on_x: Tensor
    on_output: Tensor


_Rule = Callable[[Tensor, Tensor, Any], tuple[Any, Any]]

# Each rule takes (α, σ̄, sigma_data). Where α = 0 (σ = ∞) only "noise" and "score" divide by zero:
# they know nothing of D there.
_RULES: dict[str, _Rule] = {
    "data": lambda alpha, std, sd: (0.0 * alpha, 1.0 + 0.0 * alpha),
    "noise": lambda alpha, std, sd: (1.0 / alpha, -std / alpha),
    "v": lambda alpha, std, sd: (alpha / (alpha**2 + std**2), -std / (alpha**2 + std**2)),
    "flow": lambda alpha, std, sd: (1.0 / (alpha + std), -std / (alpha + std)),
    "score": lambda alpha, std, sd: (1.0 / alpha, std**2 / alpha),
    "precond": lambda alpha, std, sd: (
        alpha * sd**2 / (std**2 + (alpha * sd) ** 2),
        std * sd / torch.sqrt(std**2 + (alpha * sd) ** 2),
    ),
}
PREDICTIONS = tuple(_RULES)


def check(prediction: str, sigma_data: float | None = None) -> None:
    """Refuse an unknown prediction, or "precond" without the network's sigma_data.

    Raises:
        ValueError: saying what came and what is allowed.
    """
    if prediction not in _RULES:
        raise unknown("prediction", prediction, PREDICTIONS)
    if prediction == "precond" and not (sigma_data is not None and sigma_data > 0):
        raise ValueError(
            f"The prediction 'precond' needs the network's own sigma_data > 0, got {sigma_data!r}: "
            "give the model an attribute sigma_data."
        )


def to_denoiser(
    prediction: str, schedule: Schedule, t: Any, sigma_data: float | None = None
) -> Affine:
    """Coefficients with which D = on_x · x + on_output · output.

    Args:
        prediction: one of `PREDICTIONS`.
        schedule: gives α and σ̄.
        t: times, any shape.
        sigma_data: the network's, for "precond".
    """
    check(prediction, sigma_data)
    times = as_float64(t)
    on_x, on_output = _RULES[prediction](schedule.alpha(times), schedule.std(times), sigma_data)
    return Affine(as_float64(on_x), as_float64(on_output))


def conversion(
    source: str,
    target: str,
    schedule: Schedule,
    t: Any,
    *,
    source_sigma_data: float | None = None,
    target_sigma_data: float | None = None,
) -> Affine:
    """Coefficients with which target = on_x · x + on_output · source.

    Args:
        source, target: two of `PREDICTIONS`.
        schedule: gives α and σ̄.
        t: times, any shape.
        source_sigma_data, target_sigma_data: sigma_data of each side that is "precond".

    Raises:
        ValueError: for unknown predictions, or where the conversion does not exist (noise or score
            at σ = ∞).
    """
    times = as_float64(t)
    a = to_denoiser(source, schedule, times, source_sigma_data)
    b = to_denoiser(target, schedule, times, target_sigma_data)
    if source == target and (source != "precond" or source_sigma_data == target_sigma_data):
        return Affine(torch.zeros_like(times), torch.ones_like(times))
    same = a.on_x == b.on_x  # noise and score: the difference is exactly zero
    result = Affine(
        torch.where(same, 0.0, (a.on_x - b.on_x) / b.on_output), a.on_output / b.on_output
    )
    bad = ~(torch.isfinite(result.on_x) & torch.isfinite(result.on_output))
    if bad.any():
        where = times[bad].reshape(-1)[0].item()
        raise ValueError(
            f"A model that predicts {source!r} cannot give {target!r} at t = {where:.6g}, where "
            f"sigma = {schedule.sigma(where):.6g}. Start from a finite sigma, or use a model that "
            "predicts data, v or flow."
        )
    return result
