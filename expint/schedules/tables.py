"""The tables of β with which published discrete-time networks were trained, and the one change that
is made to them.
"""

import math
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """β from `first` to `last` in equal steps, float64, shape (steps,). Source: Ho et al., arXiv
    2006.11239, section 4.
    """
    return torch.linspace(first, last, steps, dtype=torch.float64)


def scaled_linear_betas(steps: int = 1000, first: float = 0.00085, last: float = 0.012) -> Tensor:
    """√β in equal steps, float64, shape (steps,); the defaults are those of Stable Diffusion.

    Source: Rombach et al., arXiv 2112.10752, and its published configuration.
    """
    return torch.linspace(math.sqrt(first), math.sqrt(last), steps, dtype=torch.float64) ** 2


def cosine_betas(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """β of ᾱ(t) = cos²(π/2 (t + offset)/(1 + offset)), at most `largest`, float64, shape (steps,).

    Source: Nichol & Dhariwal, arXiv 2102.09672, eq. (17).
    """
    # cos θ = sin(π/2 − θ) with exact differences, so that the last entries keep their accuracy.
    left = torch.arange(steps, -1, -1, dtype=torch.float64) / steps
    log_bar = 2.0 * torch.log(torch.sin(0.5 * math.pi * left / (1.0 + offset)))
    return -torch.expm1(log_bar.diff()).clamp(min=-largest)


def rescale_zero_terminal_snr(alphas_cumprod: Any) -> Tensor:
    """The table ᾱ with √ᾱ moved and scaled so that its last entry is exactly 0 and its first is
    unchanged.

    Args:
        alphas_cumprod: M ≥ 3 decreasing values in (0, 1).

    Returns:
        float64, shape (M,), for `Discrete`.

    Source: Lin et al., arXiv 2305.08891, algorithm 1.
    """
    root = torch.sqrt(as_float64(alphas_cumprod))
    if root.ndim != 1 or len(root) < 3 or not bool((root.diff() < 0).all()):
        raise ValueError(
            f"alphas_cumprod is 1-D, decreasing, of at least 3 values, got shape {[*root.shape]}."
        )
    shifted = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    shifted[0] = root[0]
    return shifted**2
