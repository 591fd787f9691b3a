"""A schedule written as a formula."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy
import torch
from torch import Tensor

from expint.numerics.inversion import TimeFunction, TimeLine
from expint.schedules.formula import kernel as kernels
from expint.schedules.formula.bracketed import BracketedSchedule, check_interval
from expint.schedules.formula.expressions import compiled, parse, precise, within
from expint.schedules.formula.kernel import Kernel

__all__ = ["Symbolic"]

_INF = math.inf
_FAR = 1e150


@dataclass(frozen=True, init=False, repr=False)
class Symbolic(BracketedSchedule):
    """A schedule from formulas for α_t and σ̄_t, or from one of β, (f, g), SNR, λ and σ by the
    constructors `from_…`.

    Formulas are sympy expressions or strings in which only the time is free. They are
    differentiated by sympy and evaluated by torch in float64, in the form found to lose least near
    the ends (for example log σ̄ = ½ log(−expm1(2 log α)) where α² + σ̄² = 1). The inverse of λ is a
    closed form where there is one that returns every λ to 1e-12, else a bracketed root.

    Strings are read by sympy's parser, which evaluates them as Python: do not pass strings from
    strangers.

    Args:
        alpha: α_t, positive inside the domain; may vanish at its end (σ = ∞).
        std: σ̄_t, positive inside the domain; may vanish at its start (σ = 0).
        t: the time, a name or a sympy symbol.
        domain: times (low, high), numbers or sympy numbers; either may be infinite.
        sampling_range: times (noise end, data end). Default: the ends of the domain, with σ = 80
            and σ = 0.002 in place of an infinite end and of an end without noise.

    Raises:
        ValueError: for a free symbol other than the time, a function that torch lacks, α or σ̄ that
            is not positive somewhere, or λ that does not decrease, with the times where that is so.

    Example:
        >>> from expint import schedules
        >>> schedule = schedules.Symbolic("cos(pi*t/2)", "sin(pi*t/2)")
        >>> round(schedule.sigma(0.5), 12)
        1.0
        >>> schedules.Symbolic.from_beta("1/10 + 199*t/10").alpha(1.0) == schedules.VP().alpha(1.0)
        True

    Source: Song et al., arXiv 2011.13456, section 3.4 (f, g and the kernel); EDM, arXiv 2206.00364,
    appendix B.
    """

    kernel: Kernel
    symbol: sympy.Symbol
    _domain: tuple[float, float]
    _given_range: tuple[float, float] | None

    def __init__(
        self,
        alpha: Any,
        std: Any,
        t: str | sympy.Symbol = "t",
        domain: tuple[Any, Any] = (0.0, 1.0),
        sampling_range: tuple[float, float] | None = None,
    ) -> None:
        symbol, interval = _time(t, domain)
        kernel = kernels.from_alpha_std(
            parse("alpha", alpha, symbol), parse("std", std, symbol), symbol, interval
        )
        self._settle(kernel, symbol, interval, sampling_range)

    def _settle(
        self,
        kernel: Kernel,
        symbol: sympy.Symbol,
        domain: tuple[float, float],
        sampling_range: tuple[float, float] | None,
    ) -> None:
        fields = {
            "kernel": kernel,
            "symbol": symbol,
            "_domain": domain,
            "_given_range": sampling_range,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._validate()

    @classmethod
    def _of(
        cls,
        kernel: Kernel,
        symbol: sympy.Symbol,
        domain: tuple[float, float],
        sampling_range: tuple[float, float] | None,
    ) -> "Symbolic":
        schedule = cls.__new__(cls)
        schedule._settle(kernel, symbol, domain, sampling_range)
        return schedule

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._of, (self.kernel, self.symbol, self._domain, self._given_range)

    @classmethod
    def from_beta(
        cls,
        beta: Any,
        t: str | sympy.Symbol = "t",
        domain: tuple[Any, Any] = (0.0, 1.0),
        sampling_range: Any = None,
    ) -> "Symbolic":
        """Variance preserving with dx = −½β x dt + √β dω: α_t = exp(−½ ∫β), the integral from the
        start of the domain.
        """
        symbol, interval = _time(t, domain)
        rate = parse("beta", beta, symbol)
        log_alpha = -kernels.integral(rate, symbol, interval) / 2
        return cls._of(
            kernels.from_log_alpha(log_alpha, symbol, interval, -rate / 2),
            symbol,
            interval,
            sampling_range,
        )

    @classmethod
    def from_drift(
        cls,
        f: Any,
        g: Any,
        t: str | sympy.Symbol = "t",
        domain: tuple[Any, Any] = (0.0, 1.0),
        sampling_range: Any = None,
    ) -> "Symbolic":
        """The kernel of dx = f x dt + g dω from clean data at the start of the domain: α = exp ∫f,
        σ̄² = α² ∫ g²/α².
        """
        symbol, interval = _time(t, domain)
        kernel = kernels.from_drift(parse("f", f, symbol), parse("g", g, symbol), symbol, interval)
        return cls._of(kernel, symbol, interval, sampling_range)

    @classmethod
    def from_snr(
        cls,
        snr: Any,
        t: str | sympy.Symbol = "t",
        domain: tuple[Any, Any] = (0.0, 1.0),
        sampling_range: Any = None,
    ) -> "Symbolic":
        """Variance preserving with signal-to-noise ratio α²/σ̄² = `snr`."""
        symbol, interval = _time(t, domain)
        lam = sympy.expand_log(sympy.log(parse("snr", snr, symbol)), force=True) / 2
        return cls._of(kernels.from_lam(lam, symbol, interval), symbol, interval, sampling_range)

    @classmethod
    def from_lam(
        cls,
        lam: Any,
        t: str | sympy.Symbol = "t",
        domain: tuple[Any, Any] = (0.0, 1.0),
        sampling_range: Any = None,
    ) -> "Symbolic":
        """Variance preserving with half log signal-to-noise ratio λ_t = `lam`."""
        symbol, interval = _time(t, domain)
        return cls._of(
            kernels.from_lam(parse("lam", lam, symbol), symbol, interval),
            symbol,
            interval,
            sampling_range,
        )

    @classmethod
    def from_sigma(
        cls,
        sigma: Any,
        t: str | sympy.Symbol = "t",
        domain: tuple[Any, Any] = (0.0, 1.0),
        sampling_range: Any = None,
        *,
        variance_preserving: bool = False,
    ) -> "Symbolic":
        """Noise level σ̄/α = `sigma`, with α = 1, or with α² + σ̄² = 1."""
        symbol, interval = _time(t, domain)
        level = parse("sigma", sigma, symbol)
        if variance_preserving:
            kernel = kernels.from_lam(
                -sympy.expand_log(sympy.log(level), force=True), symbol, interval
            )
        else:
            kernel = kernels.from_sigma(level, symbol, interval)
        return cls._of(kernel, symbol, interval, sampling_range)

    @property
    def inverse_expression(self) -> sympy.Expr | None:
        """t as an expression in λ (symbol `lambda`), or None where t_of_lam is found
        numerically.
        """
        return self._closed[0] if self._closed else None

    def latex(self) -> str:
        """α, σ̄, λ, f and g² as LaTeX, one line each, for an `aligned` environment."""
        k, t = self.kernel, sympy.latex(self.symbol)
        lines = {
            rf"\alpha_{{{t}}}": k.alpha,
            rf"\bar\sigma_{{{t}}}": k.std,
            rf"\lambda_{{{t}}}": k.lam,
            f"f({t})": k.drift,
            f"g({t})^2": k.diffusion_squared,
        }
        shown = {
            name: within(0.5, lambda value=value: sympy.simplify(value), value)
            for name, value in lines.items()
        }
        body = r" \\ ".join(f"{name} &= {sympy.latex(value)}" for name, value in shown.items())
        return rf"\begin{{aligned}} {body} \end{{aligned}}"

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    def __repr__(self) -> str:
        low, high = self._domain
        return f"Symbolic({self.kernel.alpha}, {self.kernel.std}, t={self.symbol.name!r}, domain=({low:g}, {high:g}))"

    def _inner_log_alpha(self, t: Tensor) -> Tensor:
        return self._functions[0](t)

    def _inner_log_std(self, t: Tensor) -> Tensor:
        return self._functions[1](t)

    @cached_property
    def _functions(self) -> tuple[TimeFunction, TimeFunction]:
        k = self.kernel
        return compiled(k.log_alpha, self.symbol, self._domain), compiled(
            k.log_std, self.symbol, self._domain
        )

    @cached_property
    def _closed(self) -> tuple[sympy.Expr, TimeFunction] | None:
        line = TimeLine(*self._domain)
        times = line(line.nodes(20.0, 81))
        return kernels.closed_form_inverse(self.kernel, self.symbol, self._inner_lam, times)

    @property
    def _closed_form(self) -> TimeFunction | None:
        return self._closed[1] if self._closed else None

    def _end(self, t: float) -> tuple[float, float]:
        k = self.kernel
        # α may miss its zero by the rounding of the end itself, as cos(1.5707963267948966) does.
        return self._end_log(k.alpha, self._functions[0], t, 1e-15), self._end_log(
            k.std, self._functions[1], t, 1e-25
        )

    def _end_log(
        self, expression: sympy.Expr, log_function: TimeFunction, t: float, negligible: float
    ) -> float:
        """log of `expression` at an end of the domain: exact zeros and infinities, limits where the
        formula has no value.
        """
        with torch.no_grad():
            value = log_function(
                torch.tensor(
                    [t if math.isfinite(t) else math.copysign(_FAR, t)], dtype=torch.float64
                )
            ).item()
        if not math.isfinite(t):  # far out, what is negligible or immense counts as 0 or ∞
            return value if abs(value) < 100.0 else math.copysign(_INF, value)
        if expression.has(sympy.Integral):
            return value
        place = sympy.nsimplify(t, rational=True)
        (exact,) = precise(expression, self.symbol, [t])
        if abs(exact) <= negligible or exact == _INF:
            return -_INF if exact < 1 else _INF
        if math.isnan(exact):
            side = "+" if t == self._domain[0] else "-"
            exact = within(
                0.3, lambda: float(sympy.limit(expression, self.symbol, place, side)), math.nan
            )
            value = math.nan if math.isnan(value) or abs(exact) <= negligible else value
        if math.isfinite(value):
            return value
        return math.log(exact) if exact > 0 else -_INF if exact == 0 else math.nan


def _time(t: Any, domain: Any) -> tuple[sympy.Symbol, tuple[float, float]]:
    """The symbol of time, with the sign that the domain gives it, and the domain in floats."""
    interval = check_interval("domain", domain)
    name = t.name if isinstance(t, sympy.Symbol) else t
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"t must be a sympy symbol or a name, got {t!r}.")
    return sympy.Symbol(name, positive=True) if interval[0] >= 0 else sympy.Symbol(
        name, real=True
    ), interval
