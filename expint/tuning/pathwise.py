"""A guide with hardly any noise: the distance of a plan for the ODE, sample by sample, from a fine
solution from the same initial state.

The law of samples shows only through their number, and so a search by it among many numbers fits
its accidents. Paths of the ODE have no such noise: few of them determine every number of a plan,
which then serves ℓ > 0 as well. No gradient of the network is needed.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from expint import grids
from expint.runs.model import Description
from expint.sampling import plan_sampling
from expint.tuning.objective import SEARCH, SampleObjective
from expint.tuning.parameters import Numbers, Tunable

FINE = 50  # evaluations of a solution that plans are compared with
_SCALE = 0.3  # in standard deviations of the samples: what is further off counts less and less
_DIFFERENCE = 1e-3
Measure = Callable[[Callable[[], list[Any]]], list[Any]]


def fine_grid(about: Description) -> Tensor | grids.GridBuilder | None:
    """Of solutions that plans are compared with: to the end of the sampling range; on a table None,
    the default."""
    return None if about.round_time is not None else grids.karras


class Paths:
    """Solutions of the ODE from some initial states, and plans that come near them.

    Args:
        objective: makes samples of plans.
        about: of the model.
        count: how many solutions.
        measured: gives back what a function of no arguments finds.
    """

    def __init__(
        self, objective: Callable[[], SampleObjective], about: Description, count: int,
        measured: Measure,
    ) -> None:  # fmt: skip
        self._objective, self._count, self._measured = objective, count, measured
        self._plan = plan_sampling(
            about.schedule, "unipc-3", nfe=FINE, ell=0.0, grid=fine_grid(about),
            round_time=about.round_time,
        )  # fmt: skip
        self._fine: Tensor | None = None
        measured(self._solve)

    def error(self, tunable: Tunable, numbers: Numbers) -> float:
        """Mean robust square of the distances."""
        (found,) = self._measured(lambda: [_mean_square(self._residuals(tunable, numbers))])
        return found

    def nearer(
        self, tunable: Tunable, start: Numbers, rounds: int, in_budget: Callable[[], bool]
    ) -> Numbers:
        """By every number of every step, by Levenberg and Marquardt's method with differences in
        place of derivatives."""
        tunable = replace(tunable, bounds=(0.0, 0.0))
        steps = tunable.steps

        def numbers(x: Tensor) -> Numbers:
            return Numbers(x[:steps], start.ells, x[steps:])

        x, size = torch.cat([start.gaps, start.factors]), 2 * steps
        value, damping = float("inf"), 1e-2
        for _ in range(rounds):
            if not in_budget():
                break
            known = self._measured(partial(self._normal, tunable, numbers, x))
            value, rest = known[0], torch.tensor(known[1:], dtype=torch.float64)
            slope, curvature = rest[:size], rest[size:].reshape(size, size)
            scale = torch.diag(curvature.diagonal() + 1e-9 * curvature.diagonal().max() + 1e-30)
            for _ in range(7):
                step = torch.linalg.solve(curvature + damping * scale, slope).clamp(-1.0, 1.0)
                found = self.error(tunable, numbers(x - step))
                if found < value:
                    break
                damping *= 6.0
            else:
                break
            gained, x, value = value - found, x - step, found
            damping /= 4.0
            if gained < 1e-3 * value:
                break
        return numbers(x)

    def _solve(self) -> list[Any]:
        with torch.no_grad():
            self._fine = self._objective().samples(self._plan, self._count, SEARCH)
        return []

    def _residuals(self, tunable: Tunable, numbers: Numbers) -> Tensor:
        """In units of `_SCALE` standard deviations; infinite where there is no plan, or a sample is
        not finite."""
        if self._fine is None:  # after values that were known; these count no second time
            cost = self._objective().cost
            self._solve()
            self._objective().cost = cost
        fine = cast(Tensor, self._fine)
        with torch.no_grad():
            try:
                plan = replace(tunable, bounds=(0.0, 0.0)).plan(numbers)
                samples = self._objective().samples(plan, self._count, SEARCH)
            except (ValueError, FloatingPointError):
                return torch.full((1,), torch.inf, dtype=torch.float64)
        return ((samples - fine) / (_SCALE * fine.std())).double().flatten()

    def _normal(
        self, tunable: Tunable, numbers: Callable[[Tensor], Numbers], x: Tensor
    ) -> list[float]:
        """The error at x, half its gradient, and the matrix of the normal equations."""
        base = self._residuals(tunable, numbers(x))
        columns = []
        for unit in torch.eye(len(x), dtype=torch.float64):
            moved = self._residuals(tunable, numbers(x + _DIFFERENCE * unit))
            columns.append((moved - base) / _DIFFERENCE)
        slopes = torch.stack([torch.nan_to_num(c, 0.0, 0.0, 0.0).expand_as(base) for c in columns])
        weighted = slopes * (1.0 + base**2).rsqrt() / len(base)
        rest = torch.cat([weighted @ base, (weighted @ slopes.T).flatten()])
        return [_mean_square(base), *torch.nan_to_num(rest).tolist()]


def _mean_square(residuals: Tensor) -> float:
    """Of small residuals; of large ones the mean of their sizes."""
    return float((2.0 * ((1.0 + residuals**2).sqrt() - 1.0)).mean())
