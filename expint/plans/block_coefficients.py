"""Coefficients of steps whose linear part is a matrix: the rows of the same tableaus, with blocks.

Of a stage at c, with the evaluations at positions θ in the step and their polynomials L_j,

    u_c = Φ(c,0) u_s + Σ_j [∫ Φ(c,u) B(u) L_j(θ(u)) du] F_j + N_c,    N_c = Φ(c,b) N_b + √Q_{b,c} z,

where b is the noise node before c and Q_{b,c} the covariance of the noise between them. A weight
that is stated by φ-functions has, in place of c^k φ_k(cz), ∫ Φ(c,u) B(u) θ^{k−1}/(k−1)! du.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from expint.blocks import Block, BlockNodes, Integral, LinearSystem, square_root, symmetric_root
from expint.equations import SemiLinearSDE
from expint.noise import SubstepNoise
from expint.plans.plan import each
from expint.plans.stage_coefficients import NodeTimes, StageNumbers, StepNumbers, variable_of
from expint.solvers import Stage, Tableau

_ZERO, _ONE = Fraction(0), Fraction(1)


def block_numbers(
    sde: SemiLinearSDE, tableau: Tableau, at: NodeTimes, factor: Tensor | None = None
) -> StepNumbers:
    """See `expint.plans.stage_coefficients.step_numbers`; a `factor` comes with a diffusion
    schedule only, which these equations do not have.

    Raises:
        ValueError: for a tableau with derivatives of F, one that uses the integral of the path
            beside noise nodes inside the step, or a grid that carries gradients.
    """
    assert factor is None
    _check(sde, tableau, at)
    step, steps = _Step(sde, tableau, at.node), len(at.h)
    columns = _noise_columns(step) if sde.is_stochastic else [[]] * len(tableau.stages)
    stages = []
    for stage, own, column in zip(tableau.stages, tableau.evaluation_nodes, columns, strict=True):
        noise = list(zip(*(_blocks(v, sde) for v in column), strict=True)) or [()] * steps
        weights = {j: _blocks(w, sde) for j, w in step.weights(stage).items()}
        scale = _blocks(step.between(_ZERO, stage.c, step.variable)[0], sde)
        times = each(step.node[own]), each(step.node[stage.c])
        stages.append(StageNumbers(*times, scale, weights, {}, noise, None))
    if not sde.is_stochastic:
        return StepNumbers(tuple(stages), [None] * steps)
    times = torch.stack([step.node[c] for c in (_ZERO, *tableau.noise_nodes)], 1)
    asked = len(tableau.noise_nodes), tableau.needs_integral
    noises = [SubstepNoise(*asked, BlockNodes(step.system, own)) for own in times]
    return StepNumbers(tuple(stages), noises)


def _check(sde: SemiLinearSDE, tableau: Tableau, at: NodeTimes) -> None:
    if tableau.slopes:
        raise ValueError(
            f"{tableau.name!r} takes the derivative of F along the ODE, for scalar and diagonal "
            f"linear parts only, not for {sde}: use a solver without, for example 'seeds-2'."
        )
    if tableau.needs_integral and tableau.noise_nodes != (_ONE,) and sde.is_stochastic:
        raise ValueError(
            f"{tableau.name!r} has noise nodes {[*map(str, tableau.noise_nodes)]} beside the "
            f"integral of the path; for {sde} only the end of the step may be one."
        )
    if at.node[_ONE].requires_grad:
        raise ValueError(f"The coefficients of {sde} have no gradients in the grid: detach it.")


class _Step:
    """The integrals of a group of steps between their nodes, steps in dimension 0."""

    def __init__(self, sde: SemiLinearSDE, tableau: Tableau, node: dict[Fraction, Tensor]) -> None:
        self.system, self.tableau, self.clock = cast(LinearSystem, sde.blocks), tableau, sde.clock
        self.variable, self._inverse = variable_of(sde, tableau.variable)
        self.node, self.between = node, cache(self._between)

    def weights(self, stage: Stage) -> dict[int, Tensor]:
        """The block of each evaluation."""
        stated = stage.rule is not None or bool(stage.weights)
        variable = self.clock if stated else self.variable
        start, end = variable(self.node[_ZERO]), variable(self.node[_ONE])
        nodes = stage.c, *(self.tableau.nodes[j] for j in stage.through)
        c, *through = ((variable(self.node[node]) - start) / (end - start) for node in nodes)

        def term(q: Any, k: int, scale: Fraction | None = None) -> Tensor:
            """What q φ_k(scale · z) is times the step."""
            place = c if scale is None else torch.full_like(c, float(scale))
            q = float(q) if isinstance(q, Fraction) else q
            if scale == 0:  # φ_k(0)
                last = self.node[stage.c]
                size = (last - self.node[_ZERO]) / c / math.factorial(k)
                return (q * size)[..., None, None] * self.system.B(last)
            moments = self.between(_ZERO, stage.c if scale is None else scale, variable)[2]
            return (q / place)[..., None, None] * moments[k - 1]

        rows: Sequence[Any] = list(stage.weights.values()) or stage.placed(c, through)
        return {
            j: torch.stack([term(*numbers) for numbers in row]).sum(0)
            for j, row in zip(stage.sources, rows, strict=True)
        }

    def _between(self, low: Fraction, high: Fraction, variable: Any = None) -> tuple[Tensor, ...]:
        """Φ and Q between two nodes; with a `variable` also ∫ Φ(high,u) B(u) θ^i/i! du, where θ
        goes with it from 0 to 1."""
        first, last = self.variable(self.node[_ZERO]), self.variable(self.node[_ONE])
        inner = self._inverse(torch.lerp(first, last, float(high)))
        count = max(3, len(self.tableau.nodes)) if variable else 0
        return self.system.integrals(self.node[low], self.node.get(high, inner), variable, count)


def _noise_columns(step: _Step) -> list[list[Tensor]]:
    """By stage and normal the blocks of all steps.

    With V = g⁺N, N the noise of the step and g = (G Gᵀ)^½, a stage with the weight p of the
    increment has E[N_c | V] + κ g R ζ: R is the root of Var(g⁺N_c | V), ζ = T N + D z_U comes from
    the integral of the path (`expint.blocks.Integral`) and κ as for scalar linear parts
    (`expint.plans.stage_coefficients`), which this is where k = 1. To leading order in h it is
    p N + 2(c − p) U/h, also where G has few columns, so that N knows U.
    """
    tableau, system, composed = step.tableau, step.system, {_ZERO: list[Tensor]()}
    for low, high in pairwise((_ZERO, *tableau.noise_nodes)):
        propagator, covariance, _ = step.between(low, high)
        composed[high] = [*(propagator @ v for v in composed[low]), square_root(covariance)]
    if not tableau.needs_integral:
        return [composed[stage.c] for stage in tableau.stages]
    (root,), start, end = composed[_ONE], step.node[_ZERO], step.node[_ONE]
    covariance = system.with_integral(end[0] - start[0]).transition(start, end)[1]
    integral = Integral(system, end, covariance)

    def shared(stage: Stage) -> list[Tensor]:
        until, onwards = step.between(_ZERO, stage.c)[1], step.between(stage.c, _ONE)[0]
        mean = integral.regressed(until @ onwards.mT)
        g, inverse = system.strength(step.node[stage.c])
        rest = inverse @ (until - mean @ (root @ root.mT) @ mean.mT) @ inverse.mT
        spread = stage.bridge_factor * g @ symmetric_root(rest)
        return [(mean + spread @ integral.known) @ root, spread @ integral.unknown]

    return [[root] if stage.increment_weight is None else shared(stage) for stage in tableau.stages]


def _blocks(values: Tensor, sde: SemiLinearSDE) -> Sequence[Any]:
    """One block per step."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"The linear part of {sde} grows too far in a step for the coefficients to be "
            "floating-point numbers: take more steps, or a shorter span."
        )
    return [value.as_subclass(Block) for value in values.unbind(0)]
