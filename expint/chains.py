"""What a run of many chains left, and how much its states are worth."""

from dataclasses import dataclass

import torch
from torch import Tensor

from expint.plans import Plan


@dataclass(frozen=True, eq=False)
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
    if values.ndim < 2 or len(values) < 2 or not torch.isfinite(values).all():
        raise ValueError(
            "values are finite and have the shape (kept, chains, ...) with at least 2 kept states, "
            f"got shape {tuple(values.shape)}."
        )
    x = values.double() - values.double().mean((0, 1))
    power = torch.fft.rfft(x, 2 * len(x), 0).abs().square().mean(1)
    found = torch.fft.irfft(power, 2 * len(x), 0)[: len(x)]
    if not (found[0] > 0).all():
        raise ValueError("values are constant: their autocorrelation is not defined.")
    return found / found[0]


def effective_sample_size(values: Tensor) -> Tensor:
    """How many independent draws have a mean of the same variance as that over all chains: kept ×
    chains/(1 + 2 Σ autocorrelations), the sum up to where a pair of neighbours falls below 0.

    Args:
        values: as for `autocorrelation`.

    Returns:
        float64, shape (*more,).

    Source: initial positive sequence, Geyer, Statistical Science 7 (1992).
    """
    rho = autocorrelation(values)
    pairs = rho[: len(rho) // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    time = 2.0 * ((pairs > 0).cumprod(0) * pairs).sum(0) - 1.0
    return len(values) * values.shape[1] / time
