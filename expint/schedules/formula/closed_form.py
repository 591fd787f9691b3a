"""Closed-form solutions of E(t) = y, where E is a chain of invertible functions around a polynomial
of low degree.

sympy's general solver may run for ever, and what it finds beyond these chains (cubic formulas,
Lambert functions) is no more accurate than a numerical root. This one always stops, at once, and
depends on no clock.
"""

from typing import Any

import sympy
from sympy.core.function import AppliedUndef

__all__ = ["solutions"]

_DEPTH = 12


def _sine(y: sympy.Expr) -> list[sympy.Expr]:
    return [sympy.asin(y), sympy.pi - sympy.asin(y)]


def _cosine(y: sympy.Expr) -> list[sympy.Expr]:
    return [sympy.acos(y), -sympy.acos(y)]


def _hyperbolic_cosine(y: sympy.Expr) -> list[sympy.Expr]:
    return [sympy.acosh(y), -sympy.acosh(y)]


_INVERSES = {
    sympy.exp: lambda y: [sympy.log(y)],
    sympy.log: lambda y: [sympy.exp(y)],
    sympy.sin: _sine,
    sympy.cos: _cosine,
    sympy.tan: lambda y: [sympy.atan(y), sympy.atan(y) + sympy.pi],
    sympy.cot: lambda y: [sympy.acot(y), sympy.pi / 2 - sympy.atan(y)],
    sympy.asin: lambda y: [sympy.sin(y)],
    sympy.acos: lambda y: [sympy.cos(y)],
    sympy.atan: lambda y: [sympy.tan(y)],
    sympy.sinh: lambda y: [sympy.asinh(y)],
    sympy.cosh: _hyperbolic_cosine,
    sympy.tanh: lambda y: [sympy.atanh(y)],
    sympy.asinh: lambda y: [sympy.sinh(y)],
    sympy.atanh: lambda y: [sympy.tanh(y)],
}


def solutions(expression: Any, t: sympy.Symbol, y: Any, depth: int = _DEPTH) -> list[Any]:
    """Candidates for t with expression(t) = y, several of them: which branch is right is for the
    caller to test.

    Roots of quadratics come in both forms, 2c/(−b ∓ √(b² − 4ac)) and (−b ± √(b² − 4ac))/(2a): each
    cancels where the other does not.
    """
    if expression == t:
        return [y]
    if (
        depth == 0
        or not expression.has(t)
        or expression.has(sympy.Integral, sympy.Piecewise, AppliedUndef)
    ):
        return []
    found: list[Any] = []
    if expression.is_Add:
        constant, rest = expression.as_independent(t, as_Add=True)
        if constant != 0:
            return solutions(rest, t, y - constant, depth - 1)
    elif expression.is_Mul:
        constant, rest = expression.as_independent(t, as_Add=False)
        if constant != 1:
            return solutions(rest, t, y / constant, depth - 1)
    elif expression.is_Pow:
        base, exponent = expression.args
        if not exponent.has(t):
            root = y ** (1 / exponent)
            found = solutions(base, t, root, depth - 1)
            if exponent.is_integer and exponent.is_even:
                found += solutions(base, t, -root, depth - 1)
            if exponent != -1:
                return found
        elif not base.has(t):
            return solutions(exponent, t, sympy.log(y) / sympy.log(base), depth - 1)
    elif expression.func in _INVERSES:
        for inner in _INVERSES[expression.func](y):
            found += solutions(expression.args[0], t, inner, depth - 1)
        return found
    return found or _rational(expression, t, y, depth)


def _rational(expression: Any, t: sympy.Symbol, y: Any, depth: int) -> list[Any]:
    """Solutions where `expression` is a ratio of polynomials, of degree two at most, in one
    function of t.
    """
    level = sympy.Dummy("y", positive=True)
    numerator, denominator = sympy.fraction(sympy.together(expression))
    try:
        polynomial = sympy.Poly(sympy.expand(numerator - level * denominator))
    except sympy.PolynomialError:
        return []
    inner = [g for g in polynomial.gens if g.has(t)]
    if len(inner) != 1 or any(g.has(t) for g in polynomial.free_symbols_in_domain):
        return []
    polynomial = sympy.Poly(polynomial.as_expr(), inner[0])
    if polynomial.degree() > 2 or any(c.has(t) for c in polynomial.all_coeffs()):
        return []
    c, b, a = (polynomial.coeff_monomial(inner[0] ** k).subs(level, y) for k in range(3))
    if a == 0:
        roots = [-c / b]
    else:
        root = sympy.sqrt(b**2 - 4 * a * c)
        roots = [2 * c / (-b - s * root) for s in (1, -1)] + [
            (-b + s * root) / (2 * a) for s in (1, -1)
        ]
    return [found for value in roots for found in solutions(inner[0], t, value, depth - 1)]
