"""Brownian bridges with their integral: how an interval is split where W is asked for.

Over an interval of length Δ, W and its integral are fixed by the increment ΔW and a standard normal
R that is independent of it, the residual of the integral:

    ∫ [W − W(start)] = Δ ΔW/2 + √(Δ³/12) R.
    (1)

At the share θ of the interval, with q = θ(1 − θ), W is the chord plus √(Δq) ζ. With the residuals
R₁ and R₂ of the two parts, ζ, R₁ and R₂ are independent standard normals, and (1) over the whole is
the sum of (1) over the parts:

    R = √(3q) ζ + θ^{3/2} R₁ + (1 − θ)^{3/2} R₂.
    (2)

The squares of these weights add up to 1. So the law of (ζ, R₁, R₂) given R is R times the weights
plus two normals along directions that complete them to a rotation, the first of which has all of
what is left of ζ:

    (ζ, R₁, R₂) = (c, θ^{3/2}, (1 − θ)^{3/2}) R + (d, −c θ^{3/2}/d, −c (1 − θ)^{3/2}/d) Z₁
                  + (0, (1 − θ)^{3/2}/d, −θ^{3/2}/d) Z₂,    c = √(3q),  d = √(1 − 3q) ≥ 1/2.
    (3)

No coefficient is large, and none is a difference of close numbers: (3) is stable for every θ.

Source: Foster, Lyons & Oberhauser, SIAM J. Numer. Anal. 58 (2020), for (1); (3) is derived here.
"""

from typing import Any

import torch
from torch import Tensor


def split(
    whole: Tensor, first: Tensor, second: Tensor, theta: Any, early: Tensor, scratch: Tensor
) -> None:
    """(3) in place: `first` goes from Z₁ to ζ, `second` from Z₂ to R₂, `early` becomes R₁.

    Products and sums are separate operations, each of them rounded in one way only: whether a fused
    multiply-add is used may depend on an entry's place in memory, and thereby on the batch.

    Args:
        whole: R; left as it is, unless `early` is the same tensor.
        theta: θ, float, or a float64 tensor broadcastable to the others.
        scratch: memory for two such tensors, (2, …).
    """
    q = theta * (1.0 - theta)
    c, d = (3.0 * q) ** 0.5, (1.0 - 3.0 * q) ** 0.5
    near, far = theta**1.5, (1.0 - theta) ** 1.5
    numbers = (c, d, c / d, near, far, near / d, far / d)
    c, d, tilt, near, far, down, up = (
        value.to(whole) if isinstance(value, Tensor) else value for value in numbers
    )
    one, two = scratch
    torch.mul(first, tilt, out=one)
    torch.mul(whole, c, out=two)
    torch.sub(whole, one, out=early)
    first.mul_(d).add_(two)
    torch.mul(early, far, out=one)
    torch.mul(second, up, out=two)
    early.mul_(near).add_(two)
    second.mul_(-down).add_(one)
