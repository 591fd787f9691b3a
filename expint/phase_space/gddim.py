"""gDDIM's noise form of critically damped diffusion."""

from typing import Any

import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from expint.equations import SemiLinearSDE
from expint.phase_space.reverse import product, reverse_cld
from expint.schedules.formula.critical_damping import CriticalDamping


class GDDIM:
    """gDDIM's equation: the reverse SDE in the noise form ε = R⁻¹ (u − m D),

        du = [A u + (1+ℓ²)/2 G Gᵀ R⁻ᵀ ε] dt + ℓ G dω,

    with the root R Rᵀ = Σ that the probability-flow ODE itself carries along,
    R' = (A + ½ G Gᵀ Σ⁻¹) R. With it ε is constant along the ODE's paths where the data are one
    point, which Cholesky's root does not give.

    At ℓ = 0 one step of "seeds-1" is the authors' deterministic step, and "seeds-ab2" to
    "seeds-ab4" are their multistep predictors, q = 1 to 3. Their stochastic step holds not ε but
    the posterior mean of (x_0, v_0): it is "seeds-1" of the data form, `reverse_cld(cld, ell=λ)`.

    `sde` is the equation; a call with a denoiser gives F. R is tabulated in λ and interpolated by
    cubic splines.

    Args:
        cld: the forward process.
        ell: stochasticity ℓ, the authors' λ.
        end: last time, > 0.
        entries: of the table of R.

    Source: Zhang, Tao & Chen, gDDIM, arXiv 2206.05564, sections 3 and 4.
    """

    def __init__(
        self, cld: CriticalDamping, *, ell: float = 0.0, end: float = 1e-3, entries: int = 4000
    ) -> None:
        self._cld, self._factor = cld, 0.5 * (1.0 + ell**2)
        flow = reverse_cld(cld, "data", 0.0, end=end).blocks
        assert flow is not None
        times = cld.grid(entries, end)
        steps, _ = flow.transition(times[:-1], times[1:])
        roots = [torch.linalg.cholesky(cld.kernel(times[0])[1])]
        for step in steps:
            roots.append(step @ roots[-1])
        self._spline = CubicSpline(cld.lam(times).numpy(), torch.stack(roots).numpy())
        self.sde = SemiLinearSDE.from_blocks(
            cld.drift,
            self._weight,
            (lambda t: ell * cld.diffusion(t)) if ell else None,
            span=(cld.stop, end),
            name=f"gDDIM's form of {type(cld).__name__}, ell={ell:g}",
        )

    def root(self, t: Tensor) -> Tensor:
        """R at times `t`, shape (*t, 2, 2)."""
        return torch.as_tensor(self._spline(self._cld.lam(t).numpy()))

    def _weight(self, t: Tensor) -> Tensor:
        g = self._cld.diffusion(t)
        return self._factor * g @ g.mT @ torch.linalg.inv(self.root(t)).mT

    def __call__(self, denoiser: Any) -> Any:
        """F(u, t) = R⁻¹ (u − m D), shape (batch, 2, *event)."""

        def noise(u: Tensor, t: Tensor) -> Tensor:
            mean, inverse = self._cld.kernel(t)[0], torch.linalg.inv(self.root(t))
            clean = mean.to(u).reshape(2, *[1] * (u.ndim - 2)) * denoiser(u, t)
            return product(inverse, u - clean)

        return noise
