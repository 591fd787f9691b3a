"""What a run of many chains left, and how much its states are worth."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.plans import Plan


@dataclass(frozen=True, eq=False, repr=False)
class Chains:
    """What `kinetic_langevin` returns.

    Attributes:
        x, v: positions and velocities that were kept, shape (kept, chains, *event), in order.
        gradients: evaluations of ∇U for each chain.
        plan: the plan that was run.
    """

    x: Tensor
    v: Tensor
    gradients: int
    plan: Plan

    def __repr__(self) -> str:
        shape = "(kept, chains, *event) = " + str(tuple(self.x.shape))
        return f"Chains({shape}, gradients={self.gradients}, solver={self.plan.solver!r})"


def autocorrelation(values: Tensor) -> Tensor:
    """Autocorrelation of a function along chains, averaged over the chains.

    Args:
        values: of a stationary function, one for each kept state and chain, shape (kept, chains,
            *more).

    Returns:
        float64, shape (kept, *more): 1 at lag 0.

    Raises:
        ValueError: for fewer than two states, or values that are not finite or constant.
    """
    x = _checked(values, 2)
    x = x - x.mean((0, 1))
    power = torch.fft.rfft(x, 2 * len(x), 0).abs().square().mean(1)
    found = torch.fft.irfft(power, 2 * len(x), 0)[: len(x)]
    return found / found[0]


def effective_sample_size(values: Tensor) -> Tensor:
    """How many independent draws have a mean of the same variance as that over all chains: kept ×
    chains/(1 + 2 Σ autocorrelations), the sum up to where a pair of neighbours falls below 0.

    Of n states it is n log₁₀ n at most: where neighbours have opposite signs it is more than n.

    Args:
        values: as for `autocorrelation`.

    Returns:
        float64, shape (*more,).

    Source: initial positive sequence, Geyer, Statistical Science 7 (1992); the bound is Stan's.
    """
    rho, count = autocorrelation(values), math.prod(values.shape[:2])
    pairs = rho[: len(rho) // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    time = 2.0 * ((pairs > 0).cumprod(0) * pairs).sum(0) - 1.0
    return count / time.clamp(min=1.0 / max(1.0, math.log10(count)))


def standard_error(values: Tensor) -> Tensor:
    """Of the mean over all chains: the standard deviation over √(effective sample size).

    Args:
        values: as for `autocorrelation`.

    Returns:
        float64, shape (*more,).
    """
    size = effective_sample_size(values)
    return _checked(values, 2).std((0, 1)) / size.sqrt()


def r_hat(values: Tensor) -> Tensor:
    """Split R̂: the standard deviation of all states over that within half chains. It is close to 1
    where chains have forgotten their starts, and above 1.01 they are to run longer.

    Args:
        values: as for `autocorrelation`, of 4 kept states at least.

    Returns:
        float64, shape (*more,).

    Source: Gelman et al., Bayesian Data Analysis (3rd edition), 11.4.
    """
    x = _checked(values, 4)
    half = len(x) // 2
    parts = torch.cat([x[:half], x[-half:]], 1)
    ratio = parts.mean(0).var(0) / parts.var(0).mean(0)
    return (1.0 - 1.0 / half + ratio).sqrt()


def _checked(values: Any, least: int) -> Tensor:
    x = torch.as_tensor(values).double()
    if x.ndim < 2 or len(x) < least or not torch.isfinite(x).all():
        raise ValueError(
            "values are finite and have the shape (kept, chains, ...) with at least "
            f"{least} kept states, got shape {tuple(x.shape)}."
        )
    if not (x.amax((0, 1)) > x.amin((0, 1))).all():
        raise ValueError("values are constant: their autocorrelation is not defined.")
    return x
