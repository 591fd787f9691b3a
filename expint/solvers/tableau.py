"""A solver is data: which node each stage goes to, and from which evaluations, of this step and of
earlier ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from expint.registry import unknown
from expint.schedules import Schedule
from expint.solvers.interpolation import lagrange_coefficients, moment_weights
from expint.solvers.order_conditions import deterministic_order, strong_order

Number = int | float | str | Fraction


def rational(value: Number) -> Fraction:
    """`value` as an exact fraction; a float stands for the simplest fraction that rounds to it (1/3
    for 0.333…).

    Raises:
        ValueError: if it is not a finite number.
    """
    try:
        exact = Fraction(value)
    except (ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"A node must be a finite number, got {value!r}.") from error
    simple = exact.limit_denominator(10**6)
    return simple if float(simple) == float(exact) else exact


class Term(NamedTuple):
    """q φ_k(scale · z), one term of a weight, z = −ρh."""

    q: Fraction
    k: int
    scale: Fraction


Rule = Callable[[Any, Sequence[Any]], Sequence[Sequence[tuple[Any, ...]]]]
"""rule(c, nodes) → for each node the terms (q, k) or (q, k, scale) of its weight Σ q φ_k(scale ·
z), scale = c by default.

Written in plain arithmetic, so that it serves for Fractions (order conditions) and for tensors (the
real, unequal steps); c and nodes are positions in units of the step, 0 at its start, negative at
earlier steps."""

Basis = Callable[[Any, Sequence[Any]], Sequence[Sequence[Any]]]
"""basis(c, nodes) → for each node the coefficients of its polynomial in the position, lowest power
first; see `Rule`."""

VARIABLES = ("clock", "time", "sigma")


@dataclass(frozen=True)
class Stage:
    """One row: the state at node c, from evaluations of F: 0, 1, … are made in this step, −j was
    the evaluation 0 of j steps ago.

    Give either `through`, the evaluations whose interpolation polynomial is integrated exactly (or
    to which `rule` gives weights), or `weights`, the combination of φ-functions of each evaluation.
    In all cases x_c = (a_c/a_s) x_s + κ a_c e^{ρμ_c} h Σ_j b_j(z) F_j + noise.

    Args:
        c: node in units of the step, 0 < c ≤ 1.
        through: indices of evaluations.
        weights: {index of evaluation: terms}; of this step's evaluations only, as their positions
            are then known.
        increment_weight: None for the ordinary noise a_i [W(τ_i) − W(τ_s)] of the stage's own node.
            A number p gives it instead the noise a_i [θ ΔW + κ √(12 θ(1−θ)) (U/Δτ − ΔW/2)], made of
            the increment ΔW of the whole step and of the space-time integral U = ∫ [W(τ) − W(τ_s)]
            dτ over it, with θ = (τ_i − τ_s)/Δτ and κ = (c − p)/√(3c(1−c)). Its covariance with ΔW
            is exact for any p, it stays within max(1, |κ|) times the exact noise at any step size,
            and as h → 0, where θ → c, it is a_i [p ΔW + 2(c − p) U/Δτ].
        basis: basis(c, nodes) → for each of `through` the monomial coefficients of a polynomial, to
            be integrated in place of the Lagrange polynomial. In a step that has less history it is
            called with the nodes that are left.
        rule: weights for `through` in place of integration, called likewise.
        slope: {index of evaluation: terms} of h dF/dμ, the derivative along the ODE, of this step's
            evaluations.
    """

    c: Fraction
    through: tuple[int, ...] = ()
    weights: Mapping[int, tuple[Term, ...]] = field(default_factory=dict)
    increment_weight: Fraction | None = None
    basis: Basis | None = None
    rule: Rule | None = None
    slope: Mapping[int, tuple[Term, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", rational(self.c))
        if self.increment_weight is not None:
            object.__setattr__(self, "increment_weight", rational(self.increment_weight))
        if not 0 < self.c <= 1:
            raise ValueError(f"Stage.c must lie in (0, 1], got {self.c}.")
        if bool(self.through) == bool(self.weights):
            raise ValueError(
                f"A stage takes either `through` or `weights`, got {self.through!r} and "
                f"{dict(self.weights)!r}."
            )
        if len(set(self.through)) != len(self.through):
            raise ValueError(f"Stage.through repeats an evaluation: {self.through}.")
        if any(j < 0 for j in (*self.weights, *self.slope)):
            raise ValueError(
                "Stage.weights and Stage.slope are for evaluations of the same step, got "
                f"{sorted((*self.weights, *self.slope))}: earlier steps may have any length, so "
                "give `through` and, if they are not to be interpolated, a `rule`."
            )
        if (self.rule is not None or self.basis is not None) and not self.through:
            raise ValueError(
                "Stage.rule and Stage.basis are for the evaluations in `through`, which is empty."
            )
        if self.rule is not None and self.basis is not None:
            raise ValueError("A stage takes its weights from a rule or from a basis, not both.")

    @property
    def bridge_factor(self) -> float:
        """κ of a stage that takes its noise from ΔW and U."""
        assert self.increment_weight is not None
        return float(self.c - self.increment_weight) / math.sqrt(3.0 * self.c * (1 - self.c))

    @property
    def sources(self) -> tuple[int, ...]:
        """Indices of the evaluations it uses."""
        return self.through or tuple(self.weights)

    @property
    def history(self) -> int:
        """How many steps back it looks."""
        return max(0, -min(self.sources))

    def limited(self, history: int) -> "Stage":
        """The same stage where only `history` earlier steps are known: the polynomial goes through
        fewer evaluations."""
        if self.history <= history:
            return self
        return replace(self, through=tuple(j for j in self.through if j >= -history))

    def polynomials(self, c: Any, nodes: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Coefficients of the polynomial of each of `through`, in the position."""
        if self.basis is None:
            return lagrange_coefficients(nodes)
        rows = self.basis(c, nodes)
        if isinstance(c, Fraction):
            return rows
        return [[float(q) if isinstance(q, Fraction) else q for q in row] for row in rows]

    def placed(self, c: Any, nodes: Sequence[Any]) -> Sequence[Sequence[tuple[Any, ...]]]:
        """Terms (q, k) or (q, k, scale) of each of `through`, with the stage at position c and the
        evaluations at `nodes`."""
        if self.rule is None:
            return moment_weights(c, self.polynomials(c, nodes))
        return self.rule(c, nodes)

    def terms(self, nodes: Mapping[int, Fraction]) -> dict[int, tuple[Term, ...]]:
        """{evaluation: terms} in exact rationals, with evaluations at `nodes`."""
        if self.weights:
            return {j: tuple(terms) for j, terms in self.weights.items()}
        rows = self.placed(self.c, [nodes[j] for j in self.through])
        return {
            j: tuple(
                Term(Fraction(q), k, rational(scale[0]) if scale else self.c)
                for q, k, *scale in row
                if q
            )
            for j, row in zip(self.through, rows, strict=True)
        }


@dataclass(frozen=True)
class Tableau:
    """The numbers of an exponential scheme, of one step or of several.

    It needs no noise columns: the noise of a stage is a_i [W(τ_i) − W(τ_s)], unless the stage has
    an `increment_weight` and takes it from the step's increment and space-time integral.

    Args:
        name: for print-outs.
        stages: rows in order of evaluation; the last one has c = 1.
        source: paper and equation.
        reuse: evaluation 0 is the last one of the step before, at the state that the stage before
            the last produced (PEC), so that a corrector (the last stage, which uses that
            evaluation) costs nothing. In the first step it is made.
        variable: in what the interpolation polynomials are taken and the nodes placed: the form's
            "clock", "time" or "sigma", or the time of another schedule at the same σ.

    Raises:
        ValueError: if a stage uses an evaluation that is not yet made, the last stage does not end
            the step, two stages share a node that an interpolation uses, or a step with constant F
            would not be exact.
    """

    name: str
    stages: tuple[Stage, ...]
    source: str = ""
    reuse: bool = False
    variable: "str | Schedule" = "clock"

    def __post_init__(self) -> None:
        def refuse(reason: str) -> ValueError:
            return ValueError(f"Tableau {self.name!r}: {reason}.")

        last = self.stages[-1] if self.stages else None
        shared = [stage.c for stage in self.stages if stage.increment_weight is not None]
        if last is None or last.c != 1 or 1 in shared:
            raise refuse(
                "the last stage must end the step (c = 1), with its ordinary noise; an "
                "increment_weight is for stages before the end"
            )
        if self.reuse and len(self.stages) > 1 and self.stages[-2].c != 1:
            raise refuse("reuse needs a last evaluation at the end of the step (c = 1)")
        if not isinstance(self.variable, Schedule) and self.variable not in VARIABLES:
            raise unknown("variable", self.variable, VARIABLES)
        if self.variable != "clock" and any(stage.weights for stage in self.stages):
            raise refuse(f"`weights` are stated for nodes in the clock, not in {self.variable}")
        for i, stage in enumerate(self.stages):
            late = [j for j in (*stage.sources, *stage.slope) if j > i]
            if late:
                raise refuse(f"stage {i} uses evaluations {late}, but only 0..{i} are made by then")
        if self.slopes and (self.reuse or self.variable != "clock"):
            raise refuse("derivatives are in the clock, and not of evaluations that are reused")
        if self.order() < 1:
            raise refuse(
                "it is not exact for constant F; in each stage the weights must sum to c phi_1(c z)"
            )

    @property
    def history(self) -> int:
        """How many steps back it looks."""
        return max(stage.history for stage in self.stages)

    @property
    def evaluations(self) -> int:
        """Network evaluations per step, the first steps apart; a derivative counts as one."""
        return len(self.stages) + len(self.slopes) - self.reuse

    @property
    def slopes(self) -> frozenset[int]:
        """Evaluations whose derivative along the ODE is used."""
        return frozenset(j for stage in self.stages for j in stage.slope)

    @property
    def evaluation_nodes(self) -> tuple[Fraction, ...]:
        """Nodes at which F is evaluated: 0 and the nodes of all stages but the last."""
        return (Fraction(0), *(stage.c for stage in self.stages[:-1]))

    @property
    def noise_nodes(self) -> tuple[Fraction, ...]:
        """Distinct nodes of stages with ordinary noise, increasing: one standard normal for each
        interval between them."""
        return tuple(sorted({stage.c for stage in self.stages if stage.increment_weight is None}))

    @property
    def needs_integral(self) -> bool:
        """Whether a stage uses the space-time integral U of the path."""
        return any(stage.increment_weight is not None for stage in self.stages)

    @property
    def normals(self) -> int:
        """Standard normals per step and component with noise: one for each interval between noise
        nodes, and one more where a stage uses U."""
        return len(self.noise_nodes) + self.needs_integral

    def limited(self, history: int, stages: int | None = None) -> "Tableau":
        """The scheme where only `history` earlier steps are known, of the first stages only if
        their number is given; one and the same object for the same numbers."""
        key = min(history, self.history), stages
        if key not in self._variants:
            kept = tuple(stage.limited(history) for stage in self.stages[:stages])
            self._variants[key] = replace(self, stages=kept)
        return self._variants[key]

    @cached_property
    def _variants(self) -> "dict[tuple[int, int | None], Tableau]":
        return {(self.history, None): self}

    @cached_property
    def nodes(self) -> dict[int, Fraction]:
        """Positions of all evaluations, those of earlier steps for equal steps."""
        earlier = {-j: Fraction(-j) for j in range(1, self.history + 1)}
        return earlier | dict(enumerate(self.evaluation_nodes))

    @cached_property
    def terms(self) -> tuple[dict[int, tuple[Term, ...]], ...]:
        """For each stage {evaluation: terms} with exact rational coefficients, for equal steps."""
        for stage in self.stages:
            through = [self.nodes[j] for j in stage.through]
            if stage.rule is stage.basis is None and len(set(through)) != len(through):
                raise ValueError(
                    f"Tableau {self.name!r}: interpolation through coinciding nodes {through}."
                )
        return tuple(stage.terms(self.nodes) for stage in self.stages)

    def order(self, *, classical: bool = False) -> int:
        """Order of a full step without noise, from the algebraic order conditions in exact
        rationals (up to 4); `classical`: for an equation with ρ = 0."""
        targets, nodes, terms = [stage.c for stage in self.stages], self.nodes, list(self.terms)
        if not self.slopes:
            return deterministic_order(nodes, targets, terms, classical=classical)
        # To order 2 a derivative at a node does what the difference quotient with any other point
        # does.
        beside = {j: -self.history - 1 - j for j in self.slopes}
        nodes = nodes | {k: nodes[j] + 1 for j, k in beside.items()}
        for i, stage in enumerate(self.stages):
            for j, row in stage.slope.items():
                less = tuple(Term(-q, k, scale) for q, k, scale in row)
                terms[i] = terms[i] | {j: (*terms[i].get(j, ()), *less), beside[j]: tuple(row)}
        return min(2, deterministic_order(nodes, targets, terms, classical=classical))

    def strong_order(self, order: int) -> Fraction:
        """Strong order with noise, for the given order without: 3/2 where the noise of the stages
        meets the conditions of `order_conditions`, otherwise 1."""
        if self.history or self.reuse:
            return Fraction(1)
        weights = [stage.increment_weight for stage in self.stages]
        return strong_order(order, [stage.c for stage in self.stages], self.terms, weights)
