"""Matrices that depend on time: the propagator by Radau IIA collocation, and the integrals by the
quadrature at its nodes."""

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from expint.blocks.matrices import TimeFunction

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
    system: Any, start: Tensor, end: Tensor, variable: TimeFunction, count: int
) -> Tensor:
    """Φ, the moments ∫ Φ B θ^i/i! du and Q between `start` and `end`, shape (intervals,), beside
    each other, shape (intervals, k, 2k + count m); θ goes from 0 to 1 with `variable`.

    Ψ(u) = Φ(end, u) is followed from the end to the start, Ψ' = −ΨA, where a stable system decays:
    so nothing grows that later would cancel. Its layer at the end has the width 1/|A|; the panels
    grow from there geometrically, and all are halved until the integrals settle. Where that takes
    too many, A oscillates too often in a step.

    Raises:
        ValueError: if the matrices are not finite, or too rough.
    """
    length = start - end
    A = system.A(end + length * torch.linspace(0.0, 1.0, 17).double()[1:-1, None])
    size = torch.linalg.matrix_norm(A, 1).amax(0) * length.abs()
    tolerance = (_TOLERANCE + 1e-14 * size)[:, None, None]
    layer = (1.0 / size.clamp(min=2.0)).clamp(min=1e-9)
    exponents = torch.linspace(1.0, 0.0, 1 - int(layer.log2().min().floor())).double()[:, None]
    edges = torch.cat([torch.zeros_like(layer)[None], layer**exponents])
    # Radau IIA damps what it does not resolve: panels that are too long agree on a false zero.
    modes = torch.linalg.eigvals(A) * -length[:, None]
    lasting = 36.0 / (-modes.real).clamp(min=36.0)
    turns = ((modes.imag.abs() + modes.real.clamp(min=0.0)) * lasting).max().item()
    for _ in range(math.ceil(math.log2(max(turns / 16.0, 1.0)))):
        edges = _halved(edges, start)
    coarse = _along(system, start, end, edges, variable, count)
    found, pending = coarse.clone(), torch.arange(len(start))
    while len(pending):
        edges = _halved(edges, start[pending])
        fine = _along(system, start[pending], end[pending], edges, variable, count)
        found[pending] = fine
        off = (fine - coarse).abs() > tolerance[pending] * _sizes(fine, system.sizes[1], count)
        rough = off.flatten(1).any(1)
        pending, edges, coarse = pending[rough], edges[:, rough], fine[rough]
    return found


def _halved(edges: Tensor, start: Tensor) -> Tensor:
    if len(edges) > _MOST_PANELS:
        raise ValueError(
            "The linear part changes, oscillates or grows too fast in the step at t = "
            f"{start[0].item():.6g} to be integrated: take more steps."
        )
    inner = torch.stack([edges[:-1], 0.5 * (edges[:-1] + edges[1:])], 1).flatten(0, 1)
    return torch.cat([inner, edges[-1:]])


def _sizes(found: Tensor, m: int, count: int) -> Tensor:
    """What errors are compared with: in Φ and the moments the largest entry of the row, in Q the
    standard deviations, whose sizes may be far apart; if they are not too far below the whole."""
    k = found.shape[1]
    parts = found.abs().split([k, *[m] * count, k], -1)
    std = parts[-1].diagonal(dim1=-2, dim2=-1).sqrt()[..., None]
    own = [*(part.amax(-1, keepdim=True) for part in parts[:-1]), std * std.mT]
    least = [1e-4, *[1e-6] * count, 1e-12]
    sizes = [
        torch.maximum(size, a * part.amax((-2, -1), keepdim=True)).expand_as(part)
        for a, size, part in zip(least, own, parts, strict=True)
    ]
    return torch.cat([sizes[0].clamp(min=1e-4), *sizes[1:]], -1)


def _along(
    system: Any, start: Tensor, end: Tensor, edges: Tensor, variable: TimeFunction, count: int
) -> Tensor:
    """One pass over the panels w ∈ [edge_p, edge_{p+1}], u = end + w (start − end)."""
    (k, m), (nodes, matrix), n = system.sizes, radau(_STAGES), len(start)
    psi, whole = torch.eye(k).double().expand(n, k, k), torch.eye(_STAGES * k).double()  # Ψᵀ
    moments, q = psi.new_zeros(n, k, count, m), torch.zeros_like(psi)
    for low, high in pairwise(edges):
        h = (high - low) * (start - end)
        u = end + low * (start - end) + nodes[:, None] * h
        rates = -h[:, None, None] * system.A(u).mT  # dΨᵀ/du = −Aᵀ Ψᵀ
        left = torch.einsum("ij,jnab->niajb", matrix, rates).reshape(n, *whole.shape)
        solved = torch.linalg.solve(whole - left, psi.repeat(1, _STAGES, 1))
        inner = solved.unflatten(1, (_STAGES, k)).transpose(0, 1).mT  # Ψ at the nodes
        signed = -matrix[-1][:, None] * h
        if count:
            theta = (variable(u) - variable(start)) / (variable(end) - variable(start))
            p = torch.stack([theta**i / math.factorial(i) for i in range(count)])
            response = inner @ system.B(u)
            moments = moments + torch.einsum("qnkm,cqn,qn->nkcm", response, p, signed)
        if system.stochastic:
            spread = inner @ system.G(u)
            q = q + torch.einsum("qnij,qnkj,qn->nik", spread, spread, signed.abs())
        psi = solved[:, -k:]
    return torch.cat([psi.mT, moments.flatten(-2), q], -1)
