"""Algebraic order conditions of exponential Runge–Kutta schemes, checked in exact rationals.

With the defects

    ψ_j(z)   = φ_j(z) − Σ_i b_i(z) c_i^{j−1}/(j−1)!
    ψ_{j,i}(z) = c_i^j φ_j(c_i z) − Σ_k a_ik(z) c_k^{j−1}/(j−1)!

a scheme that is exact for constant F (ψ_1 = ψ_{1,i} = 0) has order p if ψ_j = O(z^{p+1−j}) for j =
2 … p and

    p ≥ 3:  Σ b_i ψ_{2,i} = O(z^{p−2})
    p ≥ 4:  Σ b_i ψ_{3,i},  Σ b_i c_i ψ_{2,i}  and  Σ b_i a_ik ψ_{2,k}  are O(z).

With additive noise, and η_i the noise of stage i in units of a_i, the strong order is 3/2 if the
deterministic order is 2 and

    Σ b_i(0) η_i = U/Δτ   as random variables,        Σ b_i(0) E[η_i²] = Δτ/2,

and then the variance on linear problems is of the deterministic order, up to 3; otherwise the
strong order is 1. (Rößler, SIAM J. Numer. Anal. 48 (2010), section 6.2, for the schemes called
SRA.)

(Here z = −ρh is a number that commutes with everything and h is small, so that powers of z count as
powers of h; for unbounded linear parts the conditions must hold for all z.) Source of the
deterministic conditions: Luan & Ostermann, "Exponential B-series: the stiff case", SIAM J. Numer.
Anal. 2013, table 1; Hochbruck & Ostermann, Acta Numerica 2010, section 2.3.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import factorial
from typing import Any

_LENGTH = (
    8  # terms of the truncated power series in z; order conditions up to 4 look at the first 4
)

Series = list[Fraction]


def _phi_series(k: int, scale: Fraction) -> Series:
    return [Fraction(scale**n) / factorial(n + k) for n in range(_LENGTH)]


def _times(a: Series, b: Series) -> Series:
    return [sum((a[i] * b[n - i] for i in range(n + 1)), Fraction(0)) for n in range(_LENGTH)]


def _combine(*parts: tuple[Fraction, Series]) -> Series:
    return [sum((q * series[n] for q, series in parts), Fraction(0)) for n in range(_LENGTH)]


def _valuation(series: Series) -> int:
    """Index of the first non-zero coefficient; _LENGTH if all vanish."""
    return next((n for n, value in enumerate(series) if value), _LENGTH)


def deterministic_order(
    nodes: Mapping[int, Fraction] | Sequence[Fraction],
    targets: Sequence[Fraction],
    terms: Sequence[Mapping[int, Sequence[Any]]],
    *,
    classical: bool = False,
) -> int:
    """Order of convergence without noise, between 0 (not exact for constant F) and 4 (higher orders
    are not looked for).

    Args:
        nodes: positions of the evaluations; negative indices are those of earlier steps, which
            enter without a defect.
        targets: positions of the states that the rows produce; row i feeds evaluation i + 1, the
            last row ends the step.
        terms: for each row {evaluation: (q, k, scale) …} with weight Σ q φ_k(scale · z).
        classical: for ρ = 0, that is z = 0: the classical order conditions.
    """

    def series(k: int, scale: Fraction) -> Series:
        return _phi_series(k, Fraction(0) if classical else scale)

    rows = [
        {j: _combine(*((q, series(k, s)) for q, k, s in weight)) for j, weight in row.items()}
        for row in terms
    ]

    def defect(j: int, c: Fraction, row: Mapping[int, Series]) -> Series:
        exact = (Fraction(c**j), series(j, c))
        return _combine(
            exact,
            *((-(nodes[i] ** (j - 1)) / Fraction(factorial(j - 1)), b) for i, b in row.items()),
        )

    if any(_valuation(defect(1, c, row)) < _LENGTH for c, row in zip(targets, rows, strict=True)):
        return 0
    final = rows[-1]
    known = [0, *(nodes if isinstance(nodes, Mapping) else ())]
    known = [i for i in known if i <= 0]

    def inner(j: int) -> dict[int, Series]:  # ψ_{j,i} of every evaluation i
        zero = {i: [Fraction(0)] * _LENGTH for i in known}
        return zero | {i + 1: defect(j, targets[i], rows[i]) for i in range(len(rows) - 1)}

    def weighted(values: Mapping[int, Series], factor: Any = lambda i: Fraction(1)) -> int:
        return _valuation(_combine(*((factor(i), _times(b, values[i])) for i, b in final.items())))

    second, third = inner(2), inner(3)
    nested = {i: second[i] for i in known} | {
        i + 1: _combine(*((Fraction(1), _times(a, second[k])) for k, a in rows[i].items()))
        for i in range(len(rows) - 1)
    }

    def holds(p: int) -> bool:
        if any(_valuation(defect(j, Fraction(1), final)) < p + 1 - j for j in range(2, p + 1)):
            return False
        if p >= 3 and weighted(second) < p - 2:
            return False
        return (
            p < 4
            or min(weighted(third), weighted(second, lambda i: nodes[i]), weighted(nested)) >= 1
        )

    order = 1
    while order < 4 and holds(order + 1):
        order += 1
    return order


def strong_order(
    order: int,
    targets: Sequence[Fraction],
    terms: Sequence[Mapping[int, Sequence[Any]]],
    increment_weights: Sequence[Fraction | None],
) -> Fraction:
    """Strong order with additive noise: 3/2 or 1 (0 for a scheme that is not even of deterministic
    order 1).

    Args:
        order: deterministic order.
        targets, terms: as for `deterministic_order`.
        increment_weights: for each stage the weight p of the increment in its noise p ΔW + 2(c − p)
            U/Δτ, or None for the ordinary W(c) − W(0).
    """
    if order < 1:
        return Fraction(0)
    # Noise of each evaluation as coefficients of ΔW, U/Δτ and W at interior nodes (Δτ = 1);
    # evaluation 0 has none.
    total: dict[Any, Fraction] = {}
    second = Fraction(0)
    for j, weight in terms[-1].items():
        if j == 0:
            continue
        b = sum((q / factorial(k) for q, k, _ in weight), Fraction(0))
        c, p = targets[j - 1], increment_weights[j - 1]
        noise = (
            {"increment": p, "integral": 2 * (c - p)}
            if p is not None
            else {"increment" if c == 1 else c: Fraction(1)}
        )
        for key, value in noise.items():
            total[key] = total.get(key, Fraction(0)) + b * value
        # E[(p ΔW + q U)²] = p² + p q + q²/3; E[W(c)²] = c
        second += b * (
            c if p is None else p**2 + p * noise["integral"] + noise["integral"] ** 2 / 3
        )
    exact = (
        total.pop("integral", Fraction(0)) == 1
        and not any(total.values())
        and second == Fraction(1, 2)
    )
    return Fraction(3, 2) if exact and order >= 2 else Fraction(1)
