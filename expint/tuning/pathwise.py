"""A guide with hardly any noise: a plan's samples from an ODE beside fine solutions from the same
initial states.

The law of samples shows only through their number, and so a search by it among many numbers fits
its accidents. Sample by sample there is no such noise: few paths determine every number of a plan,
which then serves ℓ > 0 as well. No gradient of the network is needed.
"""

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares

from expint.tuning.objective import SEARCH
from expint.tuning.pairs import Pairs
from expint.tuning.parameters import Numbers, Tunable

MODES = 10  # cosines that the numbers of all steps are moved by; fewer in shorter plans
_SCALE = 0.1  # in standard deviations of the samples: what is further off counts less and less
_DIFFERENCE, _ON_TABLE = 1e-3, 0.05


class Paths(Pairs):
    """Fine solutions, and plans that come near them sample by sample; the arguments are those of
    `Pairs`."""

    def error(self, tunable: Tunable, numbers: Numbers, count: int) -> float:
        """The mean of a robust square of the distances of `count` samples from the solutions."""
        return float(np.mean(2.0 * np.hypot(1.0, self._residuals(tunable, numbers, count)) - 2.0))

    def nearer(
        self, tunable: Tunable, start: Numbers, count: int, trials: int
    ) -> tuple[float, Numbers]:
        """The least error that some trials of a trust-region method find, by every number of every
        step, and these numbers."""
        steps = tunable.steps
        places = torch.arange(steps, dtype=torch.float64) + 0.5
        waves = torch.arange(min(steps, MODES), dtype=torch.float64)
        basis = torch.cos(math.pi / steps * places[:, None] * waves)
        gaps = basis[:, 1:]  # of the gaps a common constant moves nothing

        def numbers(x: np.ndarray) -> Numbers:
            by = torch.as_tensor(x)
            cut = gaps.shape[1]
            return start._replace(
                gaps=start.gaps + gaps @ by[:cut], factors=start.factors + basis @ by[cut:]
            )

        last: dict[bytes, np.ndarray] = {}

        def residuals(x: np.ndarray) -> np.ndarray:
            if x.tobytes() not in last:
                last.clear()
                last[x.tobytes()] = self._residuals(tunable, numbers(x), count)
            return last[x.tobytes()]

        difference = _ON_TABLE if self._about.round_time else _DIFFERENCE

        def slopes(x: np.ndarray) -> np.ndarray:
            base, units = residuals(x), difference * np.eye(len(x))
            moved = [self._residuals(tunable, numbers(x + unit), count) - base for unit in units]
            return np.nan_to_num(np.stack(moved, 1) / difference, posinf=0.0, neginf=0.0)

        zero = np.zeros(gaps.shape[1] + basis.shape[1])
        if not np.isfinite(residuals(zero)).all():
            return math.inf, start
        how: Any = {"jac": slopes, "x_scale": "jac", "loss": "soft_l1", "max_nfev": trials}
        found = least_squares(residuals, zero, **how)
        return 2.0 * found.cost / len(found.fun), numbers(found.x)

    def _residuals(self, tunable: Tunable, numbers: Numbers, count: int) -> np.ndarray:
        """In units of `_SCALE` standard deviations; infinite where there is no plan, or a sample is
        not finite."""
        every = self.solutions(0.0, SEARCH)[0]
        fine = every[:count]
        with torch.no_grad():
            try:
                plan = tunable.plan(numbers)
                samples = self.samples(plan, count, SEARCH)
            except (ValueError, FloatingPointError):
                return np.full(fine.numel(), np.inf)
        return ((samples - fine) / (_SCALE * every.std())).double().flatten().cpu().numpy()
