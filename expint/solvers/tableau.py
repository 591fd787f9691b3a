"""A solver is data: which node each stage goes to, and with which combination of φ-functions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from expint.solvers.interpolation import interpolation_weights
from expint.solvers.order_conditions import deterministic_order, strong_order

__all__ = ["Stage", "Tableau", "Term", "rational"]

Number = int | float | str | Fraction


def rational(value: Number) -> Fraction:
    """`value` as an exact fraction; a float stands for the simplest fraction that rounds to it (1/3 for 0.333…).

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


@dataclass(frozen=True)
class Stage:
    """One row: the state at node c, from evaluations of F made so far in the step (0 is its start).

    Give either `through`, the evaluations whose interpolation polynomial is integrated exactly, or `weights`, the combination of
    φ-functions of each evaluation. In both cases x_c = (a_c/a_s) x_s + κ a_c e^{ρμ_c} h Σ_j b_j(z) F_j + noise.

    Args:
        c: node in units of the step, 0 < c ≤ 1.
        through: indices of evaluations.
        weights: {index of evaluation: terms}.
        share: None for the ordinary noise a_i [W(τ_i) − W(τ_s)] of the stage's own node. A number p gives it instead the noise
            a_i [p ΔW + 2(θ − p) U/Δτ], made of the increment ΔW of the whole step and of the space-time integral
            U = ∫ [W(τ) − W(τ_s)] dτ over it; θ = (τ_i − τ_s)/Δτ, so that its covariance with ΔW is the exact one for any p.
    """

    c: Fraction
    through: tuple[int, ...] = ()
    weights: Mapping[int, tuple[Term, ...]] = field(default_factory=dict)
    share: Fraction | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", rational(self.c))
        if self.share is not None:
            object.__setattr__(self, "share", rational(self.share))
        if not 0 < self.c <= 1:
            raise ValueError(f"Stage.c must lie in (0, 1], got {self.c}.")
        if bool(self.through) == bool(self.weights):
            raise ValueError(f"A stage takes either `through` or `weights`, got {self.through!r} and {dict(self.weights)!r}.")
        if len(set(self.through)) != len(self.through):
            raise ValueError(f"Stage.through repeats an evaluation: {self.through}.")

    @property
    def sources(self) -> tuple[int, ...]:
        """Indices of the evaluations it uses."""
        return self.through or tuple(self.weights)


@dataclass(frozen=True)
class Tableau:
    """A one-step exponential scheme. It needs no noise columns: the noise of a stage is a_i [W(τ_i) − W(τ_s)], unless the stage
    has a `share` and takes it from the step's increment and space-time integral.

    Args:
        name: registry name.
        stages: rows in order of evaluation; the last one has c = 1.
        source: paper and equation.

    Raises:
        ValueError: if a stage uses an evaluation that is not yet made, the last stage does not end the step, two stages share a
            node that an interpolation uses, or a step with constant F would not be exact.
    """

    name: str
    stages: tuple[Stage, ...]
    source: str = ""

    def __post_init__(self) -> None:
        if not self.stages or self.stages[-1].c != 1 or self.stages[-1].share is not None:
            raise ValueError(f"Tableau {self.name!r}: the last stage must end the step (c = 1), with its ordinary noise.")
        for i, stage in enumerate(self.stages):
            late = [j for j in stage.sources if not 0 <= j <= i]
            if late:
                raise ValueError(f"Tableau {self.name!r}: stage {i} uses evaluations {late}, but only 0..{i} are made by then.")
        if self.deterministic_order < 1:
            raise ValueError(
                f"Tableau {self.name!r} is not exact for constant F: in each stage the weights must sum to c phi_1(c z)."
            )

    @property
    def evaluations(self) -> int:
        """Network evaluations per step."""
        return len(self.stages)

    @property
    def evaluation_nodes(self) -> tuple[Fraction, ...]:
        """Nodes at which F is evaluated: 0 and the nodes of all stages but the last."""
        return (Fraction(0), *(stage.c for stage in self.stages[:-1]))

    @property
    def noise_nodes(self) -> tuple[Fraction, ...]:
        """Distinct nodes of stages with ordinary noise, increasing: one standard Gaussian for each interval between them."""
        return tuple(sorted({stage.c for stage in self.stages if stage.share is None}))

    @property
    def needs_integral(self) -> bool:
        """Whether a stage uses the space-time integral U of the path."""
        return any(stage.share is not None for stage in self.stages)

    @property
    def gaussians(self) -> int:
        """Standard Gaussians per step and component with noise: one for each interval between nodes, two where a stage uses U."""
        return len(self.noise_nodes) * (1 + self.needs_integral)

    @cached_property
    def terms(self) -> tuple[dict[int, tuple[Term, ...]], ...]:
        """For each stage {evaluation: terms}, with exact rational coefficients."""
        return tuple(self._stage_terms(stage) for stage in self.stages)

    def _stage_terms(self, stage: Stage) -> dict[int, tuple[Term, ...]]:
        if stage.weights:
            return {j: tuple(terms) for j, terms in stage.weights.items()}
        nodes = [self.evaluation_nodes[j] for j in stage.through]
        if len(set(nodes)) != len(nodes):
            raise ValueError(f"Tableau {self.name!r}: interpolation through coinciding nodes {nodes}.")
        rows = interpolation_weights(stage.c, nodes)
        return {j: tuple(Term(Fraction(q), k, stage.c) for q, k in row if q) for j, row in zip(stage.through, rows, strict=True)}

    @cached_property
    def deterministic_order(self) -> int:
        """Order without noise (ℓ = 0), from the algebraic order conditions in exact rationals (up to 4)."""
        return deterministic_order(self.evaluation_nodes, [stage.c for stage in self.stages], self.terms)

    @cached_property
    def strong_order(self) -> Fraction:
        """Strong order with noise: 3/2 where the noise of the stages meets the conditions of `order_conditions`, otherwise 1."""
        shares = [stage.share for stage in self.stages]
        return strong_order(self.deterministic_order, [stage.c for stage in self.stages], self.terms, shares)

    @property
    def weak_order(self) -> int:
        """Weak order with noise on linear problems, that of the mean and the variance: 3 needs strong order 3/2."""
        return min(self.deterministic_order, 3 if self.strong_order > 1 else 2)
