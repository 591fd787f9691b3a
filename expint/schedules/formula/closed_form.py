"""Closed forms found by rules that always stop, at once, and depend on no clock: solutions of
E(t) = y, and antiderivatives.

sympy's general algorithms may run for ever, and what they find beyond these rules (cubic formulas,
Lambert functions) is not more accurate than a numerical root or a quadrature.
"""

from typing import Any

import sympy
from sympy.core.function import AppliedUndef
from sympy.simplify.fu import TR8

Expr = Any  # a sympy expression; sympy's own annotations lose track of them
sp: Any = sympy

_DEPTH = 12
_INVERSES: dict[Any, Any] = {
    sp.exp: lambda y: [sp.log(y)],
    sp.log: lambda y: [sp.exp(y)],
    sp.sin: lambda y: [sp.asin(y), sp.pi - sp.asin(y)],
    sp.cos: lambda y: [sp.acos(y), -sp.acos(y)],
    sp.tan: lambda y: [sp.atan(y), sp.atan(y) + sp.pi],
    sp.cot: lambda y: [sp.acot(y), sp.pi / 2 - sp.atan(y)],
    sp.asin: lambda y: [sp.sin(y)],
    sp.acos: lambda y: [sp.cos(y)],
    sp.atan: lambda y: [sp.tan(y)],
    sp.sinh: lambda y: [sp.asinh(y)],
    sp.cosh: lambda y: [sp.acosh(y), -sp.acosh(y)],
    sp.tanh: lambda y: [sp.atanh(y)],
    sp.asinh: lambda y: [sp.sinh(y)],
    sp.atanh: lambda y: [sp.tanh(y)],
}


def solutions(expression: Expr, t: sympy.Symbol, y: Expr, depth: int = _DEPTH) -> list[Expr]:
    """Candidates for t with expression(t) = y, where the expression is a chain of invertible
    functions around a ratio of polynomials of degree two at most.

    Which branch is right is for the caller to test. Roots of quadratics come in both forms,
    2c/(−b ∓ √(b² − 4ac)) and (−b ± √(b² − 4ac))/(2a): each cancels where the other does not.
    """
    if expression == t:
        return [y]
    if (
        depth == 0
        or not expression.has(t)
        or expression.has(sp.Integral, sp.Piecewise, AppliedUndef)
    ):
        return []
    found: list[Expr] = []
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
            signs = (1, -1) if exponent.is_integer and exponent.is_even else (1,)
            found = [x for sign in signs for x in solutions(base, t, sign * root, depth - 1)]
            if exponent != -1:
                return found
        elif not base.has(t):
            return solutions(exponent, t, sp.log(y) / sp.log(base), depth - 1)
    elif expression.func in _INVERSES:
        inner = _INVERSES[expression.func](y)
        return [x for value in inner for x in solutions(expression.args[0], t, value, depth - 1)]
    return found or _rational(expression, t, y, depth)


def _rational(expression: Expr, t: sympy.Symbol, y: Expr, depth: int) -> list[Expr]:
    """Solutions where `expression` is a ratio of polynomials, of degree two at most, in one
    function of t.
    """
    level = sp.Dummy("y", positive=True)
    numerator, denominator = sp.fraction(sp.together(expression))
    try:
        polynomial = sp.Poly(sp.expand(numerator - level * denominator))
    except sympy.PolynomialError:
        return []
    inner = [g for g in polynomial.gens if g.has(t)]
    if len(inner) != 1 or any(g.has(t) for g in polynomial.free_symbols_in_domain):
        return []
    polynomial = sp.Poly(polynomial.as_expr(), inner[0])
    if polynomial.degree() > 2 or any(c.has(t) for c in polynomial.all_coeffs()):
        return []
    c, b, a = (polynomial.coeff_monomial(inner[0] ** k).subs(level, y) for k in range(3))
    if a == 0:
        roots = [-c / b]
    else:
        root = sp.sqrt(b**2 - 4 * a * c)
        roots = [2 * c / (-b - s * root) for s in (1, -1)]
        roots += [(-b + s * root) / (2 * a) for s in (1, -1)]
    return [found for value in roots for found in solutions(inner[0], t, value, depth - 1)]


def antiderivative(expression: Expr, t: sympy.Symbol) -> Expr | None:
    """∫ of a sum of multiples of (p t + q)^r, of products of sines and cosines of p t + q, and of
    u′ e^u, and of fractions that split into such terms; None for anything else.
    """
    if expression.is_rational_function(t) and not expression.is_polynomial(t):
        expression = sp.apart(expression, t)
    else:
        as_exp = lambda e: sp.exp(e.exp * sp.log(e.base))  # noqa: E731
        expression = expression.replace(lambda e: e.is_Pow and not e.base.has(t), as_exp)
        expression = TR8(sp.expand(expression))
    terms = [_of_term(term, t) for term in sp.Add.make_args(expression)]
    return None if None in terms else sp.Add(*terms)


def _of_term(term: Expr, t: sympy.Symbol) -> Expr | None:
    factor, function = term.as_independent(t, as_Add=False)
    exponentials = [e for e in sp.Mul.make_args(function) if isinstance(e, sympy.exp)]
    if exponentials:
        u = sp.Add(*(e.args[0] for e in exponentials))
        ratio = sp.cancel(function / sp.Mul(*exponentials) / sp.diff(u, t))
        return None if ratio.has(t) else factor * ratio * sp.exp(u)
    if function == 1:
        return factor * t
    inner, power = function.as_base_exp()
    slope = sp.diff(inner.args[0] if isinstance(inner, (sympy.sin, sympy.cos)) else inner, t)
    if slope.has(t) or power.has(t):
        return None
    if isinstance(inner, (sympy.sin, sympy.cos)):
        (u,) = inner.args
        wave = -sp.cos(u) if isinstance(inner, sympy.sin) else sp.sin(u)
        return factor * wave / slope if power == 1 else None
    if power == -1:
        return factor * sp.log(inner) / slope
    return factor * inner ** (power + 1) / ((power + 1) * slope)
