"""Coefficients of steps whose linear part is a matrix: the rows of the same tableaus, with blocks.

Of a stage at c, with the evaluations at positions θ in the step and their polynomials L_j,

    u_c = Φ(c,0) u_s + Σ_j [∫ Φ(c,u) B(u) L_j(θ(u)) du] F_j + N_c,    N_c = Φ(c,b) N_b + √Q_{b,c} z,

where b is the noise node before c and Q_{b,c} the covariance of the noise between them. A weight
that is stated by φ-functions has, in place of c^k φ_k(cz), ∫ Φ(c,u) B(u) θ^{k−1}/(k−1)! du.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from expint.blocks import Block, BlockNodes, LinearSystem, square_root
from expint.blocks.matrices import symmetric_root
from expint.equations import SemiLinearSDE
from expint.noise import SubstepNoise
from expint.plans.plan import each
from expint.plans.stage_coefficients import NodeTimes, StageNumbers, StepNumbers, variable_of
from expint.solvers import Stage, Tableau

_ZERO, _ONE = Fraction(0), Fraction(1)


def block_numbers(
    sde: SemiLinearSDE,
    tableau: Tableau,
    s: Tensor,
    t: Tensor,
    earlier: Sequence[Tensor],
    *,
    round_time: Callable[[Tensor], Tensor] | None = None,
    factor: Tensor | None = None,
) -> StepNumbers:
    """See `expint.plans.stage_coefficients.step_numbers`; a `factor` comes with a diffusion
    schedule only, which these equations do not have.

    Raises:
        ValueError: for a tableau with derivatives of F, one that uses the integral of the path
            beside noise nodes inside the step, or a grid that carries gradients.
    """
    assert factor is None
    _check(sde, tableau, s)
    step = _Step(sde, tableau, NodeTimes(sde, tableau, s, t, earlier, round_time).node)
    columns = _noise_columns(step) if sde.is_stochastic else [[]] * len(tableau.stages)
    stages = []
    for stage, own, column in zip(tableau.stages, tableau.evaluation_nodes, columns, strict=True):
        noise = list(zip(*(_blocks(v, sde) for v in column), strict=True)) or [()] * len(s)
        weights = {j: _blocks(w, sde) for j, w in step.weights(stage).items()}
        scale = _blocks(step.between(_ZERO, stage.c, step.variable)[0], sde)
        times = each(step.node[own]), each(step.node[stage.c])
        stages.append(StageNumbers(*times, scale, weights, {}, noise, None))
    if not sde.is_stochastic:
        return StepNumbers(tuple(stages), [None] * len(s))
    times = torch.stack([step.node[c] for c in (_ZERO, *tableau.noise_nodes)], 1)
    asked = len(tableau.noise_nodes), tableau.needs_integral
    noises = [SubstepNoise(*asked, BlockNodes(step.system, own)) for own in times]
    return StepNumbers(tuple(stages), noises)


def _check(sde: SemiLinearSDE, tableau: Tableau, s: Tensor) -> None:
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
    if s.requires_grad:
        raise ValueError(f"The coefficients of {sde} have no gradients in the grid: detach it.")


class _Step:
    """The integrals of a group of steps between their nodes, steps in dimension 0."""

    def __init__(self, sde: SemiLinearSDE, tableau: Tableau, node: dict[Fraction, Tensor]) -> None:
        self.system, self.tableau, self.clock = cast(LinearSystem, sde.blocks), tableau, sde.clock
        self.variable, self._inverse = variable_of(sde, tableau.variable)
        self.node, self._known = node, dict[Any, list[Tensor]]()

    def weights(self, stage: Stage) -> dict[int, Tensor]:
        """The block of each evaluation."""
        stated = stage.rule is not None or bool(stage.weights)
        variable = self.clock.mu if stated else self.variable
        c = self._position(variable, self.node[stage.c])
        rows: Sequence[Any] = list(stage.weights.values())
        if not rows:
            through = [self.node[self.tableau.nodes[j]] for j in stage.through]
            rows = stage.placed(c, [self._position(variable, time) for time in through])
        return {
            j: torch.stack([self._term(stage.c, c, variable, *term) for term in row]).sum(0)
            for j, row in zip(stage.sources, rows, strict=True)
        }

    def _position(self, variable: Any, time: Tensor) -> Tensor:
        """Where a time lies in the step, from 0 to 1."""
        start, end = variable(self.node[_ZERO]), variable(self.node[_ONE])
        return (variable(time) - start) / (end - start)

    def _term(
        self, own: Fraction, c: Tensor, variable: Any, q: Any, k: int, scale: Fraction | None = None
    ) -> Tensor:
        """What q φ_k(scale · z) is times the step."""
        q = torch.as_tensor(float(q) if isinstance(q, Fraction) else q, dtype=torch.float64)
        if scale == 0:  # φ_k(0)
            end = self.node[own]
            size = (end - self.node[_ZERO]) / c / math.factorial(k)
            return (q * size)[..., None, None] * self.system.B(end)
        moments = self.between(_ZERO, own if scale is None else Fraction(scale), variable)[1]
        return (q / (c if scale is None else float(scale)))[..., None, None] * moments[k - 1]

    def between(self, low: Fraction, high: Fraction, variable: Any = None) -> list[Tensor]:
        """Φ and Q between two nodes; with a `variable` also ∫ Φ(high,u) B(u) θ^i/i! du, where θ
        goes with it from 0 to 1."""
        key = (low, high, variable)
        if key not in self._known:
            first, last = self.variable(self.node[_ZERO]), self.variable(self.node[_ONE])
            inner = self._inverse(first + float(high) * (last - first))
            start, end = self.node[low], self.node.get(high, inner)
            count = max(3, len(self.tableau.nodes)) if variable else 0
            if variable:
                parts = torch.tensor([0.25, 0.5, 0.8]).double()[:, None]
                places = self._position(
                    variable, torch.lerp(self.node[_ZERO], self.node[_ONE], parts)
                )
                variable = None if (places - parts).abs().max() < 1e-13 else variable
            self._known[key] = self.system.integrals(start, end, variable, count)
        return self._known[key]


def _noise_columns(step: _Step) -> list[list[Tensor]]:
    """By stage and normal the blocks of all steps.

    With V = g⁺N, N the noise of the step and g = (G Gᵀ)^½, a stage with the weight p of the
    increment has E[N_c | V] + κ g R ζ: R is the root of Var(g⁺N_c | V), ζ = T N + D z_U comes from
    the integral of the path (`expint.blocks.integral`) and κ as for scalar linear parts
    (`expint.plans.stage_coefficients`), which this is where k = 1. To leading order in h it is
    p N + 2(c − p) U/h, also where G has few columns, so that N knows U.
    """
    tableau, system, composed = step.tableau, step.system, {_ZERO: list[Tensor]()}
    for low, high in pairwise((_ZERO, *tableau.noise_nodes)):
        propagator, _, covariance = step.between(low, high)
        composed[high] = [propagator @ column for column in composed[low]]
        composed[high].append(square_root(covariance))
    found = [
        composed[stage.c] if stage.increment_weight is None else [] for stage in tableau.stages
    ]
    if not tableau.needs_integral:
        return found
    (root,) = composed[_ONE]
    integral = system.integral(step.node[_ZERO], step.node[_ONE])
    for stage, columns in zip(tableau.stages, found, strict=True):
        if stage.increment_weight is None:
            continue
        until, onwards = step.between(_ZERO, stage.c)[2], step.between(stage.c, _ONE)[0]
        mean = integral.regressed(until @ onwards.mT)
        g, inverse = system.strength(step.node[stage.c])
        rest = inverse @ (until - mean @ (root @ root.mT) @ mean.mT) @ inverse.mT
        spread = stage.bridge_factor * g @ symmetric_root(rest)
        columns += [(mean + spread @ integral.known) @ root, spread @ integral.unknown]
    return found


def _blocks(values: Tensor, sde: SemiLinearSDE) -> Sequence[Any]:
    """One block per step."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"The linear part of {sde} grows too far in a step for the coefficients to be "
            "floating-point numbers: take more steps, or a shorter span."
        )
    return [value.as_subclass(Block) for value in values.unbind(0)]
