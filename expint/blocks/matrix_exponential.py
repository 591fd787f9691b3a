"""Constant matrices: exponentials by scaling and doubling, which stiff and defective ones need."""

import torch
from torch import Tensor

from expint.numerics.quadrature import gauss_legendre


def exponentials(
    A: Tensor, B: Tensor, G: Tensor, h: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """e^{hA}, the moments h φ_i(hA) B for i = 1 … count, and ∫_0^|h| e^{±uA} G Gᵀ e^{±uAᵀ} du.

    Over δ = h/2^s the first come from the exponential of an augmented matrix, the last by
    Gauss–Legendre quadrature; then the interval is doubled s times. No step subtracts, so that Q
    keeps its digits and its sign, whatever |A| h is:

        Q(2δ) = Q(δ) + Φ(δ) Q(δ) Φ(δ)ᵀ,    M_i(2δ) = Σ_j 2^{−i} (Φ M_i + M_j / (i − j)!)

    with M_i = ∫ Φ B θ^i/i! du, where the second half has θ shifted by 1 in units of δ.

    Args:
        A, B, G: shape (k, k), (k, m), (k, n).
        h: lengths with sign, any shape.
        count: how many moments.

    Returns:
        Shapes (*h, k, k), (count, *h, k, m), (*h, k, k).

    Source: scaling and squaring; Van Loan, IEEE TAC 23 (1978), for the integrals.
    """
    k, m = B.shape
    lengths = h.reshape(-1)
    size = torch.linalg.matrix_norm(A, 1) * lengths.abs()
    doublings = torch.log2(size.clamp(min=0.5) * 2.0).ceil().long()
    delta = lengths / 2.0**doublings
    whole = A.new_zeros(len(lengths), k + count * m, k + count * m)
    whole[:, :k, :k] = delta[:, None, None] * A
    if count:
        whole[:, :k, k : k + m] = delta[:, None, None] * B
        whole[:, k : k + (count - 1) * m, k + m :] = torch.eye((count - 1) * m, dtype=A.dtype)
    grown = torch.linalg.matrix_exp(whole)
    phi = grown[:, :k, :k]
    moments = [grown[:, :k, k + i * m : k + (i + 1) * m] for i in range(count)]
    nodes, weights = gauss_legendre(12)
    spread = torch.linalg.matrix_exp(delta[:, None, None, None] * nodes[:, None, None] * A) @ G
    q = torch.einsum("nqij,nqkj,q,n->nik", spread, spread, weights, delta.abs())
    for i in range(int(doublings.max()) if len(doublings) else 0):
        more = (i < doublings)[:, None, None]
        q = torch.where(more, q + phi @ q @ phi.mT, q)
        moments = _doubled(phi, moments, more)
        phi = torch.where(more, phi @ phi, phi)
    shape = (*h.shape, k)
    found = torch.stack(moments) if count else A.new_zeros(0, len(lengths), k, m)
    return phi.reshape(*shape, k), found.reshape(count, *shape, m), q.reshape(*shape, k)


def _doubled(phi: Tensor, moments: list[Tensor], more: Tensor) -> list[Tensor]:
    """The moments of an interval from those of its halves, where `more`."""
    made, inverse = [], [1.0]
    for i, own in enumerate(moments):
        inverse.append(inverse[-1] / (i + 1))
        second = sum((moments[j] * inverse[i - j] for j in range(i + 1)), torch.zeros_like(own))
        made.append(torch.where(more, (phi @ own + second) / 2.0**i, own))
    return made
