"""Schedules of networks that were trained on a table of noise levels."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from expint.float64 import as_float64, real_method
from expint.schedules.base import Schedule, variance_preserving_log_alpha
from expint.schedules.registry import register


class TabulatedVP(Schedule):
    """Variance-preserving schedule through a table of λ at t = 0, 1, …, M−1, linear in λ between the entries.

    Below t = 0 the noise goes linearly to zero: σ_t = σ_0 (1 + t), so that the clean end is t = −1.
    Subclasses provide `_log_alphas_cumprod`, the float64 logarithms of the ᾱ of the table.
    """

    @abstractmethod
    def _log_alphas_cumprod(self) -> Tensor: ...

    @cached_property
    def _table(self) -> Tensor:
        # λ = −½ log((1 − ᾱ)/ᾱ) with 1/ᾱ − 1 = expm1(−log ᾱ), accurate at both ends.
        return -0.5 * torch.log(torch.expm1(-self._log_alphas_cumprod()))

    @property
    def steps(self) -> int:
        """Number M of entries of the table."""
        return len(self._table)

    @property
    def domain(self) -> tuple[float, float]:
        return (-1.0, float(self.steps - 1))

    @property
    def sampling_range(self) -> tuple[float, float]:
        return (float(self.steps - 1), 0.0)

    @real_method
    def round(self, t: Tensor) -> Tensor:
        """The entry of the table nearest to `t`."""
        return torch.round(t).clamp(0, self.steps - 1)

    def _lam(self, t: Tensor) -> Tensor:
        table = self._table.to(t.device)
        left = torch.floor(t).clamp(0, self.steps - 2).long()
        inside = torch.lerp(table[left], table[left + 1], t - left)
        return torch.where(t < 0, table[0] - torch.log1p(torch.clamp(t, -1.0, 0.0)), inside)

    def _log_alpha(self, t: Tensor) -> Tensor:
        return variance_preserving_log_alpha(self._lam(t))

    def _log_std(self, t: Tensor) -> Tensor:
        return variance_preserving_log_alpha(-self._lam(t))

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        table = self._table.to(lam.device)
        right = torch.searchsorted(-table, -lam.detach().contiguous()).clamp(1, self.steps - 1)
        low, high = table[right - 1], table[right]
        inside = (right - 1) + (lam - low) / (high - low)
        return torch.where(lam > table[0], torch.expm1(torch.clamp(table[0] - lam, max=0.0)), inside)


def _check_table(values: Tensor, what: str, low: float, high: float) -> None:
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"{what} must be a 1-D table of at least 2 values, got shape {tuple(values.shape)}.")
    bad = torch.nonzero(~((values > low) & (values < high)))
    if len(bad):
        i = int(bad[0])
        raise ValueError(f"{what}[{i}] = {values[i].item()!r} is not strictly between {low} and {high}.")


@register("discrete")
@dataclass(frozen=True)
class Discrete(TabulatedVP):
    """A table of ᾱ_0 > ᾱ_1 > … as shipped with discrete-time networks; t is the (real) index into it.

    Args:
        alphas_cumprod: the M values ᾱ, decreasing, in (0, 1): sequence, array or tensor. Default: the linear table.

    Raises:
        ValueError: naming the first entry that is not a number, not in (0, 1), or not below the one before it.

    Source: Ho et al., arXiv 2006.11239, section 2.
    """

    alphas_cumprod: Any = None
    _logs: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.alphas_cumprod is None:
            logs = torch.cumsum(torch.log1p(-linear_betas()), 0)
        else:
            values = as_float64(self.alphas_cumprod)
            _check_table(values, "alphas_cumprod", 0.0, 1.0)
            rising = torch.nonzero(values[1:] >= values[:-1])
            if len(rising):
                i = int(rising[0])
                raise ValueError(
                    f"alphas_cumprod must decrease, but entry {i + 1} ({values[i + 1].item():.6g}) is not below "
                    f"entry {i} ({values[i].item():.6g})."
                )
            logs = torch.log(values)
        object.__setattr__(self, "_logs", logs)
        object.__setattr__(self, "alphas_cumprod", tuple(torch.exp(logs).tolist()))

    def __repr__(self) -> str:
        first, last = self.alphas_cumprod[0], self.alphas_cumprod[-1]
        return f"Discrete({self.steps} entries, alphas_cumprod {first:.6g} ... {last:.6g})"

    @classmethod
    def from_betas(cls, betas: Sequence[float] | Tensor) -> "Discrete":
        """The table ᾱ_i = Π_{j≤i} (1 − β_j), the product formed in float64 logarithms."""
        values = as_float64(betas)
        _check_table(values, "betas", 0.0, 1.0)
        return cls(torch.exp(torch.cumsum(torch.log1p(-values), 0)))

    def _log_alphas_cumprod(self) -> Tensor:
        return self._logs


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """β from `first` to `last` in equal steps, float64, shape (steps,). Source: Ho et al., arXiv 2006.11239, section 4."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


@register("iddpm")
@dataclass(frozen=True)
class IDDPM(TabulatedVP):
    """The cosine table of improved DDPM: M entries, each β clipped so that ᾱ_{i+1}/ᾱ_i ≥ C_1; t is the index.

    The noise levels σ are the u_j of EDM's table 1 (u_j = σ at t = M−1−j).

    Args:
        M: number of entries (1000 and 4000 are what published networks were trained on).
        C_1: lower bound on the ratio of successive ᾱ.
        C_2: offset of the cosine.

    Source: Nichol & Dhariwal, arXiv 2102.09672, eq. (17); EDM, arXiv 2206.00364, table 1, column iDDPM.
    """

    M: int = 1000
    C_1: float = 0.001
    C_2: float = 0.008

    def __post_init__(self) -> None:
        if self.M < 2 or not 0 < self.C_1 < 1 or not self.C_2 > 0:
            raise ValueError(f"IDDPM needs M >= 2, 0 < C_1 < 1 and C_2 > 0, got {self.M}, {self.C_1} and {self.C_2}.")

    def _log_alphas_cumprod(self) -> Tensor:
        # ᾱ_j = sin²((π/2) j / (M (C_2 + 1))), j = M … 0 from data to noise; ratios are clipped before the product.
        j = torch.arange(self.M, -1, -1, dtype=torch.float64)
        log_bar = 2.0 * torch.log(torch.sin(0.5 * math.pi * j / (self.M * (self.C_2 + 1.0))))
        return torch.cumsum((log_bar[1:] - log_bar[:-1]).clamp(min=math.log(self.C_1)), 0)
