"""The clock of the preconditioned form, a power of the cosine integrated."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import special
from torch import Tensor

from expint.numerics.roots import attached


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
        log_odds = 2.0 * (log_sigma.detach().numpy() - log_sd)  # log(u/(1−u))
        with np.errstate(divide="ignore"):
            near = np.log(special.betainc(p, q, special.expit(log_odds)))
            far = np.log1p(-special.betainc(q, p, special.expit(-log_odds)))
        value = np.where(log_odds < 0, near, far)
        if not log_sigma.requires_grad:
            return torch.as_tensor(value)
        # d log I/d log σ = 2 u^½ (1−u)^q/(B(½, q) I)
        log_density = p * special.log_expit(log_odds) + q * special.log_expit(-log_odds)
        slope = torch.as_tensor(2.0 * np.exp(log_density - special.betaln(p, q) - value))
        return torch.as_tensor(value) + slope * (log_sigma - log_sigma.detach())

    def inverse(log_c: Tensor) -> Tensor:
        value = np.minimum(log_c.detach().numpy(), 0.0)
        u = special.betaincinv(p, q, np.exp(value))
        v = special.betaincinv(q, p, -np.expm1(value))  # v = 1 − u
        with np.errstate(divide="ignore"):
            log_odds = np.where(u < 0.5, special.logit(u), -special.logit(v))
        return attached(torch.as_tensor(0.5 * log_odds + log_sd), forward, log_c)

    return forward, inverse, limit
