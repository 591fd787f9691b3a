"""The published names: a table over the tableaus of this package."""

from dataclasses import replace
from typing import Any

from expint.registry import check_choice
from expint.solvers import aliases, multistep, predictor_corrector, runge_kutta, seeds, space_time
from expint.solvers.method import Method
from expint.solvers.operations import ancestral, churn, langevin, large_variance
from expint.solvers.registry import register
from expint.solvers.reverse_variance import analytic_dpm
from expint.solvers.tableau import Tableau
from expint.solvers.taylor import taylor2

_SONG = "Song et al., arXiv 2011.13456, "


def ddpm(variance: str = "posterior") -> Method:
    """SEEDS-1 in the data form at ℓ = 1.

    Args:
        variance: "posterior" (fixed small), or "large": that of the forward transition.

    Source: DDPM, arXiv 2006.11239, eq. (7) and section 3.2.
    """
    check_choice("DDPM's variance", variance, ("posterior", "large"))
    around = (large_variance(),) if variance == "large" else ()
    return Method(seeds.seeds1(), source="DDPM, arXiv 2006.11239, eq. (7)", operations=around)


def edm_stochastic(
    s_churn: float = 40.0, s_min: float = 0.05, s_max: float = 50.0, s_noise: float = 1.003
) -> Method:
    """Heun after noise up to σ̂, see `churn`; the defaults are the paper's for ImageNet-64.

    Source: EDM, arXiv 2206.00364, algorithm 2 and table 5.
    """
    around = (churn(s_churn, s_min, s_max, s_noise),)
    source, heun = "EDM, arXiv 2206.00364, algorithm 2", runge_kutta.heun().tableau
    return Method(heun, source=source, form="sigma", ell=0.0, operations=around)


def _ddim() -> Method:
    return Method(seeds.seeds1(), source="DDIM, arXiv 2010.02502, eq. (12)", ell=0.0)


def _gddim(order: int = 1) -> Method:
    """On VP, whose diffusion is isotropic, gDDIM with λ is SEEDS-1 (order 1) or Adams–Bashforth in
    the data form at ℓ = λ."""
    return replace(multistep.seeds_ab(order), source="gDDIM, arXiv 2206.05564, proposition 6")


def _dpmpp_2s() -> Method:
    source = "DPM-Solver++, arXiv 2211.01095, algorithm 1"
    return Method(seeds.seeds2(), source=source, ell=0.0)


def _ancestral(tableau: Tableau, form: str) -> Any:
    """A builder of the ODE method with k-diffusion's ancestral steps, see `ancestral`."""

    def build(eta: float = 1.0, s_noise: float = 1.0) -> Method:
        around = (ancestral(eta, s_noise),)
        return Method(tableau, source="k-diffusion", form=form, ell=0.0, operations=around)

    return build


def _reverse_diffusion() -> Method:
    return Method(seeds.seeds1(), source=_SONG + "appendix E", form="variance")


def _langevin_sampler(snr: float = 0.16, count: int = 1) -> Method:
    """The reverse-diffusion predictor with a corrector, see `langevin`."""
    around = (langevin(snr, count),)
    source = _SONG + "algorithms 2 to 5"
    return Method(seeds.seeds1(), source=source, form="variance", operations=around)


# Name, builder, what it is, and arguments of the builder.
_TABLE: list[tuple[Any, ...]] = [
    # SEEDS
    ("seeds-1", seeds.seeds1, "one stage; at ell=0 DPM-Solver-1 = DDIM"),
    ("seeds-2", seeds.seeds2, "two stages, node c=1/2; at ell=0 DPM-Solver-2"),
    ("seeds-3", seeds.seeds3, "three stages, nodes 1/3 and 2/3; at ell=0 DPM-Solver-3"),
    ("seeds-3b", seeds.seeds3b, "three stages; the last row interpolates through all of them"),
    ("seeds-sra", space_time.seeds_sra, "two stages, strong order 1.5: SRA1 in exponential form"),
    ("seeds-sra3", space_time.seeds_sra3, "three, strong order 1.5, weak order 3 if F is linear"),
    ("seeds-ab2", multistep.seeds_ab, "two-step Adams-Bashforth in every form", {"order": 2}),
    ("seeds-ab3", multistep.seeds_ab, "three-step Adams-Bashforth in every form", {"order": 3}),
    # Four nodes extrapolate too far where a step is 1.7 times longer than the one before, as the
    # last ones of the default grid are: variances would be up to 4 times too large.
    ("seeds-ab4", multistep.seeds_ab, "four-step Adams scheme", {"order": 4, "ratio_limit": 1.5}),
    # DDPM, DDIM and Analytic-DPM
    ("ddim", _ddim, "DDIM; sample(..., eta=) for its eta"),
    ("ddpm", ddpm, "DDPM ancestral sampling, posterior (fixed small) or large variance"),
    ("gddim", _gddim, "gDDIM on VP: its lambda is ell"),
    # DPM-Solver, DPM-Solver++ and UniPC
    ("dpm-solver-1", runge_kutta.dpm_solver, "DPM-Solver-1 = DDIM", {"order": 1}),
    ("dpm-solver-2", runge_kutta.dpm_solver, "DPM-Solver-2, singlestep", {"order": 2}),
    ("dpm-solver-3", runge_kutta.dpm_solver, "DPM-Solver-3, singlestep", {"order": 3}),
    ("dpmpp-2m", multistep.dpmpp_2m, "DPM-Solver++(2M)"),
    ("dpmpp-2m-sde", multistep.dpmpp_2m_sde, "SDE-DPM-Solver++(2M), midpoint or heun"),
    ("dpmpp-3m-sde", multistep.dpmpp_3m_sde, "SDE-DPM-Solver++(3M), second difference corrected"),
    ("dpmpp-2s", _dpmpp_2s, "DPM-Solver++(2S)"),
    ("unipc-1", predictor_corrector.unipc, "UniPC of order 1, B(h): bh1 or bh2", {"order": 1}),
    ("unipc-2", predictor_corrector.unipc, "UniPC of order 2", {"order": 2}),
    ("unipc-3", predictor_corrector.unipc, "UniPC of order 3", {"order": 3}),
    # Multistep in other variables, predictor–corrector
    ("deis-tab1", multistep.deis, "DEIS tAB with one node: DDIM", {"order": 1}),
    ("deis-tab2", multistep.deis, "DEIS tAB with two nodes", {"order": 2}),
    ("deis-tab3", multistep.deis, "DEIS tAB with three nodes", {"order": 3}),
    ("ipndm", multistep.ipndm, "iPNDM: Adams-Bashforth constants whatever the step sizes"),
    ("pndm", multistep.pndm, "PNDM: pseudo Runge-Kutta start, then Adams-Bashforth constants"),
    ("lms", multistep.lms, "linear multistep in sigma (k-diffusion's lms)"),
    ("er-sde-1", multistep.er_sde, "ER-SDE-Solver-1, phi = x(exp(x^0.3)+10)", {"order": 1}),
    ("er-sde-2", multistep.er_sde, "ER-SDE-Solver-2, with exact integrals", {"order": 2}),
    ("er-sde-3", multistep.er_sde, "ER-SDE-Solver-3, with exact integrals", {"order": 3}),
    ("sa-solver", predictor_corrector.sa_solver, "SA-Solver: stochastic Adams; its tau is ell"),
    ("pece-2", predictor_corrector.pece, "Adams PECE with two nodes", {"order": 2}),
    ("pece-3", predictor_corrector.pece, "Adams PECE with three nodes", {"order": 3}),
    # Exponential and classical Runge–Kutta
    ("etd-rk2a", runge_kutta.etd_rk2a, "two-stage exponential Runge-Kutta, phi_2 weights"),
    ("etd-rk2b", runge_kutta.etd_rk2b, "two-stage exponential Runge-Kutta, phi_1 weights: seeds-2"),
    ("etd-rk3a", runge_kutta.etd_rk3a, "three-stage exponential Runge-Kutta, nodes 1/3 and 2/3"),
    ("etd-rk3b", runge_kutta.etd_rk3b, "the same with nodes 1/2 and 1 (Cox & Matthews)"),
    ("etd-rk4", runge_kutta.etd_rk4, "four-stage exponential Runge-Kutta of Krogstad"),
    ("etd-rk4-ho", runge_kutta.etd_rk4_ho, "five stages, stiff order 4 (Hochbruck & Ostermann)"),
    ("heun", runge_kutta.heun, "EDM's Heun: the trapezoidal rule in sigma"),
    ("deis-rk3", runge_kutta.deis_rk3, "DEIS rho-RK3: Kutta's third-order scheme in sigma"),
    ("taylor-2", taylor2, "second-order Taylor by a Jacobian-vector product (the core of GENIE)"),
    ("euler-maruyama", runge_kutta.euler_maruyama, "Euler-Maruyama in t, sigma^2 or log sigma"),
    ("reverse-diffusion", _reverse_diffusion, "Euler-Maruyama in sigma^2"),
    # With noise added around the steps
    ("edm-stochastic", edm_stochastic, "stochastic EDM: Heun with churn"),
    ("euler-ancestral", _ancestral(seeds.seeds1(), "data"), "Euler in sigma, ancestral steps"),
    ("dpm2-ancestral", _ancestral(seeds.seeds2(), "noise"), "DPM-Solver-2, ancestral steps"),
    ("dpmpp-2s-ancestral", _ancestral(seeds.seeds2(), "data"), "DPM-Solver++(2S), ancestral steps"),
    ("pc-sampler", _langevin_sampler, "reverse diffusion, and a Langevin corrector every step"),
]
for _row in (*_TABLE, *aliases.TABLE):
    register(*_row)
register("analytic-dpm", analytic_dpm, "Analytic-DPM: optimal reverse variance", needs="statistic")
