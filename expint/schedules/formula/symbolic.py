"""A schedule written as a formula."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import sympy

from expint.schedules.formula import kernel as kernels
from expint.schedules.formula.bracketed import BracketedSchedule, check_domain
from expint.schedules.formula.expressions import compiled, parse, time_symbol
from expint.schedules.formula.kernel import Kernel


class Options(TypedDict, total=False):
    """What every constructor of `Symbolic` takes besides its formulas."""

    t: str | sympy.Symbol
    domain: tuple[Any, Any]
    sampling_range: tuple[float, float] | None


@dataclass(frozen=True, init=False, repr=False)
class Symbolic(BracketedSchedule):
    """A schedule from formulas for α_t and σ̄_t, or from one of β, (f, g), SNR, λ and σ by the
    constructors `from_…`.

    Formulas are sympy expressions or strings in which only the time is free. They are
    differentiated by sympy and evaluated by torch in float64, in a form that does not cancel near
    the ends (for example log σ̄ = ½ log(−expm1(2 log α)) where α² + σ̄² = 1). The inverse of λ is a
    bracketed root.

    Strings are read by sympy's parser, which evaluates them as Python: do not pass strings from
    strangers.

    Args:
        alpha: α_t, positive inside the domain; may vanish at its end (σ = ∞).
        std: σ̄_t, positive inside the domain; may vanish at its start (σ = 0).
        t: the time, a name or a sympy symbol; default "t".
        domain: times (low, high), numbers or sympy numbers; either may be infinite.
            Default: (0, 1).
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

    def __init__(self, alpha: Any, std: Any, **options: Unpack[Options]) -> None:
        given = {"alpha": alpha, "std": std}
        self._build(*_derived(kernels.from_alpha_std, given, **options))

    def _build(self, kernel: Kernel, symbol: sympy.Symbol, domain: Any, chosen: Any) -> None:
        log_alpha, log_std = (
            compiled(e, symbol, domain) for e in (kernel.log_alpha, kernel.log_std)
        )
        self._settle(log_alpha, log_std, domain, chosen, kernel=kernel, symbol=symbol)

    @classmethod
    def _of(cls, *fields: Any) -> "Symbolic":
        schedule = cls.__new__(cls)
        schedule._build(*fields)
        return schedule

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._of, (self.kernel, self.symbol, self._domain, self._given_range)

    @classmethod
    def from_beta(cls, beta: Any, **options: Unpack[Options]) -> "Symbolic":
        """Variance preserving with dx = −½β x dt + √β dω: α_t = exp(−½ ∫β), the integral from the
        start of the domain.
        """
        return cls._of(*_derived(kernels.from_beta, {"beta": beta}, **options))

    @classmethod
    def from_drift(cls, f: Any, g: Any, **options: Unpack[Options]) -> "Symbolic":
        """The kernel of dx = f x dt + g dω from clean data at the start of the domain: α = exp ∫f,
        σ̄² = α² ∫ g²/α².
        """
        return cls._of(*_derived(kernels.from_drift, {"f": f, "g": g}, **options))

    @classmethod
    def from_snr(cls, snr: Any, **options: Unpack[Options]) -> "Symbolic":
        """Variance preserving with signal-to-noise ratio α²/σ̄² = `snr`."""
        return cls._of(*_derived(kernels.from_snr, {"snr": snr}, **options))

    @classmethod
    def from_lam(cls, lam: Any, **options: Unpack[Options]) -> "Symbolic":
        """Variance preserving with half log signal-to-noise ratio λ_t = `lam`."""
        return cls._of(*_derived(kernels.from_lam, {"lam": lam}, **options))

    @classmethod
    def from_sigma(
        cls, sigma: Any, *, variance_preserving: bool = False, **options: Unpack[Options]
    ) -> "Symbolic":
        """Noise level σ̄/α = `sigma`, with α = 1, or with α² + σ̄² = 1."""
        if variance_preserving:
            return cls._of(*_derived(kernels.from_noise_level, {"sigma": sigma}, **options))
        return cls(1, sigma, **options)

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
        body = r" \\ ".join(f"{name} &= {sympy.latex(value)}" for name, value in lines.items())
        return rf"\begin{{aligned}} {body} \end{{aligned}}"

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    def __repr__(self) -> str:
        (low, high), k = self._domain, self.kernel
        name = self.symbol.name
        return f"Symbolic({k.alpha}, {k.std}, t={name!r}, domain=({low:g}, {high:g}))"


def _derived(
    build: Callable[..., Kernel],
    given: dict[str, Any],
    t: Any = "t",
    domain: Any = (0.0, 1.0),
    sampling_range: Any = None,
) -> tuple[Kernel, sympy.Symbol, tuple[float, float], Any]:
    """The fields of a schedule: the kernel built from the expressions `given` by name, the symbol
    of time with the sign that the domain gives it, the domain in floats, the sampling range.
    """
    interval = check_domain(domain)
    symbol = time_symbol(t, interval[0])
    way_out = ", or be the time if its name is given as t"
    parsed = [parse(what, value, symbol, way_out) for what, value in given.items()]
    return build(*parsed, symbol, interval), symbol, interval, sampling_range
