"""What all wrappers of a model share: they are models themselves, count network evaluations, and
see the denoised estimate.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Self

import torch
from torch import Tensor

from diffusion_adapters.families.module_methods import ModuleMethods
from expint.equations import predictions
from expint.runs.model import describe


class ModelWrapper(ModuleMethods):
    """A model that changes what another model predicts, and keeps everything else that model says
    of itself.

    Args:
        model: any model (see `expint.runs.model.Model`); another wrapper, too.
        prediction: what this wrapper returns; None for the model's own.

    Attributes `schedule`, `sigma_data`, `round_time`, `shape` and `device` are the model's,
    `prediction` what is returned, `model` what is wrapped.

    Raises:
        TypeError, ValueError: unless `model` is a model; for an unknown prediction.
    """

    def __init__(self, model: Any, prediction: str | None = None) -> None:
        about = describe(model)
        self.model, self.schedule, self.sigma_data = model, about.schedule, about.sigma_data
        self.round_time, self.shape = about.round_time, about.shape
        self._inside: tuple[Any, ...] = (model,)
        self._own_prediction = prediction
        self.prediction = about.prediction if prediction is None else prediction
        predictions.check(self.prediction, self.sigma_data)
        self._evaluations = 0

    @property
    def device(self) -> torch.device | None:
        """Where the model says it is; that of its first parameter if it is a module; else None."""
        return describe(self.model).device

    @property
    def network_evaluations(self) -> int:
        """Evaluations of a network so far, each of one batch: a call with two batches in one counts
        as two.

        A gradient through the network costs about two evaluations more, which are not counted, and
        nothing is counted inside a function compiled by torch.compile.
        """
        return self._evaluations

    def _models(self) -> Sequence[Any]:
        return self._inside

    def around(self, model: Any) -> Self:
        """The same wrapper around another model in the place of `self.model`, with a count of its
        own.
        """
        other = copy(self)
        ModelWrapper.__init__(other, model, self._own_prediction)
        return other

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """The prediction for states x of shape (batch, *event) at time t (a number or 0-dimensional
        tensor).
        """
        return self._predict(x, torch.as_tensor(t, dtype=torch.float64))

    @abstractmethod
    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction, of the type `self.prediction`."""

    def _evaluate(self, model: Any, x: Tensor, t: Tensor, batches: int = 1) -> Tensor:
        """Call a model, and count what that cost."""
        wrapper = model if isinstance(model, ModelWrapper) else None
        before = wrapper.network_evaluations if wrapper else 0
        output = model(x, t)
        if not torch.compiler.is_compiling():
            self._evaluations += wrapper.network_evaluations - before if wrapper else batches
        return output

    def _denoised(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The denoised estimate D from the wrapped model's output at x, in the dtype of x."""
        rule = predictions.to_denoiser(self.model.prediction, self.schedule, t, self.sigma_data)
        return x * rule.on_x.to(x) + output.to(x.dtype) * rule.on_output.to(x)

    def _presented(self, denoised: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The denoised estimate D at x as this wrapper's own prediction."""
        rule = predictions.to_denoiser(self.prediction, self.schedule, t, self.sigma_data)
        return (denoised - x * rule.on_x.to(x)) / rule.on_output.to(x)

    def _moved(self, output: Tensor, t: Tensor, weight: Tensor, direction: Tensor) -> Tensor:
        """The output that belongs to the denoised estimate D + weight · direction."""
        rule = predictions.to_denoiser(self.prediction, self.schedule, t, self.sigma_data)
        return output + (weight / rule.on_output).to(output) * direction.to(output.dtype)


def state_gradient(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], x: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient with respect to x of the sum of the first result of `function(x, t)`; and the second
    result.

    Works inside torch.inference_mode and torch.no_grad. Where x is itself being differentiated (a
    gradient around this one), the results can be differentiated again.

    Args:
        function: from x and t to a pair of tensors.
        x: shape (batch, *event).
        t: 0-dimensional.
    """
    nested = x.requires_grad and torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        # Clones, because tensors made in inference mode cannot be saved for a backward pass.
        leaf = x.clone() if nested else x.detach().clone().requires_grad_(True)
        value, other = function(leaf, t.clone())
        if not value.requires_grad:
            raise ValueError(
                "torch finds no gradient with respect to the state: look for torch.no_grad, "
                ".detach(), integers or numpy in the network, and in the classifier or operator."
            )
        (slope,) = torch.autograd.grad(value.sum(), leaf, create_graph=nested)
    return (slope, other) if nested else (slope, other.detach())


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite real number between `low` and `high`, as a float.

    Raises:
        ValueError: with the name, the value and the range.
    """
    number = float(value)
    if not (math.isfinite(number) and low <= number <= high):
        allowed = f">= {low:g} and finite" if high == math.inf else f"in [{low:g}, {high:g}]"
        allowed = "finite" if low == -math.inf else allowed
        raise ValueError(f"{name} must be {allowed}, got {value!r}.")
    return number


def check_fits(name: str, value: Tensor, x: Tensor, of: str = "the state's") -> None:
    """Refuse a tensor that does not broadcast to the shape of x, which is that `of` the state."""
    try:
        value.expand(x.shape)
    except RuntimeError as error:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, which does not broadcast to {of} "
            f"{tuple(x.shape)}: give (batch, *event), or (*event) for all samples alike."
        ) from error
