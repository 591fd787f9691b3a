"""One-step plans of an embedded pair, and where a step of given length in the clock ends."""

import math
from dataclasses import replace

from expint.adaptive.pairs import EmbeddedPair
from expint.equations import SemiLinearSDE
from expint.equations.diffusion import Diffusion
from expint.grids.layout import FIRST_SIGMA, count_points, finish
from expint.numerics.float64 import as_float64
from expint.plans import Plan, compile_plan

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
    plan = compile_plan(sde, pair.method, [s, t])
    *inner, low, high = plan.rows
    weights = dict(high.weights)
    for j, weight in low.weights:
        weights[j] = weights.get(j, 0.0) - weight
    # x_s and the noise are the same in both results. Without them the difference loses no digits.
    error = low._replace(scale=0.0, weights=tuple(sorted(weights.items())), noise=())
    return replace(plan, rows=(*inner, error, high._replace(evaluates=False)))


def clock_at(sde: SemiLinearSDE, t: float) -> float:
    """The clock μ at time `t`."""
    return sde.clock(as_float64(t)).item()


def next_time(sde: SemiLinearSDE, s: float, end: float, h: float) -> float:
    """The time that lies `h` further in the clock than `s`, or the end where that is nearer.

    Raises:
        RuntimeError: if the step is below the rounding of the clock.
    """
    mu = clock_at(sde, s)
    if h * (1.0 + _ROUNDING) >= clock_at(sde, end) - mu:
        return end
    t = sde.clock.time(as_float64(mu + h)).item()
    if not 0.5 * h < clock_at(sde, t) - mu < 2.0 * h:
        raise RuntimeError(
            f"At {sde.place(s)} the tolerance asks for a step of {h:.3g} in the clock {mu:.9g}, "
            "which is below rounding: loosen rtol and atol, or look for a discontinuity of the "
            "model there."
        )
    return t


def end_plans(
    sde: SemiLinearSDE, diffusion: Diffusion, pair: EmbeddedPair, final: str, rtol: float
) -> tuple[Plan | None, float, float, Plan | None]:
    """The plan of the step from σ = ∞, the times between which steps are controlled, and the plan
    of the step to σ = 0.

    The step from σ = ∞ leaves a relative error of var(data)/σ² (see `FIRST_SIGMA`): σ is such that
    it is below rtol for data of unit variance.
    """
    schedule = diffusion.schedule
    count_points(2, final)
    ends = as_float64(schedule.sampling_range)
    times = finish(schedule, ends, final)
    start, end = ends.tolist()
    least = float(schedule.sigma(end))
    if least == 0.0:
        raise ValueError(
            f"The sampling range of {schedule} ends at sigma = 0, which no controlled step "
            "reaches: let it end before."
        )
    tail = compile_plan(sde, pair.high, times[1:]) if final == "denoise" else None
    if schedule.lam(start) > -math.inf:
        return None, start, end, tail
    lowest = max(FIRST_SIGMA, max(rtol, 1e-12) ** -0.5, 2.0 * least)
    after = float(schedule.t_of_sigma(lowest))
    return compile_plan(sde, pair.high, [start, after]), after, end, tail
