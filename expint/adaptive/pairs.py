"""Pairs of schemes that share their evaluations, for adaptive steps."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property

from expint.adaptive.control import StepControl
from expint.registry import unknown
from expint.solvers.runge_kutta import dpm_solver, euler_maruyama, heun
from expint.solvers.seeds import seeds1, seeds2, seeds3
from expint.solvers.tableau import Tableau

__all__ = ["EmbeddedPair", "embedded_pairs", "get_pair"]


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
    high: Tableau
    low: Tableau
    source: str = ""
    control: StepControl = _PLAIN

    def __post_init__(self) -> None:
        for scheme in (self.high, self.low):
            if (
                scheme.history
                or scheme.reuse
                or scheme.start
                or scheme.operations
                or scheme.needs_integral
            ):
                raise ValueError(
                    f"EmbeddedPair {self.name!r}: {scheme.name!r} uses earlier steps, operations "
                    "or the integral of the path; an embedded pair consists of one-step schemes "
                    "with the ordinary noise."
                )
        inner = self.low.stages[:-1]
        if (
            len(inner) >= len(self.high.stages)
            or inner != self.high.stages[: len(inner)]
            or self.low.variable != self.high.variable
        ):
            raise ValueError(
                f"EmbeddedPair {self.name!r}: all stages of {self.low.name!r} but the last must be "
                f"the first ones of {self.high.name!r}, so that the two share their evaluations."
            )

    @property
    def evaluations(self) -> int:
        """Network evaluations per trial step; the first one is known after a rejected step."""
        return self.high.evaluations

    @cached_property
    def tableau(self) -> Tableau:
        """Both schemes in one: the stages of the high scheme, with the result of the low one as the
        last stage but one.
        """
        *inner, last = self.high.stages
        stages = (*inner, self.low.stages[-1], last)
        return Tableau(
            self.name,
            stages,
            self.source,
            variable=self.high.variable,
            form=self.high.form,
            ell=self.high.ell,
        )

    def power(self, stochastic: bool) -> float:
        """k, where the difference is O(h^k): the order of the low scheme plus 1, or with noise its
        strong order plus 1/2.
        """
        return (
            float(self.low.strong_order + Fraction(1, 2))
            if stochastic
            else float(self.low.deterministic_order + 1)
        )


_DPM = "DPM-Solver, arXiv 2206.00927, appendix C"
_SEEDS = "the embedded scheme of DPM-Solver, arXiv 2206.00927, appendix C, with the noise of SEEDS, arXiv 2305.14267"
_PI = StepControl(limits=(0.2, 5.0), integral=0.3, proportional=0.4)


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
    return dict(_pairs())


@cache
def _pairs() -> dict[str, EmbeddedPair]:
    third = Fraction(1, 3)
    low = Tableau(
        "dpm-solver-2", seeds2(third).stages, "DPM-Solver-2 with r1 = 1/3", form="noise", ell=0.0
    )
    fast = StepControl(rtol=0.02, first_step=0.01, exponent=0.9)
    pairs = (
        EmbeddedPair("seeds-12", seeds2(), seeds1(), _SEEDS, _PI),
        EmbeddedPair("seeds-23", seeds3(), seeds2(third), _SEEDS, _PI),
        EmbeddedPair("dpm-solver-12", dpm_solver(2), dpm_solver(1), _DPM),
        EmbeddedPair("dpm-solver-23", dpm_solver(3), low, _DPM),
        EmbeddedPair(
            "ggf",
            _improved_euler(),
            euler_maruyama(),
            "Gotta Go Fast, arXiv 2105.14080, algorithm 1",
            fast,
        ),
    )
    return {pair.name: pair for pair in pairs}


def get_pair(solver: str | EmbeddedPair) -> EmbeddedPair:
    """The embedded pair of a name; a pair passes unchanged.

    Raises:
        ValueError: if there is no such pair; the message names the nearest ones.
        TypeError: if `solver` is neither a name nor an EmbeddedPair.
    """
    if isinstance(solver, EmbeddedPair):
        return solver
    if not isinstance(solver, str):
        raise TypeError(
            f"An adaptive solver is a name or an EmbeddedPair, got {type(solver).__name__}: "
            f"{solver!r}."
        )
    pairs = _pairs()
    if solver not in pairs:
        raise unknown(
            "adaptive solver",
            solver,
            sorted(pairs),
            "; solvers for given steps are for expint.sample",
        )
    return pairs[solver]


def _improved_euler() -> Tableau:
    """1 ← {0}; 1 ← {0, 1} in t at ℓ = 1."""
    return Tableau(
        "improved-euler", heun().stages, "arXiv 2105.14080, algorithm 1", form="time", ell=1.0
    )
