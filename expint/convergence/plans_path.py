"""One Brownian path for many plans, at the times that any of them needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from expint.equations.sde import SemiLinearSDE
from expint.noise import source
from expint.noise.source import SubstepNoise
from expint.plans.plan import Plan

# Times nearer than this, relative to the run, are one time: equal nodes of different grids come
# within rounding only.
_SAME = 1e-11


class PlansPath:
    """The path in the noise clock of one equation, also a diagonal one, at all noise nodes of some
    plans for it.

    Between neighbouring times the increment and the space-time integral are drawn once, as two
    standard normals; longer intervals compose them exactly. Only ratios of the lengths Δτ enter,
    from their logarithms, so that no mode is too stiff: τ itself may overflow.

    Args:
        sde: the equation.
        plans: everything that will run on the path.

    Raises:
        ValueError: for plans with noise that is not the path's, or none at all.
    """

    def __init__(self, sde: SemiLinearSDE, plans: Sequence[Plan]) -> None:
        if sde.noise is None:
            raise ValueError("These plans use no noise (ell = 0): there is no path to draw.")
        times = [_noise_times(plan) for plan in plans]
        every = torch.cat([step for plan in times for step in plan])
        every = every[torch.argsort(_along(sde, every))]
        along = _along(sde, every)
        if not torch.isfinite(along).all():
            raise ValueError("A Brownian path has no value at infinite noise: start at finite σ.")
        new = along.diff() > _SAME * (along[-1] - along[0])
        every = every[torch.cat([new.new_ones(1), new])]
        first, last = every.reshape(-1, *[1] * sde.event_ndim).unfold(0, 2, 1).unbind(-1)
        log_a = sde.log_propagator(last)
        self._logs = sde.noise.log_variance(first, last, log_a) - 2.0 * log_a
        middles = 0.5 * (_along(sde, every)[1:] + _along(sde, every)[:-1])
        self._places = {
            id(plan): [torch.searchsorted(middles, _along(sde, step)).tolist() for step in steps]
            for plan, steps in zip(plans, times, strict=True)
        }

    def open(self, seeds: Sequence[int], like: Tensor) -> "OpenedPlansPath":
        """Draw it, one seed per sample, for states like `like`, shape (batch, *event)."""
        count, *own = self._logs.shape

        def drawn(stream: int) -> Tensor:
            block = like.new_empty(len(seeds), count, *like.shape[1:])
            source.fill_normals(source.generators(seeds, stream, like.device), block)
            return block.movedim(1, 0).contiguous()

        logs = self._logs.reshape(count, *[1] * (like.ndim - len(own)), *own)
        increments, integrals = map(drawn, (source.PATH_STREAM, source.INTEGRAL_STREAM))
        return OpenedPlansPath(logs, increments, integrals, self._places)


@dataclass(frozen=True, eq=False)
class OpenedPlansPath:
    """The path of some samples: logarithms of the lengths Δτ of its intervals, the normals of their
    increments and of their integrals, and where each plan's noise nodes lie."""

    logs: Tensor
    increments: Tensor
    integrals: Tensor
    places: dict[int, list[list[int]]]

    def of(self, plan: Plan) -> "_PlanSource":
        """The source for a run of one of the plans."""
        return _PlanSource(self, self.places[id(plan)])

    def normals(self, places: list[int], integral: bool) -> list[Tensor]:
        """See `SubstepNoise`, for the substep whose noise nodes lie at `places`."""
        first, last = places[0], places[-1]
        if len(places) == 2 and last == first + 1:  # neighbours
            return [self.increments[first], self.integrals[first]][: 1 + integral]
        found = []
        for a, b in pairwise(places):
            shares = _exp(0.5 * (self.logs[a:b] - torch.logsumexp(self.logs[a:b], 0)))
            found.append((shares * self.increments[a:b]).sum(0))
        if not integral:
            return found
        whole = slice(first, last)
        # In units of the substep's Δτ.
        lengths = _exp(self.logs[whole] - torch.logsumexp(self.logs[whole], 0))
        ends = torch.cat([torch.zeros_like(lengths[:1]), lengths.cumsum(0)])
        rest = _ahead(ends, self.increments[whole])
        rest += (torch.sqrt(lengths**3 / 12.0) * self.integrals[whole]).sum(0)
        ends = ends[[place - first for place in places]]
        spread = torch.sqrt((ends.diff(dim=0) ** 3).sum(0) / 12.0)
        rest -= _ahead(ends, torch.stack(found))
        return [*found, torch.where(spread > 0, rest / spread, 0.0)]


@dataclass(frozen=True, eq=False)
class _PlanSource:
    path: OpenedPlansPath
    places: list[list[int]]

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_PlanStream":
        """See `NoiseSource.stream`."""
        return _PlanStream(self.path, iter(self.places))


class _PlanStream:
    def __init__(self, path: OpenedPlansPath, places: Iterator[list[int]]) -> None:
        self._path, self._places = path, places

    def normals(self, substep: SubstepNoise) -> Sequence[Tensor]:
        """See `NoiseStream.normals`."""
        return self._path.normals(next(self._places), substep.integral)


def _along(sde: SemiLinearSDE, times: Tensor) -> Tensor:
    """A coordinate that increases along a run."""
    if sde.diffusion:
        return sde.diffusion.schedule.lam(times)
    return -times if sde.span and sde.span[1] < sde.span[0] else times


def _noise_times(plan: Plan) -> list[Tensor]:
    """Start and noise nodes of every step."""
    if any(noise.nodes is None for noise in plan.run):
        raise ValueError(
            "The run adds noise that is not part of the path of the SDE (churn, an ancestral step "
            "or a Langevin corrector), which no path can give: leave the operation out."
        )
    rows, found = iter(plan.rows), []
    for k in range(plan.steps):
        tableau = plan.method.at(k, plan.steps)
        ends = {stage.c: row.target for stage, row in zip(tableau.stages, rows, strict=False)}
        times = [plan.grid[k], *(ends[c] for c in tableau.noise_nodes)]
        found.append(torch.stack([torch.as_tensor(t, dtype=torch.float64) for t in times]))
    return found


def _exp(logs: Tensor) -> Tensor:
    """e^logs, 0 where there is no noise at all."""
    return torch.exp(logs).nan_to_num(0.0)


def _ahead(ends: Tensor, normals: Tensor) -> Tensor:
    """Σ_k (τ_m − (τ_{k−1} + τ_k)/2) √Δτ_k z_k."""
    return ((ends[-1] - 0.5 * (ends[1:] + ends[:-1])) * ends.diff(dim=0).sqrt() * normals).sum(0)
