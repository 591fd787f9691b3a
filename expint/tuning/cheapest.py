"""The cheapest way through a row of noise levels in a given number of steps, by dynamic
programming."""

import math

import torch
from torch import Tensor

from expint.registry import check_choice


def cheapest(cost: Tensor, steps: int, factor: float = 1.0) -> list[int]:
    """Indices 0 = i_0 < … < i_n = K − 1 that minimise Σ_k factor^k cost[i_k, i_{k+1}], exactly.

    Args:
        cost: of a step from one level to a later one, shape (K, K); what is on and below the
            diagonal is not read.
        steps: their number n, 1 to K − 1.
        factor: on what all later steps cost.

    Raises:
        ValueError: for more steps than there are levels for.
    """
    check_choice("The number of steps between the given levels", steps, range(1, len(cost)))
    ahead = torch.ones_like(cost, dtype=torch.bool).triu(1)
    cost = torch.where(ahead, cost, math.inf)
    # rest[i]: the least that the remaining steps cost from level i on.
    rest, choices = cost[:, -1], []
    for _ in range(steps - 1):
        rest, choice = (cost + factor * rest).min(1)
        choices.append(choice)
    path = [0]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return [*path, len(cost) - 1]
