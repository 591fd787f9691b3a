"""Functionals of the path that the noise of a plan knows beyond that of its equation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from expint.blocks import square_root
from expint.blocks.matrices import regression
from expint.noise.source import SubstepNoise


def system_of(run: Sequence[SubstepNoise], own: Any, grid: Tensor) -> tuple[Any, int]:
    """The linear system whose noise begins with that of `own` and goes on with the functionals that
    a run takes, and how many of its components have normals of their own in the run. Where the run
    has no system of its own, the functionals are the integrals of the noise along the grid."""
    nodes: Any = run[0].nodes if run else None
    extended = getattr(nodes, "extended", None)
    if extended is not None:
        return extended, extended.sizes[0]
    return own.with_integral(grid[-1] - grid[0]), own.sizes[0]


def nested_root(covariance: Tensor, k: int) -> Tensor:
    """R with R Rᵀ = Q, shape (*, n, n), whose first k rows take the first k normals alone: so the
    first components are the same, whatever the others are."""
    q = covariance
    own, across, others = q[..., :k, :k], q[..., :k, k:], q[..., k:, k:]
    known, root = regression(across.mT, own), square_root(own)
    rest = square_root(others - known @ across)
    upper = torch.cat([root, torch.zeros_like(across)], -1)
    return torch.cat([upper, torch.cat([known @ root, rest], -1)], -2)
