"""Matrices that depend on time: the propagator by Radau IIA collocation, and the integrals by the
quadrature at its nodes."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

_STAGES, _TOLERANCE, _MOST_PANELS = 9, 1e-11, 2048


@lru_cache
def radau(stages: int) -> tuple[Tensor, Tensor]:
    """Nodes on (0, 1], the last at 1, and a_ij = ∫_0^{c_i} of the Lagrange polynomial j."""
    ends = np.zeros(stages + 1)
    ends[-2:] = -1.0, 1.0
    roots = np.sort(legendre.legroots(ends).real)
    roots[-1] = 1.0
    values = legendre.legvander(roots, stages - 1)
    integrals = [
        legendre.legval(roots, legendre.legint(unit, lbnd=-1.0)) for unit in np.eye(stages)
    ]
    matrix = 0.5 * np.stack(integrals, 1) @ np.linalg.inv(values)
    return torch.as_tensor(0.5 * (roots + 1.0)), torch.as_tensor(matrix)


def collocated(
    system: Any,
    start: Tensor,
    end: Tensor,
    powers: Callable[[Tensor], Sequence[Tensor]],
    count: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Φ, the moments ∫ Φ B p du and Q between `start` and `end`, which have one shape.

    Ψ(u) = Φ(end, u) is followed from the end to the start, Ψ' = −ΨA, where a stable system decays:
    so nothing grows that later would cancel. Its layer at the end has the width 1/|A|; the panels
    grow from there geometrically, and all are halved until the integrals settle. Where that takes
    too many, A oscillates too often in a step.

    Raises:
        ValueError: if the matrices are not finite, or too rough.
    """
    shape, k = start.shape, system.sizes[0]
    first, last = start.reshape(-1), end.reshape(-1)
    probe = last + (first - last) * torch.linspace(0.0, 1.0, 17, dtype=torch.float64)[:, None]
    rates = torch.linalg.matrix_norm(_finite(system.A, "A", probe[1:-1]), 1).amax(0)
    tolerance = _TOLERANCE + 1e-14 * rates * (last - first).abs()
    layer = (1.0 / (rates * (last - first).abs()).clamp(min=2.0)).clamp(min=1e-9)
    panels = 1 + int(torch.log2(1.0 / layer).max().ceil())
    exponents = torch.arange(panels - 1, -1, -1, dtype=torch.float64) / max(panels - 1, 1)
    edges = torch.cat([torch.zeros_like(layer)[None], layer ** exponents[:, None]])
    if panels == 1:
        edges[-1] = 1.0
    # Radau IIA damps what it does not resolve: panels that are too long agree on a false zero.
    modes = torch.linalg.eigvals(system.A(probe[1:-1])) * (last - first)[:, None]
    lasting = 36.0 / (-modes.real).clamp(min=36.0)
    turns = ((modes.imag.abs() + modes.real.clamp(min=0.0)) * lasting).max().item()
    for _ in range(math.ceil(math.log2(max(turns / 16.0, 1.0)))):
        edges = _halved(edges)
    pending = torch.arange(len(first))
    if len(edges) > _MOST_PANELS:
        raise _too_rough(first[0].item())
    coarse = _along(system, first, last, edges, powers, shape, pending, count)
    result = [part.clone() for part in coarse]
    while len(pending):
        if len(edges) > _MOST_PANELS:
            raise _too_rough(first[pending][0].item())
        edges = _halved(edges)
        fine = _along(system, first, last, edges, powers, shape, pending, count)
        settled = _close(coarse, fine, tolerance[pending])
        for whole, part in zip(result, fine, strict=True):
            whole[:, pending] = part
        pending, edges = pending[~settled], edges[:, ~settled]
        coarse = [part[:, ~settled] for part in fine]
    phi, moments, q = result
    m = moments.shape[-1]
    return (
        phi[0].reshape(*shape, k, k),
        moments.reshape(count, *shape, k, m),
        q[0].reshape(*shape, k, k),
    )


def _halved(edges: Tensor) -> Tensor:
    inner = torch.stack([edges[:-1], 0.5 * (edges[:-1] + edges[1:])], 1).flatten(0, 1)
    return torch.cat([inner, edges[-1:]])


def _too_rough(t: float) -> ValueError:
    return ValueError(
        f"The linear part changes, oscillates or grows too fast in the step at t = {t:.6g} to be "
        "integrated: take more steps."
    )


def _close(coarse: Sequence[Tensor], fine: Sequence[Tensor], tolerance: Tensor) -> Tensor:
    """Whether two passes agree, per interval: rows of Φ and of the moments by their largest entry,
    Q by its standard deviations, whose sizes may be far apart."""
    agreed = torch.ones(len(tolerance), dtype=torch.bool)
    for i, (a, b) in enumerate(zip(coarse, fine, strict=True)):
        size = b.abs().amax(-1, keepdim=True)
        if i == 2:
            std = b.diagonal(dim1=-2, dim2=-1).abs().sqrt()
            size = std[..., None] * std[..., None, :]
        least = (1e-4, 1e-6, 1e-12)[i]
        whole = b.abs().amax((-2, -1), keepdim=True).clamp(min=1.0 if i == 0 else 1e-300)
        good = (b - a).abs() <= tolerance[:, None, None] * torch.maximum(size, least * whole)
        agreed &= (good | ~torch.isfinite(b)).flatten(2).all(2).all(0)
    return agreed


def _along(
    system: Any,
    start: Tensor,
    end: Tensor,
    edges: Tensor,
    powers: Callable[[Tensor], Sequence[Tensor]],
    shape: tuple[int, ...],
    chosen: Tensor,
    count: int,
) -> list[Tensor]:
    """One pass over the panels w ∈ [edge_p, edge_{p+1}], u = end + w (start − end)."""
    k, m, _ = system.sizes
    nodes, matrix = radau(_STAGES)
    weights, length = matrix[-1], (start - end)
    eye = torch.eye(k, dtype=torch.float64)
    psi = eye.expand(len(chosen), k, k)  # Ψᵀ
    moments = psi.new_zeros(count, len(chosen), k, m)
    q = torch.zeros_like(psi)
    for low, high in pairwise(edges):
        width = high - low
        places = end.expand(_STAGES, -1).clone()
        places[:, chosen] += (low + nodes[:, None] * width) * length[chosen]
        u = places[:, chosen]
        # dΨᵀ/dw = Aᵀ (end − start) Ψᵀ
        speed = -(length[chosen] * width)[:, None, None]
        L = speed * _finite(system.A, "A", u).mT
        left = torch.einsum("ij,jnab->niajb", matrix, L).reshape(len(chosen), *[_STAGES * k] * 2)
        right = psi.repeat(1, _STAGES, 1)
        solved = torch.linalg.solve(torch.eye(_STAGES * k, dtype=torch.float64) - left, right)
        inner = solved.unflatten(1, (_STAGES, k)).transpose(0, 1).mT  # Ψ at the nodes
        signed = weights[:, None] * -length[chosen] * width
        if count:
            response = inner @ _finite(system.B, "B", u)
            p = torch.stack(list(powers(places.unflatten(1, shape)))).reshape(count, *places.shape)
            moments = moments + torch.einsum("qnkm,cqn,qn->cnkm", response, p[..., chosen], signed)
        if system.stochastic:
            spread = inner @ _finite(system.G, "G", u)
            q = q + torch.einsum("qnij,qnkj,qn->nik", spread, spread, signed.abs())
        psi = solved[:, -k:]
    return [psi.mT[None], moments, q[None]]


def _finite(function: Callable[[Tensor], Tensor], name: str, t: Tensor) -> Tensor:
    found = function(t)
    bad = ~torch.isfinite(found).flatten(t.ndim).all(-1)
    if bad.any():
        raise ValueError(f"{name} is not finite at t = {t[bad][0].item():.9g}.")
    return found
