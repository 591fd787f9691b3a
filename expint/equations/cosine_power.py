"""The clock of the preconditioned form, a power of the cosine integrated."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor


def cosine_power_clock(
    m: float, sd: float
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float]:
    """log(C/C∞) as a function of log σ, its inverse, and C∞, for C(σ) = σd^(−m) ∫_0^{arctan(σ/σd)}
    cos^m θ dθ, C∞ = C(∞).

    Relative to C∞ the clock tends to 0 as σ → ∞ and keeps its digits there. It is an incomplete
    beta function, C/C∞ = I_u(½, (m+1)/2) with u = σ²/(σ² + σd²), taken from scipy at whichever tail
    is small (an arctan for m = 0, a sine for m = 1); C∞ = σd^(−m) ½ B(½, (m+1)/2).
    """
    log_sd = math.log(sd)
    p, q = 0.5, 0.5 * (m + 1.0)
    limit = 0.5 * float(special.beta(p, q)) * sd**-m

    def forward(log_sigma: Tensor) -> Tensor:
        return _LogBetaRatio.apply(log_sigma - log_sd, q)  # pyright: ignore[reportReturnType]

    def inverse(log_c: Tensor) -> Tensor:
        value = np.minimum(log_c.detach().numpy(), 0.0)
        u = special.betaincinv(p, q, np.exp(value))
        v = special.betaincinv(q, p, -np.expm1(value))  # v = 1 − u
        with np.errstate(divide="ignore"):
            log_odds = np.where(u < 0.5, np.log(u) - np.log1p(-u), np.log1p(-v) - np.log(v))
        return torch.as_tensor(0.5 * log_odds + log_sd)

    return forward, inverse, limit


class _LogBetaRatio(torch.autograd.Function):
    """log I_u(½, q) as a function of log r, u = r²/(1 + r²), with d log I/d log r = 2 u^½ (1−u)^q /
    (B(½, q) I).
    """

    @staticmethod
    def forward(ctx: Any, log_ratio: Tensor, q: float) -> Tensor:
        log_odds = 2.0 * log_ratio.detach().numpy()  # log(u/(1−u))
        with np.errstate(divide="ignore"):
            near = np.log(special.betainc(0.5, q, special.expit(log_odds)))
            far = np.log1p(-special.betainc(q, 0.5, special.expit(-log_odds)))
        value = np.where(log_odds < 0, near, far)
        log_density = (
            0.5 * special.log_expit(log_odds)
            + q * special.log_expit(-log_odds)
            - special.betaln(0.5, q)
        )
        ctx.save_for_backward(torch.as_tensor(2.0 * np.exp(log_density - value)))
        return torch.as_tensor(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None
