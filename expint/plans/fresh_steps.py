"""Steps with ℓ = ∞, in which every row draws all of its noise anew; and how much history there is.

In the data form the weight e^{ρμ} of F, ρ = 1 + ℓ², concentrates at the end of the row as ℓ → ∞,
and so does the noise:

    x_c = α_c Σ_j b_j D_j + σ̄_c z_c,    b_j = lim ρh Σ q φ_k(−ρ s h) = Σ q/((k − 1)! s),

without the terms of k = 0; for interpolatory rows b_j = L_j(c), the polynomial's value at the row's
own node. With one node x_t = α_t D + σ̄_t z: ping-pong sampling, which is also the multistep
sampling of consistency models.

Source: Consistency models, arXiv 2303.01469, algorithm 1.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from expint.equations import SemiLinearSDE
from expint.plans import stage_coefficients
from expint.plans.plan import each
from expint.plans.stage_coefficients import (
    NodeTimes,
    PhiSums,
    StepNumbers,
    stage_weights,
    variable_of,
)
from expint.solvers import Method, Tableau

_ENDLESS = 1e300
"""ρh in φ_k, whose limits then hold to the last digit."""


def fresh(sde: SemiLinearSDE, s: Tensor, t: Tensor) -> list[bool]:
    """Whether ℓ = ∞ in the steps from times `s` to `t`, shape (steps,): in the middle of each, as
    times may be rounded to a table."""
    scale = sde.diffusion.noise_scale if sde.diffusion else None
    pieces = scale.pieces if scale else ()
    endless = [(low, high) for low, high, square in pieces if square == math.inf]
    if not sde.diffusion or not endless:
        return [False] * len(s)
    lam = sde.diffusion.schedule.lam
    middles = (-0.5 * (lam(s) + lam(t))).tolist()
    return [any(low <= u <= high for low, high in endless) for u in middles]


def tableaus(
    sde: SemiLinearSDE, method: Method, begin: Tensor, stop: Tensor, after: int
) -> list[Tableau]:
    """The tableau of each step, with less history where there is less: at the start, after a step
    that is much shorter, and between steps with ℓ = ∞ and others, where earlier nodes are
    infinitely far away.

    Args:
        sde, method: what is compiled.
        begin, stop: starts and ends of the steps, shape (steps,).
        after: steps of the grid behind them.
    """
    count = len(stop)
    found = [method.at(k, count + after) for k in range(count)]
    if method.tableau.history and count > 1 and not sde.event_ndim:
        h = sde.clock(stop.detach()) - sde.clock(begin.detach())
        for k in torch.nonzero(h[1:] > method.ratio_limit * h[:-1]).flatten().tolist():
            found[k + 1] = found[k + 1].limited(0)
    alike = [k for _, run in groupby(fresh(sde, begin, stop)) for k, _ in enumerate(run)]
    return [tableau.limited(k) for tableau, k in zip(found, alike, strict=True)]


def step_numbers(
    sde: SemiLinearSDE, tableau: Tableau, at: NodeTimes, factor: Tensor | None = None
) -> StepNumbers:
    """`expint.plans.stage_coefficients.step_numbers`, and the limits in steps with ℓ = ∞."""
    found = stage_coefficients.step_numbers(sde, tableau, at, factor)
    chosen = fresh(sde, at.node[Fraction(0)], at.node[Fraction(1)])
    if not any(chosen) or not sde.diffusion:
        return found

    def limits(usual: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        return [b if new else a for a, b, new in zip(usual, values, chosen, strict=True)]

    schedule, stages = sde.diffusion.schedule, []
    for i, (stage, numbers) in enumerate(zip(tableau.stages, found.stages, strict=True)):
        time = at.node[stage.c]
        alphas, stds = schedule.alpha(time), schedule.std(time)
        own = stds if factor is None else stds * factor
        if stage.increment_weight is not None:
            own = own * stage.bridge_factor
        weights = {
            j: limits(numbers.weights[j], each(alphas * w))
            for j, w in _limits(sde, tableau, i, at).items()
        }
        zeros = (0.0,) * (len(numbers.noise[0]) - 1)
        noise = limits(numbers.noise, [(*zeros, std) for std in each(own)])
        scale = limits(numbers.scale, [0.0] * len(chosen))
        stages.append(numbers._replace(scale=scale, weights=weights, noise=noise))
    return found._replace(stages=tuple(stages))


def _limits(sde: SemiLinearSDE, tableau: Tableau, i: int, at: NodeTimes) -> dict[int, Tensor]:
    """b_j of stage i."""
    stage = tableau.stages[i]
    if tableau.variable == "clock" or stage.rule is not None:
        sums = PhiSums(torch.full_like(at.h, -_ENDLESS))
        return {j: _ENDLESS * b for j, b in stage_weights(sde, tableau, i, at, sums).items()}
    variable, _ = variable_of(sde, tableau.variable)
    nodes = (Fraction(0), Fraction(1), stage.c, *(tableau.nodes[j] for j in stage.through))
    start, end, *places = variable(torch.stack([at.node[c] for c in nodes]))
    c, *through = ((place - start) / (end - start) for place in places)
    rows = stage.polynomials(c, through)
    values = [sum((q * c**m for m, q in enumerate(row)), torch.zeros_like(c)) for row in rows]
    return dict(zip(stage.through, values, strict=True))
