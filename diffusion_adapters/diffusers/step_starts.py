"""Where the steps of a plan begin among its evaluations, in the arithmetic of pipelines: their
image-to-image slices `timesteps[step * order :]`, and their progress bars ask `count % order`.
"""

from bisect import bisect_right
from typing import Any

import torch
from torch import Tensor

from expint.guards.arguments import checked
from expint.plans import Plan

_SAME = 1e-9  # relative difference within which two times are one


def step_starts(plan: Plan) -> list[int]:
    """For each step the index of the evaluation at which a run can begin with it.

    It is the last one at the time of the grid: others there belong to the step that ends there. A
    step that adds noise first begins with its own first evaluation, at a time above the grid's.
    """
    rows = [row for row in plan.rows if row.evaluates]
    noised = {row.step for row in plan.rows if not (row.evaluates or row.weights)}
    starts = []
    for step, time in enumerate(plan.grid[:-1].tolist()):
        near = _SAME * (1e-3 + abs(time))
        at = [i for i, row in enumerate(rows) if abs(float(row.time) - time) <= near]
        own = [i for i, row in enumerate(rows) if row.step == step][:1]
        starts.append((own if step in noised else at)[-1])
    return starts


class StepOrder(int):
    """Evaluations per step: an integer, but `step * order` is the index at which a step begins and
    `count % order` how many evaluations of the current step are made, also where steps differ in
    length (that from σ = ∞ takes one evaluation).

    Args:
        value: the integer; 1 if the pipeline counts evaluations.
        starts: from `step_starts`, and at the end the number of evaluations.
        first: index of the evaluation with which the run began.
        counted: what the pipeline takes for steps: "steps", or "evaluations" where it was told
            where the steps begin and took the length of `timesteps` for their number. Then it
            begins at the step at which it would have begun with one evaluation per step.
    """

    def __new__(cls, value: int, starts: list[int], first: int = 0, counted: str = "steps") -> Any:
        order = super().__new__(cls, value if counted == "steps" else 1)
        order.starts, order.first, order.counted = starts, first, counted
        return order

    starts: list[int]
    first: int
    counted: str

    def __mul__(self, step: Any) -> Any:
        *starts, end = self.starts
        if not isinstance(step, int) or step < 0:
            return int(self) * step
        if self.counted == "evaluations":
            # With n steps in N evaluations, a pipeline that begins at ⌊N x⌋ means step ⌊n x⌋.
            step = -(-(step + 1) * len(starts) // end) - 1
        return starts[step] if step < len(starts) else end

    __rmul__ = __mul__

    def __rmod__(self, count: Any) -> Any:
        if self.counted == "evaluations" or not isinstance(count, int):
            return count % int(self)
        made = self.first + count
        return made - self.starts[bisect_right(self.starts, made) - 1]

    def __reduce__(self) -> Any:
        return StepOrder, (int(self), self.starts, self.first, self.counted)


class CountedSteps:
    """The part of a scheduler that says where a run is and where it may begin."""

    timesteps: Tensor
    _order: int
    _near: float
    _begin_index: int | None
    _step_index: int | None

    @property
    def order(self) -> int:
        """Network evaluations per step. After `set_timesteps`, `step * order` is the index in
        `timesteps` at which a step begins, also where steps differ in length.

        Where the beginnings of the steps were given and not their number, pipelines take the length
        of `timesteps` for it. Then the order is 1, and they begin at the same step as with a solver
        of one evaluation per step.
        """
        return self._order

    @property
    def begin_index(self) -> int | None:
        """Index of the first evaluation, if `set_begin_index` was called."""
        return self._begin_index

    @property
    def step_index(self) -> int | None:
        """Index of the next evaluation; None before the first."""
        return self._step_index

    @checked
    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the next run at an entry of `timesteps`; steps begin at multiples of `order`."""
        self._begin_index = begin_index

    def _index_of(self, timestep: Any) -> int:
        """The last entry equal to `timestep`: that of the step that begins there."""
        value = torch.as_tensor(timestep).reshape(-1)[:1].to(self.timesteps.device)
        (places,) = torch.nonzero((self.timesteps - value).abs() < self._near, as_tuple=True)
        if not len(places):
            known = f"{self.timesteps.tolist()[:8]} ..."
            raise ValueError(f"timestep {timestep} is not one of `timesteps`: {known}.")
        return int(places[-1])
