"""A solver is data: which node each stage goes to, and from which evaluations, of this step and of
earlier ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from expint.equations.forms import EXPONENTIAL
from expint.registry import unknown
from expint.schedules import Schedule
from expint.solvers.interpolation import lagrange_coefficients, moment_weights
from expint.solvers.order_conditions import deterministic_order, strong_order

__all__ = ["VARIABLES", "Basis", "Rule", "Stage", "Tableau", "Term", "rational"]

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
earlier steps.
"""

Basis = Callable[[Any, Sequence[Any]], Sequence[Sequence[Any]]]
"""basis(c, nodes) → for each node the coefficients of its polynomial in the position, lowest power
first; see `Rule`.
"""

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
        share: None for the ordinary noise a_i [W(τ_i) − W(τ_s)] of the stage's own node. A number p
            gives it instead the noise a_i [p ΔW + 2(θ − p) U/Δτ], made of the increment ΔW of the
            whole step and of the space-time integral U = ∫ [W(τ) − W(τ_s)] dτ over it; θ = (τ_i −
            τ_s)/Δτ, so that its covariance with ΔW is the exact one for any p.
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
    share: Fraction | None = None
    basis: Basis | None = None
    rule: Rule | None = None
    slope: Mapping[int, tuple[Term, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", rational(self.c))
        if self.share is not None:
            object.__setattr__(self, "share", rational(self.share))
        if not 0 < self.c <= 1:
            raise ValueError(f"Stage.c must lie in (0, 1], got {self.c}.")
        if bool(self.through) == bool(self.weights):
            raise ValueError(
                f"A stage takes either `through` or `weights`, got {self.through!r} and "
                f"{dict(self.weights)!r}."
            )
        if len(set(self.through)) != len(self.through):
            raise ValueError(f"Stage.through repeats an evaluation: {self.through}.")
        if any(j < 0 for j in self.slope):
            raise ValueError(
                f"Stage.slope is for evaluations of the same step, got {sorted(self.slope)}."
            )
        if any(j < 0 for j in self.weights):
            raise ValueError(
                f"Stage.weights are for evaluations of the same step, got {sorted(self.weights)}: "
                "earlier steps may have any length, so give `through` and, if they are not to be "
                "interpolated, a `rule`."
            )
        if (self.rule is not None or self.basis is not None) and not self.through:
            raise ValueError(
                "Stage.rule and Stage.basis are for the evaluations in `through`, which is empty."
            )
        if self.rule is not None and self.basis is not None:
            raise ValueError(
                "A stage takes its weights from a rule or from a basis, not from both."
            )

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
        fewer evaluations.
        """
        return (
            self
            if self.history <= history
            else replace(self, through=tuple(j for j in self.through if j >= -history))
        )

    def polynomials(self, c: Any, nodes: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Coefficients of the polynomial of each of `through`, in the position."""
        if self.basis is None:
            return lagrange_coefficients(nodes)
        rows = self.basis(c, nodes)
        exact = isinstance(c, Fraction)
        return (
            rows
            if exact
            else [[float(q) if isinstance(q, Fraction) else q for q in row] for row in rows]
        )

    def placed(self, c: Any, nodes: Sequence[Any]) -> Sequence[Sequence[tuple[Any, ...]]]:
        """Terms (q, k) or (q, k, scale) of each of `through`, with the stage at position c and the
        evaluations at `nodes`.
        """
        return (
            moment_weights(c, self.polynomials(c, nodes))
            if self.rule is None
            else self.rule(c, nodes)
        )

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
    """An exponential scheme, of one step or of several. It needs no noise columns: the noise of a
    stage is a_i [W(τ_i) − W(τ_s)], unless the stage has a `share` and takes it from the step's
    increment and space-time integral.

    Args:
        name: registry name.
        stages: rows in order of evaluation; the last one has c = 1.
        source: paper and equation.
        reuse: evaluation 0 is the last one of the step before, at the state that the stage before
            the last produced, so that a corrector (the last stage, which uses that evaluation)
            costs nothing. In the first step it is made.
        variable: in what the interpolation polynomials are taken and the nodes placed: the form's
            "clock", "time" or "sigma", or the time of another schedule at the same σ.
        start: schemes for the first steps; then, or if there are none, the scheme itself with the
            history that there is.
        shrink: also let the history shrink towards the end, to none in the last step.
        correct_last: whether the last step of a grid that ends at σ > 0 is corrected; if not, it is
            its first stage alone.
        max_ratio: a step that is more than so many times longer (in the clock) than the one before
            takes no history: the polynomial would be extrapolated too far. It concerns grids with a
            jump, such as tables of which the last step is in log σ as long as several others; not
            smooth grids, and so not the order.
        form, ell, noise_scale: the equation that the scheme is meant for, and that `sample` takes
            by default.
        operations: what is done before and after each step (`expint.solvers.operations`).

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
    start: "tuple[Tableau, ...]" = ()
    shrink: bool = False
    correct_last: bool = True
    max_ratio: float = 2.5
    form: str = "data"
    ell: float = 1.0
    noise_scale: Any = None
    operations: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not self.stages or self.stages[-1].c != 1 or self.stages[-1].share is not None:
            raise ValueError(
                f"Tableau {self.name!r}: the last stage must end the step (c = 1), with its "
                "ordinary noise."
            )
        if self.reuse and len(self.stages) > 1 and self.stages[-2].c != 1:
            raise ValueError(
                f"Tableau {self.name!r}: reuse needs a last evaluation at the end of the step (c = "
                "1)."
            )
        if not self.correct_last and next(iter(self.stages)).c != 1:
            raise ValueError(
                f"Tableau {self.name!r}: without its corrector the last step needs a first stage "
                "with c = 1."
            )
        if not isinstance(self.variable, Schedule) and self.variable not in VARIABLES:
            raise unknown("variable", self.variable, VARIABLES)
        if self.variable != "clock" and any(stage.weights for stage in self.stages):
            raise ValueError(
                f"Tableau {self.name!r}: `weights` are stated for nodes in the clock, not in "
                f"{self.variable}."
            )
        for i, stage in enumerate(self.stages):
            late = [j for j in (*stage.sources, *stage.slope) if j > i]
            if late:
                raise ValueError(
                    f"Tableau {self.name!r}: stage {i} uses evaluations {late}, but only 0..{i} "
                    "are made by then."
                )
        if self.slopes and (self.reuse or self.variable != "clock"):
            raise ValueError(
                f"Tableau {self.name!r}: derivatives are in the clock, and not of evaluations that "
                "are reused."
            )
        if self._own_order < 1:
            raise ValueError(
                f"Tableau {self.name!r} is not exact for constant F: in each stage the weights "
                "must sum to c phi_1(c z)."
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
        """Distinct nodes of stages with ordinary noise, increasing: one standard Gaussian for each
        interval between them.
        """
        return tuple(sorted({stage.c for stage in self.stages if stage.share is None}))

    @property
    def needs_integral(self) -> bool:
        """Whether a stage uses the space-time integral U of the path."""
        return any(stage.share is not None for stage in self.stages)

    @property
    def gaussians(self) -> int:
        """Standard Gaussians per step and component with noise: one for each interval between
        nodes, two where a stage uses U.
        """
        return len(self.noise_nodes) * (1 + self.needs_integral)

    def at(self, step: int, steps: int) -> "Tableau":
        """The scheme of step `step` of `steps`: one of `start`, or itself with the history that is
        there.

        Schemes are equal as objects where they are the same, so that steps can be grouped by them.
        """
        if step < len(self.start):
            return self.start[step].at(step, steps)
        known = min(step, self.history)
        if self.shrink:
            known = min(known, max(steps - 1 - step, 0))
        return self._variant(known, alone=step == steps - 1 and not self.correct_last)

    def evaluations_in(
        self, steps: int, *, from_infinity: bool = False, to_zero: bool = False
    ) -> int:
        """Network evaluations in `steps` steps, of which the first may start at σ = ∞ and the last
        end at σ = 0.
        """
        inner = steps - from_infinity - (to_zero and steps > from_infinity)
        extra = sum(len(operation.langevin) for operation in self.operations)
        total, carried = int(from_infinity) + inner * extra, False
        for k in range(inner):
            scheme = self.at(k, inner + to_zero)
            total += len(scheme.stages) + len(scheme.slopes) - (scheme.reuse and carried)
            carried = scheme.reuse and len(scheme.stages) > 1
        return total + int(to_zero and steps > from_infinity and not carried)

    def without_history(self) -> "Tableau":
        """The scheme of a step that is much longer than the one before."""
        return self._variant(0, alone=False)

    @cached_property
    def _variants(self) -> "dict[tuple[int, bool], Tableau]":
        return {}

    def _variant(self, known: int, *, alone: bool) -> "Tableau":
        if known >= self.history and not alone:
            return self
        if (known, alone) not in self._variants:
            stages = tuple(
                stage.limited(known) for stage in (self.stages[:1] if alone else self.stages)
            )
            self._variants[known, alone] = replace(
                self, stages=stages, start=(), shrink=False, correct_last=True
            )
        return self._variants[known, alone]

    @cached_property
    def _nodes(self) -> dict[int, Fraction]:
        """Positions of all evaluations, those of earlier steps for equal steps."""
        return {-j: Fraction(-j) for j in range(1, self.history + 1)} | dict(
            enumerate(self.evaluation_nodes)
        )

    @cached_property
    def terms(self) -> tuple[dict[int, tuple[Term, ...]], ...]:
        """For each stage {evaluation: terms} with exact rational coefficients, for equal steps."""
        for stage in self.stages:
            nodes = [self._nodes[j] for j in stage.through]
            if stage.rule is None and stage.basis is None and len(set(nodes)) != len(nodes):
                raise ValueError(
                    f"Tableau {self.name!r}: interpolation through coinciding nodes {nodes}."
                )
        return tuple(stage.terms(self._nodes) for stage in self.stages)

    @cached_property
    def _own_order(self) -> int:
        targets, nodes, terms = [stage.c for stage in self.stages], self._nodes, list(self.terms)
        if not self.slopes:
            return deterministic_order(
                nodes, targets, terms, classical=self.form not in EXPONENTIAL
            )
        # To order 2 a derivative at a node does what the difference quotient with any other point
        # does.
        beside = {j: -self.history - 1 - j for j in self.slopes}
        nodes = nodes | {k: nodes[j] + 1 for j, k in beside.items()}
        for i, stage in enumerate(self.stages):
            for j, row in stage.slope.items():
                less = tuple(Term(-q, k, scale) for q, k, scale in row)
                terms[i] = terms[i] | {j: (*terms[i].get(j, ()), *less), beside[j]: tuple(row)}
        return min(
            2, deterministic_order(nodes, targets, terms, classical=self.form not in EXPONENTIAL)
        )

    @cached_property
    def deterministic_order(self) -> int:
        """Order without noise (ℓ = 0), from the algebraic order conditions in exact rationals (up
        to 4).

        One step of order p has the local error h^(p+1): the few steps at the ends that have less
        history cost no more than that.
        """
        many = 2 * (self.history + len(self.start)) + 2
        ends = {self.at(k, many)._own_order for k in range(many)} - {self._own_order}
        return min([self._own_order, *(order + 1 for order in ends)])

    @cached_property
    def strong_order(self) -> Fraction:
        """Strong order with noise: 3/2 where the noise of the stages meets the conditions of
        `order_conditions`, otherwise 1; 0 where operations add noise that is not the path's or
        change its variance.
        """
        if self.operations:
            return Fraction(0)
        if self.history or self.reuse:
            return Fraction(1)
        shares = [stage.share for stage in self.stages]
        return strong_order(
            self.deterministic_order, [stage.c for stage in self.stages], self.terms, shares
        )

    @property
    def weak_order(self) -> int:
        """Weak order with noise on linear problems, that of the mean and the variance: 3 needs
        strong order 3/2. It is 0 where an operation leaves a bias (Langevin steps, added noise with
        another factor than 1).
        """
        if not all(operation.preserves_law for operation in self.operations):
            return 0
        if self.history and any(operation.between_steps for operation in self.operations):
            return min(
                self.deterministic_order, 1
            )  # earlier evaluations are from before the noise that was added since
        return min(self.deterministic_order, 3 if self.strong_order > 1 else 2)
