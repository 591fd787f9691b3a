"""The reverse SDE of critically damped diffusion as an equation with matrices, and its F from a
denoiser.

With the score S = −Σ⁻¹ (u − m D) of p_t, D = E[x_0 | u_t], the family with the marginals p_t is

    du = [A u − (1+ℓ²)/2 G Gᵀ S] dt + ℓ G dω,    t decreasing,

where with CLD, G Gᵀ = diag(0, 2Γβ), only the score S_v of the velocity enters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from expint.blocks import Block
from expint.equations import SemiLinearSDE
from expint.numerics.float64 import are_numbers
from expint.registry import unknown
from expint.schedules.formula.critical_damping import CriticalDamping

FORMS = ("data", "noise", "score", "drift")


def reverse_cld(
    cld: CriticalDamping,
    form: str = "data",
    ell: float = 1.0,
    *,
    end: float = 1e-3,
    clock: str = "time",
) -> SemiLinearSDE:
    """The reverse SDE from `cld.stop` to `end`, state (batch, 2, *event); F is given by `Denoised`.

    Args:
        cld: the forward process, `CLD` or `PSLD`.
        form: what F is. "data": D, with the linear part A + (1+ℓ²)/2 G Gᵀ Σ⁻¹, so that data of one
            point are exact in one step; "noise": ε_v = −L_vv S_v with Cholesky's L Lᵀ = Σ, what
            the authors' network predicts; "score": S_v itself, the hybrid score; these two
            with the linear part A. Where the position has noise of its own they are ε = −Lᵀ S and
            S, both components. "drift": the whole drift, without a linear part (Euler–Maruyama).
        ell: stochasticity ℓ; 0 is the probability-flow ODE.
        end: last time, > 0.
        clock: "time", or "lambda" for polynomials and nodes in λ.

    Raises:
        ValueError: for an unknown form or clock, ℓ < 0, or an `end` that is not between 0 and the
            start.

    Source: Dockhorn, Vahdat & Kreis, arXiv 2112.07068, eq. (6) to (11); Pandey & Mandt, arXiv
    2303.01748, section 3; forms as in SEEDS, arXiv 2305.14267, section 4.

    Example:
        >>> import torch
        >>> from expint import integrate, noise
        >>> from expint.phase_space import Denoised, Mixture, reverse_cld
        >>> from expint.schedules import CLD
        >>> cld = CLD()
        >>> target = Mixture([[-1.0], [1.0]], 0.1, cld)
        >>> u = target.start(4, seed=0)
        >>> F = Denoised(cld, target, "data")
        >>> integrate(
        ...     reverse_cld(cld), F, u, cld.grid(8), "seeds-2", noise.Gaussian(range(4))
        ... ).x.shape
        torch.Size([4, 2, 1])
    """
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    if clock not in ("time", "lambda"):
        raise unknown("clock", clock, ("time", "lambda"))
    if not are_numbers(ell) or not 0 <= ell < float("inf"):
        raise ValueError(f"ell must be a finite number >= 0, got {ell!r}.")
    if not are_numbers(end) or not 0 < end < cld.stop:
        raise ValueError(f"end must lie between 0 and {cld.stop:g}, got {end!r}.")
    factor = 0.5 * (1.0 + ell**2)

    def spread(t: Tensor) -> Tensor:  # G Gᵀ
        g = cld.diffusion(t)
        return g @ g.mT

    def drift(t: Tensor) -> Tensor:
        if form == "drift":
            return torch.zeros_like(cld.drift(t))
        if form != "data":
            return cld.drift(t)
        _, covariance = cld.kernel(t)
        return cld.drift(t) + factor * spread(t) @ torch.linalg.inv(covariance)

    def weight(t: Tensor) -> Tensor:
        if form == "drift":
            return torch.eye(2, dtype=torch.float64).expand(*t.shape, 2, 2)
        mean, covariance = cld.kernel(t)
        if form == "data":
            return -factor * spread(t) @ torch.linalg.solve(covariance, mean[..., None])
        score = -factor * spread(t)
        if form == "noise":  # S = −L⁻ᵀ ε
            score = -score @ torch.linalg.inv(torch.linalg.cholesky(covariance)).mT
        return score[..., cld.first_noised :]

    def noise(t: Tensor) -> Tensor:
        return ell * cld.diffusion(t)

    name = f"reverse {type(cld).__name__}, {form} form, ell={ell:g}"
    own = None if clock == "time" else cld.lam
    return SemiLinearSDE.from_blocks(
        drift, weight, noise if ell else None, span=(cld.stop, end), clock=own, name=name
    )


@dataclass(frozen=True, eq=False)
class Denoised:
    """F of a form from a denoiser, to be given to `expint.integrate`.

    Args:
        cld: the forward process.
        denoiser: denoiser(u, t) → E[x_0 | u_t], shape (batch, 1, *event), for u of shape (batch, 2,
            *event).
        form: see `reverse_cld`.
        ell: ℓ, which only the form "drift" needs.
    """

    cld: CriticalDamping
    denoiser: Callable[[Tensor, Tensor], Tensor]
    form: str = "data"
    ell: float = 1.0

    def __call__(self, u: Tensor, t: Tensor) -> Tensor:
        """F, shape (batch, m, *event): m = 1 for D, and 1 or 2 for scores and noise; the shape of u
        for the form "drift"."""
        clean = self.denoiser(u, t)
        if self.form == "data":
            return clean
        mean, covariance = self.cld.kernel(t)
        residual = u - mean.to(u).reshape(2, *[1] * (u.ndim - 2)) * clean
        if self.form == "noise":
            whitening = torch.linalg.inv(torch.linalg.cholesky(covariance))
            return product(whitening[self.cld.first_noised :], residual)
        precision = -torch.linalg.inv(covariance)
        if self.form == "score":
            return product(precision[self.cld.first_noised :], residual)
        g = self.cld.diffusion(t)
        push = 0.5 * (1.0 + self.ell**2) * g @ g.mT @ precision
        return product(self.cld.drift(t), u) - product(push, residual)


def product(matrix: Tensor, u: Tensor) -> Tensor:
    """Of a matrix of shape (k, m), cast to u, and a state of m components."""
    return matrix.to(u).as_subclass(Block).on(u)
