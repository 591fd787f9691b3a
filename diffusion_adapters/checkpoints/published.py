"""What only published checkpoints need: noise levels by number, respaced timesteps, bare EDM
networks.

network                                call                                     output
NCSN, score_sde VE in discrete time    net(x, i), i = 0 for the largest σ       score
EDM without its preconditioning        F(c_in x, log(σ)/4, class_labels)        F
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_adapters.families.adapter import NetworkAdapter
from diffusion_adapters.families.checks import check_call
from expint.grids.layout import MOST_STEPS
from expint.registry import check_choice
from expint.schedules import VE


@dataclass(frozen=True)
class DataRange:
    """The interval of pixel values that a network was trained on, [low, high].

    Args:
        low, high: black and white.

    Example:
        >>> DataRange(-1.0, 1.0).decode(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """

    low: float
    high: float

    def decode(self, x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Samples in the network's range, any shape, mapped affinely to [low, high]; nothing is
        clipped.
        """
        return low + (x - self.low) * ((high - low) / (self.high - self.low))


class NumberedVEAdapter(NetworkAdapter):
    """A variance-exploding network that is called with the number of its noise level, the largest
    first, and returns the score.

    The levels are σ_i = σ_max (σ_min/σ_max)^{i/(N−1)}, i = 0, …, N−1. Every evaluation is moved to
    the nearest level (in log σ), and the plan uses the rounded time everywhere.

    Args:
        network: net(x, labels, **condition), x of shape (batch, *event), labels (batch,) int64.
        schedule: `VE(sigma_min, sigma_max)`, whose range is that of the levels.
        num_scales: the number N ≥ 2 of levels.
        condition: further keyword arguments of the network.

    Raises:
        ValueError: for fewer than two levels, or more than a grid may have.

    Source: Song et al., arXiv 2011.13456, appendix C; score_sde, `models/utils.get_score_fn` with
    continuous=False.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: VE,
        num_scales: int = 1000,
        *,
        condition: Mapping[str, Any] | None = None,
    ) -> None:
        check_choice("num_scales", num_scales, range(2, MOST_STEPS + 1))
        super().__init__(network, schedule, "score", condition=condition)
        self.round_time = self._rounded
        self._last, self._highest = num_scales - 1, math.log(schedule.sigma_max)
        self._gap = math.log(schedule.sigma_max / schedule.sigma_min) / self._last

    def _number(self, t: Tensor) -> Tensor:
        return torch.round((self._highest + self.schedule.lam(t)) / self._gap).clamp(0, self._last)

    def _rounded(self, t: Tensor) -> Tensor:
        return self.schedule.t_of_lam(self._number(t) * self._gap - self._highest)

    def _predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        labels = self._number(t).to(device=x.device, dtype=torch.long).expand(x.shape[0])
        return self.network(x, labels, **condition)


def respaced_timesteps(steps: int, respacing: str) -> list[int]:
    """The timesteps that improved- and guided-diffusion keep of 0, …, steps − 1.

    Args:
        steps: of the original process.
        respacing: "" for all; "ddimN" for N at a fixed stride; "N" for N spread over all, both ends
            included; "a,b,c" divides the process into equal sections, with the data first, and
            keeps so many in each.

    Returns:
        Increasing integers.

    Raises:
        ValueError: for anything else, or more timesteps than there are.

    Example:
        >>> (
        ...     respaced_timesteps(10, "4"),
        ...     respaced_timesteps(10, "ddim5"),
        ...     respaced_timesteps(10, "3,2"),
        ... )
        ([0, 3, 6, 9], [0, 2, 4, 6, 8], [0, 2, 4, 5, 9])

    Source: guided-diffusion, `respace.space_timesteps`.
    """
    if respacing == "":
        return list(range(steps))
    ddim, parts = respacing.startswith("ddim"), respacing.removeprefix("ddim").split(",")
    counts = [int(part) for part in parts if part.strip().isdecimal()]
    if len(counts) < len(parts) or min(counts) < 1 or (ddim and len(counts) > 1):
        allowed = "'', 'N', 'a,b,c' or 'ddimN' with positive whole numbers"
        raise ValueError(f"timestep_respacing is {allowed}, got {respacing!r}.")
    if ddim:
        strided = (range(0, steps, stride) for stride in range(1, steps))
        found = next((kept for kept in strided if len(kept) == counts[0]), None)
        if found is None:
            raise ValueError(
                f"timestep_respacing={respacing!r}: no stride keeps so many of {steps}."
            )
        return list(found)
    kept: list[int] = []
    size, extra = divmod(steps, len(counts))
    start = 0
    for i, count in enumerate(counts):
        here = size + (i < extra)
        if count > here:
            raise ValueError(
                f"timestep_respacing={respacing!r} keeps {count} timesteps of a section of {here}."
            )
        # As published: the position is accumulated in floating point and rounded half to even.
        strides = [(here - 1) / (count - 1)] * (count - 1) if count > 1 else []
        kept += [start + round(position) for position in accumulate(strides, initial=0.0)]
        start += here
    return kept


class Preconditioned(nn.Module):
    """EDM's preconditioning around a bare network: forward(x, sigma, class_labels) returns the
    denoised image.

        D(x; σ) = c_skip x + c_out F(c_in x, ln(σ)/4, class_labels),
        c_skip = σd²/(σ² + σd²),  c_out = σ σd/√(σ² + σd²),  c_in = 1/√(σ² + σd²)

    Args:
        network: F(x, noise_labels, class_labels), noise_labels of shape (batch,), class_labels
            (batch, label_dim) or None.
        sigma_data: the σd that it was trained with.
        label_dim: its number of classes; 0 for none.

    Raises:
        ValueError: unless sigma_data > 0 and label_dim ≥ 0.
        TypeError: for a network that does not take three arguments.

    Source: Karras et al., arXiv 2206.00364, eq. (7) and table 1.
    """

    def __init__(self, network: nn.Module, sigma_data: float, label_dim: int = 0) -> None:
        super().__init__()
        if not 0 < sigma_data < math.inf or not 0 <= label_dim:
            given = f"{sigma_data} and {label_dim}"
            raise ValueError(f"sigma_data > 0 is finite and label_dim >= 0, got {given}.")
        check_call(network, ["x", "noise_labels", "class_labels"])
        self.network, self.sigma_data, self.label_dim = network, float(sigma_data), label_dim

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """The denoised image, in the shape of `x` (batch, *event); `sigma` of shape (batch,)."""
        if self.label_dim and class_labels is None:
            class_labels = torch.zeros(x.shape[0], self.label_dim, device=x.device, dtype=x.dtype)
        return preconditioned(self.network, x, sigma, self.sigma_data, class_labels)


def preconditioned(
    network: Callable[..., Tensor], x: Tensor, sigma: Tensor, sigma_data: float, labels: Any
) -> Tensor:
    """D(x; σ) of `Preconditioned`, with coefficients in the dtype of `sigma`, shape (batch,)."""
    level = sigma.reshape(-1, *[1] * (x.ndim - 1))
    variance = level**2 + sigma_data**2
    output = network(variance.rsqrt().to(x.dtype) * x, sigma.log() / 4, labels)
    c_skip, c_out = sigma_data**2 / variance, level * sigma_data / variance.sqrt()
    return c_skip.to(x.dtype) * x + c_out.to(x.dtype) * output
