"""Gauss–Legendre quadrature."""

from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def gauss_legendre(n: int) -> tuple[Tensor, Tensor]:
    """Points and weights on [0, 1], float64, each of shape (n,)."""
    points, weights = np.polynomial.legendre.leggauss(n)
    return torch.as_tensor(0.5 * (points + 1.0)), torch.as_tensor(0.5 * weights)
