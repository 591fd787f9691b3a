"""One-step schemes: exponential Runge–Kutta of orders 2 to 4, and classical Runge–Kutta in σ."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from expint.solvers.registry import register
from expint.solvers.seeds import seeds1, seeds2, seeds3
from expint.solvers.tableau import Number, Stage, Tableau, Term, rational

__all__ = [
    "deis_rk3",
    "dpm_solver",
    "etd_rk2a",
    "etd_rk2b",
    "etd_rk3a",
    "etd_rk3b",
    "etd_rk4",
    "etd_rk4_ho",
    "euler_maruyama",
    "heun",
]

_ONE, _HALF = Fraction(1), Fraction(1, 2)


def _row(
    c: Number, weights: Mapping[int, Mapping[int, Number] | list[tuple[Number, int, Number]]]
) -> Stage:
    """A stage at c from {evaluation: {k: q}} with Σ q φ_k(c z), or from lists of (q, k, scale)."""
    node = rational(c)
    terms = {
        j: tuple(
            Term(rational(q), k, rational(scale))
            for q, k, scale in (
                [(q, k, node) for k, q in row.items()] if isinstance(row, Mapping) else row
            )
        )
        for j, row in weights.items()
    }
    return Stage(node, weights=terms)


_NOISE = {"form": "noise", "ell": 0.0}
_HO = "Hochbruck & Ostermann, SINUM 43 (2005)"


@register("dpm-solver-1", "DPM-Solver-1 = DDIM")
def _dpm_solver_1() -> Tableau:
    return dpm_solver(1)


@register("dpm-solver-2", "DPM-Solver-2, singlestep")
def _dpm_solver_2() -> Tableau:
    return dpm_solver(2)


@register("dpm-solver-3", "DPM-Solver-3, singlestep")
def _dpm_solver_3() -> Tableau:
    return dpm_solver(3)


def dpm_solver(order: int, **settings: Any) -> Tableau:
    """SEEDS-k in the noise form at ℓ = 0.

    Source: DPM-Solver, arXiv 2206.00927, algorithms 1 and 2.
    """
    builders = {1: seeds1, 2: seeds2, 3: seeds3}
    if order not in builders:
        raise ValueError(f"DPM-Solver has orders 1, 2 and 3, got {order!r}.")
    scheme = builders[order]()
    settings = {"name": f"dpm-solver-{order}", "form": "noise"} | settings
    return Tableau(stages=scheme.stages, source="DPM-Solver, arXiv 2206.00927", ell=0.0, **settings)


@register("etd-rk2a", "two-stage exponential Runge-Kutta with phi_2 weights")
def etd_rk2a(c: Number = _HALF) -> Tableau:
    """c ← {0}; 1 ← (φ_1 − φ_2/c) F_0 + φ_2/c F_c. Source: Hochbruck & Ostermann, SINUM 43 (2005),
    eq. (5.3).
    """
    node = rational(c)
    stages = (Stage(node, through=(0,)), Stage(_ONE, through=(0, 1)))
    return Tableau("etd-rk2a", stages, _HO + ", eq. (5.3)", **_NOISE)


@register("etd-rk2b", "two-stage exponential Runge-Kutta with phi_1 weights: seeds-2")
def etd_rk2b(c: Number = _HALF) -> Tableau:
    """c ← {0}; 1 ← (1 − 1/(2c)) φ_1 F_0 + 1/(2c) φ_1 F_c. Source: Hochbruck & Ostermann, SINUM 43
    (2005), eq. (5.4).
    """
    return Tableau("etd-rk2b", seeds2(c).stages, _HO + ", eq. (5.4)", **_NOISE)


@register("etd-rk3a", "three-stage exponential Runge-Kutta, Heun's nodes 1/3 and 2/3")
def etd_rk3a() -> Tableau:
    """1/3 ← {0}; 2/3 ← {0, 1/3}; 1 ← (φ_1 − 3/2 φ_2) F_0 + 3/2 φ_2 F_{2/3}.

    Source: Hochbruck & Ostermann, SINUM 43 (2005), eq. (5.8) with c_2 = 1/3: SEEDS-3.
    """
    return Tableau("etd-rk3a", seeds3().stages, _HO + ", eq. (5.8)", **_NOISE)


@register("etd-rk3b", "three-stage exponential Runge-Kutta, nodes 1/2 and 1 (Cox & Matthews)")
def etd_rk3b() -> Tableau:
    """1/2 ← {0}; 1 ← −φ_1 F_0 + 2 φ_1 F_{1/2}; 1 ← {0, 1/2, 1}.

    Source: ETD3RK, Cox & Matthews, J. Comput. Phys. 176 (2002), eq. (23)-(25).
    """
    stages = (
        Stage(_HALF, through=(0,)),
        _row(1, {0: {1: -1}, 1: {1: 2}}),
        Stage(_ONE, through=(0, 1, 2)),
    )
    return Tableau("etd-rk3b", stages, "ETD3RK, Cox & Matthews, JCP 176 (2002)", **_NOISE)


_KROGSTAD_LAST = {0: {1: 1, 2: -3, 3: 4}, 1: {2: 2, 3: -4}, 2: {2: 2, 3: -4}, 3: {2: -1, 3: 4}}


@register("etd-rk4", "four-stage exponential Runge-Kutta of Krogstad")
def etd_rk4() -> Tableau:
    """Krogstad's scheme. Source: Krogstad, J. Comput. Phys. 203 (2005), eq. (51)."""
    stages = (
        Stage(_HALF, through=(0,)),
        _row(_HALF, {0: {1: _HALF, 2: -1}, 1: {2: 1}}),
        _row(1, {0: {1: 1, 2: -2}, 2: {2: 2}}),
        _row(1, _KROGSTAD_LAST),
    )
    return Tableau("etd-rk4", stages, "Krogstad, JCP 203 (2005)", **_NOISE)


@register(
    "etd-rk4-ho", "five-stage exponential Runge-Kutta of Hochbruck and Ostermann, of stiff order 4"
)
def etd_rk4_ho() -> Tableau:
    """The five-stage scheme of stiff order four. Source: Hochbruck & Ostermann, SINUM 43 (2005),
    eq. (5.19).
    """
    half, quarter = _HALF, Fraction(1, 4)
    # a_52 = a_53 = ½ φ_2(½z) − φ_3(z) + ¼ φ_2(z) − ½ φ_3(½z);  a_54 = ¼ φ_2(½z) − a_52
    middle: list[tuple[Number, int, Number]] = [
        (half, 2, half),
        (-1, 3, 1),
        (quarter, 2, 1),
        (-half, 3, half),
    ]
    late: list[tuple[Number, int, Number]] = [
        (quarter, 2, half),
        *((-q, k, s) for q, k, s in middle),
    ]  # type: ignore[operator]
    rest = [
        (half, 1, half),
        *((-2 * q, k, s) for q, k, s in middle),
        *((-q, k, s) for q, k, s in late),
    ]  # type: ignore[operator]
    stages = (
        Stage(half, through=(0,)),
        _row(half, {0: {1: half, 2: -1}, 1: {2: 1}}),
        _row(1, {0: {1: 1, 2: -2}, 1: {2: 1}, 2: {2: 1}}),
        _row(half, {0: rest, 1: middle, 2: middle, 3: late}),
        _row(1, {0: {1: 1, 2: -3, 3: 4}, 3: {2: -1, 3: 4}, 4: {2: 4, 3: -8}}),
    )
    return Tableau("etd-rk4-ho", stages, _HO + ", eq. (5.19)", **_NOISE)


@register("heun", "EDM's Heun: the trapezoidal rule in sigma")
def heun() -> Tableau:
    """1 ← {0}; 1 ← {0, 1} in σ, ℓ = 0. Source: EDM, arXiv 2206.00364, algorithm 1."""
    stages = (Stage(_ONE, through=(0,)), Stage(_ONE, through=(0, 1)))
    return Tableau("heun", stages, "EDM, arXiv 2206.00364, algorithm 1", form="sigma", ell=0.0)


@register("deis-rk3", "DEIS rho-RK3: Kutta's third-order scheme in sigma")
def deis_rk3() -> Tableau:
    """Kutta: 1/2 ← F_0; 1 ← −F_0 + 2 F_{1/2}; 1 ← (F_0 + 4 F_{1/2} + F_1)/6, in σ, ℓ = 0. Source:
    DEIS, arXiv 2204.13902.
    """
    stages = (
        _row(_HALF, {0: {1: _HALF}}),
        _row(1, {0: {1: -1}, 1: {1: 2}}),
        _row(1, {0: {1: Fraction(1, 6)}, 1: {1: Fraction(4, 6)}, 2: {1: Fraction(1, 6)}}),
    )
    return Tableau(
        "deis-rk3",
        stages,
        "DEIS, arXiv 2204.13902, rho-RK with Kutta's coefficients",
        form="sigma",
        ell=0.0,
    )


@register(
    "euler-maruyama", "Euler-Maruyama in t, sigma^2 or log sigma (form time, variance or log-sigma)"
)
def euler_maruyama(form: str = "time") -> Tableau:
    """One explicit step of the whole drift, with the noise of the step integrated exactly.

    Args:
        form: "time", "variance" (σ²; in VE the reverse-diffusion predictor) or "log-sigma".

    Source: Song et al., arXiv 2011.13456, section 4; EDM, arXiv 2206.00364, section 4.
    """
    return Tableau("euler-maruyama", seeds1().stages, "Song et al., arXiv 2011.13456", form=form)
