"""Names of other programs for tableaus of this package, on the equation that they are meant for."""

import math
from dataclasses import replace
from typing import Any

from expint.solvers import multistep, runge_kutta
from expint.solvers import steady_churn as steady_churn  # registers the operation
from expint.solvers.method import Method
from expint.solvers.seeds import seeds1, seeds3
from expint.solvers.tableau import Number

_RES = "RES, arXiv 2308.02157"


def res_multistep(order: int = 2) -> Method:
    """Exponential Adams–Bashforth of 2 or 3 nodes in the data form at ℓ = 0: with ψ_k = φ_k(−h) and
    the earlier nodes at c_j h, the weights with Σ b_j = ψ_1, Σ b_j c_j = ψ_2, Σ b_j c_j²/2 = ψ_3.

    Args:
        order: number of nodes.

    Source: RES, arXiv 2308.02157, multistep; the order conditions of Hochbruck & Ostermann.
    """
    return multistep.seeds_ab(order, source=_RES, ell=0.0)


def res_singlestep(c: Number = 0.5) -> Method:
    """c ← {0}; 1 ← (ψ_1 − ψ_2/c) D_0 + ψ_2/c D_c with ψ_k = φ_k(−h): the data form at ℓ = 0.

    Args:
        c: node of the stage, 0 < c ≤ 1.

    Source: RES, arXiv 2308.02157, second order, singlestep.
    """
    return replace(runge_kutta.etd_rk2a(c), source=_RES, form="data")


def res_singlestep_3(c2: Number = 0.5, c3: Number = 1) -> Method:
    """The rows of order 3 that `seeds3` has for nodes other than 1/3 and 2/3, in the data form at
    ℓ = 0.

    Args:
        c2, c3: nodes of the stages.

    Source: RES, arXiv 2308.02157, third order, singlestep; Hochbruck & Ostermann, SINUM 43 (2005),
    eq. (5.8).
    """
    return Method(seeds3(c2, c3), source=_RES, ell=0.0)


def ipndm_v(order: int = 4) -> Method:
    """Adams–Bashforth in σ with the true lengths of the steps: what iPNDM-v is meant to be, and is
    on equal steps. In its code a factor of the third and fourth weights stands inside a bracket
    that it belongs behind, (1 − a b)/2 for (1 − a) b/2, so that on other steps it has order 2.

    Args:
        order: number of nodes, 1 to 4.

    Source: Zhang & Chen, arXiv 2204.13902, iPNDM; the code of diff-sampler (zju-pi), ipndm_v.
    """
    return multistep.lms(order)


def lcm() -> Method:
    """x_t = α_t D + σ̄_t z, where D is a consistency model's: ℓ = ∞.

    Source: Latent consistency models, arXiv 2310.04378, algorithm 3; consistency models,
    arXiv 2303.01469, algorithm 1.
    """
    return Method(seeds1(), source="LCM, arXiv 2310.04378, algorithm 3", ell=math.inf)


def stochastic_heun() -> Method:
    """x̂ = x + f h + ΔW; x + h (f + f̂)/2 + ΔW for the drift f of the reverse SDE in time.

    Source: Kloeden & Platen, section 15.5; of GGF, arXiv 2105.14080, the second-order step.
    """
    source = "Kloeden & Platen 1992, section 15.5"
    return Method(runge_kutta.heun().tableau, source=source, form="time", ell=1.0)


TABLE: list[tuple[Any, ...]] = [
    ("res-2m", res_multistep, "RES, two-step: seeds-ab2 at ell=0", {"order": 2}),
    ("res-3m", res_multistep, "RES, three-step: seeds-ab3 at ell=0", {"order": 3}),
    ("res-2s", res_singlestep, "RES, two stages: etd-rk2a in the data form"),
    ("res-3s", res_singlestep_3, "RES, three stages, nodes 1/2 and 1"),
    ("ipndm-v", ipndm_v, "iPNDM with the true lengths of the steps, in sigma: lms"),
    ("lcm", lcm, "LCM, ping-pong: all noise anew; for consistency models"),
    ("heun-sde", stochastic_heun, "Heun for SDEs: the trapezoidal rule in t"),
]
