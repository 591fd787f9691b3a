"""Eigenvalues of the Jacobian of a denoiser at given states, from Jacobian-vector products."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from expint.runs import Reparametrized
from expint.runs.forward_mode import along


def spectrum(model: Any, x: Tensor, t: Tensor, v: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What `_arnoldi` finds of α ∂D/∂x."""
    denoiser, place = Reparametrized(model, "data"), t.to(x.device)
    alpha, std = denoiser.schedule.alpha(t), float(denoiser.schedule.std(t))
    try:
        found = _arnoldi(partial(_tangent, denoiser, x, place), v, count)
    except TypeError:  # no derivative in forward mode
        found = _arnoldi(partial(_difference, denoiser, x, place, std=std), v, count)
    return alpha * found[0], alpha * found[1]


def _tangent(model: Any, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """∂_x model · v: time stands still."""
    return along(lambda state, _: model(state, t), x, t, v.to(x.dtype))


def _difference(model: Any, x: Tensor, t: Tensor, v: Tensor, *, std: float) -> Tensor:
    """The same by a central difference over a small part of the noise level, in which D may
    curve."""
    size = torch.finfo(x.dtype).eps ** (1 / 3) * std * math.sqrt(x[0].numel())
    moved = (size * v).to(x.dtype)
    return (model(x + moved, t).double() - model(x - moved, t).double()) / (2.0 * size)


def _arnoldi(product: Callable[[Tensor], Tensor], v: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Ritz values of J, complex of shape (batch, count), and vᵀJv/vᵀv, whose mean over normal v is
    trace over dimension.

    Args:
        product: v ↦ J v, for each sample its own J.
        v: where the Krylov spaces begin, float64, shape (batch, *event).
        count: their dimension, at most that of the event.
    """
    shape, n = v.shape, len(v)
    count = min(count, v[0].numel())
    flat = v.flatten(1)
    basis = (flat / flat.norm(dim=1, keepdim=True))[:, None]
    hessenberg = torch.zeros(n, count + 1, count, dtype=torch.float64)
    sizes = torch.full((n,), count)
    for j in range(count):
        w = product(basis[:, j].reshape(shape))
        rounding = 100.0 * torch.finfo(w.dtype).eps * w.double().flatten(1).norm(dim=1)
        w = w.double().flatten(1)
        for _ in range(2):  # once does not make them orthogonal
            parts = torch.einsum("nkd,nd->nk", basis, w)
            hessenberg[:, : j + 1, j] += parts.cpu()
            w = w - torch.einsum("nkd,nk->nd", basis, parts)
        length = w.norm(dim=1)
        # An invariant subspace: what is left is rounding.
        sizes = torch.where((length <= rounding).cpu(), sizes.clamp(max=j + 1), sizes)
        hessenberg[:, j + 1, j] = length.cpu()
        basis = torch.cat([basis, (w / length.clamp(min=1e-300)[:, None])[:, None]], 1)
    if not torch.isfinite(hessenberg).all():
        raise FloatingPointError("A derivative of the model became NaN or infinite.")
    values = torch.empty(n, count, dtype=torch.complex128)
    for i, size in enumerate(sizes.tolist()):
        found = torch.linalg.eigvals(hessenberg[i, :size, :size])
        values[i] = found[torch.arange(count).clamp(max=size - 1)]
    return values, hessenberg[:, 0, 0]
