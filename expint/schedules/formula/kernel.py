"""The forward kernel in symbols: α, σ̄ as written by a person, and log α, log σ̄ in the form that
keeps its precision.
"""

import math
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.codegen.cfunctions import expm1
from sympy.codegen.numpy_nodes import logaddexp

from expint.numerics.float64 import as_float64
from expint.numerics.roots import TimeLine
from expint.schedules.formula.expressions import Expr, compiled, stable

sp: Any = sympy
_EXPM1: Any = expm1
_LOGADDEXP: Any = logaddexp
Domain = tuple[float, float]


@dataclass(frozen=True)
class Kernel:
    """α and σ̄, and their stable logarithms.

    `drift` and `diffusion_squared` are f = d log α/dt and g² = dσ̄²/dt − 2 f σ̄².
    """

    alpha: Expr
    std: Expr
    lam: Expr
    log_alpha: Expr
    log_std: Expr
    drift: Expr
    diffusion_squared: Expr


def from_beta(beta: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Variance preserving with log α = −½ ∫β."""
    return _from_log_alpha(-integral(beta, t, domain) / 2, -beta / 2)


def _from_log_alpha(written: Expr, drift: Expr) -> Kernel:
    """Variance preserving: σ̄² = 1 − α², g² = −2f."""
    alpha, std = sp.exp(written), sp.sqrt(1 - sp.exp(2 * written))
    log_alpha = stable(written)
    log_std = sp.log(-_EXPM1(2 * log_alpha)) / 2
    return Kernel(alpha, std, sp.log(alpha / std), log_alpha, log_std, drift, -2 * drift)


def from_snr(snr: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Variance preserving with α²/σ̄² = snr."""
    return from_lam(_log(snr, t, domain) / 2, t, domain)


def from_noise_level(sigma: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Variance preserving with σ̄/α = sigma."""
    return from_lam(-_log(sigma, t, domain), t, domain)


def from_lam(lam: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Variance preserving, given λ: α² = 1/(1 + e^{−2λ}), f = λ'/(1 + e^{2λ})."""
    f = sp.diff(lam, t) / (1 + sp.exp(2 * lam))
    alpha, std = (1 / sp.sqrt(1 + sp.exp(sign * 2 * lam)) for sign in (-1, 1))
    log_alpha, log_std = (-_LOGADDEXP(0, sign * 2 * stable(lam)) / 2 for sign in (-1, 1))
    return Kernel(alpha, std, lam, log_alpha, log_std, f, -2 * f)


def from_alpha_std(alpha: Expr, std: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Any α and σ̄."""
    log_alpha, log_std = (_log(e, t, domain) for e in (alpha, std))
    f = sp.diff(log_alpha, t)
    g2 = sp.diff(std**2, t) - 2 * f * std**2
    lam = log_alpha - log_std
    return Kernel(alpha, std, lam, stable(log_alpha), stable(log_std), f, g2)


def from_drift(f: Expr, g: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """α = exp ∫f, σ² = ∫ g²/α², both from the start of the domain, where α = 1 and σ̄ = 0."""
    log_alpha = integral(f, t, domain)
    if sp.expand(g**2 + 2 * f) == 0:
        return _from_log_alpha(log_alpha, f)
    variance = integral(g**2 * sp.exp(-2 * log_alpha), t, domain)
    log_sigma, alpha = _log(variance, t, domain) / 2, sp.exp(log_alpha)
    stable_alpha, std = stable(log_alpha), alpha * sp.sqrt(variance)
    log_std = stable_alpha + stable(log_sigma)
    return Kernel(alpha, std, -log_sigma, stable_alpha, log_std, f, g**2)


def integral(expression: Expr, t: sympy.Symbol, domain: Domain) -> Expr:
    """∫ of the expression from the start of the domain to t: a closed form if sympy's first rules
    find one that loses no digits, else unevaluated (it is then computed by quadrature).

    The rules are those for powers, sines and cosines, and fractions whose denominators split over
    the rationals: sympy's general algorithms may run for ever.
    """
    if not math.isfinite(domain[0]):
        raise ValueError(
            f"The domain must start at a finite time to integrate {expression} from there, got "
            f"{domain[0]}."
        )
    start = sp.nsimplify(domain[0], rational=True)
    if not expression.has(sp.exp) and _splits(expression, t):
        first_rules = dict.fromkeys(("risch", "heurisch", "meijerg", "manual"), False)
        found = _real_logs(sp.integrate(expression, t, **first_rules), t, _middle(domain))
        found -= found.subs(t, start)
        for form in (found, _factored(found, t)):
            if _keeps_its_digits(form, t, start, domain):
                return form
    s = sp.Symbol("s" if t.name != "s" else "r", real=True, positive=t.is_positive)
    return sp.Integral(stable(expression).subs(t, s), (s, start, t))


def _splits(expression: Expr, t: sympy.Symbol) -> bool:
    if not expression.is_rational_function(t):
        return True
    _, factors = sp.factor_list(sp.denom(sp.together(expression)))
    return all(sp.degree(factor, t) <= 1 for factor, _ in factors)


def _keeps_its_digits(closed: Expr, t: sympy.Symbol, start: Expr, domain: Domain) -> bool:
    """Whether an integral from `start`, in float64, has a small relative error also near there."""
    if closed.has(sp.Integral, sp.I, sp.oo, sp.zoo, sp.nan):
        return False
    function = compiled(stable(closed), t, domain)
    for step in (1e-12, 1e-8, 1e-4, 1e-1):
        time = float(start) + step * (min(domain[1], float(start) + 1.0) - float(start))
        exact = float(closed.evalf(30, subs={t: sp.Rational(time)}))
        if not math.isclose(function(as_float64(time)).item(), exact, rel_tol=1e-12):
            return False
    return True


def _log(expression: Expr, t: sympy.Symbol, domain: Domain) -> Expr:
    """log of the expression as a sum over its factors."""
    middle = _middle(domain)
    if expression.subs(t, middle).is_negative:
        return sp.log(expression)
    logs = sp.expand_log(sp.log(expression), force=True)
    factored = logs.replace(sp.log, lambda u: sp.log(_factored(u, t)))
    return _real_logs(sp.expand_log(factored, force=True), t, middle)


def _factored(expression: Expr, t: sympy.Symbol) -> Expr:
    return sp.factor(expression) if expression.is_rational_function(t) else expression


def _real_logs(expression: Expr, t: sympy.Symbol, middle: Expr) -> Expr:
    """log(−u) for log(u) where u < 0 in the middle of the domain: the same up to a constant."""
    real = expression.replace(sp.log, lambda u: sp.log(-u if u.subs(t, middle).is_negative else u))
    return real.subs(sp.I, 0)


def _middle(domain: Domain) -> Expr:
    return sp.Float(TimeLine(*domain)(as_float64(0.0)).item())
