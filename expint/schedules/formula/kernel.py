"""The forward kernel in symbols: α, σ̄ as written by a person, and log α, log σ̄ in the form that
keeps its precision.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import sympy
import torch

from expint.numerics.quadrature import RealFunction
from expint.numerics.roots import TimeLine
from expint.schedules.formula.closed_form import antiderivative, solutions
from expint.schedules.formula.expressions import (
    Expr,
    compiled,
    log1mexp,
    precise,
    rewritten,
    softplus,
)

_SOFTPLUS: Any = softplus
_LOG1MEXP: Any = log1mexp
LEVEL = sympy.Symbol("lambda", real=True)
Domain = tuple[float, float]


@dataclass(frozen=True)
class Kernel:
    """α and σ̄, their stable logarithms, and equations core(t) = level(λ) each of which is the same
    as λ_t = λ.

    `drift` and `diffusion_squared` are f = d log α/dt and g² = dσ̄²/dt − 2 f σ̄².
    """

    alpha: Expr
    std: Expr
    lam: Expr
    log_alpha: Expr
    log_std: Expr
    equations: tuple[tuple[Expr, Expr], ...]
    drift: Expr
    diffusion_squared: Expr


def from_beta(beta: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Variance preserving with log α = −½ ∫β."""
    return _from_log_alpha(-integral(beta, t, domain) / 2, -beta / 2, t, domain)


def _from_log_alpha(written: Expr, drift: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Variance preserving: σ̄² = 1 − α², g² = −2f."""
    # An error of log α relative to its size is one of σ̄.
    forms = [written, rewritten(sympy.factor_terms(written))]
    log_alpha = _most_precise(forms, written, t, domain, relative=True)
    alpha, std = sympy.exp(written), sympy.sqrt(1 - sympy.exp(2 * written))
    equations = ((written, -_SOFTPLUS(-2 * LEVEL) / 2),)
    lam, log_std = sympy.log(alpha / std), _LOG1MEXP(2 * log_alpha) / 2
    return Kernel(alpha, std, lam, log_alpha, log_std, equations, drift, -2 * drift)


def from_snr(snr: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Variance preserving with α²/σ̄² = snr."""
    return from_lam(_log(snr) / 2, t, domain)


def from_noise_level(sigma: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Variance preserving with σ̄/α = sigma."""
    return from_lam(-_log(sigma), t, domain)


def from_lam(lam: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Variance preserving, given λ: α² = 1/(1 + e^{−2λ}), f = λ'/(1 + e^{2λ})."""
    f = sympy.diff(lam, t) / (1 + sympy.exp(2 * lam))
    alpha, std = (1 / sympy.sqrt(1 + sympy.exp(sign * 2 * lam)) for sign in (-1, 1))
    stable = _most_precise([lam, rewritten(lam)], lam, t, domain)
    log_alpha, log_std = (-_SOFTPLUS(sign * 2 * stable) / 2 for sign in (-1, 1))
    equations = ((lam, LEVEL), (sympy.logcombine(lam, force=True), LEVEL))
    return Kernel(alpha, std, lam, log_alpha, log_std, equations, f, -2 * f)


def from_sigma(sigma: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """α = 1, σ̄ = σ."""
    log_std = _most_precise(_logs(sigma, t, domain), sympy.log(sigma), t, domain)
    one, zero = sympy.Integer(1), sympy.Integer(0)
    equations = ((log_std, -LEVEL),)
    rate = sympy.diff(sigma**2, t)
    return Kernel(one, sigma, -_log(sigma), zero, log_std, equations, zero, rate)


def from_alpha_std(alpha: Expr, std: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """Any α and σ̄; if α² + σ̄² = 1 each logarithm is also tried through the other, and the more
    precise form is kept.
    """
    if alpha == 1:
        return from_sigma(std, t, domain)
    f = sympy.diff(_log(alpha), t)
    g2 = sympy.diff(std**2, t) - 2 * f * std**2
    alphas, stds = _logs(alpha, t, domain), _logs(std, t, domain)
    equations = [(sympy.logcombine(_log(alpha) - _log(std), force=True), LEVEL)]
    excess = precise(alpha**2 + std**2 - 1, t, probes(domain))
    if all(abs(x) < 1e-40 for x in excess):  # to more digits than float64 has
        equations.insert(0, (alphas[0], -_SOFTPLUS(-2 * LEVEL) / 2))
        equations.insert(1, (stds[0], -_SOFTPLUS(2 * LEVEL) / 2))
        stds.append(_LOG1MEXP(2 * alphas[0]) / 2)
        alphas.append(_LOG1MEXP(2 * stds[0]) / 2)
        g2 = -2 * f
    log_alpha = _most_precise(alphas, sympy.log(alpha), t, domain)
    log_std = _most_precise(stds, sympy.log(std), t, domain)
    return Kernel(alpha, std, _log(alpha / std), log_alpha, log_std, tuple(equations), f, g2)


def from_drift(f: Expr, g: Expr, t: sympy.Symbol, domain: Domain) -> Kernel:
    """α = exp ∫f, σ² = ∫ g²/α², both from the start of the domain, where α = 1 and σ̄ = 0."""
    log_alpha = integral(f, t, domain)
    if sympy.expand(g**2 + 2 * f) == 0:
        return replace(_from_log_alpha(log_alpha, f, t, domain), diffusion_squared=g**2)
    variance = integral(g**2 * sympy.exp(-2 * log_alpha), t, domain)
    halves = [log / 2 for log in _logs(variance, t, domain)]
    log_sigma = _most_precise(halves, sympy.log(variance) / 2, t, domain)
    alpha = sympy.exp(log_alpha)
    std = alpha * sympy.sqrt(variance)
    equations = ((log_sigma, -LEVEL),)
    lam = -_log(variance) / 2
    return Kernel(alpha, std, lam, log_alpha, log_alpha + log_sigma, equations, f, g**2)


def integral(expression: Expr, t: sympy.Symbol, domain: Domain) -> Expr:
    """∫ of the expression from the start of the domain to t: a closed form if the rules find one
    that loses no digits, else unevaluated (it is then computed by quadrature).
    """
    if not math.isfinite(domain[0]):
        raise ValueError(
            f"The domain must start at a finite time to integrate {expression} from there, got "
            f"{domain[0]}."
        )
    s = sympy.Symbol("s" if t.name != "s" else "r", real=True, positive=t.is_positive)
    start = sympy.nsimplify(domain[0], rational=True)
    primitive = None if expression.has(sympy.Integral) else antiderivative(expression, t)
    if primitive is not None:
        primitive = _real_logs(primitive, t, domain)  # ∫ 1/(t − 1) = log(1 − t) where t < 1
        found = primitive - primitive.subs(t, start)
        forms = [found, rewritten(sympy.factor_terms(found)), sympy.factor(found)]
        if not found.has(sympy.oo, sympy.zoo, sympy.nan, sympy.I) and (
            min(_errors(forms, found, t, domain, relative=True)) < 1e-12
        ):
            return found
    forms = [expression, rewritten(expression)]
    stable = _most_precise(forms, expression, t, domain, relative=True)
    return sympy.Integral(stable.subs(t, s), (s, start, t))


def closed_form_inverse(
    kernel: Kernel, t: sympy.Symbol, lam: RealFunction, times: torch.Tensor
) -> tuple[Expr, RealFunction] | None:
    """t(λ) in closed form, as expression and function, if one of the candidates is right at all
    `times`; else None.

    Right means that λ comes back to 1e-12, or t to a few units in its last place.
    """
    with torch.no_grad():
        levels = lam(times)
    for core, level in kernel.equations:
        for candidate in dict.fromkeys(solutions(core, t, level)):
            try:
                inverse = compiled(candidate, LEVEL, (-math.inf, math.inf))
                with torch.no_grad():
                    back = inverse(levels)
                    inside = back.clamp(times.min(), times.max())
                    good = (lam(inside) - levels).abs() <= 1e-12 * (1 + levels.abs())
                    good &= (back - inside).abs() <= 1e-15 * (1 + times.abs())
                    good |= (back - times).abs() <= 4e-16 * times.abs()
            except (ValueError, TypeError):  # complex constants, or functions that torch lacks
                continue
            if bool(good.all()):
                return candidate, inverse
    return None


def _log(expression: Expr) -> Expr:
    return sympy.expand_log(sympy.log(expression), force=True)


def _logs(expression: Expr, t: sympy.Symbol, domain: Domain) -> list[Expr]:
    """log of the expression as it is written, without cancellation, and of its factors."""
    logs = [_log(expression), _log(rewritten(expression))]
    if expression.is_rational_function(t) and not expression.is_number:
        logs.append(_real_logs(_log(sympy.factor(expression)), t, domain))
    return logs


def _real_logs(expression: Expr, t: sympy.Symbol, domain: Domain) -> Expr:
    """log(−u) for log(u) where u < 0: the same up to a constant."""
    times = probes(domain)
    middle = sympy.Float(times[len(times) // 2])
    return expression.replace(
        sympy.log, lambda u: sympy.log(-u if u.subs(t, middle).is_negative else u)
    )


def probes(domain: Domain) -> list[float]:
    """Times inside the domain, some of them very near its ends."""
    line = TimeLine(*domain)
    first = -32.0 if math.isfinite(domain[0]) else -4.0
    last = 16.0 if math.isfinite(domain[1]) else 7.0
    times = line(torch.linspace(first, last, 17, dtype=torch.float64))
    return times[line.inside(times)].unique().tolist()


def _most_precise(
    forms: list[Expr], exact: Expr, t: sympy.Symbol, domain: Domain, relative: bool = False
) -> Expr:
    """Of several forms of the expression `exact`, the one whose values in float64 have the least
    error.
    """
    forms = list(dict.fromkeys(forms))
    if len(forms) == 1 or any(form.has(sympy.Integral) for form in forms):
        return forms[-1]
    errors = _errors(forms, exact, t, domain, relative)
    return forms[errors.index(min(errors))]


def _errors(
    forms: list[Expr], exact: Expr, t: sympy.Symbol, domain: Domain, relative: bool
) -> list[float]:
    """The largest errors of the forms at the probes; infinite for forms that torch cannot compute,
    except the first.
    """
    times = torch.tensor(probes(domain), dtype=torch.float64)
    truth = torch.tensor(precise(exact, t, times.tolist()), dtype=torch.float64)
    known = torch.isfinite(truth) & (truth != 0)
    scale = truth.abs() if relative else torch.ones_like(truth)
    errors = []
    for form in forms:
        try:
            with torch.no_grad():
                values = compiled(form, t, domain)(times)
        except (ValueError, TypeError):
            if not errors:
                raise
            errors.append(math.inf)
            continue
        error = ((values - truth) / scale)[known].abs().nan_to_num(nan=math.inf)
        errors.append(error.max().item() if len(error) else math.inf)
    return errors
