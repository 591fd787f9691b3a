"""Samplers of the literature that are a scheme of this library under another name, form, ℓ or
operation.
"""

from dataclasses import replace
from typing import Any

from expint.solvers.multistep import seeds_ab
from expint.solvers.operations import Ancestral, Churn, Langevin, LargeVariance
from expint.solvers.registry import register
from expint.solvers.runge_kutta import dpm_solver, heun
from expint.solvers.seeds import seeds1, seeds2
from expint.solvers.tableau import Tableau

__all__ = [
    "ddim",
    "ddpm",
    "dpm2_ancestral",
    "dpmpp_2s",
    "dpmpp_2s_ancestral",
    "edm_stochastic",
    "euler_ancestral",
    "gddim",
    "predictor_corrector_sampler",
    "reverse_diffusion",
]


def _as(scheme: Tableau, name: str, source: str, **settings: Any) -> Tableau:
    return replace(scheme, name=name, source=source, **settings)


@register("ddim", "DDIM; sample(..., eta=) for its eta")
def ddim() -> Tableau:
    """SEEDS-1 at ℓ = 0. With `eta` in `sample` the noise of each step is DDIM's. Source: DDIM,
    arXiv 2010.02502, eq. (12).
    """
    return _as(seeds1(), "ddim", "DDIM, arXiv 2010.02502, eq. (12)", ell=0.0)


@register("ddpm", "DDPM ancestral sampling, posterior (fixed small) or large variance")
def ddpm(variance: str = "posterior") -> Tableau:
    """SEEDS-1 in the data form at ℓ = 1.

    Args:
        variance: "posterior" (fixed small), or "large": that of the forward transition.

    Source: DDPM, arXiv 2006.11239, eq. (7) and section 3.2.
    """
    if variance not in ("posterior", "large"):
        raise ValueError(f"DDPM's variance is 'posterior' or 'large', got {variance!r}.")
    operations = (LargeVariance(),) if variance == "large" else ()
    return _as(seeds1(), "ddpm", "DDPM, arXiv 2006.11239, eq. (7)", operations=operations)


@register("gddim", "gDDIM on VP: its lambda is ell")
def gddim(order: int = 1) -> Tableau:
    """On VP, whose diffusion is isotropic, gDDIM with λ is SEEDS-1 (order 1) or Adams–Bashforth in
    the data form at ℓ = λ.

    Args:
        order: number of evaluations of the polynomial, 1 to 4.

    Source: gDDIM, arXiv 2206.05564, proposition 6.
    """
    return seeds_ab(order, name="gddim", source="gDDIM, arXiv 2206.05564, proposition 6")


@register("dpmpp-2s", "DPM-Solver++(2S)")
def dpmpp_2s() -> Tableau:
    """SEEDS-2 in the data form at ℓ = 0. Source: DPM-Solver++, arXiv 2211.01095, algorithm 1."""
    return _as(seeds2(), "dpmpp-2s", "DPM-Solver++, arXiv 2211.01095, algorithm 1", ell=0.0)


@register("dpmpp-2s-ancestral", "DPM-Solver++(2S) with k-diffusion's ancestral steps")
def dpmpp_2s_ancestral(eta: float = 1.0, s_noise: float = 1.0) -> Tableau:
    """See `Ancestral`. Source: k-diffusion's dpmpp_2s_ancestral."""
    return _as(
        dpmpp_2s(), "dpmpp-2s-ancestral", "k-diffusion", operations=(Ancestral(eta, s_noise),)
    )


@register("dpm2-ancestral", "DPM-Solver-2 with k-diffusion's ancestral steps")
def dpm2_ancestral(eta: float = 1.0, s_noise: float = 1.0) -> Tableau:
    """See `Ancestral`. Source: k-diffusion's dpm_2_ancestral."""
    return _as(
        dpm_solver(2), "dpm2-ancestral", "k-diffusion", operations=(Ancestral(eta, s_noise),)
    )


@register("euler-ancestral", "Euler in sigma with k-diffusion's ancestral steps; at eta=1 DDPM")
def euler_ancestral(eta: float = 1.0, s_noise: float = 1.0) -> Tableau:
    """See `Ancestral`. Source: k-diffusion's euler_ancestral."""
    return _as(ddim(), "euler-ancestral", "k-diffusion", operations=(Ancestral(eta, s_noise),))


@register("edm-stochastic", "stochastic EDM: Heun with churn")
def edm_stochastic(
    s_churn: float = 40.0, s_min: float = 0.05, s_max: float = 50.0, s_noise: float = 1.003
) -> Tableau:
    """Heun after noise up to σ̂, see `Churn`; the defaults are the paper's for ImageNet-64.

    Source: EDM, arXiv 2206.00364, algorithm 2 and table 5.
    """
    churn = Churn(s_churn, s_min, s_max, s_noise)
    return _as(heun(), "edm-stochastic", "EDM, arXiv 2206.00364, algorithm 2", operations=(churn,))


@register("reverse-diffusion", "reverse-diffusion predictor: Euler-Maruyama in sigma^2")
def reverse_diffusion() -> Tableau:
    """Explicit in σ² (exactly the predictor of Song et al. in VE). Source: Song et al., arXiv
    2011.13456, appendix E.
    """
    return _as(
        seeds1(), "reverse-diffusion", "Song et al., arXiv 2011.13456, appendix E", form="variance"
    )


@register(
    "pc-sampler", "predictor-corrector sampler: reverse diffusion, and Langevin after each step"
)
def predictor_corrector_sampler(snr: float = 0.16, count: int = 1) -> Tableau:
    """See `Langevin`. Source: Song et al., arXiv 2011.13456, algorithms 2 to 5."""
    return _as(
        reverse_diffusion(),
        "pc-sampler",
        "Song et al., arXiv 2011.13456, algorithms 2 to 5",
        operations=(Langevin(snr, count),),
    )
