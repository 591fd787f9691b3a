"""Guidance: a model wrapped so that its samples follow a label. The wrapper is a model for any
solver.

Every prediction is an affine function of the denoised estimate D at fixed state and time (see
`expint.equations.predictions`), so that

    classifier-free    out = out(∅) + w (out(y) − out(∅)),   in any prediction the same as in D
    classifier         score + s ∇_x log p(y|x_t),   which is   D + s (σ̄²/α) ∇_x log p(y|x_t)
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.families.adapter import NetworkAdapter, class_indices
from diffusion_adapters.families.adapters import EDMAdapter
from diffusion_adapters.families.checks import check_call
from diffusion_adapters.guidance.wrapping import ModelWrapper, check_number, state_gradient
from expint.equations.predictions import conversion
from expint.guards.arguments import checked
from expint.registry import check_choice
from expint.runs import Reparametrized
from expint.runs.model import describe

_CLASSIFIERS = "on the noisy state it is classifier(x, t), on the denoised estimate classifier(D)"


# Classes in lower case, because they are called like functions: cfg(model, 2.0).
class cfg(ModelWrapper):  # noqa: N801
    """Classifier-free guidance: the conditional prediction, pushed further away from the
    unconditional one.

    Args:
        model: the conditional model; also wrapped in other wrappers.
        scale: weight w: 1 is the conditional model and 0 the unconditional one, each at one
            evaluation per call; others take two.
        unconditional: None for an `EDMAdapter` with labels: the same network without; the
            conditioning arguments of the unconditional case, as a mapping, for any other adapter
            (for example {"y": null_labels}); or a second model of the same schedule, with any
            prediction.
        rescale: fraction in [0, 1] of the result whose standard deviation over each sample is set
            to that of the conditional output. As published, the output is what the network
            predicts; wrap the models in `expint.Reparametrized` to have
            another prediction rescaled.
        interval: (sigma_lo, sigma_hi): guide where sigma_lo < σ <= sigma_hi only; elsewhere the
            conditional model alone is called. On a GPU this reads the time back at every
            evaluation.
        batched: call the network once with both halves in one batch; needs an adapter whose two
            conditions differ in tensors only. Otherwise (two different models, or a wrapped one)
            there are two calls. The cost in evaluations is the same.

    Returns:
        A model with the schedule, prediction, sigma_data, device and round_time of `model`, and a
        count `network_evaluations`.

    Raises:
        TypeError, ValueError: for something other than a model, a scale that is not finite, a model
            without labels and no `unconditional`, for schedules that differ, a rescale outside [0,
            1] or an empty interval.

    Source: Ho & Salimans, arXiv 2207.12598, eq. (6), with w one larger; rescale: Lin et al., arXiv
    2305.08891, eq. (14)-(16);
    interval: Kynkäänniemi et al., arXiv 2404.07724.

    Example:
        >>> import expint
        >>> from diffusion_adapters import load
        >>> model = cfg(load("digits-edm", labels=[3, 7]), 2.0)
        >>> expint.sample(model, (2, 1, 8, 8), steps=4, progress=False).shape
        torch.Size([2, 1, 8, 8])
        >>> model.network_evaluations
        8
    """

    @checked
    def __init__(
        self,
        model: Any,
        scale: float,
        *,
        unconditional: Any = None,
        rescale: float = 0.0,
        interval: tuple[float, float] | None = None,
        batched: bool = True,
    ) -> None:
        super().__init__(model)
        self.scale = check_number("The guidance scale", scale)
        self.rescale = check_number("rescale", rescale, 0.0, 1.0)
        self.interval = interval
        if interval is not None and not 0.0 <= interval[0] < interval[1]:
            raise ValueError(f"interval needs 0 <= sigma_lo < sigma_hi <= inf, got {interval!r}.")
        if unconditional is None or isinstance(unconditional, Mapping):
            unconditional = _with_condition(model, unconditional)
        self.unconditional, self._inside = unconditional, (model, unconditional)
        other = self._other = describe(self.unconditional)
        if other.schedule is not self.schedule and other.schedule != self.schedule:
            both = f"{self.schedule} and {other.schedule}"
            raise ValueError(f"The two models of guidance must have one schedule, got {both}.")
        if self.round_time is None and other.round_time is not None:
            raise ValueError(
                "The unconditional model rounds times to its table, and the conditional one does "
                "not: give both adapters the same `timesteps`."
            )
        self._stacked = _stacked(model, self.unconditional) if batched else None

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        if self.scale == 1.0 or not self._guides(t):
            return self._evaluate(self.model, x, t)
        if self.scale == 0.0 and self.rescale == 0.0:
            return self._without(x, t)
        if self._stacked is None:
            conditional, without = self._evaluate(self.model, x, t), self._without(x, t)
        else:
            both = self._evaluate(self._stacked, torch.cat([x, x]), t, batches=2)
            conditional, without = both.chunk(2)
        guided = without + self.scale * (conditional - without)
        if not self.rescale:
            return guided
        # x_final = φ x_cfg std(x_pos)/std(x_cfg) + (1 − φ) x_cfg    (arXiv 2305.08891, eq. (15-16))
        wanted, present = _std(conditional), _std(guided)
        ratio = torch.where(present > 0, wanted / present, 1.0)
        return guided * (1.0 + self.rescale * (ratio - 1.0))

    def _guides(self, t: Tensor) -> bool:
        within = self.interval
        return within is None or within[0] < float(self.schedule.sigma(t)) <= within[1]

    def _without(self, x: Tensor, t: Tensor) -> Tensor:
        """The unconditional model's output, as a prediction of this model's type."""
        output = self._evaluate(self.unconditional, x, t)
        rule = conversion(
            self._other.prediction,
            self.prediction,
            self.schedule,
            t,
            source_sigma_data=self._other.sigma_data,
            target_sigma_data=self.sigma_data,
        )
        return x * rule.on_x.to(x) + output.to(x.dtype) * rule.on_output.to(x)


class classifier_guidance(ModelWrapper):  # noqa: N801
    """Guidance by the gradient of a classifier's log-probability of the wanted labels.

    Args:
        model: any model.
        classifier: returns logits of shape (batch, K), differentiable. On the state: classifier(x,
            t), trained on noisy data, with t the time as a 0-dimensional float64 tensor. On the
            denoised estimate: classifier(D), trained on clean data.
        labels: class indices, one per sample, shape (batch,), integers.
        scale: factor on the gradient.
        on: "state", or "denoised": log p(y|D(x)) in place of log p(y|x_t), with the gradient
            through the network.

    Returns:
        A model with the schedule, prediction, sigma_data, device and round_time of `model`. It
        needs no autograd mode of its caller. Where σ = ∞, and the state says nothing of the class,
        it returns the output of `model`.

    Raises:
        TypeError, ValueError: for something other than a model, a classifier that does not take
            these arguments, labels that are not indices; at a call, for logits of another shape
            than (batch, K) or labels that it does not have.

    Source: Dhariwal & Nichol, arXiv 2105.05233, section 4 (state); Bansal et al., arXiv 2302.07121
    (denoised).
    """

    @checked
    def __init__(
        self,
        model: Any,
        classifier: Callable[..., Tensor],
        labels: Sequence[int] | Tensor,
        scale: float = 1.0,
        *,
        on: str = "state",
    ) -> None:
        super().__init__(model)
        check_choice("on", on, ("state", "denoised"))
        called = f"With on={on!r} the classifier is called as classifier"
        arguments = ["x", "t"] if on == "state" else ["D"]
        check_call(classifier, arguments, called=called, way_out=_CLASSIFIERS, more=False)
        self.classifier, self.labels, self.on = classifier, class_indices(labels).cpu(), on
        self.scale = check_number("The guidance scale", scale)

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        if len(self.labels) != x.shape[0]:
            raise ValueError(f"{len(self.labels)} labels for a batch of {len(x)}: give one each.")
        if self.scale == 0.0:
            return self._evaluate(self.model, x, t)
        if self.on == "state":
            output = self._evaluate(self.model, x, t)
            slope, _ = state_gradient(self._on_state, x, t)
        else:
            slope, output = state_gradient(self._on_denoised, x, t)
        alpha, std = self.schedule.alpha(t), self.schedule.std(t)
        # At α = 0 the weight is infinite and the gradient zero; only "score" and "noise" would have
        # a finite product.
        guided = self._moved(output, t, self.scale * std**2 / alpha, slope)
        return torch.where((alpha > 0).to(x.device), guided, output)

    def _on_state(self, state: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        return self._log_probability(self.classifier(state, time)), state

    def _on_denoised(self, state: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        output = self._evaluate(self.model, state, time)
        return self._log_probability(self.classifier(self._denoised(output, state, time))), output

    def _log_probability(self, logits: Any) -> Tensor:
        rows, shape = len(self.labels), tuple(getattr(logits, "shape", ()))
        if not isinstance(logits, Tensor) or len(shape) != 2 or shape[0] != rows:
            given = f"{type(logits).__name__} {shape}"
            raise ValueError(f"A classifier gives logits of shape ({rows}, classes), got {given}.")
        labels = class_indices(self.labels, logits.shape[1]).to(logits.device)
        return logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)


def _with_condition(model: Any, condition: Mapping[str, Any] | None) -> Any:
    """`model` with another condition on the adapter at its heart; None removes the labels."""
    if isinstance(model, ModelWrapper) and not isinstance(model, cfg):
        return model.around(_with_condition(model.model, condition))
    if isinstance(model, Reparametrized):
        return dataclasses.replace(model, model=_with_condition(model.model, condition))
    labelled = isinstance(model, EDMAdapter) and model.condition.get("class_labels") is not None
    if labelled and condition is None:
        condition = {"class_labels": None}
    if condition is not None and isinstance(model, NetworkAdapter):
        return model.with_condition(**{**model.condition, **condition})
    raise ValueError(
        "The unconditional case is known of an EDMAdapter with labels, model.with_labels([...]), "
        f"only; for this {type(model).__name__} give unconditional=, a second model or, for a "
        "network adapter, conditioning arguments as a mapping, such as {'y': null_labels}."
    )


def _stacked(model: Any, other: Any) -> NetworkAdapter | None:
    """The adapter that takes both conditions in one batch, or None if the two cannot be called as
    one.
    """
    if not isinstance(model, NetworkAdapter) or type(model) is not type(other):
        return None
    same = model.network is other.network and model.prediction == other.prediction
    if not same or model.condition.keys() != other.condition.keys():
        return None
    merged: dict[str, Any] = {}
    for name, value in model.condition.items():
        null: Any = other.condition[name]
        if isinstance(value, Tensor) and null is None and isinstance(model, EDMAdapter):
            null = torch.zeros_like(value)  # what EDM's networks take None for
        if isinstance(value, Tensor) and isinstance(null, Tensor):
            if not value.ndim or value.shape != null.shape:
                return None
            value = torch.cat([value, null])
        elif value is not null:
            return None
        merged[name] = value
    return model.with_condition(**merged)


def _std(value: Tensor) -> Tensor:
    """Standard deviation over each sample, ready to multiply it; 0 if a sample is one number."""
    flat = value.reshape(len(value), -1)
    return flat.std(dim=1, correction=0).reshape(-1, *[1] * (value.ndim - 1))
