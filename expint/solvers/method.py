"""A method: a tableau with the equation it is for, its use of history, and what surrounds a
step.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, TypedDict

from expint.equations import SemiLinearSDE, reverse_sde
from expint.equations.forms import EXPONENTIAL
from expint.numerics.float64 import are_numbers
from expint.schedules import Schedule
from expint.solvers.operations import Operation
from expint.solvers.tableau import Tableau


class EndSettings(TypedDict, total=False):
    """What builders of multistep methods pass on to `Method` about the last steps."""

    lower_order_final: bool
    correct_last: bool


@dataclass(frozen=True)
class Method:
    """What a solver's name stands for.

    Args:
        tableau: the numbers.
        name, source: default: the tableau's.
        form, ell, noise_scale: the equation that it is meant for, which `sample` takes by default.
        start_up: tableaus of the first steps; then, or if there are none, the tableau itself with
            the history that there is.
        lower_order_final: also let the history shrink towards the end, to none in the last step.
        correct_last: whether the last step of a grid that ends at σ > 0 is corrected; if not, it is
            its first stage alone.
        ratio_limit: step-size ratio limit: a step that is more than so many times longer (in the
            clock) than the one before takes no history, as the polynomial would be extrapolated too
            far. It concerns grids with a jump, such as tables of which the last step is in log σ as
            long as several others; not smooth grids, and so not the order.
        operations: what is done before and after each step (`expint.solvers.operations`).

    Raises:
        ValueError: if the last step is not corrected, but the first stage does not end the step.
    """

    tableau: Tableau
    name: str = ""
    source: str = ""
    form: str = "data"
    ell: float = 1.0
    noise_scale: Any = None
    start_up: tuple[Tableau, ...] = ()
    lower_order_final: bool = False
    correct_last: bool = True
    ratio_limit: float = 2.5
    operations: tuple[Operation, ...] = ()

    def __post_init__(self) -> None:
        for field in ("name", "source"):
            object.__setattr__(self, field, getattr(self, field) or getattr(self.tableau, field))
        if not are_numbers(self.ell) or not 0 <= self.ell <= math.inf:
            raise ValueError(f"ell must be a number >= 0, got {self.ell!r}.")
        if not self.correct_last and self.tableau.stages[0].c != 1:
            raise ValueError(
                f"Method {self.name!r}: without its corrector the last step needs a first stage "
                "with c = 1."
            )

    def equation(
        self,
        schedule: Schedule,
        form: str | None = None,
        ell: float | None = None,
        noise_scale: Any = None,
        sigma_data: float | None = None,
    ) -> SemiLinearSDE:
        """The reverse SDE of a schedule in the form and stochasticity given, else in the method's
        own; see `expint.reverse_sde`."""
        if noise_scale is None and ell is None:
            noise_scale = self.noise_scale
        if noise_scale is not None:
            return reverse_sde(
                schedule,
                "data" if form is None else form,
                noise_scale=noise_scale,
                sigma_data=sigma_data,
            )
        own = self.ell if ell is None else ell
        chosen = self.form if form is None else form
        return reverse_sde(schedule, chosen, own, sigma_data=sigma_data)

    def at(self, step: int, steps: int) -> Tableau:
        """The tableau of step `step` of `steps`: one of `start_up`, or its own with the history
        that is there. Steps alike have one and the same object, so that they can be grouped by it.
        """
        if step < len(self.start_up):
            own = self.start_up[step]
            return own.limited(min(step, own.history))
        known = min(step, self.tableau.history)
        if self.lower_order_final:
            known = min(known, max(steps - 1 - step, 0))
        alone = step == steps - 1 and not self.correct_last
        return self.tableau.limited(known, 1 if alone else None)

    def evaluations_in(
        self, steps: int, *, from_infinity: bool = False, to_zero: bool = False
    ) -> int:
        """Network evaluations in `steps` steps, of which the first may start at σ = ∞ and the last
        end at σ = 0."""
        last = to_zero and steps > from_infinity
        inner = steps - from_infinity - last
        extra = sum(len(operation.langevin) for operation in self.operations)
        total, carried = int(from_infinity) + inner * extra, False
        for k in range(inner):
            tableau = self.at(k, inner + to_zero)
            total += tableau.evaluations + (tableau.reuse and not carried)
            carried = tableau.reuse and len(tableau.stages) > 1
        return total + int(last and not carried)

    @cached_property
    def deterministic_order(self) -> int:
        """Order without noise (ℓ = 0), from the algebraic order conditions in exact rationals (up
        to 4).

        One step of order p has the local error h^(p+1): the few steps at the ends that have less
        history cost no more than that.
        """
        many = 2 * (self.tableau.history + len(self.start_up)) + 2
        classical = self.form not in EXPONENTIAL
        own = self.tableau.order(classical=classical)
        ends = {self.at(k, many).order(classical=classical) for k in range(many)} - {own}
        return min([own, *(order + 1 for order in ends)])

    @cached_property
    def strong_order(self) -> Fraction:
        """Strong order with noise: 3/2 or 1 by the tableau; 0 where operations add noise that is
        not the path's or change its variance, and for ℓ = ∞."""
        if self.operations or self.ell == math.inf:
            return Fraction(0)
        return self.tableau.strong_order(self.deterministic_order)

    @property
    def weak_order(self) -> int:
        """Weak order with noise on linear problems, that of the mean and the variance: 3 needs
        strong order 3/2. It is 0 where an operation leaves a bias (Langevin steps, added noise with
        another factor than 1), and for ℓ = ∞, where there is no equation to tend to."""
        if self.ell == math.inf or not all(each.preserves_law for each in self.operations):
            return 0
        if self.tableau.history and any(operation.between_steps for operation in self.operations):
            # Earlier evaluations are from before the noise that was added since.
            return min(self.deterministic_order, 1)
        return min(self.deterministic_order, 3 if self.strong_order > 1 else 2)
