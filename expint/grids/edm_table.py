"""The noise levels of EDM's table 1, for any schedule: the ends are those of the grid."""

import math
from typing import Unpack

import torch
from torch import Tensor

from expint.grids.layout import SigmaEnds, evenly, in_sigma
from expint.grids.spread import uniform_lambda
from expint.numerics.float64 import are_numbers
from expint.schedules.base import Schedule
from expint.schedules.discrete import IDDPM


def karras(schedule: Schedule, steps: int, rho: float = 7.0, **ends: Unpack[SigmaEnds]) -> Tensor:
    """Equal steps in σ^{1/ρ}. Source: EDM, arXiv 2206.00364, eq. (5).

    Raises:
        ValueError: if rho is not positive.
    """
    if not (are_numbers(rho) and 0 < rho < math.inf):
        raise ValueError(f"The Karras grid needs rho > 0, got {rho}.")

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        return rho * torch.log(evenly(math.exp(first / rho), math.exp(last / rho), count))

    return in_sigma(schedule, steps, log_sigma, **ends)


def edm_vp(
    schedule: Schedule, steps: int, epsilon: float = 1e-3, **ends: Unpack[SigmaEnds]
) -> Tensor:
    """EDM's table 1, column VP: equal steps in the time of a linear-β schedule, from 1 to epsilon,
    with σ² = e^{B(t)} − 1.

    Raises:
        ValueError: if epsilon is outside (0, 1).

    Source: EDM, arXiv 2206.00364, table 1; β_d and β_min such that σ has the ends of the grid, its
    appendix C.3.
    """
    if not 0 < epsilon < 1:
        raise ValueError(f"The grid 'edm_vp' needs 0 < epsilon < 1, got {epsilon}.")

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        # B(1) = log(1 + σ_noise²), B(ε) = log(1 + σ_data²), B(t) = ½ β_d t² + β_min t
        whole, part = math.log1p(math.exp(2.0 * first)), math.log1p(math.exp(2.0 * last)) / epsilon
        beta_d = 2.0 * (whole - part) / (1.0 - epsilon)
        beta_min = whole - 0.5 * beta_d
        t = evenly(1.0, epsilon, count)
        return 0.5 * torch.log(torch.expm1((0.5 * beta_d * t + beta_min) * t))

    return in_sigma(schedule, steps, log_sigma, **ends)


edm_ve = uniform_lambda
"""EDM's table 1, column VE: σ in a geometric sequence. Source: EDM, arXiv 2206.00364, table 1."""


def edm_iddpm(schedule: Schedule, steps: int, M: int = 1000, **ends: Unpack[SigmaEnds]) -> Tensor:
    """EDM's table 1, column iDDPM: evenly spread entries u_j of the cosine table of M noise levels
    that lie inside the grid.

    The first and the last point are the ends of the grid, which for `IDDPM(M)` itself are entries.

    Raises:
        ValueError: if the table has too few entries between the ends.

    Source: EDM, arXiv 2206.00364, table 1, rounded as there.
    """
    entries = -IDDPM(M).lam(torch.arange(M - 1, -1, -1, dtype=torch.float64))

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        slack = 1e-9 * (first - last)
        inside = entries[(entries < first - slack) & (entries > last + slack)]
        if len(inside) + 2 < count:
            raise ValueError(
                f"The grid 'edm_iddpm' needs {count} noise levels, but its table of {M} has "
                f"{len(inside)} inside the range of {schedule}: give a larger M or take fewer "
                "steps."
            )
        table = torch.cat([inside.new_tensor([first]), inside, inside.new_tensor([last])])
        return table[torch.floor(evenly(0.0, len(table) - 1.0, count) + 0.5).long()]

    return in_sigma(schedule, steps, log_sigma, **ends)
