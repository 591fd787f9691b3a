"""Adapters for networks of the four families, each with the calling convention of the code that
published them.

family   call                           time conditioning                       output
VP       net(x, labels)                 999 t, or the index 0 … M−1             ε, or −std · score
(the same), or the score VE       net(x, labels)                 σ, or log σ
score iDDPM    net(x, ts, **condition)        index 0 … M−1 (·1000/M if rescaled)     ε, in the
first C of C or 2C channels EDM      net(x, sigma, class_labels)    σ
D
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.families.adapter import NetworkAdapter, TimestepPolicy, per_sample
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
        timesteps: on a table: "interpolate" or "round".
        condition: further keyword arguments of the network.

    Source: Song et al., arXiv 2011.13456, appendix C (continuous); Ho et al., arXiv 2006.11239
    (discrete).
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: Schedule | None = None,
        *,
        prediction: str = "noise",
        timesteps: str = "interpolate",
        condition: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(network, schedule or VP(), prediction, condition=condition)
        self._policy = (
            TimestepPolicy(self.schedule, timesteps)
            if isinstance(self.schedule, TabulatedVP)
            else None
        )

    def _round_time(self) -> Callable[[Tensor], Tensor] | None:
        return self._policy.round_time if self._policy else None

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        labels = self._policy.labels(t, x) if self._policy else per_sample(999.0 * t, x)
        return self.network(x, labels, **self.condition)


class VEAdapter(NetworkAdapter):
    """A variance-exploding network conditioned on σ or on its logarithm.

    Args:
        network: net(x, labels, **condition), labels of shape (batch,).
        schedule: default `VE()`.
        conditioning: "sigma", "log_sigma", or a function from σ (float64 tensor) to the label.
        prediction: "score" by default.
        condition: further keyword arguments of the network.

    Source: Song et al., arXiv 2011.13456, appendix C; the function ln(σ/2) gives EDM's VE networks,
    arXiv 2206.00364, table 1.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: Schedule | None = None,
        *,
        conditioning: str | Callable[[Tensor], Tensor] = "sigma",
        prediction: str = "score",
        condition: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(network, schedule or VE(), prediction, condition=condition)
        known: dict[str, Callable[[Tensor], Tensor]] = {
            "sigma": lambda sigma: sigma,
            "log_sigma": torch.log,
        }
        if not callable(conditioning) and conditioning not in known:
            raise ValueError(
                f"Unknown conditioning={conditioning!r}: choose one of {tuple(known)}, or give a "
                "function of sigma."
            )
        self._label = conditioning if callable(conditioning) else known[conditioning]

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, per_sample(self._label(self.schedule.sigma(t)), x), **self.condition)


class IDDPMAdapter(NetworkAdapter):
    """A network of improved-diffusion or guided-diffusion: model(x, ts, y=...), possibly with a
    learned variance.

    Args:
        network: net(x, ts, **condition), ts of shape (batch,); output with C channels, or 2C of
            which the first C are taken.
        schedule: the table it was trained on: `IDDPM(M)` (cosine) or `Discrete(...)`.
        prediction: "noise", or "data" for networks trained with predict_xstart, or "v".
        rescale_timesteps: multiply the index by 1000/M, as networks trained with
            rescale_timesteps=True expect.
        timesteps: "interpolate" or "round".
        condition: further keyword arguments of the network, for example y=labels.

    Source: Nichol & Dhariwal, arXiv 2102.09672; Dhariwal & Nichol, arXiv 2105.05233.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: TabulatedVP | None = None,
        *,
        prediction: str = "noise",
        rescale_timesteps: bool = False,
        timesteps: str = "interpolate",
        condition: dict[str, Any] | None = None,
    ) -> None:
        table = schedule or IDDPM()
        if not isinstance(table, TabulatedVP):
            raise TypeError(
                f"IDDPMAdapter needs a tabulated schedule ({IDDPM.__name__} or "
                f"{Discrete.__name__}), got {table}."
            )
        super().__init__(network, table, prediction, condition=condition)
        self._policy = TimestepPolicy(table, timesteps)
        self._scale = 1000.0 / table.steps if rescale_timesteps else 1.0

    def _round_time(self) -> Callable[[Tensor], Tensor] | None:
        return self._policy.round_time

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        output = self.network(x, self._policy.labels(t, x, self._scale), **self.condition)
        learned_variance = (
            output.ndim == x.ndim and output.ndim > 1 and output.shape[1] == 2 * x.shape[1]
        )
        return output[:, : x.shape[1]] if learned_variance else output


class EDMAdapter(NetworkAdapter):
    """A network in EDM's convention: net(x, sigma, class_labels) returns the denoised image.

    Args:
        network: net(x, sigma, class_labels), sigma of shape (batch,), class_labels (batch,
            label_dim) or None. Its attributes sigma_min, sigma_max, sigma_data, label_dim and
            round_sigma are used where it has them.
        schedule: default `EDM` between the network's sigma_min and sigma_max, within 0.002 and 80.
        labels: class indices, one per sample; None for the unconditional network.
        sigma_data: default: the network's.

    Source: Karras et al., arXiv 2206.00364, table 1 and algorithm 2.
    """

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
        own = getattr(network, "sigma_data", None)
        super().__init__(
            network,
            schedule or EDM(sigma_min=low, sigma_max=high),
            "data",
            sigma_data=sigma_data if sigma_data is not None or own is None else float(own),
        )
        self.label_dim = int(getattr(network, "label_dim", 0) or 0)
        self.condition = {"class_labels": self._one_hot(labels)}

    def with_labels(self, labels: Sequence[int] | Tensor | None) -> "EDMAdapter":
        """The same network for other classes, one index per sample; None for the unconditional
        network.
        """
        return self.with_condition(class_labels=self._one_hot(labels))

    def _one_hot(self, labels: Sequence[int] | Tensor | None) -> Tensor | None:
        if labels is None:
            return None
        indices = torch.as_tensor(labels)
        if self.label_dim == 0:
            raise ValueError(
                f"This network has no classes (label_dim = 0), but labels {indices.tolist()[:8]} "
                "came."
            )
        if (
            indices.ndim != 1
            or indices.is_floating_point()
            or not bool(((indices >= 0) & (indices < self.label_dim)).all())
        ):
            raise ValueError(
                f"labels must be a 1-D sequence of class indices 0 ... {self.label_dim - 1}, one "
                f"per sample, got {labels!r}."
            )
        return torch.nn.functional.one_hot(indices.long(), self.label_dim).to(
            device=self.device, dtype=torch.float32
        )

    def _round_time(self) -> Callable[[Tensor], Tensor] | None:
        rounding = getattr(self.network, "round_sigma", None)
        if rounding is None:
            return None
        # Most EDM networks know every σ; those that do not (iDDPM behind EDM's interface) move the
        # probes.
        probe = torch.logspace(-2, 1.5, 64, dtype=torch.float64)
        if torch.allclose(
            torch.as_tensor(rounding(probe)).to(torch.float64), probe, rtol=1e-6, atol=0.0
        ):
            return None
        return lambda t: self.schedule.t_of_sigma(
            torch.as_tensor(rounding(self.schedule.sigma(t))).to(torch.float64)
        )

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, per_sample(self.schedule.sigma(t), x), **self.condition)
