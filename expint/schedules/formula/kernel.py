"""The forward kernel in symbols: α, σ̄ as written by a person, and log α, log σ̄ in the form that
keeps its precision.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sympy
import torch

from expint.schedules.formula.closed_form import solutions
from expint.schedules.formula.expressions import (
    TimeFunction,
    compiled,
    log1mexp,
    precise,
    rewritten,
    softplus,
    within,
)

__all__ = ["Kernel", "closed_form_inverse"]

Expr = Any  # a sympy expression; sympy's own annotations lose track of them

_SOFTPLUS: Any = softplus
_LOG1MEXP: Any = log1mexp
LEVEL = sympy.Symbol("lambda", real=True)
_SECONDS = 0.4


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


def from_log_alpha(
    log_alpha: Expr, t: sympy.Symbol, domain: tuple[float, float], drift: Expr | None = None
) -> Kernel:
    """Variance preserving: σ̄² = 1 − α², g² = −2f."""
    f = sympy.diff(log_alpha, t) if drift is None else drift
    written = log_alpha
    if not log_alpha.has(sympy.Integral):
        log_alpha = _most_precise([log_alpha, rewritten(sympy.factor_terms(log_alpha))], t, domain)
    alpha = sympy.exp(written)
    std = sympy.sqrt(1 - sympy.exp(2 * written))
    log_std = _LOG1MEXP(2 * log_alpha) / 2
    return Kernel(
        alpha,
        std,
        sympy.log(alpha / std),
        log_alpha,
        log_std,
        ((written, -_SOFTPLUS(-2 * LEVEL) / 2),),
        f,
        -2 * f,
    )


def from_lam(lam: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> Kernel:
    """Variance preserving, given λ: α² = 1/(1 + e^{−2λ}), f = λ'/(1 + e^{2λ})."""
    f = sympy.diff(lam, t) / (1 + sympy.exp(2 * lam))
    alpha, std = 1 / sympy.sqrt(1 + sympy.exp(-2 * lam)), 1 / sympy.sqrt(1 + sympy.exp(2 * lam))
    stable = _select(
        [lam, rewritten(lam)], t, domain, lambda times: precise(lam, t, times), relative=False
    )
    equations = ((lam, LEVEL), (sympy.logcombine(lam, force=True), LEVEL))
    return Kernel(
        alpha,
        std,
        lam,
        -_SOFTPLUS(-2 * stable) / 2,
        -_SOFTPLUS(2 * stable) / 2,
        equations,
        f,
        -2 * f,
    )


def from_sigma(sigma: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> Kernel:
    """α = 1, σ̄ = σ."""
    log_std = _best(_logs(sigma, t, domain), sigma, t, domain)
    zero = sympy.Integer(0)
    return Kernel(
        sympy.Integer(1),
        sigma,
        -_log(sigma),
        zero,
        log_std,
        ((log_std, -LEVEL),),
        zero,
        sympy.diff(sigma**2, t),
    )


def from_alpha_std(alpha: Expr, std: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> Kernel:
    """Any α and σ̄; if α² + σ̄² = 1 each logarithm is also tried through the other, and the more
    precise form is kept.
    """
    if alpha == 1:
        return from_sigma(std, t, domain)
    f = sympy.diff(_log(alpha), t)
    g2 = sympy.diff(std**2, t) - 2 * f * std**2
    alphas, stds = _logs(alpha, t, domain), _logs(std, t, domain)
    equations = [(sympy.logcombine(_log(alpha) - _log(std), force=True), LEVEL)]
    if _is_one(alpha**2 + std**2, t, domain):
        equations = [
            (alphas[0], -_SOFTPLUS(-2 * LEVEL) / 2),
            (stds[0], -_SOFTPLUS(2 * LEVEL) / 2),
            *equations,
        ]
        stds.append(_LOG1MEXP(2 * alphas[0]) / 2)
        alphas.append(_LOG1MEXP(2 * stds[0]) / 2)
        g2 = -2 * f
    log_alpha, log_std = _best(alphas, alpha, t, domain), _best(stds, std, t, domain)
    return Kernel(alpha, std, _log(alpha / std), log_alpha, log_std, tuple(equations), f, g2)


def from_drift(f: Expr, g: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> Kernel:
    """α = exp ∫f, σ² = ∫ g²/α², both from the start of the domain, where α = 1 and σ̄ = 0."""
    log_alpha = integral(f, t, domain)
    if sympy.expand(g**2 + 2 * f) == 0:
        return replace(from_log_alpha(log_alpha, t, domain, f), diffusion_squared=g**2)
    variance = integral(g**2 * sympy.exp(-2 * log_alpha), t, domain)
    log_sigma = _best(
        [log / 2 for log in _logs(variance, t, domain)], sympy.sqrt(variance), t, domain
    )
    alpha = sympy.exp(log_alpha)
    std = alpha * sympy.sqrt(variance)
    return Kernel(
        alpha,
        std,
        -_log(variance) / 2,
        log_alpha,
        log_alpha + log_sigma,
        ((log_sigma, -LEVEL),),
        f,
        g**2,
    )


def integral(expression: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> Expr:
    """∫ of the expression from the start of the domain to t: in closed form if sympy soon finds
    one, else unevaluated (it is then computed by quadrature).
    """
    if not math.isfinite(domain[0]):
        raise ValueError(
            f"The domain must start at a finite time to integrate {expression} from there, got "
            f"{domain[0]}."
        )
    s = sympy.Symbol("s" if t.name != "s" else "r", real=True, positive=t.is_positive)
    start = sympy.nsimplify(domain[0], rational=True)
    left_as_it_is = sympy.Integral(expression.subs(t, s), (s, start, t))
    if expression.has(sympy.Integral):
        return left_as_it_is
    times = probes(domain)

    def antiderivative() -> Expr:
        primitive = sympy.integrate(expression, t, risch=False, meijerg=False, heurisch=False)
        primitive = _real_logs(primitive, t, domain)  # ∫ 1/(t − 1) = log(1 − t) where t < 1
        found = primitive - primitive.subs(t, start)
        compiled(found, t, domain)  # raises for integrals and functions that torch lacks
        slope = sympy.diff(found, t)
        wrong = [
            abs(a - b) > 1e-12 * (1 + abs(b)) or math.isnan(a)
            for a, b in zip(precise(slope, t, times), precise(expression, t, times), strict=True)
        ]
        return left_as_it_is if any(wrong) or found.has(sympy.Integral, sympy.I) else found

    return within(_SECONDS, antiderivative, left_as_it_is)


def closed_form_inverse(
    kernel: Kernel, t: sympy.Symbol, lam: TimeFunction, times: torch.Tensor
) -> tuple[Expr, TimeFunction] | None:
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


def _logs(expression: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> list[Expr]:
    """log of the expression as it is written, without cancellation, and of its factors."""
    logs = [_log(expression), _log(rewritten(expression))]
    if expression.is_rational_function(t) and not expression.is_number:
        logs.append(_real_logs(_log(sympy.factor(expression)), t, domain))
    return logs


def _real_logs(expression: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> Expr:
    """log(−u) for log(u) where u < 0: the same up to a constant."""
    times = probes(domain)
    middle = sympy.Float(times[len(times) // 2])
    return expression.replace(
        sympy.log, lambda u: sympy.log(-u if u.subs(t, middle).is_negative else u)
    )


def probes(domain: tuple[float, float]) -> list[float]:
    """Times inside the domain, some of them very near its ends."""
    low, high = domain
    small = [1e-14, 1e-10, 1e-7, 1e-4, 1e-2]
    if math.isfinite(low) and math.isfinite(high):
        fractions = [*small, 0.1, 0.3, 0.5, 0.7, 0.9, *(1 - x for x in reversed(small[2:]))]
        times = [low + (high - low) * x for x in fractions]
    elif math.isfinite(low):
        times = [low + x for x in (*small, 0.1, 1.0, 10.0, 1e3)]
    else:
        times = [
            (high if math.isfinite(high) else 0.0) - x for x in (1e2, 30.0, 10.0, 3.0, 1.0, 0.1)
        ]
    return sorted({x for x in times if low < x < high})


def _is_one(expression: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> bool:
    """Whether the expression is 1 for all t: at all probes, to more digits than float64 has."""
    if expression.has(sympy.Integral):
        return False
    return all(
        value == 0.0 or abs(value) < 1e-40 for value in precise(expression - 1, t, probes(domain))
    )


def _computable(expression: Expr, t: sympy.Symbol, domain: tuple[float, float]) -> bool:
    try:
        compiled(expression, t, domain)
    except (ValueError, TypeError):
        return False
    return True


def _most_precise(candidates: list[Expr], t: sympy.Symbol, domain: tuple[float, float]) -> Expr:
    """Of several forms of one expression, the one whose values in float64 have the least relative
    error.
    """
    return _select(
        candidates, t, domain, lambda times: precise(candidates[0], t, times), relative=True
    )


def _best(
    candidates: list[Expr], reference: Expr, t: sympy.Symbol, domain: tuple[float, float]
) -> Expr:
    """Of several forms of the logarithm of `reference`, the one whose values in float64 have the
    least error.
    """

    def exact(times: list[float]) -> list[float]:
        return [math.log(x) if x > 0 else math.nan for x in precise(reference, t, times)]

    return _select(candidates, t, domain, exact, relative=False)


def _select(
    candidates: list[Expr],
    t: sympy.Symbol,
    domain: tuple[float, float],
    exact: Callable[[list[float]], list[float]],
    relative: bool,
) -> Expr:
    candidates = list(dict.fromkeys(candidates))
    if len(candidates) == 1 or any(c.has(sympy.Integral) for c in candidates):
        return candidates[-1]
    times = probes(domain)
    truth = torch.tensor(exact(times), dtype=torch.float64)
    known = torch.isfinite(truth) & (truth != 0)
    scale = truth.abs() if relative else torch.ones_like(truth)
    errors = []
    for candidate in candidates:
        if errors and not _computable(candidate, t, domain):
            errors.append(math.inf)
            continue
        with torch.no_grad():
            values = compiled(candidate, t, domain)(torch.tensor(times, dtype=torch.float64))
        error = ((values - truth) / scale)[known].abs().nan_to_num(nan=math.inf)
        errors.append(error.max().item() if len(error) else math.inf)
    return candidates[errors.index(min(errors))]
