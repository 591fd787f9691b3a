"""Schedules of networks that were trained on a table of noise levels."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.numerics.float64 import are_numbers, as_float64, is_whole, real_method
from expint.numerics.roots import attached, bracketed_root
from expint.schedules.base import Schedule, variance_preserving_log_alpha
from expint.schedules.registry import register
from expint.schedules.tables import linear_betas

INTERPOLATIONS = ("linear", "cubic")


class TabulatedVP(Schedule):
    """Variance-preserving schedule through a table of λ at t = 0, 1, …, M−1.

    Between the entries λ is linear, or (interpolation "cubic") the monotone cubic of Fritsch and
    Carlson, which has a continuous derivative. Below t = 0 the noise goes linearly to zero: σ_t =
    σ_0 (1 + t), so that the clean end is t = −1. A last entry ᾱ = 0 (zero terminal SNR, λ = −∞) is
    reached with α linear in t over the last cell, and λ follows from α there. Subclasses provide
    `_log_alphas_cumprod`, the float64 logarithms of the ᾱ of the table.
    """

    interpolation: str = "linear"

    @abstractmethod
    def _log_alphas_cumprod(self) -> Tensor: ...

    @cached_property
    def _table(self) -> Tensor:
        # λ = −½ log((1 − ᾱ)/ᾱ) with 1/ᾱ − 1 = expm1(−log ᾱ), accurate at both ends.
        return -0.5 * torch.log(torch.expm1(-self._log_alphas_cumprod()))

    @cached_property
    def _finite(self) -> Tensor:
        """The table without a last entry λ = −∞."""
        return self._table[:-1] if self._table[-1] == -math.inf else self._table

    @cached_property
    def _slopes(self) -> Tensor:
        """dλ/dt at the finite entries, such that the cubics between them are monotone."""
        from scipy.interpolate import PchipInterpolator  # takes longer to import than expint

        entries = self._finite.numpy()
        cubic = PchipInterpolator(np.arange(len(entries), dtype=np.float64), entries)
        return torch.as_tensor(cubic.derivative()(np.arange(len(entries), dtype=np.float64)))

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
        table = self._finite.to(t.device)
        left = torch.floor(t).clamp(0, len(table) - 2).long()
        inside = self._in_cell(left, t - left)
        if len(table) < self.steps:
            last = t > len(table) - 1
            log_alpha = self._log_last_alpha + torch.log(torch.where(last, self.steps - 1 - t, 1.0))
            inside = torch.where(
                last, log_alpha - 0.5 * torch.log(-torch.expm1(2.0 * log_alpha)), inside
            )
        return torch.where(t < 0, table[0] - torch.log1p(torch.clamp(t, -1.0, 0.0)), inside)

    @cached_property
    def _log_last_alpha(self) -> float:
        """log α at the last entry with signal."""
        return variance_preserving_log_alpha(self._finite[-1]).item()

    def _in_cell(self, left: Tensor, x: Tensor) -> Tensor:
        """λ at the fraction `x` of the cell that begins at entry `left`."""
        table = self._finite.to(x.device)
        low, high = table[left], table[left + 1]
        if self.interpolation == "linear":
            return torch.lerp(low, high, x)
        slopes = self._slopes.to(x.device)
        rise, d0, d1 = high - low, slopes[left], slopes[left + 1]
        return low + x * (d0 + x * (3.0 * rise - 2.0 * d0 - d1 + x * (d0 + d1 - 2.0 * rise)))

    def _log_alpha(self, t: Tensor) -> Tensor:
        return variance_preserving_log_alpha(self._lam(t))

    def _log_std(self, t: Tensor) -> Tensor:
        return variance_preserving_log_alpha(-self._lam(t))

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        table = self._finite.to(lam.device)
        left = torch.searchsorted(-table, -lam.detach().contiguous()).clamp(1, len(table) - 1) - 1
        low, high = table[left], table[left + 1]
        inside = left + (
            (lam - low) / (high - low)
            if self.interpolation == "linear"
            else self._cubic_fraction(left, lam)
        )
        if len(table) < self.steps:
            last = lam < table[-1]
            log_alpha = variance_preserving_log_alpha(torch.where(last, lam, table[-1]))
            inside = torch.where(
                last, self.steps - 1 - torch.exp(log_alpha - self._log_last_alpha), inside
            )
        return torch.where(
            lam > table[0], torch.expm1(torch.clamp(table[0] - lam, max=0.0)), inside
        )

    def _cubic_fraction(self, left: Tensor, lam: Tensor) -> Tensor:
        """The fraction of its cell at which the cubic reaches `lam`."""
        table = self._finite.to(lam.device)
        target = torch.minimum(torch.maximum(lam, table[left + 1]), table[left])

        def cubic(x: Tensor) -> Tensor:
            return self._in_cell(left, x)

        with torch.no_grad():
            ends = torch.zeros_like(target), torch.ones_like(target)
            x = bracketed_root(lambda x: cubic(x) - target, *ends)
        return attached(x, cubic, target)


def _check_table(values: Tensor, what: str, last: float) -> None:
    """Check that the values lie strictly between 0 and 1, where the last may also be `last`."""
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"{what} must be a 1-D table of at least 2 values, got shape {tuple(values.shape)}."
        )
    bad = ~((values > 0.0) & (values < 1.0))
    if len(values) > 2:
        bad[-1] &= values[-1] != last
    if bad.any():
        i = int(torch.nonzero(bad)[0])
        raise ValueError(f"{what}[{i}] = {values[i].item()!r} is not strictly between 0.0 and 1.0.")


@register("discrete")
@dataclass(frozen=True)
class Discrete(TabulatedVP):
    """A table of ᾱ_0 > ᾱ_1 > … as shipped with discrete-time networks; t is the (real) index into
    it.

    Args:
        alphas_cumprod: the M values ᾱ, decreasing, in (0, 1): sequence, array or tensor. The last
            may be 0 (zero terminal SNR: sampling then starts at σ = ∞). Default: the linear table.
        interpolation: of λ between the entries, "linear" or "cubic" (monotone, with a continuous
            derivative).

    Raises:
        ValueError: naming the first entry that is not a number, not in (0, 1), or not below the one
            before it.

    Source: Ho et al., arXiv 2006.11239, section 2; Fritsch & Carlson, SIAM J. Numer. Anal. 17
    (1980) for the cubic; zero terminal
    SNR: Lin et al., arXiv 2305.08891.
    """

    alphas_cumprod: Any = None
    interpolation: str = "linear"
    _logs: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"Unknown interpolation={self.interpolation!r}: choose one of {INTERPOLATIONS}."
            )
        if self.alphas_cumprod is None:
            logs = torch.cumsum(torch.log1p(-linear_betas()), 0)
        else:
            values = as_float64(self.alphas_cumprod)
            _check_table(values, "alphas_cumprod", 0.0)
            rising = torch.nonzero(values[1:] >= values[:-1])
            if len(rising):
                i = int(rising[0])
                raise ValueError(
                    f"alphas_cumprod must decrease, but entry {i + 1} ({values[i + 1].item():.6g}) "
                    f"is not below entry {i} ({values[i].item():.6g})."
                )
            logs = torch.log(values)
        object.__setattr__(self, "_logs", logs)
        object.__setattr__(self, "alphas_cumprod", tuple(torch.exp(logs).tolist()))

    def __repr__(self) -> str:
        first, last = self.alphas_cumprod[0], self.alphas_cumprod[-1]
        between = "" if self.interpolation == "linear" else f", {self.interpolation}"
        return f"Discrete({self.steps} entries, alphas_cumprod {first:.6g} ... {last:.6g}{between})"

    @classmethod
    def from_betas(
        cls, betas: Sequence[float] | Tensor, interpolation: str = "linear"
    ) -> "Discrete":
        """The table ᾱ_i = Π_{j≤i} (1 − β_j), the product formed in float64 logarithms.

        The last β may be 1 (ᾱ = 0).
        """
        values = as_float64(betas)
        _check_table(values, "betas", 1.0)
        return cls(torch.exp(torch.cumsum(torch.log1p(-values), 0)), interpolation)

    def _log_alphas_cumprod(self) -> Tensor:
        return self._logs


@register("iddpm")
@dataclass(frozen=True)
class IDDPM(TabulatedVP):
    """The cosine table of improved DDPM: M entries, each β clipped so that ᾱ_{i+1}/ᾱ_i ≥ C_1; t is
    the index.

    The noise levels σ are the u_j of EDM's table 1 (u_j = σ at t = M−1−j).

    Args:
        M: number of entries (1000 and 4000 are what published networks were trained on).
        C_1: lower bound on the ratio of successive ᾱ.
        C_2: offset of the cosine.

    Source: Nichol & Dhariwal, arXiv 2102.09672, eq. (17); EDM, arXiv 2206.00364, table 1, column
    iDDPM.
    """

    M: int = 1000
    C_1: float = 0.001
    C_2: float = 0.008

    def __post_init__(self) -> None:
        fine = is_whole(self.M) and self.M >= 2 and are_numbers(self.C_1, self.C_2)
        if not (fine and 0 < self.C_1 < 1 and 0 < self.C_2 < math.inf):
            raise ValueError(
                f"IDDPM needs M >= 2, 0 < C_1 < 1 and C_2 > 0, got {self.M}, {self.C_1} and "
                f"{self.C_2}."
            )

    def _log_alphas_cumprod(self) -> Tensor:
        # ᾱ_j = sin²((π/2) j / (M (C_2 + 1))), j = M … 0 from data to noise; ratios are clipped
        # before the product.
        j = torch.arange(self.M, -1, -1, dtype=torch.float64)
        log_bar = 2.0 * torch.log(torch.sin(0.5 * math.pi * j / (self.M * (self.C_2 + 1.0))))
        return torch.cumsum((log_bar[1:] - log_bar[:-1]).clamp(min=math.log(self.C_1)), 0)
