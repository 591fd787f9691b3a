"""The conditions of strong order 3/2, each by itself."""

from dataclasses import replace
from fractions import Fraction as Q

import pytest

from expint.solvers import Method, seeds_sra3

# The weights of the increment p_i = ±s/b_i of seeds-sra3 with b = (1/2, 2/5): Σ b_i p_i = 0 holds
# for every s, and the second moment is 1/2 for s = 1/9 and s = −1/3 only.
ROOTS = (Q(1, 9), Q(-1, 3))


@pytest.mark.parametrize("s", [*ROOTS, Q(0), Q(2, 9), Q(-1, 9), Q(1, 3)])
def test_both_conditions_of_strong_order_are_needed(s: Q):
    """Σ b_i η_i = U/Δτ for every s; Σ b_i E[η_i²] = Δτ/2 decides."""
    tableau = seeds_sra3()
    first, second, last = tableau.stages
    stages = (
        replace(first, increment_weight=s / Q(1, 2)),
        replace(second, increment_weight=-s / Q(2, 5)),
        last,
    )
    found = Method(replace(tableau, stages=stages))
    assert found.strong_order == (Q(3, 2) if s in ROOTS else 1)
    assert found.weak_order == (3 if s in ROOTS else 2)
