"""φ-functions of exponential integrators, accurate to rounding for every real argument.

    φ_0(z) = e^z,    φ_{k+1}(z) = (φ_k(z) − 1/k!) / z,    φ_k(0) = 1/k!

Source: Hochbruck & Ostermann, "Exponential integrators", Acta Numerica 2010, eqs. (2.10)-(2.11).
"""

from math import factorial
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64, like

# Inside |z| <= _RADIUS the recurrence would cancel (its error grows like k!/z^k), so a series is
# summed there. With 52 terms the remainder of either series at |z| = 8 is below 1e-18 of the sum.
_RADIUS = 8.0
_TERMS = 52
_MOST = 100


def phi(k: int, z: Any) -> Any:
    """φ_k(z), with relative error below 1e-13 for k ≤ 5 and all real z where it does not overflow
    or underflow.

    Args:
        k: order, an integer ≥ 0.
        z: float, array or tensor of any shape, real. Computation is in float64 whatever the dtype.

    Returns:
        The value in the kind of `z`: a float, a float64 array, or a tensor of the shape, dtype and
        device of `z`.

    Raises:
        ValueError: if k is negative or not an integer.
        TypeError: if z is complex or not numeric.

    Example:
        >>> from expint import phi
        >>> phi(1, 0.0), phi(2, 0.0)
        (1.0, 0.5)
    """
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= _MOST:
        raise ValueError(f"In phi_k k must be an integer >= 0, at most {_MOST}, got k={k!r}.")
    return like(_phi(k, as_float64(z)), z)


def _phi(k: int, z: Tensor) -> Tensor:
    if k == 0:
        return torch.exp(z)
    radius = max(_RADIUS, 2.0 * k)
    # Each branch sees only arguments that are safe for it, so that gradients through `where` stay
    # finite.
    near = z.abs() <= radius
    inside = torch.where(near, z, 0.0)
    outside = torch.where(near, radius + 1.0, z)
    return torch.where(near, _series(k, inside), _recurrence(k, outside))


def _recurrence(k: int, z: Tensor) -> Tensor:
    """φ_k by the defining recurrence from φ_1 = expm1(z)/z; for |z| above the radius nothing
    cancels badly.
    """
    value = torch.expm1(z) / z
    for j in range(1, k):
        value = (value - 1.0 / factorial(j)) / z
    return value


def _series(k: int, z: Tensor) -> Tensor:
    """Sum of positive terms on both sides of zero, so that the relative error is that of rounding.

    z ≥ 0:  φ_k(z) = Σ_n z^n / (n+k)!
    z < 0:  φ_k(z) = e^z Σ_n (−z)^n / (n! (k−1)! (n+k))        (Kummer's transformation of the same
    series)
    """
    below = z < 0
    try:
        some, every = bool(below.any()), bool(below.all())  # mostly one sign, which needs one sum
    except RuntimeError:  # of torch.func.vmap, in which no value is known
        some, every = True, False
    size = torch.where(below, -z, z)  # not abs, whose gradient at 0 is 0
    positive, negative = torch.zeros_like(size), torch.zeros_like(size)
    # Horner in nested-ratio form: the n-th term over the one before is z/(n+k), respectively z
    # (n+k-1)/(n (n+k)).
    for n in range(_TERMS + 4 * max(0, k - 4), 0, -1):
        positive = positive if every else (1.0 + positive) * size / (n + k)
        negative = (1.0 + negative) * size * ((n + k - 1) / (n * (n + k))) if some else negative
    return torch.where(below, torch.exp(-size) * (1.0 + negative), 1.0 + positive) / factorial(k)
