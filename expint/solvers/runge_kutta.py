"""One-step schemes: exponential Runge–Kutta of orders 2 to 4, and classical Runge–Kutta in σ."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from expint.registry import check_choice
from expint.solvers.method import Method
from expint.solvers.seeds import seeds1, seeds2, seeds3
from expint.solvers.tableau import Number, Stage, Tableau, Term, rational

_ONE, _HALF, _QUARTER = Fraction(1), Fraction(1, 2), Fraction(1, 4)
_HO = "Hochbruck & Ostermann, SINUM 43 (2005)"


def _row(
    c: Number, weights: Mapping[int, Mapping[int, Number] | Sequence[tuple[Number, int, Number]]]
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


def _in_noise(name: str, stages: tuple[Stage, ...], source: str) -> Method:
    return Method(Tableau(name, stages, source), form="noise", ell=0.0)


def dpm_solver(order: int) -> Method:
    """SEEDS-k in the noise form at ℓ = 0.

    Source: DPM-Solver, arXiv 2206.00927, algorithms 1 and 2.
    """
    builders = {1: seeds1, 2: seeds2, 3: seeds3}
    check_choice("DPM-Solver's order", order, builders)
    stages = builders[order]().stages
    return _in_noise(f"dpm-solver-{order}", stages, "DPM-Solver, arXiv 2206.00927")


def etd_rk2a(c: Number = _HALF) -> Method:
    """c ← {0}; 1 ← (φ_1 − φ_2/c) F_0 + φ_2/c F_c. Source: Hochbruck & Ostermann, SINUM 43 (2005),
    eq. (5.3).
    """
    stages = (Stage(rational(c), through=(0,)), Stage(_ONE, through=(0, 1)))
    return _in_noise("etd-rk2a", stages, _HO + ", eq. (5.3)")


def etd_rk2b(c: Number = _HALF) -> Method:
    """c ← {0}; 1 ← (1 − 1/(2c)) φ_1 F_0 + 1/(2c) φ_1 F_c. Source: Hochbruck & Ostermann, SINUM 43
    (2005), eq. (5.4).
    """
    return _in_noise("etd-rk2b", seeds2(c).stages, _HO + ", eq. (5.4)")


def etd_rk3a() -> Method:
    """1/3 ← {0}; 2/3 ← {0, 1/3}; 1 ← (φ_1 − 3/2 φ_2) F_0 + 3/2 φ_2 F_{2/3}.

    Source: Hochbruck & Ostermann, SINUM 43 (2005), eq. (5.8) with c_2 = 1/3: SEEDS-3.
    """
    return _in_noise("etd-rk3a", seeds3().stages, _HO + ", eq. (5.8)")


def etd_rk3b() -> Method:
    """1/2 ← {0}; 1 ← −φ_1 F_0 + 2 φ_1 F_{1/2}; 1 ← {0, 1/2, 1}.

    Source: ETD3RK, Cox & Matthews, J. Comput. Phys. 176 (2002), eq. (23)-(25).
    """
    middle = _row(1, {0: {1: -1}, 1: {1: 2}})
    stages = (Stage(_HALF, through=(0,)), middle, Stage(_ONE, through=(0, 1, 2)))
    return _in_noise("etd-rk3b", stages, "ETD3RK, Cox & Matthews, JCP 176 (2002)")


_KROGSTAD_LAST = {0: {1: 1, 2: -3, 3: 4}, 1: {2: 2, 3: -4}, 2: {2: 2, 3: -4}, 3: {2: -1, 3: 4}}


def etd_rk4() -> Method:
    """Krogstad's scheme. Source: Krogstad, J. Comput. Phys. 203 (2005), eq. (51)."""
    stages = (
        Stage(_HALF, through=(0,)),
        _row(_HALF, {0: {1: _HALF, 2: -1}, 1: {2: 1}}),
        _row(1, {0: {1: 1, 2: -2}, 2: {2: 2}}),
        _row(1, _KROGSTAD_LAST),
    )
    return _in_noise("etd-rk4", stages, "Krogstad, JCP 203 (2005)")


def etd_rk4_ho() -> Method:
    """The five-stage scheme of stiff order four. Source: Hochbruck & Ostermann, SINUM 43 (2005),
    eq. (5.19).
    """
    # a_52 = a_53 = ½ φ_2(½z) − φ_3(z) + ¼ φ_2(z) − ½ φ_3(½z);  a_54 = ¼ φ_2(½z) − a_52;
    # a_51 = ½ φ_1(½z) − ¼ φ_2(½z) − a_52
    middle = [(_HALF, 2, _HALF), (-_ONE, 3, _ONE), (_QUARTER, 2, _ONE), (-_HALF, 3, _HALF)]
    less = [(-q, k, scale) for q, k, scale in middle]
    first, fourth = [(_HALF, 1, _HALF), (-_QUARTER, 2, _HALF), *less], [(_QUARTER, 2, _HALF), *less]
    stages = (
        Stage(_HALF, through=(0,)),
        _row(_HALF, {0: {1: _HALF, 2: -1}, 1: {2: 1}}),
        _row(1, {0: {1: 1, 2: -2}, 1: {2: 1}, 2: {2: 1}}),
        _row(_HALF, {0: first, 1: middle, 2: middle, 3: fourth}),
        _row(1, {0: {1: 1, 2: -3, 3: 4}, 3: {2: -1, 3: 4}, 4: {2: 4, 3: -8}}),
    )
    return _in_noise("etd-rk4-ho", stages, _HO + ", eq. (5.19)")


def heun() -> Method:
    """1 ← {0}; 1 ← {0, 1} in σ, ℓ = 0. Source: EDM, arXiv 2206.00364, algorithm 1."""
    stages = (Stage(_ONE, through=(0,)), Stage(_ONE, through=(0, 1)))
    tableau = Tableau("heun", stages, "EDM, arXiv 2206.00364, algorithm 1")
    return Method(tableau, form="sigma", ell=0.0)


def deis_rk3() -> Method:
    """Kutta: 1/2 ← F_0; 1 ← −F_0 + 2 F_{1/2}; 1 ← (F_0 + 4 F_{1/2} + F_1)/6, in σ, ℓ = 0. Source:
    DEIS, arXiv 2204.13902.
    """
    sixth = Fraction(1, 6)
    stages = (
        _row(_HALF, {0: {1: _HALF}}),
        _row(1, {0: {1: -1}, 1: {1: 2}}),
        _row(1, {0: {1: sixth}, 1: {1: 4 * sixth}, 2: {1: sixth}}),
    )
    source = "DEIS, arXiv 2204.13902, rho-RK with Kutta's coefficients"
    return Method(Tableau("deis-rk3", stages, source), form="sigma", ell=0.0)


def euler_maruyama(form: str = "time") -> Method:
    """One explicit step of the whole drift, with the noise of the step integrated exactly.

    Args:
        form: "time", "variance" (σ²; in VE the reverse-diffusion predictor) or "log-sigma".

    Source: Song et al., arXiv 2011.13456, section 4; EDM, arXiv 2206.00364, section 4.
    """
    return Method(seeds1(), "euler-maruyama", "Song et al., arXiv 2011.13456", form=form)
