"""Constraints: a model wrapped so that its denoised estimate keeps a range, known pixels or a
measurement.

Each acts on the denoised estimate D(x, t), which all predictions determine, and so works with any
network and any solver.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.guidance.wrapping import (
    ModelWrapper,
    check_fits,
    check_number,
    state_gradient,
)
from expint.guards.arguments import checked
from expint.registry import check_choice


# Classes in lower case, because they are called like functions: inpaint(model, known, mask).
class threshold(ModelWrapper):  # noqa: N801
    """Keep the denoised estimate within the range of the data.

    With c and r the middle and half the width of `limits`, and y = (D − c)/r:

        static     D ← c + r clip(y, −1, 1)
        dynamic    D ← c + r clip(y, −s, s)/s,      s = max(1, the percentile of |y| over each
        sample)

    Args:
        model: any model of data in a known range (not of latents).
        method: "static" or "dynamic".
        limits: (low, high), the range of the data.
        percentile: for "dynamic", as a fraction in (0, 1].
        prediction: what is returned: "data", which keeps the range exactly; None for the model's
            own; or any other.

    Returns:
        A model with the schedule, sigma_data, device and round_time of `model`.

    Raises:
        TypeError, ValueError: for something other than a model, an unknown method or prediction, an
            empty range, a percentile outside (0, 1].

    Source: Saharia et al. (Imagen), arXiv 2205.11487, section 2.3 and appendix A.

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([3.0], [0.0], expint.schedules.EDM())
        >>> threshold(target, "static")(torch.zeros(1, 1), 1.0)
        tensor([[1.]])
    """

    @checked
    def __init__(
        self,
        model: Any,
        method: str = "dynamic",
        *,
        limits: tuple[float, float] = (-1.0, 1.0),
        percentile: float = 0.995,
        prediction: str | None = "data",
    ) -> None:
        super().__init__(model, prediction)
        check_choice("method", method, ("static", "dynamic"))
        low, high = (check_number("Each of the limits", value) for value in limits)
        if not low < high:
            raise ValueError(f"limits=(low, high) needs low < high, got {limits!r}.")
        self.method, self.limits = method, (low, high)
        self.percentile = check_number("percentile", percentile, 0.0, 1.0)
        if self.percentile == 0.0:
            raise ValueError("percentile is a fraction in (0, 1], got 0; Imagen's is 0.995.")

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        denoised = self._denoised(self._evaluate(self.model, x, t), x, t)
        low, high = self.limits
        if self.method == "dynamic":
            middle, half = 0.5 * (low + high), 0.5 * (high - low)
            bound = sample_quantile((denoised - middle).abs() / half, self.percentile)
            denoised = middle + (denoised - middle) / bound.clamp(min=1.0)
        return self._presented(denoised.clamp(low, high), x, t)


class inpaint(ModelWrapper):  # noqa: N801
    """Keep known pixels: where `mask` is true, the denoised estimate is replaced by what is known.

    A sampler then ends with the known pixels exactly, since its last step to σ = 0 is x = αD
    (`final="denoise"`, the default). On the way there they follow the exact reverse process of that
    value, noise included, from any start and with any solver: an estimate that is constant in time
    is integrated exactly. So the network sees them at the noise level of the rest of the state.

    Args:
        model: any model.
        known: the values to keep, shape (batch, *event) or (*event); entries where `mask` is false
            are not used (NaN is allowed).
        mask: true (or 1) where a value is known, of a shape that broadcasts with `known`; boolean,
            or numbers 0 and 1.
        noise: standard normals of the shape of `known`. If given, the network sees α·known +
            σ̄·noise in the known region in place of the sampler's own state there: noise that is
            frozen along the run. For ell=0, `expint.noise.initial_state(seeds, shape, dtype)` is
            that of the start of a run with the same seeds.
        prediction: what is returned: "data", with the known values exactly; None for the model's
            own; or any other.

    Returns:
        A model with the schedule, sigma_data, device and round_time of `model`.

    Raises:
        TypeError, ValueError: for something other than a model, shapes that do not fit, a mask
            other than 0 and 1, known values that are not finite; at a call, if they do not
            broadcast to the state.

    Source: Song et al., arXiv 2011.13456, appendix I.2 (imputation), for the estimate instead of
        the state. RePaint's jumps back in time (arXiv 2201.09865) belong to the sampler, not to a
        model, and are not made here.

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([0.0, 0.0], [1.0, 1.0], expint.schedules.EDM())
        >>> model = inpaint(target, torch.tensor([0.5, 0.0]), torch.tensor([True, False]))
        >>> expint.sample(model, (3, 2), steps=5, progress=False)[:, 0]
        tensor([0.5000, 0.5000, 0.5000])
    """

    @checked
    def __init__(
        self,
        model: Any,
        known: Tensor,
        mask: Tensor,
        *,
        noise: Tensor | None = None,
        prediction: str | None = "data",
    ) -> None:
        super().__init__(model, prediction)
        self.mask = _check_mask("mask", mask)
        self.known = _check_real("known", known, self.mask)
        self.noise = None if noise is None else _check_real("noise", noise)

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        check_fits("known", self.known, x)
        check_fits("mask", self.mask, x)
        known, mask, seen = self.known.to(x), self.mask.to(x.device), x
        if self.noise is not None:
            check_fits("noise", self.noise, x)
            alpha, std = self.schedule.alpha(t).to(x), self.schedule.std(t).to(x)
            seen = torch.where(mask, known * alpha + self.noise.to(x) * std, x)
        denoised = self._denoised(self._evaluate(self.model, seen, t), seen, t)
        return self._presented(torch.where(mask, known, denoised), x, t)


class reconstruction_guidance(ModelWrapper):  # noqa: N801
    """Guidance to samples x_0 with a given measurement y = H(x_0) + noise, by the gradient through
    the network:

        D ← D − scale · α σ²/(2 (σ² + noise_std²)) ∇_x |y − H(D(x))|²

    which is the score of p(y|x_t) with x_0 given x_t taken as a Gaussian about D(x_t) of variance
    σ². It is exact for a linear H and a flat prior; in general the measurement is approached, not
    kept.

    Args:
        model: any differentiable model.
        operator: H, a differentiable function from (batch, *event) to the measurement's shape; or a
            mask (boolean, or numbers 0 and 1): true where the image itself is measured.
        measurement: y, of the shape of H(D) or one that broadcasts to it; where a mask is false it
            is not used.
        scale: factor on the gradient, ≥ 0; large ones make long steps unstable.
        noise_std: standard deviation of the noise in y, ≥ 0.

    Returns:
        A model with the schedule, prediction, sigma_data, device and round_time of `model`. It
        needs no autograd mode of its caller.

    Raises:
        TypeError, ValueError: for something other than a model, a mask other than 0 and 1, a
            measurement that is not finite or numbers out of range; at a call, if the measurement
            does not fit H(D).

    Source: Ho et al., arXiv 2204.03458, eq. (7), which is noise_std = 0; Chung et al. (DPS), arXiv
        2209.14687, which has this gradient with a step size that is tied to one sampler's grid.
    """

    @checked
    def __init__(
        self,
        model: Any,
        operator: Callable[[Tensor], Tensor] | Tensor,
        measurement: Tensor,
        scale: float = 1.0,
        *,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__(model)
        self.mask = _check_mask("The mask", operator) if isinstance(operator, Tensor) else None
        self.operator: Any = operator
        self.measurement = _check_real("measurement", measurement, self.mask)
        self.scale = check_number("The guidance scale", scale, 0.0)
        self.noise_std = check_number("noise_std", noise_std, 0.0)

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        if self.scale == 0.0:
            return self._evaluate(self.model, x, t)
        slope, output = state_gradient(self._residual, x, t)
        alpha, variance = self.schedule.alpha(t), self.schedule.std(t) ** 2
        # σ²/(σ² + noise_std²) with σ² = σ̄²/α², in a form that is finite at α = 0
        weight = -0.5 * self.scale * alpha * variance / (variance + (alpha * self.noise_std) ** 2)
        return self._moved(output, t, weight, slope)

    def _residual(self, state: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """|y − H(D)|² of each sample, and the model's output."""
        output = self._evaluate(self.model, state, time)
        denoised = self._denoised(output, state, time)
        difference = self._measured(denoised)
        return (difference**2).reshape(state.shape[0], -1).sum(1), output

    def _measured(self, denoised: Tensor) -> Tensor:
        """y − H(D)."""
        if self.mask is not None:
            check_fits("The mask", self.mask, denoised)
            check_fits("measurement", self.measurement, denoised)
            difference = self.measurement.to(denoised) - denoised
            return torch.where(self.mask.to(denoised.device), difference, 0.0)
        measured: Any = self.operator(denoised)
        shape = tuple(getattr(measured, "shape", ()))
        if not _is_real(measured) or shape[:1] != (len(denoised),):
            raise ValueError(
                "The operator must return floating-point numbers, one measurement per sample, "
                f"shape ({len(denoised)}, ...), but returned {shape or measured}."
            )
        check_fits("measurement", self.measurement, measured, "what the operator returns")
        return self.measurement.to(measured) - measured


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.itemsize > 1


def _check_real(name: str, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """`value`, if it is of real numbers that are finite where a mask is true."""
    if not _is_real(value):
        raise TypeError(
            f"{name} must be a tensor of floating-point numbers in the range of the network's data,"
            f" got {value.dtype}: bytes are value.float() / 127.5 - 1 where it is [-1, 1]."
        )
    try:
        bad = ~torch.isfinite(value) & (True if mask is None else mask)
    except RuntimeError as error:
        raise ValueError(f"{name} and the mask do not broadcast ({error}).") from error
    if bad.any():
        found = f"{int(bad.sum())} of its values there are NaN or infinite"
        raise ValueError(f"{name} must be finite where it is used, but {found}.")
    return value.detach()


def _check_mask(name: str, mask: Tensor) -> Tensor:
    """`mask` as booleans, if it is boolean or all 0 and 1."""
    others = mask[(mask != 0) & (mask != 1)]
    if len(others):
        raise ValueError(
            f"{name} must be true (1) where the image is known and false (0) elsewhere, but it has "
            f"other values, such as {others[0].item():g}: compare it with a level, mask > 0.5."
        )
    return mask.to(torch.bool)


def sample_quantile(value: Tensor, fraction: float) -> Tensor:
    """The quantile over each sample, interpolated linearly, ready to divide it.

    torch.quantile refuses more than 2²⁴ numbers.
    """
    flat = value.flatten(1) if value.ndim > 1 else value[:, None]
    position = fraction * (flat.shape[1] - 1)
    below = math.floor(position)
    tail = flat.topk(flat.shape[1] - below, dim=1).values
    lower, upper = tail[:, -1], tail[:, -2 if tail.shape[1] > 1 else -1]
    return torch.lerp(lower, upper, position - below).reshape(-1, *[1] * (value.ndim - 1))
