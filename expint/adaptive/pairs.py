"""Pairs of schemes that share their evaluations, for adaptive steps."""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from expint.adaptive.control import StepControl
from expint.registry import Registry
from expint.solvers import Method, get
from expint.solvers.runge_kutta import dpm_solver, euler_maruyama, heun
from expint.solvers.seeds import seeds1, seeds2, seeds3

_PLAIN = StepControl()


@dataclass(frozen=True)
class EmbeddedPair:
    """A scheme and a scheme of lower order inside it: the difference of their results estimates the
    error of a step.

    All stages of the low scheme but its last are stages of the high one, so that it needs no
    evaluation of its own. Both end with the same noise a [W(τ_t) − W(τ_s)], which therefore is not
    in the difference:

        x_high − x_low = κ a_t e^{ρμ_t} h Σ_j (b_j^high − b_j^low) F_j.

    Args:
        name: registry name.
        high: the scheme whose result is kept. Its form and ℓ are those that the pair is used with
            by default.
        low: the embedded scheme.
        source: paper and equation.
        control: the step control with the default tolerances.

    Raises:
        ValueError: if a scheme is not a one-step scheme with the ordinary noise, or the low one
            needs other evaluations.
    """

    name: str
    high: Method
    low: Method
    source: str = ""
    control: StepControl = _PLAIN

    def __post_init__(self) -> None:
        for name in ("high", "low"):
            object.__setattr__(self, name, get(getattr(self, name)))
        high, low = self.high.tableau, self.low.tableau
        for method in (self.high, self.low):
            tableau = method.tableau
            if tableau.history or tableau.reuse or method.operations or tableau.needs_integral:
                raise ValueError(
                    f"EmbeddedPair {self.name!r}: {method.name!r} uses earlier steps, operations "
                    "or the integral of the path; an embedded pair consists of one-step schemes "
                    "with the ordinary noise."
                )
        inner = low.stages[:-1]
        shared = len(inner) < len(high.stages) and inner == high.stages[: len(inner)]
        if not shared or low.variable != high.variable:
            raise ValueError(
                f"EmbeddedPair {self.name!r}: all stages of {low.name!r} but the last must be the "
                f"first ones of {high.name!r}, so that the two share their evaluations."
            )

    @property
    def evaluations(self) -> int:
        """Network evaluations per trial step; the first one is known after a rejected step."""
        return self.high.tableau.evaluations

    @cached_property
    def method(self) -> Method:
        """Both schemes in one: the stages of the high scheme, with the result of the low one as the
        last stage but one."""
        *inner, last = self.high.tableau.stages
        stages = (*inner, self.low.tableau.stages[-1], last)
        tableau = replace(self.high.tableau, name=self.name, stages=stages, source=self.source)
        return replace(self.high, tableau=tableau, name=self.name, source=self.source)

    def power(self, stochastic: bool) -> float:
        """k, where the difference is O(h^k): the order of the low scheme plus 1, or with noise its
        strong order plus 1/2."""
        if stochastic:
            return float(self.low.strong_order + Fraction(1, 2))
        return float(self.low.deterministic_order + 1)


_DPM = "DPM-Solver, arXiv 2206.00927, appendix C"
_SEEDS = (
    "the embedded scheme of DPM-Solver, arXiv 2206.00927, appendix C, with the noise of SEEDS, "
    "arXiv 2305.14267"
)
_PI = StepControl(limits=(0.2, 5.0), integral=0.3, proportional=0.4)


_GGF = "arXiv 2105.14080, algorithm 1"
_FAST = StepControl(rtol=0.02, first_step=0.01, exponent=0.9)
_THIRD = seeds2(Fraction(1, 3))
_PAIRS = Registry[EmbeddedPair]("adaptive solver", "; others go with steps of given length")
for _pair in (
    EmbeddedPair("seeds-12", get(seeds2()), get(seeds1()), _SEEDS, _PI),
    EmbeddedPair("seeds-23", get(seeds3()), get(_THIRD), _SEEDS, _PI),
    EmbeddedPair("dpm-solver-12", dpm_solver(2), dpm_solver(1), _DPM),
    EmbeddedPair("dpm-solver-23", dpm_solver(3), Method(_THIRD, form="noise", ell=0.0), _DPM),
    EmbeddedPair(
        "ggf",
        Method(heun().tableau, "improved-euler", _GGF, form="time", ell=1.0),
        euler_maruyama(),
        f"Gotta Go Fast, {_GGF}",
        _FAST,
    ),
):
    _PAIRS.add(_pair.name, _pair)


def embedded_pairs() -> dict[str, EmbeddedPair]:
    """All embedded pairs by name.

    * "seeds-12": SEEDS-2 with SEEDS-1 in it, in the data form at ℓ = 1; "seeds-23": SEEDS-3 with
      the two-stage scheme at node 1/3. PI control.
    * "dpm-solver-12", "dpm-solver-23": the same pairs in the noise form at ℓ = 0, h ← 0.9 h
      E^(−1/k) with k = 2 and 3, first step 0.05 in λ, rtol 0.05 and atol 0.0078, the tolerances of
      the paper for pixels in [−1, 1].
    * "ggf": Gotta Go Fast, an Euler–Maruyama step in t inside stochastic improved Euler, ℓ = 1: h ←
      0.9 h E^(−0.9), first step 0.01 in t, atol 0.0078 (two of 256 levels of pixels in [−1, 1]; the
      paper takes 0.0039 for pixels in [0, 1]) and rtol 0.02 (the paper has 0.01 to 0.1). The noise
      of a step is integrated exactly in both schemes; the paper multiplies one normal by g(t) and
      g(t − h) and so has their difference in its error. Where g is constant the two agree. A
      rejected step meets the same Brownian path again, where the paper draws anew.

    Source: arXiv 2105.14080, algorithm 1; arXiv 2206.00927, appendix C; arXiv 2305.14267.

    Example:
        >>> sorted(embedded_pairs())
        ['dpm-solver-12', 'dpm-solver-23', 'ggf', 'seeds-12', 'seeds-23']
    """
    return {name: _PAIRS.get(name) for name in _PAIRS}


def get_pair(solver: Any) -> EmbeddedPair:
    """The embedded pair of a name, or the one that has the solver of that name (such as "seeds-3")
    as its high scheme; a pair passes unchanged.

    Raises:
        ValueError: if there is no such pair; the message gives the nearest names.
        TypeError: if `solver` is neither a name nor an EmbeddedPair.
    """
    if isinstance(solver, EmbeddedPair):
        return solver
    if not isinstance(solver, str):
        raise TypeError(
            f"An adaptive solver is a name or an EmbeddedPair, got {type(solver).__name__}: "
            f"{solver!r}."
        )
    high = (name for name in _PAIRS if _PAIRS.get(name).high.name == solver)
    return _PAIRS.get(next(high, solver))
