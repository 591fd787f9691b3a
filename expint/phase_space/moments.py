"""Mean and covariance of the output of a plan with matrices, without Monte Carlo."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from expint.noise import SubstepNoise
from expint.numerics.float64 import as_float64
from expint.plans import Plan
from expint.runs import execute


class _UnitNormals:
    """Normal j of a run is 1 for component c in batch entry j k + c, and 0 elsewhere."""

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_UnitNormals":
        """See `NoiseSource.stream`."""
        self._like, self._used = like, 0
        return self

    def normals(self, substep: SubstepNoise) -> list[Tensor]:
        """See `NoiseStream.normals`."""
        k, made = self._like.shape[1], []
        for _ in range(substep.normals):
            unit = torch.zeros_like(self._like)
            unit[self._used * k : (self._used + 1) * k] = torch.eye(k, dtype=unit.dtype)
            made.append(unit)
            self._used += 1
        return made


def block_moments(
    plan: Plan, F: Callable[[Tensor, Tensor], Tensor], mean: Tensor, covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance at the end of a run with an affine F, by linear response: one run
    has every normal, and every direction of the initial state, in an entry of the batch.

    Args:
        plan: of an equation with matrices.
        F: affine in the state, for states of shape (batch, k).
        mean, covariance: of the initial state, shape (k,) and (k, k).

    Returns:
        Mean, shape (k,), and covariance, shape (k, k), float64.
    """
    start = as_float64(mean)
    k, count = len(start), plan.normals * len(start)
    x = start.repeat(count + k + 1, 1)
    values, vectors = torch.linalg.eigh(as_float64(covariance))
    x[count:-1] += (vectors * values.clamp(min=0.0).sqrt()).mT
    end = execute(plan, F, x, _UnitNormals())
    response = end[:-1] - end[-1]
    return end[-1], response.mT @ response
