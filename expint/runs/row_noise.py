"""The noise of a run, row by row, with few states held.

The noises of most stages are multiples of one Brownian motion at their nodes, a_i W(τ_i). So of the
normals before a stage only their sum is held, and a normal is drawn when the first row asks for it.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from math import isclose
from typing import Any

from torch import Tensor

from expint.noise import NoiseStream
from expint.plans import Plan, Row
from expint.plans.plan import Coefficient

Terms = list[tuple[Coefficient, Tensor]]


class RowNoise:
    """Serves the rows of a plan in their order.

    Args:
        plan: says which rows share a substep, and what each substep asks.
        rows: of the plan, with coefficients on the state's device.
        stream: the run's; None for a plan without noise.
    """

    def __init__(self, plan: Plan, rows: Sequence[Row], stream: NoiseStream | None) -> None:
        self._plan, self._rows, self._stream = plan, rows, stream
        self._coefficients, self._summed = _with_sums(rows)
        self._substep, self._held = -1, list[Tensor]()
        self._drawn: Iterator[Tensor] = iter(())

    def terms(self, i: int) -> Terms:
        """The noise of row i as coefficients and states, which the caller must not change."""
        substep = self._rows[i].substep
        if substep != self._substep:
            list(self._drawn)
            noise, self._held, self._substep = self._plan.noises[substep], [], substep
            self._drawn = iter(self._stream.normals(noise) if noise and self._stream else ())
        numbers = self._coefficients[i]
        if i in self._summed:
            total = self._taken() * numbers[0]
            for number in numbers[1:]:
                total.add_(self._taken(), alpha=number)
            self._held, numbers = [total], (1.0,)
        self._held += islice(self._drawn, max(0, len(numbers) - len(self._held)))
        terms: Terms = list(zip(numbers, self._held, strict=False))
        if self._plan.ends_substep[i]:
            self._held = []
        return terms

    def _taken(self) -> Tensor:
        """The next of what is held and of what is not drawn yet."""
        return self._held.pop(0) if self._held else next(self._drawn)


def _with_sums(rows: Sequence[Row]) -> tuple[list[Any], set[int]]:
    """The rows' coefficients of what is held and of further normals, and which rows' noise is held
    as one sum: where those of all later rows of the substep begin with a multiple of it."""
    numbers: list[Any] = [row.noise for row in rows]
    summed = set[int]()
    for _, group in groupby(range(len(rows)), key=lambda i: rows[i].substep):
        places = [i for i in group if numbers[i]]
        for n, i in enumerate(places[:-1], 1):
            own, later = numbers[i], places[n:]
            ratios = [_ratio(numbers[j], own) for j in later] if len(own) > 1 else [None]
            if all(ratios):
                summed.add(i)
                for j, ratio in zip(later, ratios, strict=True):
                    numbers[j] = (ratio, *numbers[j][len(own) :])
    return numbers, summed


def _ratio(other: Sequence[Any], own: Sequence[Any]) -> float | None:
    """The number of which `other` begins with the multiple of `own`, if they are floats and there
    is one."""
    begin = other[: len(own)]
    if len(begin) < len(own) or not all(isinstance(number, float) for number in (*own, *begin)):
        return None
    largest, over = max((abs(a), b / a if a else 0.0) for a, b in zip(own, begin, strict=True))
    fits = all(isclose(b, over * a, rel_tol=1e-12) for a, b in zip(own, begin, strict=True))
    return over if fits and largest else None
