"""Constant matrices: exponentials by scaling and doubling, which stiff and defective ones need."""

import torch
from torch import Tensor

from expint.numerics.quadrature import gauss_legendre


def exponentials(A: Tensor, B: Tensor, G: Tensor, h: Tensor, count: int) -> Tensor:
    """e^{hA}, the moments h φ_i(hA) B for i = 1 … count, and ∫_0^|h| e^{±uA} G Gᵀ e^{±uAᵀ} du.

    The first come from the exponential of an augmented matrix, the last over δ = h/2^s by
    Gauss–Legendre quadrature; then the interval is doubled s times. No step subtracts, so that Q
    keeps its digits and its sign, whatever |A| h is:

        Q(2δ) = Q(δ) + Φ(δ) Q(δ) Φ(δ)ᵀ.

    Args:
        A, B, G: shape (k, k), (k, m), (k, n).
        h: lengths with sign, any shape.
        count: how many moments.

    Returns:
        One beside the other, shape (*h, k, 2k + count m).

    Source: scaling and squaring; Van Loan, IEEE TAC 23 (1978), for the integrals.
    """
    k, m = len(A), B.shape[-1]
    whole = A.new_zeros(*h.shape, k + count * m, k + count * m)
    whole[..., :k, :k] = h[..., None, None] * A
    if count:
        whole[..., :k, k : k + m] = h[..., None, None] * B
        whole[..., k : k + (count - 1) * m, k + m :] = torch.eye((count - 1) * m, dtype=A.dtype)
    grown = torch.linalg.matrix_exp(whole)[..., :k, :]
    size = torch.linalg.matrix_norm(A, 1) * h.abs()
    doublings = torch.log2(size.clamp(min=0.5) * 2.0).ceil()
    delta = (h / 2.0**doublings)[..., None, None]
    nodes, weights = (v.reshape(-1, *[1] * delta.ndim) for v in gauss_legendre(12))
    spread = torch.linalg.matrix_exp(delta * nodes * A) @ G
    phi, q = torch.linalg.matrix_exp(delta * A), (spread @ spread.mT * weights).sum(0) * delta.abs()
    for i in range(int(doublings.max()) if doublings.numel() else 0):
        more = (i < doublings)[..., None, None]
        q, phi = torch.where(more, q + phi @ q @ phi.mT, q), torch.where(more, phi @ phi, phi)
    return torch.cat([grown, q], -1)
