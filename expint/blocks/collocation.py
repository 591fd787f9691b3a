"""Matrices that depend on time: the propagator by Radau IIA collocation, and the integrals by the
quadrature at its nodes."""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from expint.blocks.matrices import finite_at

_STAGES, _TOLERANCE, _MOST_PANELS = 9, 1e-11, 2048


@lru_cache
def radau(stages: int) -> tuple[Tensor, Tensor]:
    """Nodes on (0, 1], the last at 1, and a_ij = ∫_0^{c_i} of the Lagrange polynomial j."""
    roots = legendre.legroots([*[0.0] * (stages - 1), -1.0, 1.0])
    roots[-1] = 1.0
    integrals = legendre.legval(roots, legendre.legint(np.eye(stages), lbnd=-1.0)).T
    matrix = 0.5 * integrals @ np.linalg.inv(legendre.legvander(roots, stages - 1))
    return torch.as_tensor(0.5 * (roots + 1.0)), torch.as_tensor(matrix)


def collocated(
    system: Any, start: Tensor, end: Tensor, variable: Callable[[Tensor], Tensor], count: int
) -> list[Tensor]:
    """Φ, the moments ∫ Φ B θ^i/i! du and Q between `start` and `end`, shape (intervals,); θ goes
    from 0 to 1 with `variable`.

    Ψ(u) = Φ(end, u) is followed from the end to the start, Ψ' = −ΨA, where a stable system decays:
    so nothing grows that later would cancel. Its layer at the end has the width 1/|A|; the panels
    grow from there geometrically, and all are halved until the integrals settle. Where that takes
    too many, A oscillates too often in a step.

    Raises:
        ValueError: if the matrices are not finite, or too rough.
    """
    length = start - end
    A = finite_at("A", system.A, end + length * torch.linspace(0.0, 1.0, 17).double()[1:-1, None])
    size = torch.linalg.matrix_norm(A, 1).amax(0) * length.abs()
    tolerance = (_TOLERANCE + 1e-14 * size)[:, None, None]
    layer = (1.0 / size.clamp(min=2.0)).clamp(min=1e-9)
    panels = 1 + int(torch.log2(1.0 / layer).max().ceil())
    exponents = torch.linspace(1.0, 0.0, panels).double()[:, None]
    edges = torch.cat([torch.zeros_like(layer)[None], layer**exponents])
    # Radau IIA damps what it does not resolve: panels that are too long agree on a false zero.
    modes = torch.linalg.eigvals(A) * -length[:, None]
    lasting = 36.0 / (-modes.real).clamp(min=36.0)
    turns = ((modes.imag.abs() + modes.real.clamp(min=0.0)) * lasting).max().item()
    for _ in range(math.ceil(math.log2(max(turns / 16.0, 1.0)))):
        edges = _halved(edges, start)
    coarse = _along(system, start, end, edges, variable, count)
    result, pending = [part.clone() for part in coarse], torch.arange(len(start))
    while len(pending):
        edges = _halved(edges, start[pending])
        fine = _along(system, start[pending], end[pending], edges, variable, count)
        rough = ~_settled(coarse, fine, tolerance[pending])
        for whole, part in zip(result, fine, strict=True):
            whole[..., pending, :, :] = part
        pending, edges = pending[rough], edges[:, rough]
        coarse = [part[..., rough, :, :] for part in fine]
    return result


def _halved(edges: Tensor, start: Tensor) -> Tensor:
    if len(edges) > _MOST_PANELS:
        raise ValueError(
            "The linear part changes, oscillates or grows too fast in the step at t = "
            f"{start[0].item():.6g} to be integrated: take more steps."
        )
    inner = torch.stack([edges[:-1], 0.5 * (edges[:-1] + edges[1:])], 1).flatten(0, 1)
    return torch.cat([inner, edges[-1:]])


def _settled(coarse: list[Tensor], fine: list[Tensor], tolerance: Tensor) -> Tensor:
    """Whether two passes agree, per interval: rows of Φ and of the moments by their largest entry,
    Q by its standard deviations, whose sizes may be far apart."""
    std = fine[2].diagonal(dim1=-2, dim2=-1).abs().sqrt()
    rows = [part.abs().amax(-1, keepdim=True) for part in fine[:2]]
    sizes = (*rows, std[..., None] * std[..., None, :])
    agreed = torch.ones(len(tolerance), dtype=torch.bool)
    least = ((1e-4, 1.0), (1e-6, 1e-300), (1e-12, 1e-300))
    for a, b, size, (part, floor) in zip(coarse, fine, sizes, least, strict=True):
        whole = b.abs().amax((-2, -1), keepdim=True).clamp(min=floor)
        off = (b - a).abs() > tolerance * torch.maximum(size, part * whole)
        agreed &= ~off.flatten(-2).any(-1).reshape(-1, len(agreed)).any(0)
    return agreed


def _along(
    system: Any, start: Tensor, end: Tensor, edges: Tensor, variable: Any, count: int
) -> list[Tensor]:
    """One pass over the panels w ∈ [edge_p, edge_{p+1}], u = end + w (start − end)."""
    (k, m, _), (nodes, matrix), n = system.sizes, radau(_STAGES), len(start)
    first, last = variable(start), variable(end)
    psi, whole = torch.eye(k).double().expand(n, k, k), torch.eye(_STAGES * k).double()  # Ψᵀ
    moments, q = psi.new_zeros(count, n, k, m), torch.zeros_like(psi)
    for low, high in pairwise(edges):
        h = (high - low) * (start - end)
        u = end + low * (start - end) + nodes[:, None] * h
        rates = -h[:, None, None] * finite_at("A", system.A, u).mT  # dΨᵀ/du = −Aᵀ Ψᵀ
        left = torch.einsum("ij,jnab->niajb", matrix, rates).reshape(n, *whole.shape)
        solved = torch.linalg.solve(whole - left, psi.repeat(1, _STAGES, 1))
        inner = solved.unflatten(1, (_STAGES, k)).transpose(0, 1).mT  # Ψ at the nodes
        signed = -matrix[-1][:, None] * h
        if count:
            theta = (variable(u) - first) / (last - first)
            p = torch.stack([theta**i / math.factorial(i) for i in range(count)])
            response = inner @ finite_at("B", system.B, u)
            moments = moments + torch.einsum("qnkm,cqn,qn->cnkm", response, p, signed)
        if system.stochastic:
            spread = inner @ finite_at("G", system.G, u)
            q = q + torch.einsum("qnij,qnkj,qn->nik", spread, spread, signed.abs())
        psi = solved[:, -k:]
    return [psi.mT, moments, q]
