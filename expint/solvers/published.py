"""The published names: a table over the tableaus of this package."""

from typing import Any

from expint.solvers.method import Method
from expint.solvers.multistep import (
    deis,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m_sde,
    er_sde,
    ipndm,
    lms,
    pndm,
    seeds_ab,
)
from expint.solvers.operations import ancestral, churn, langevin, large_variance
from expint.solvers.predictor_corrector import pece, sa_solver, unipc
from expint.solvers.registry import register
from expint.solvers.reverse_variance import analytic_dpm
from expint.solvers.runge_kutta import (
    deis_rk3,
    dpm_solver,
    etd_rk2a,
    etd_rk2b,
    etd_rk3a,
    etd_rk3b,
    etd_rk4,
    etd_rk4_ho,
    euler_maruyama,
    heun,
)
from expint.solvers.seeds import seeds1, seeds2, seeds3, seeds3b
from expint.solvers.space_time import seeds_sra, seeds_sra3
from expint.solvers.tableau import Tableau
from expint.solvers.taylor import taylor2


def ddpm(variance: str = "posterior") -> Method:
    """SEEDS-1 in the data form at ℓ = 1.

    Args:
        variance: "posterior" (fixed small), or "large": that of the forward transition.

    Source: DDPM, arXiv 2006.11239, eq. (7) and section 3.2.
    """
    if variance not in ("posterior", "large"):
        raise ValueError(f"DDPM's variance is 'posterior' or 'large', got {variance!r}.")
    return Method(seeds1(), operations=(large_variance(),) if variance == "large" else ())


def edm_stochastic(
    s_churn: float = 40.0, s_min: float = 0.05, s_max: float = 50.0, s_noise: float = 1.003
) -> Method:
    """Heun after noise up to σ̂, see `churn`; the defaults are the paper's for ImageNet-64.

    Source: EDM, arXiv 2206.00364, algorithm 2 and table 5.
    """
    around = (churn(s_churn, s_min, s_max, s_noise),)
    source = "EDM, arXiv 2206.00364, algorithm 2"
    return Method(heun().tableau, source=source, form="sigma", ell=0.0, operations=around)


def _ancestral(tableau: Tableau, form: str) -> Any:
    """A builder of the ODE method with k-diffusion's ancestral steps, see `ancestral`."""

    def build(eta: float = 1.0, s_noise: float = 1.0) -> Method:
        return Method(tableau, form=form, ell=0.0, operations=(ancestral(eta, s_noise),))

    return build


def _langevin_sampler(snr: float = 0.16, count: int = 1) -> Method:
    """The reverse-diffusion predictor with a corrector, see `langevin`."""
    return Method(seeds1(), form="variance", operations=(langevin(snr, count),))


def _gddim(order: int = 1) -> Method:
    """On VP, whose diffusion is isotropic, gDDIM with λ is SEEDS-1 (order 1) or Adams–Bashforth in
    the data form at ℓ = λ."""
    return seeds_ab(order)


_ODE: dict[str, Any] = {"ell": 0.0}
_SONG = "Song et al., arXiv 2011.13456, "
_PLUS = "DPM-Solver++, arXiv 2211.01095, "

# SEEDS
register("seeds-1", seeds1, "one stage; at ell=0 DPM-Solver-1 = DDIM")
register("seeds-2", seeds2, "two stages, node c=1/2; at ell=0 DPM-Solver-2")
register("seeds-3", seeds3, "three stages, nodes 1/3 and 2/3; at ell=0 DPM-Solver-3")
register("seeds-3b", seeds3b, "three stages; the last row interpolates through all of them")
register("seeds-sra", seeds_sra, "two stages, strong order 1.5: the exponential form of SRA1")
register(
    "seeds-sra3", seeds_sra3, "three stages, strong order 1.5 and weak order 3 on linear problems"
)
register(
    "seeds-ab2",
    seeds_ab,
    "two-step Adams-Bashforth in every form; in data form at ell=1 SDE-DPM-Solver++(2M), heun "
    "variant",
    arguments={"order": 2},
)
register("seeds-ab3", seeds_ab, "three-step Adams-Bashforth in every form", arguments={"order": 3})
register("seeds-ab4", seeds_ab, "four-step Adams-Bashforth in every form", arguments={"order": 4})

# DDPM, DDIM and Analytic-DPM
_SOURCE = {"source": "DDIM, arXiv 2010.02502, eq. (12)"}
register("ddim", seeds1, "DDIM; sample(..., eta=) for its eta", settings=_ODE | _SOURCE)
register(
    "ddpm",
    ddpm,
    "DDPM ancestral sampling, posterior (fixed small) or large variance",
    settings={"source": "DDPM, arXiv 2006.11239, eq. (7)"},
)
register(
    "gddim",
    _gddim,
    "gDDIM on VP: its lambda is ell",
    settings={"source": "gDDIM, arXiv 2206.05564, proposition 6"},
)
register(
    "analytic-dpm", analytic_dpm, "Analytic-DPM: the optimal reverse variance", needs="statistic"
)

# DPM-Solver, DPM-Solver++ and UniPC
register("dpm-solver-1", dpm_solver, "DPM-Solver-1 = DDIM", arguments={"order": 1})
register("dpm-solver-2", dpm_solver, "DPM-Solver-2, singlestep", arguments={"order": 2})
register("dpm-solver-3", dpm_solver, "DPM-Solver-3, singlestep", arguments={"order": 3})
register("dpmpp-2m", dpmpp_2m, "DPM-Solver++(2M)")
register("dpmpp-2m-sde", dpmpp_2m_sde, "SDE-DPM-Solver++(2M), midpoint or heun")
register("dpmpp-3m-sde", dpmpp_3m_sde, "SDE-DPM-Solver++(3M), with the right second difference")
_SOURCE = {"source": _PLUS + "algorithm 1"}
register("dpmpp-2s", seeds2, "DPM-Solver++(2S)", arguments={"c": 0.5}, settings=_ODE | _SOURCE)
register("unipc-1", unipc, "UniPC of order 1 (B(h): bh1 or bh2)", arguments={"order": 1})
register("unipc-2", unipc, "UniPC of order 2", arguments={"order": 2})
register("unipc-3", unipc, "UniPC of order 3", arguments={"order": 3})

# Multistep in other variables
register("deis-tab1", deis, "DEIS tAB with one node: DDIM", arguments={"order": 1})
register("deis-tab2", deis, "DEIS tAB with two nodes", arguments={"order": 2})
register("deis-tab3", deis, "DEIS tAB with three nodes", arguments={"order": 3})
register("ipndm", ipndm, "iPNDM: Adams-Bashforth constants whatever the lengths of the steps")
register("pndm", pndm, "PNDM (F-PNDM): pseudo Runge-Kutta start, then Adams-Bashforth constants")
register("lms", lms, "linear multistep in sigma (k-diffusion's lms)")
register(
    "er-sde-1", er_sde, "ER-SDE-Solver-1, noise scale x(exp(x^0.3)+10)", arguments={"order": 1}
)
register("er-sde-2", er_sde, "ER-SDE-Solver-2, with exact integrals", arguments={"order": 2})
register("er-sde-3", er_sde, "ER-SDE-Solver-3, with exact integrals", arguments={"order": 3})
register(
    "sa-solver",
    sa_solver,
    "SA-Solver: stochastic Adams predictor and corrector; its tau is ell, or a noise scale for "
    "tau(t)",
)
register(
    "pece-2",
    pece,
    "Adams predictor and corrector, evaluated anew after the correction; any form, any ell",
    arguments={"order": 2},
)
register("pece-3", pece, "the same with one node more", arguments={"order": 3})

# Exponential and classical Runge-Kutta
register("etd-rk2a", etd_rk2a, "two-stage exponential Runge-Kutta with phi_2 weights")
register("etd-rk2b", etd_rk2b, "two-stage exponential Runge-Kutta with phi_1 weights: seeds-2")
register("etd-rk3a", etd_rk3a, "three-stage exponential Runge-Kutta, Heun's nodes 1/3 and 2/3")
register(
    "etd-rk3b", etd_rk3b, "three-stage exponential Runge-Kutta, nodes 1/2 and 1 (Cox & Matthews)"
)
register("etd-rk4", etd_rk4, "four-stage exponential Runge-Kutta of Krogstad")
register(
    "etd-rk4-ho",
    etd_rk4_ho,
    "five-stage exponential Runge-Kutta of Hochbruck and Ostermann, of stiff order 4",
)
register("heun", heun, "EDM's Heun: the trapezoidal rule in sigma")
register("deis-rk3", deis_rk3, "DEIS rho-RK3: Kutta's third-order scheme in sigma")
register(
    "taylor-2",
    taylor2,
    "second-order Taylor method by a Jacobian-vector product (the core of GENIE)",
)
register(
    "euler-maruyama",
    euler_maruyama,
    "Euler-Maruyama in t, sigma^2 or log sigma (form time, variance or log-sigma)",
)
register(
    "reverse-diffusion",
    euler_maruyama,
    "reverse-diffusion predictor: Euler-Maruyama in sigma^2",
    arguments={"form": "variance"},
    settings={"source": _SONG + "appendix E"},
)

# With noise added around the steps
register("edm-stochastic", edm_stochastic, "stochastic EDM: Heun with churn")
register(
    "euler-ancestral",
    _ancestral(seeds1(), "data"),
    "Euler in sigma with k-diffusion's ancestral steps; at eta=1 DDPM",
    settings={"source": "k-diffusion"},
)
register(
    "dpm2-ancestral",
    _ancestral(seeds2(), "noise"),
    "DPM-Solver-2 with k-diffusion's ancestral steps",
    settings={"source": "k-diffusion"},
)
register(
    "dpmpp-2s-ancestral",
    _ancestral(seeds2(), "data"),
    "DPM-Solver++(2S) with k-diffusion's ancestral steps",
    settings={"source": "k-diffusion"},
)
register(
    "pc-sampler",
    _langevin_sampler,
    "predictor-corrector sampler: reverse diffusion, and Langevin after each step",
    settings={"source": _SONG + "algorithms 2 to 5"},
)
