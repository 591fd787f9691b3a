"""Churn whose share does not depend on the number of steps."""

from functools import partial

import torch
from torch import Tensor

from expint.solvers.operations import BUILDERS, Operation, check_number


@BUILDERS.register("steady-churn")
def steady_churn(gamma: float = 0.8, s_min: float = 1.0, s_noise: float = 1.003) -> Operation:
    """Before a step to a level above `s_min`, noise is added from σ to (1 + γ) σ; with Euler steps
    in σ it is the sampler of AlphaFold 3, Boltz and Chai, whose defaults these are.

    Args:
        gamma: γ ≥ 0.
        s_min: level that the step must stay above.
        s_noise: factor of the noise that is added.

    Source: AlphaFold 3, Nature 630 (2024), supplementary algorithm 18.
    """
    for name, value in (("gamma", gamma), ("s_min", s_min), ("s_noise", s_noise)):
        check_number(f"steady-churn: {name}", value)
    name = f"steady-churn(gamma={gamma:g}, s_min={s_min:g}, s_noise={s_noise:g})"
    raised = partial(_raised, gamma, s_min)
    return Operation(name, raised=raised, s_noise=s_noise, preserves_law=s_noise == 1.0)


def _raised(gamma: float, least: float, sigma: Tensor, steps: int) -> Tensor:
    after = torch.cat([sigma[1:], torch.zeros_like(sigma[:1])])
    return torch.where(after > least, sigma * (1.0 + gamma), sigma)
