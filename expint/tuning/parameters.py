"""The numbers of a plan that are tuned: where its times lie, ℓ of each step, and a factor on each
step's extrapolation."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from expint.equations.step_scales import noise_scale_per_step
from expint.plans import Plan, compile_plan
from expint.plans.compilation import RoundTime
from expint.plans.extrapolation import extrapolated
from expint.schedules import Schedule
from expint.solvers import Method

_LEAST_GAP = 1e-3  # logarithms of gaps begin at this part of an even one
FEW = 5


class Numbers(NamedTuple):
    """What is tuned, float64.

    Attributes:
        gaps: logarithms of the parts of the angle arctan σ between neighbouring times, up to a
            common constant; shape (steps,). The last one is what is left to the data end.
        ells: ℓ of each step between finite noise levels.
        factors: on the extrapolation of each step, shape (steps,).
    """

    gaps: Tensor
    ells: Tensor
    factors: Tensor


@dataclass(frozen=True, eq=False)
class Tunable:
    """A solver on a grid, as a function of the numbers that are tuned.

    Args:
        schedule, method: of the plan.
        grid: where the search begins; it ends at σ = 0.
        bounds: of ℓ; where they are equal ℓ is not tuned.
        round_time: of the model, if it is called on a table.
    """

    schedule: Schedule
    method: Method
    grid: Tensor
    bounds: tuple[float, float]
    round_time: RoundTime | None = None

    @property
    def steps(self) -> int:
        """Steps of the grid."""
        return len(self.grid) - 1

    @property
    def finite_steps(self) -> int:
        """Steps between finite noise levels."""
        return int(torch.isfinite(self.schedule.lam(self.grid)).sum()) - 1

    @property
    def _end(self) -> float:
        return math.atan(self.schedule.sigma(self.schedule.sampling_range[1]))

    def start(self, ell: float) -> Numbers:
        """The numbers of the grid that the search begins with, and ℓ in all steps."""
        angles = torch.atan(self.schedule.sigma(self.grid[:-1]))
        gaps = -torch.diff(angles, append=angles.new_tensor([self._end]))
        least = _LEAST_GAP * float(angles[0]) / self.steps
        ells = torch.full((self.finite_steps,), ell, dtype=torch.float64)
        return Numbers(torch.log(gaps.clamp(min=least)), ells, torch.ones_like(gaps))

    def moved(self, start: Numbers, by: Tensor) -> Numbers:
        """From `start` by FEW numbers: tilt and curvature of the gaps and the size of the last one;
        ℓ; trust in extrapolation."""
        place = torch.linspace(-1.0, 1.0, self.steps, dtype=torch.float64)
        last = torch.zeros_like(place)
        last[-1] = 1.0
        tilt, curvature, end, level, trust = by.unbind()
        return Numbers(
            start.gaps + tilt * place + curvature * (place**2 - 1.0 / 3.0) + end * last,
            start.ells + level,
            start.factors + trust,
        )

    @property
    def free(self) -> list[int]:
        """Which of the FEW numbers move something."""
        low, high = self.bounds
        return [0, 1, 2, *([3] if high > low else []), 4]

    def plan(self, numbers: Numbers) -> Plan:
        """The plan, whose coefficients carry gradients if the numbers do.

        Raises:
            ValueError: if there is no such plan, for example on a table that is too coarse.
        """
        first, end = math.atan(self.schedule.sigma(self.grid[0].item())), self._end
        parts = torch.softmax(numbers.gaps, 0).cumsum(0)[:-1]
        inner = self.schedule.t_of_lam(-torch.log(torch.tan(end + (first - end) * (1.0 - parts))))
        times = torch.cat([self.grid[:1], inner, self.grid[-1:]])
        low, high = self.bounds
        if low == high:
            sde = self.method.equation(self.schedule, "data", low)
        else:
            ells = numbers.ells.clamp(low, high)
            scale = noise_scale_per_step(self.schedule, times, ells)
            sde = self.method.equation(self.schedule, "data", noise_scale=scale)
        plan = compile_plan(sde, self.method, times, round_time=self.round_time)
        factors = numbers.factors
        if not factors.requires_grad and bool((factors == 1.0).all()):
            return plan
        return extrapolated(plan, factors)
