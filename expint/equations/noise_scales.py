"""How much noise a sampler adds: the noise-scale function φ(σ), and what ℓ, η, τ-windows and churn
are in terms of it.

The extended reverse-time SDE with noise scale φ has propagator α φ(σ), clock −log φ(σ) and noise
clock σ²/φ(σ)². It is admissible where φ increases (so that the clock runs forward) and φ/σ does not
decrease (so that no variance would be negative):

    d log φ / d log σ = 1 + ℓ²(σ),

so that φ = σ is the ODE, φ = σ² the reverse SDE and φ = σ^(1+ℓ²) constant ℓ.

Source: ER-SDE-Solver, arXiv 2309.06169, section 4; ℓ as in SEEDS, arXiv 2305.14267.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import are_numbers, as_float64
from expint.numerics.quadrature import Primitive
from expint.numerics.roots import invert_monotone
from expint.registry import Registry

_LOG_RANGE = (-60.0, 60.0)  # log σ between which inverses are sought


@dataclass(frozen=True, eq=False)
class NoiseScale:
    """A noise-scale function, held as log(φ/σ) in terms of log σ: where that is constant no noise
    is added, to the last digit.

    Args:
        name: for print-outs.
        log_excess: log φ − log σ, elementwise function of a float64 tensor log σ.
        has_noise: False only where φ/σ is constant everywhere, the ODE.
        pieces: (log σ at the low and high end, ℓ²) of each piece of a constant ℓ, where φ is given
            by such.
    """

    name: str
    log_excess: Callable[[Tensor], Tensor]
    has_noise: bool = True
    pieces: tuple[tuple[Any, Any, Any], ...] = ()

    def log_phi(self, log_sigma: Tensor) -> Tensor:
        """log φ in terms of log σ."""
        return log_sigma + self.log_excess(log_sigma)

    def __call__(self, sigma: Any) -> Tensor:
        """φ(σ), float64."""
        return torch.exp(self.log_phi(torch.log(as_float64(sigma))))

    def log_sigma(self, log_phi: Tensor) -> Tensor:
        """The inverse: log σ at which log φ has the given values."""
        return invert_monotone(self.log_phi, log_phi, *_LOG_RANGE)

    def check(self, log_low: float, log_high: float, points: int = 4001) -> None:
        """Refuse a function that is not admissible for log σ between the bounds.

        Raises:
            ValueError: with the σ at which φ is not positive, does not increase, or φ/σ decreases.
        """
        log_sigma = torch.linspace(log_low, log_high, points, dtype=torch.float64)
        log_phi = self.log_phi(log_sigma)
        room = 1e-13 * (1 + log_phi[1:].abs())
        decrease = "phi/sigma decreases{}, which would need noise of negative variance"
        for wrong, what in (
            (~torch.isfinite(log_phi), "phi is not positive and finite{}"),
            (log_phi.diff() < room, "phi does not increase{}"),
            (self.log_excess(log_sigma).diff() < -room, decrease),
        ):
            if wrong.any():
                where = torch.exp(log_sigma[int(torch.nonzero(wrong)[0])]).item()
                raise ValueError(
                    f"The noise scale {self.name!r} is not admissible: "
                    f"{what.format(f' at sigma = {where:.6g}')}."
                )


_LOG_10 = math.log(10.0)
# Noise scales of the kinds that ER-SDE-Solver compares (arXiv 2309.06169); the first two are the
# ODE and the reverse SDE.
_NAMED = Registry[NoiseScale]("noise scale")
for _name, _log_excess in {
    "ode": torch.zeros_like,
    "sde": lambda u: u,
    "power-1.5": lambda u: 0.5 * u,
    "power-2.5": lambda u: 1.5 * u,
    "log": lambda u: torch.log(torch.log1p(100.0 * torch.exp(1.5 * u)) / _LOG_10) - 0.1 * u,
    "exp-0.3": lambda u: torch.logaddexp(torch.exp(0.3 * u), torch.full_like(u, _LOG_10)),
    "exp-linear": lambda u: torch.logaddexp(torch.exp(u), torch.full_like(u, _LOG_10)),
}.items():
    _NAMED.add(_name, NoiseScale(_name, _log_excess, has_noise=_name != "ode"))

noise_scale_names = _NAMED.names
"""Names that `noise_scale` knows, sorted."""


def noise_scale(scale: "str | NoiseScale | Callable[[Tensor], Tensor]") -> NoiseScale:
    """A noise scale from its name, from a function φ(σ) of a float64 tensor, or as it is.

    Raises:
        ValueError: for an unknown name (the nearest are named).
        TypeError: for anything else.
    """
    if isinstance(scale, NoiseScale):
        return scale
    if isinstance(scale, str):
        return _NAMED.get(scale)
    if callable(scale):
        name = getattr(scale, "__name__", "phi")
        return NoiseScale(name, lambda u: torch.log(scale(torch.exp(u))) - u)
    kind = type(scale).__name__
    raise TypeError(f"A noise scale is a name, a function phi(sigma) or a NoiseScale, got {kind}.")


def noise_scale_from_ell(
    ell: Callable[[Tensor], Tensor],
    *,
    breaks: Sequence[float] = (),
    lam_range: tuple[float, float] = (-15.0, 15.0),
) -> NoiseScale:
    """φ for a stochasticity ℓ(λ) that varies: log(φ/σ) = −∫ ℓ²(λ) dλ, by quadrature.

    Args:
        ell: elementwise function of a float64 tensor λ, ≥ 0; it may jump at `breaks`.
        breaks: values of λ where ℓ or a derivative jumps.
        lam_range: values of λ between which ℓ is looked at; beyond them it is taken as constant.

    Raises:
        ValueError: where ℓ is negative, or jumps at no break.

    Source: ER-SDE-Solver, arXiv 2309.06169, eq. (11), in the stochasticity of SEEDS.
    """
    low, high = lam_range

    def square(lam: Tensor) -> Tensor:
        value = as_float64(ell(lam)).expand(lam.shape)
        if not bool((value >= 0).all()):
            raise ValueError(f"ell(lambda) must be >= 0, got {value.min().item():.6g}.")
        return value**2

    way_out = "give the value of lambda where it jumps as one of `breaks`"
    area = Primitive(square, low, high, name="ell^2", breaks=breaks, way_out=way_out)
    first, last = square(as_float64([low + 1e-9, high - 1e-9]))

    def log_excess(log_sigma: Tensor) -> Tensor:
        lam = -log_sigma
        inside = lam.clamp(low, high)
        outside = torch.where(lam < low, first, last) * (lam - inside)
        return -(area(inside) + outside)

    name = getattr(ell, "__name__", "ell(lambda)")
    return NoiseScale(name, log_excess, has_noise=bool(area(as_float64(high)) > 0.0))


def piecewise(name: str, pieces: Sequence[tuple[Any, Any, Any]]) -> NoiseScale:
    """ℓ constant for log σ within each piece (low, high, ℓ²), and 0 elsewhere; where it is
    infinite, φ is that of ℓ = 1, and the limit is taken when steps are compiled."""

    def log_excess(u: Tensor) -> Tensor:
        finite = (
            (low, high, 1.0 if square == math.inf else square) for low, high, square in pieces
        )
        steps = (square * (u.clamp(low, high) - high) for low, high, square in finite)
        return sum(steps, torch.zeros_like(u))

    return NoiseScale(name, log_excess, any(square > 0 for *_, square in pieces), tuple(pieces))


def window(value: float, sigma_low: float, sigma_high: float) -> NoiseScale:
    """ℓ = `value` for σ between the bounds and 0 outside: SA-Solver's τ(t) window, EDM's S_tmin and
    S_tmax.

    Source: SA-Solver, arXiv 2309.05019, section 6 (its τ is ℓ).
    """
    bounds = (value, sigma_low, sigma_high)
    if not (
        are_numbers(*bounds) and 0 <= value < math.inf and 0 < sigma_low < sigma_high < math.inf
    ):
        raise ValueError(
            f"A window needs value >= 0 and 0 < sigma_low < sigma_high, got {value}, {sigma_low}, "
            f"{sigma_high}."
        )
    name = f"ell={value:g} for sigma in [{sigma_low:g}, {sigma_high:g}]"
    return piecewise(name, [(math.log(sigma_low), math.log(sigma_high), value**2)])


def ell_from_eta(eta: Any, sigma_s: Any, sigma_t: Any) -> Tensor:
    """The ℓ with which a first-order data-form step from σ_s to σ_t adds the noise of DDIM's η.

    DDIM's noise has variance η² σ_t² (1 − σ_t²/σ_s²) (in units of α_t), so that φ_t/φ_s = (σ_t/σ_s)
    √(1 − η²(1 − σ_t²/σ_s²)).

    Raises:
        ValueError: if η² (1 − σ_t²/σ_s²) ≥ 1, more noise than the state at t holds.

    Source: DDIM, arXiv 2010.02502, eq. (16).
    """
    e, s, t = torch.broadcast_tensors(*(as_float64(v) for v in (eta, sigma_s, sigma_t)))
    taken = e**2 * (1.0 - (t / s) ** 2)
    bad = (taken >= 1.0) | ~(e >= 0)
    if bad.any():
        raise ValueError(
            f"eta = {e[bad][0].item():.6g} is inadmissible for the step to sigma = "
            f"{t[bad][0].item():.6g}: eta must be >= 0 and eta^2 (1 - sigma_t^2/sigma_s^2) below 1."
        )
    return torch.sqrt((0.5 * torch.log1p(-taken) / torch.log(t / s)).clamp(min=0.0))


def eta_from_ell(ell: Any, sigma_s: Any, sigma_t: Any) -> Tensor:
    """The η of DDIM's step from σ_s to σ_t with the noise of constant ℓ: η² = (1 − r^{2ℓ²})/(1 −
    r²), r = σ_t/σ_s.
    """
    log_ratio = torch.log(as_float64(sigma_t) / as_float64(sigma_s))
    return torch.sqrt(
        torch.expm1(2.0 * as_float64(ell) ** 2 * log_ratio) / torch.expm1(2.0 * log_ratio)
    )


def ell_from_churn(gamma: Any, h: Any) -> Tensor:
    """The ℓ of which EDM's churn γ per step of length h in λ is the small-step limit: noise 2γ σ² =
    2 ℓ² h σ², ℓ = √(γ/h).

    Source: EDM, arXiv 2206.00364, algorithm 2 and appendix B.
    """
    return torch.sqrt(as_float64(gamma) / as_float64(h))
