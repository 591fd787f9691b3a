"""One-step plans of an embedded pair, and where a step of given length in the clock ends."""

from dataclasses import replace

from expint.adaptive.pairs import EmbeddedPair
from expint.equations.sde import SemiLinearSDE
from expint.numerics.float64 import as_float64
from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan

__all__ = ["clock_at", "next_time", "pair_plan", "place"]

_ROUNDING = 1e-9  # a step that comes as near to the end as this, relative to its length, ends there


def pair_plan(sde: SemiLinearSDE, pair: EmbeddedPair, s: float, t: float) -> Plan:
    """The plan of one step that ends with the high result, where the row before it makes the error
    estimate x_high − x_low.

    Args:
        sde: the equation, of scalar coefficients.
        pair: the two schemes.
        s, t: start and end, with finite σ > 0.

    Raises:
        ValueError: if the step cannot be compiled.
    """
    plan = compile_plan(sde, pair.tableau, [s, t])
    *inner, low, high = plan.rows
    weights = dict(high.weights)
    for j, weight in low.weights:
        weights[j] = weights.get(j, 0.0) - weight
    # x_s and the noise are the same in both results. Without them the difference loses no digits.
    error = low._replace(
        scale=0.0, weights=tuple(sorted(weights.items())), noise=None, local_noise=None
    )
    return replace(plan, rows=(*inner, error, high._replace(evaluates=False)))


def clock_at(sde: SemiLinearSDE, t: float) -> float:
    """The clock μ at time `t`."""
    return float(sde.clock(as_float64(t)))


def next_time(sde: SemiLinearSDE, s: float, end: float, h: float) -> float:
    """The time that lies `h` further in the clock than `s`, or the end where that is nearer.

    Raises:
        RuntimeError: if the step is below the rounding of the clock.
    """
    mu = clock_at(sde, s)
    if h * (1.0 + _ROUNDING) >= clock_at(sde, end) - mu:
        return end
    t = float(sde.time_of_clock(as_float64(mu + h)))
    if not 0.5 * h < clock_at(sde, t) - mu < 2.0 * h:
        raise RuntimeError(
            f"At {place(sde, s)} the tolerance asks for a step of {h:.3g} in the clock {mu:.9g}, "
            "which is below rounding: loosen rtol and atol, or look for a discontinuity of the "
            "model there."
        )
    return t


def place(sde: SemiLinearSDE, t: float) -> str:
    """Time and noise level in words, for messages."""
    return f"t = {t:.6g}" + (f" (sigma = {sde.schedule.sigma(t):.6g})" if sde.schedule else "")
