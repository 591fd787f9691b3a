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
from typing import Any

import torch
from torch import Tensor

from expint.blocks import Block, BlockNodes, LinearSystem, square_root
from expint.blocks.matrices import symmetric_root
from expint.equations import SemiLinearSDE
from expint.noise import SubstepNoise
from expint.plans.plan import each
from expint.plans.stage_coefficients import StageNumbers, StepNumbers, _variable
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
    assert sde.blocks is not None and factor is None
    _check(sde, tableau, s)
    step = _Step(sde, sde.blocks, tableau, s, t, earlier, round_time)
    columns = _noise_columns(step, tableau) if sde.blocks.stochastic else None
    stages = []
    for i, (stage, own) in enumerate(zip(tableau.stages, tableau.evaluation_nodes, strict=True)):
        noise: Sequence[Any] = [()] * len(s)
        if columns:
            noise = list(zip(*(_blocks(v, sde) for v in columns[i]), strict=True))
        weights: dict[int, Sequence[Any]] = {
            j: _blocks(w, sde) for j, w in step.weights(stage).items()
        }
        scale = _blocks(step.propagator(stage.c), sde)
        times = each(step.node[own]), each(step.node[stage.c])
        stages.append(StageNumbers(*times, scale, weights, {}, noise, None))
    return StepNumbers(tuple(stages), step.noises())


def _check(sde: SemiLinearSDE, tableau: Tableau, s: Tensor) -> None:
    if tableau.slopes:
        raise ValueError(
            f"{tableau.name!r} takes the derivative of F along the ODE, which is there for scalar "
            f"and diagonal linear parts only, not for {sde}: use a solver without derivatives, for "
            "example 'seeds-2'."
        )
    if tableau.needs_integral and tableau.noise_nodes != (_ONE,) and sde.is_stochastic:
        raise ValueError(
            f"{tableau.name!r} has noise nodes {[*map(str, tableau.noise_nodes)]} beside the "
            f"integral of the path; for {sde} only the end of the step may be one."
        )
    if s.requires_grad:
        raise ValueError(f"The coefficients of {sde} have no gradients in the grid: detach it.")


class _Step:
    """The nodes c of a group of steps and the integrals up to them, steps in dimension 0."""

    def __init__(
        self,
        sde: SemiLinearSDE,
        system: LinearSystem,
        tableau: Tableau,
        s: Tensor,
        t: Tensor,
        earlier: Sequence[Tensor],
        round_time: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.system, self.tableau, self.clock = system, tableau, sde.clock
        self.variable, inverse = _variable(sde, tableau.variable)
        self._inverse = inverse
        self.node = {_ZERO: s, _ONE: t}
        for c in {stage.c for stage in tableau.stages} - {_ONE}:
            self.node[c] = self.at(c) if round_time is None else round_time(self.at(c))
        self.node |= {Fraction(-j - 1): time for j, time in enumerate(earlier)}
        self._known: dict[Any, tuple[Tensor, Tensor]] = {}

    def at(self, c: Fraction) -> Tensor:
        """The time at c."""
        if c in self.node:
            return self.node[c]
        start, end = self.variable(self.node[_ZERO]), self.variable(self.node[_ONE])
        return self._inverse(start + float(c) * (end - start))

    def propagator(self, c: Fraction) -> Tensor:
        """Φ(c, 0)."""
        return self._integrals(c, self.variable)[0]

    def weights(self, stage: Stage) -> dict[int, Tensor]:
        """The block of each evaluation."""
        stated = stage.rule is not None or bool(stage.weights)
        variable = self.clock.mu if stated else self.variable
        start, end = variable(self.node[_ZERO]), variable(self.node[_ONE])

        def position(t: Tensor) -> Tensor:
            return (variable(t) - start) / (end - start)

        c = position(self.node[stage.c])
        if stage.weights:
            rows: Sequence[Any] = list(stage.weights.values())
        else:
            through = [self.node[self.tableau.nodes[j]] for j in stage.through]
            rows = stage.placed(c, [position(time) for time in through])
        found = {}
        for j, row in zip(stage.sources, rows, strict=True):
            terms = [self._term(stage.c, c, variable, *term) for term in row]
            found[j] = torch.stack(torch.broadcast_tensors(*terms)).sum(0)
        return found

    def _term(
        self, own: Fraction, c: Tensor, variable: Any, q: Any, k: int, scale: Fraction | None = None
    ) -> Tensor:
        """What q φ_k(scale · z) is times the step."""
        q = torch.as_tensor(float(q) if isinstance(q, Fraction) else q, dtype=torch.float64)
        if scale == 0:  # φ_k(0)
            end = self.node[own]
            size = (end - self.node[_ZERO]) / c / math.factorial(k)
            return (q * size)[..., None, None] * self.system.B(end)
        node = own if scale is None else Fraction(scale)
        moments = self._integrals(node, variable)[1]
        part = c if scale is None else torch.as_tensor(float(node), dtype=torch.float64)
        return (q / part)[..., None, None] * moments[k - 1]

    def _integrals(self, c: Fraction, variable: Any) -> tuple[Tensor, Tensor]:
        """Φ(c, 0), and ∫ Φ(c,u) B(u) θ^i/i! du with θ from 0 at the start to 1 at c."""
        key = (c, variable)
        if key not in self._known:
            start, end = self.node[_ZERO], self.at(c)
            first, last = variable(start), variable(end)
            places = None
            if not self._is_time(variable):
                places = lambda u: (variable(u) - first) / (last - first)  # noqa: E731
            count = max(3, len(self.tableau.nodes))
            self._known[key] = self.system.moments(start, end, places, count)
        return self._known[key]

    def _is_time(self, variable: Any) -> bool:
        times = torch.stack([self.node[_ZERO], self.node[_ONE]])
        first, last = variable(times)
        halves = (0.25, 0.5, 0.8)
        inner = [variable(times[0] + p * (times[1] - times[0])) - first for p in halves]
        parts = [value / (last - first) - p for value, p in zip(inner, halves, strict=True)]
        return bool((torch.stack(parts).abs() < 1e-13).all())

    def between(self, low: Fraction, high: Fraction) -> tuple[Tensor, Tensor]:
        """Φ and Q between two nodes."""
        key = (low, high, "between")
        if key not in self._known:
            self._known[key] = self.system.transition(self.node[low], self.node[high])
        return self._known[key]

    def noises(self) -> list[SubstepNoise | None]:
        """What each step asks of the noise."""
        tableau, steps = self.tableau, len(self.node[_ZERO])
        if not self.system.stochastic:
            return [None] * steps
        times = torch.stack([self.node[c] for c in (_ZERO, *tableau.noise_nodes)], 1)
        count, integral = len(tableau.noise_nodes), tableau.needs_integral
        return [SubstepNoise(count, integral, BlockNodes(self.system, own)) for own in times]


def _noise_columns(step: _Step, tableau: Tableau) -> list[list[Tensor]]:
    """By stage and normal the blocks of all steps.

    With V = g⁺N, N the noise of the step and g = (G Gᵀ)^½, a stage with the weight p of the
    increment has E[N_c | V] + κ g R ζ: R is the root of Var(g⁺N_c | V), ζ = T N + D z_U comes from
    the integral of the path (`expint.blocks.integral`) and κ as for scalar linear parts
    (`expint.plans.stage_coefficients`), which this is where k = 1. To leading order in h it is
    p N + 2(c − p) U/h, also where G has few columns, so that N knows U.
    """
    composed: dict[Fraction, list[Tensor]] = {_ZERO: []}
    for low, high in pairwise((_ZERO, *tableau.noise_nodes)):
        propagator, covariance = step.between(low, high)
        before = [propagator @ column for column in composed[low]]
        composed[high] = [*before, square_root(covariance)]
    if not tableau.needs_integral:
        return [composed[stage.c] for stage in tableau.stages]
    system, (root,) = step.system, composed[_ONE]
    integral = system.integral(step.node[_ZERO], step.node[_ONE])
    found = []
    for stage in tableau.stages:
        if stage.increment_weight is None:
            found.append(composed[stage.c])
            continue
        _, until = step.between(_ZERO, stage.c)
        onwards, _ = step.between(stage.c, _ONE)
        mean = integral.regressed(until @ onwards.mT)
        g, inverse = system.strength(step.node[stage.c])
        rest = inverse @ (until - mean @ (root @ root.mT) @ mean.mT) @ inverse.mT
        spread = stage.bridge_factor * g @ symmetric_root(rest)
        on_increment = (mean + spread @ integral.known) @ root
        found.append([on_increment, spread @ integral.unknown])
    return found


def _blocks(values: Tensor, sde: SemiLinearSDE) -> list[Block]:
    """One block per step."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"The coefficients of a step of {sde} leave the floating-point numbers: its linear "
            "part grows too far. Take more steps, or a shorter span."
        )
    return [value.as_subclass(Block) for value in values.unbind(0)]
