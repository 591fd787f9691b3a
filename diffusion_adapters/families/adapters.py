"""Adapters for networks of the four families, each with the calling convention of the code that
published them.

family   call                           time conditioning                       output
VP       net(x, labels)                 999 t, or the index 0 … M−1             ε, or −std · score
                                                                                (the same), or score
VE       net(x, labels)                 σ, or log σ                             score
iDDPM    net(x, ts, **condition)        index 0 … M−1 (·1000/M if rescaled)     ε, in the first C of
                                                                                C or 2C channels
EDM      net(x, sigma, class_labels)    σ                                       D
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.families.adapter import (
    NetworkAdapter,
    Timesteps,
    class_indices,
    per_sample,
    without_variance,
)
from diffusion_adapters.families.checks import check_continuous, check_preserving, check_unscaled
from expint.guards.arguments import checked
from expint.registry import unknown
from expint.schedules import EDM, IDDPM, VE, VP, Discrete, Schedule
from expint.schedules.discrete import TabulatedVP


class VPAdapter(NetworkAdapter):
    """A variance-preserving network, in continuous time (labels 999·t) or on a table (labels 0 …
    M−1).

    Args:
        network: net(x, labels, **condition), x of shape (batch, *event), labels (batch,).
        schedule: `VP(...)` for continuous time, a `Discrete(...)` table for discrete time.
        prediction: "noise" (also for networks documented as −std·score, which is the same),
            "score", "v" or "data".
        timesteps: on a table: "round", at the integers that it was trained at, or "interpolate", in
            between as well.
        condition: further keyword arguments of the network.

    Raises:
        TypeError, ValueError: for a schedule that is not variance-preserving with times in [0, 1]
            (sub-VP is allowed), or a network that shows a table of timesteps and comes without it.

    Source: Song et al., arXiv 2011.13456, appendix C (continuous); Ho et al., arXiv 2006.11239
    (discrete).
    """

    @checked
    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: Schedule | None = None,
        *,
        prediction: str = "noise",
        timesteps: str = "round",
        condition: Mapping[str, Any] | None = None,
    ) -> None:
        table = Timesteps(schedule, timesteps) if isinstance(schedule, TabulatedVP) else None
        super().__init__(network, schedule or VP(), prediction, condition=condition, table=table)
        if table is None:
            check_preserving("VPAdapter", self.schedule)
            check_continuous("VPAdapter", network, assumed=schedule is None)

    def _predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        labels = self._table.labels(t, x) if self._table else per_sample(999.0 * t, x)
        return self.network(x, labels, **condition)


_LABELS: dict[str, Callable[[Tensor], Tensor]] = {"sigma": torch.clone, "log_sigma": torch.log}


class VEAdapter(NetworkAdapter):
    """A variance-exploding network conditioned on σ or on its logarithm.

    Args:
        network: net(x, labels, **condition), labels of shape (batch,).
        schedule: with α = 1; default `VE()`.
        conditioning: "sigma", "log_sigma", or a function from σ (float64 tensor) to the label.
        prediction: "score" by default.
        condition: further keyword arguments of the network.

    Raises:
        TypeError, ValueError: for a schedule on which α is not 1, or an unknown conditioning.

    Source: Song et al., arXiv 2011.13456, appendix C; the function ln(σ/2) gives EDM's VE networks,
    arXiv 2206.00364, table 1.
    """

    @checked
    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: Schedule | None = None,
        *,
        conditioning: str | Callable[[Tensor], Tensor] = "sigma",
        prediction: str = "score",
        condition: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(network, schedule or VE(), prediction, condition=condition)
        check_unscaled("VEAdapter", self.schedule)
        label = conditioning if callable(conditioning) else _LABELS.get(conditioning)
        if label is None:
            raise unknown("conditioning", conditioning, tuple(_LABELS), ", or a function of sigma")
        self._label = label
        probe: Any = label(torch.ones((), dtype=torch.float64))
        if not isinstance(probe, Tensor) or probe.shape:
            raise TypeError(f"conditioning must return a 0-dimensional tensor, got {probe!r}.")

    def _predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        return self.network(x, per_sample(self._label(self.schedule.sigma(t)), x), **condition)


class IDDPMAdapter(NetworkAdapter):
    """A network of improved-diffusion or guided-diffusion: model(x, ts, y=...), possibly with a
    learned variance, on all or on some of the timesteps that it was trained on.

    Args:
        network: net(x, ts, **condition), ts of shape (batch,): int64, or floats where they are
            rescaled or in between; output with C channels, or 2C of which the first C are taken.
        schedule: the table it was trained on, with M entries: `IDDPM(M)` (cosine) or
            `Discrete(...)`.
        prediction: "noise", or "data" for networks trained with predict_xstart, or "v".
        rescale_timesteps: multiply the index by 1000/M, as networks trained with
            rescale_timesteps=True expect.
        timesteps: "round", at the integers that it was trained at, or "interpolate", in between as
            well.
        kept: the timesteps, increasing, that are left by a respacing; None for all. Time is then
            the number k of the process that is sampled, and the network is called with kept[k].
        learn_sigma: whether the output has 2C channels; None for either.
        condition: further keyword arguments of the network, for example y=labels.

    Raises:
        TypeError, ValueError: for a schedule without a table, an unknown `timesteps`, or
            "interpolate" on some of the timesteps; when called, for another number of channels than
            `learn_sigma` says.

    Source: Nichol & Dhariwal, arXiv 2102.09672; Dhariwal & Nichol, arXiv 2105.05233;
    guided-diffusion, `respace.py` and `gaussian_diffusion.py`.
    """

    @checked
    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: TabulatedVP | None = None,
        *,
        prediction: str = "noise",
        rescale_timesteps: bool = False,
        timesteps: str = "round",
        kept: Sequence[int] | None = None,
        learn_sigma: bool | None = None,
        condition: Mapping[str, Any] | None = None,
    ) -> None:
        schedule, originals = schedule or IDDPM(), None
        scale = 1000.0 / schedule.steps if rescale_timesteps else None
        if kept is not None and len(kept) < schedule.steps:
            originals = torch.tensor(kept)
            schedule = Discrete(schedule.alpha(originals.to(torch.float64)) ** 2)
        table, self.learn_sigma = Timesteps(schedule, timesteps, scale, originals), learn_sigma
        super().__init__(network, schedule, prediction, condition=condition, table=table)

    def _predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        assert self._table
        output = self.network(x, self._table.labels(t, x), **condition)
        expected, shape = (2 if self.learn_sigma else 1) * x.shape[1], getattr(output, "shape", ())
        if self.learn_sigma is not None and expected not in shape[1:2]:
            raise ValueError(
                f"With learn_sigma={self.learn_sigma} the network must return {expected} channels "
                f"for {x.shape[1]}, got shape {tuple(shape)}: pass "
                f"learn_sigma={not self.learn_sigma}?"
            )
        return without_variance(output, x)


class EDMAdapter(NetworkAdapter):
    """A network in EDM's convention: net(x, sigma, class_labels) returns the denoised image.

    Args:
        network: net(x, sigma, class_labels), sigma of shape (batch,), class_labels (batch,
            label_dim) or None. Its attributes sigma_min, sigma_max, sigma_data, label_dim and
            round_sigma are used where it has them.
        schedule: default `EDM` between the network's sigma_min and sigma_max, within 0.002 and 80.
        labels: class indices, one per sample; None for the unconditional network.
        sigma_data: default: the network's.

    Raises:
        TypeError, ValueError: for a schedule on which α is not 1, labels that the network does not
            have, or a network that does not take class_labels.

    Source: Karras et al., arXiv 2206.00364, table 1 and algorithm 2.
    """

    @checked
    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: Schedule | None = None,
        *,
        labels: Sequence[int] | Tensor | None = None,
        sigma_data: float | None = None,
    ) -> None:
        low = max(0.002, float(getattr(network, "sigma_min", 0.0)))
        high = min(80.0, float(getattr(network, "sigma_max", float("inf"))))
        own = getattr(network, "sigma_data", None) if sigma_data is None else sigma_data
        default, unlabelled = EDM(sigma_min=low, sigma_max=high), {"class_labels": None}
        super().__init__(network, schedule or default, "data", condition=unlabelled)
        check_unscaled("EDMAdapter", self.schedule)
        self.sigma_data = None if own is None else float(own)
        if own is not None and not 0.0 < float(own) < math.inf:
            raise ValueError(f"sigma_data must be positive and finite, got {own!r}.")
        self.label_dim = int(getattr(network, "label_dim", 0) or 0)
        self.condition = {"class_labels": self._one_hot(labels)}
        self.round_time = self._rounding(getattr(network, "round_sigma", None))

    def with_labels(self, labels: Sequence[int] | Tensor | None) -> "EDMAdapter":
        """The same network for other classes, one index per sample; None for the unconditional
        network.
        """
        return self.with_condition(class_labels=self._one_hot(labels))

    def _one_hot(self, labels: Sequence[int] | Tensor | None) -> Tensor | None:
        if labels is None:
            return None
        indices = class_indices(labels, self.label_dim)
        one_hot = torch.nn.functional.one_hot(indices, self.label_dim)
        return one_hot.to(device=self.device, dtype=torch.float32)

    def _rounding(self, round_sigma: Any) -> Callable[[Tensor], Tensor] | None:
        """Rounding of times by the network's own rounding of σ, if that moves any."""

        def rounded(sigma: Tensor) -> Tensor:
            return torch.as_tensor(round_sigma(sigma)).to(torch.float64)

        # Most EDM networks know every σ; those that do not (iDDPM behind EDM's interface) move the
        # probes.
        probe = torch.logspace(-2, 1.5, 64, dtype=torch.float64)
        if round_sigma is None or torch.allclose(rounded(probe), probe, rtol=1e-6, atol=0.0):
            return None
        return lambda t: self.schedule.t_of_sigma(rounded(self.schedule.sigma(t)))

    def _predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        return self.network(x, per_sample(self.schedule.sigma(t), x), **condition)
