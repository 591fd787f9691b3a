"""A plan's samples beside fine solutions of its own equation, pair by pair."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from expint import grids
from expint.equations.diffusion import Diffusion
from expint.noise import BrownianPath, per_sample
from expint.plans import Plan
from expint.sampling import sample
from expint.tuning.objective import BATCH, HELD_OUT, RESOLUTION, SEARCH, Drawn, Features, Side
from expint.tuning.starts import AS_THEY_ARE, DETERMINISTIC, STOCHASTIC, Entry

FINE = 50  # evaluations of a solution that plans are compared with
LEVELS = (0.0, 0.3, 0.6, 1.0)  # of ℓ, that plans are tried with
PRICE = 0.6  # of ℓ lower or higher by 1: the law of an imperfect network is another there
SHARES = {"grids": 0.04, "along": 0.36, "screening": 0.2, "few": 0.24, "held out": 0.12}
SCREENS = ((3, 12), (1, 12))  # on a third of the pairs, of which twelve are kept, and on all
LEAST, MOST, MOST_LAST = 16, 3000, 12_000  # samples of a distance; the last for a choice


def levels_of(bounds: tuple[float, float]) -> list[float]:
    """Of ℓ, within its bounds."""
    return sorted({min(max(level, bounds[0]), bounds[1]) for level in LEVELS})


def pair_counts(budget: int, nfe: int, bounds: tuple[float, float]) -> dict[int, int]:
    """How many samples of each part are compared with solutions."""
    levels, solvers = len(levels_of(bounds)), len({*STOCHASTIC, *DETERMINISTIC})
    every = (levels + len(AS_THEY_ARE) * solvers) // SCREENS[0][0] + SCREENS[0][1]
    costs = {
        SEARCH: ("screening", every * nfe + (levels + (bounds[0] > 0.0)) * FINE),
        HELD_OUT: ("held out", 7 * nfe + min(levels, 3) * FINE),
    }
    return {
        part: int(min(MOST, max(LEAST, SHARES[stage] * budget / cost)))
        for part, (stage, cost) in costs.items()
    }


def price(entry: Entry, first: float) -> float:
    """What an entry's ℓ adds to its distance, in a choice."""
    return PRICE * abs(entry[1].bounds[0] - first)


def ell_of(plan: Plan) -> float:
    """That of the equation, whose noise the solutions have too.

    Raises:
        ValueError: for a noise scale in its place.
    """
    ell = cast(Diffusion, plan.sde.diffusion).ell
    if ell is None:
        raise ValueError("There are no solutions for a noise scale in place of one ell.")
    return ell


class Pairs(Drawn):
    """The distance of a plan's samples from fine solutions of its own equation, with its ℓ, from
    the same initial states and along the same Brownian paths.

    Sample and solution differ by the plan's errors alone, so that a few hundred pairs show small
    ones: for the ODE their distance scatters a hundredth as much as that of independent samples, at
    ℓ = 1 a tenth to two thirds. It leaves out the distances within pairs and so is that of the
    laws, without bias: 0 for the law of the solutions, in units of what 1000 samples of it have.
    Below 0, which no distance is, it counts as 0; and to it comes its standard error, so that none
    is chosen for its luck.

    Args:
        model, shape, features, seed: as for `SampleObjective`.
        counts: how many pairs there are, of each part of the seeds.
    """

    def __init__(
        self, model: Any, shape: Sequence[int], features: Features | None, seed: int,
        counts: Mapping[int, int],
    ) -> None:  # fmt: skip
        super().__init__(model, shape, features, seed)
        self.counts = counts
        self._known: dict[tuple[float, int], tuple[Tensor, list[Side]]] = {}

    def prepare(self, ells: Collection[float], part: int) -> int:
        """Draw solutions for these ℓ; what that costs."""
        for ell in ells:
            self.solutions(ell, part)
        return len(ells) * self.counts[part] * (FINE + self._extra)

    def solutions(self, ell: float, part: int) -> tuple[Tensor, list[Side]]:
        """The solutions, float32, and the views of them."""
        if (ell, part) not in self._known:
            seeds = per_sample(3 * self.seed + part, self.counts[part])
            batches = (seeds[i : i + BATCH] for i in range(0, len(seeds), BATCH))
            fine = torch.cat([self._solved(ell, batch) for batch in batches])
            self._known[ell, part] = fine, self._sides(fine)
        return self._known[ell, part]

    def _solved(self, ell: float, seeds: Sequence[int]) -> Tensor:
        """On the default grid, where images hardly change any more below its end, else to the end
        of the sampling range, for narrow modes."""
        image = self.image or self._about.round_time is not None
        solver, grid = ("seeds-ab2", None) if image else ("sa-solver", grids.uniform_lambda)
        how: Any = {"solver": solver if ell else "unipc-3", "ell": ell, "nfe": FINE, "grid": grid}
        how |= {"seeds": seeds, "noise": BrownianPath(seeds, RESOLUTION) if ell else None}
        return sample(self.model, (len(seeds), *self.shape), progress=False, **how)

    def of(self, plan: Plan, count: int, part: int = SEARCH, start: int = 0) -> Tensor:
        """See `Objective.of`: the mean over all views, plus its standard error."""
        ell = ell_of(plan)
        views = self._seen(self.samples(plan, count, part, start, path=ell > 0.0))
        pairs = zip(self.solutions(ell, part)[1], views, strict=True)
        shares = torch.stack([side.paired(view, start) for side, view in pairs]).mean(0)
        return shares.mean().clamp(min=0.0) + 2.0 * shares.std() / math.sqrt(count)
