"""The Gaussian transitions of a plan: which of its rows bring new normals, and their joint law.

The noise of the rows of a substep is N z. Row by row, N = L Q with orthonormal rows Q: a row whose
noise has a part of its own, given those before it, is a *free* state, with a density; any other is
a function of the free states, such as what a corrector makes of its prediction.
"""

from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from expint.plans import Plan

# A row whose own part of the noise is below this share of it has none: rounding of the rows before.
_LEAST = 1e-10


class Kernel(NamedTuple):
    """The joint law of the states that a substep's normals make.

    Attributes:
        step: of the grid.
        substep: whose normals they are.
        free: rows whose states have the density.
        loadings: of each noisy row the coefficients of the whitened normals u = Q z: of a free row
            those up to its own, a row of L; of any other, of the ones before it.
        basis: Q, float64, shape (free rows, normals).
    """

    step: int
    substep: int
    free: tuple[int, ...]
    loadings: dict[int, list[float]]
    basis: Tensor

    @property
    def factor(self) -> Tensor:
        """L, float64, lower triangular of positive diagonal, shape (free rows, free rows): the
        states less their means have covariance L Lᵀ."""
        rows = [torch.tensor(self.loadings[i], dtype=torch.float64) for i in self.free]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def kernels(plan: Plan) -> tuple[Kernel, ...]:
    """The kernels of a plan, one for each substep with noise, in order.

    Raises:
        TypeError: for anything but a plan.
        ValueError: if it has no noise, or coefficients that are not plain numbers.
    """
    if not isinstance(plan, Plan):
        raise TypeError(f"plan is a Plan, from plan_sampling or compile_plan, got {plan!r}.")
    found = []
    for substep, rows in groupby(range(len(plan.rows)), key=lambda i: plan.rows[i].substep):
        noise = plan.noises[substep]
        if noise is not None:
            found.append(_kernel(plan, list(rows), noise.normals))
    if not (found := [kernel for kernel in found if kernel.free]):
        raise ValueError(
            f"{plan.solver!r} on {plan.sde} adds no noise: its states are a function of the "
            "initial one and have no transition density. Take a solver or an ell that adds noise, "
            "for example ell=1."
        )
    return tuple(found)


def _kernel(plan: Plan, rows: list[int], normals: int) -> Kernel:
    """Gram–Schmidt on the rows of N, each orthogonalised twice."""
    free, loadings = list[int](), dict[int, list[float]]()
    basis, row = torch.zeros(0, normals, dtype=torch.float64), plan.rows[rows[0]]
    for i in rows:
        values = plan.rows[i].noise
        if not all(isinstance(value, float) for value in values):
            raise ValueError(
                f"The noise of {plan.solver!r} on {plan.sde} has coefficients that are tensors, "
                "per component or with gradients: densities are for plans of plain numbers."
            )
        own = torch.zeros(normals, dtype=torch.float64)
        own[: len(values)] = torch.tensor(values, dtype=torch.float64)
        if not (size := own.norm()):
            continue
        share = basis @ own
        rest = own - share @ basis
        share, rest = share + basis @ rest, rest - (basis @ rest) @ basis
        loadings[i] = share.tolist()
        if (length := rest.norm()) > _LEAST * size:
            free.append(i)
            loadings[i].append(length.item())
            basis = torch.cat([basis, (rest / length)[None]])
    return Kernel(row.step, row.substep, tuple(free), loadings, basis)
