"""How far the output of a sampler is from the data: exactly on Gaussian data, by samples on all
other.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, Protocol

import torch
from torch import Tensor

from expint.convergence.common_path import PathMaker
from expint.convergence.linear_response import gaussian_moments
from expint.metrics import (
    energy_distance,
    frechet_distance,
    gaussian_wasserstein,
    sliced_wasserstein,
)
from expint.noise import Gaussian as FreshNoise
from expint.noise import initial_state
from expint.noise.source import check_seeds
from expint.plans.plan import Plan
from expint.registry import unknown
from expint.runs.run import execute
from expint.targets import Empirical, Gaussian, GaussianMixture

__all__ = ["EXACT", "METRICS", "Judge", "Metric", "judge_for"]

Metric = Callable[[Tensor, Tensor], Any]

EXACT = "wasserstein"
METRICS: Mapping[str, Metric] = {
    "sliced-wasserstein": sliced_wasserstein,
    "frechet": frechet_distance,
    "energy": energy_distance,
}
"""Metrics of samples by name; beside them EXACT, which needs no samples, for Gaussian data."""
_MEASURES = {
    sliced_wasserstein: "sliced Wasserstein-2",
    frechet_distance: "Fréchet distance",
    energy_distance: "energy distance",
}
# sets of exact samples: a distance at the level of the floor varies by a third from one to the next
REFERENCES = 4


class Judge(Protocol):
    """Tells how far the output of a plan is from the data."""

    @property
    def measure(self) -> str:
        """What the distances are, in words."""
        ...

    @property
    def floor(self) -> float | None:
        """What exact samples reach, if known."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """How samples are drawn, as JSON can hold it; empty if none are."""
        ...

    def cost(self, plan: Plan) -> int:
        """Network evaluations that `distance` counts."""
        ...

    def distance(self, plan: Plan, count: Callable[[int], Any]) -> float:
        """The distance; `count` is told of network evaluations as they are done."""
        ...


@dataclass(frozen=True)
class _Exact:
    """Gaussian data: the output is Gaussian too, and its moments are known."""

    target: Gaussian
    measure: str = "exact Wasserstein-2 / root of total variance"
    floor: float = 0.0

    @property
    def settings(self) -> dict[str, Any]:
        return {}

    def cost(self, plan: Plan) -> int:
        return plan.nfe

    def distance(self, plan: Plan, count: Callable[[int], Any]) -> float:
        target = self.target
        # The start of `expint.sample`, which knows no data.
        start = (torch.zeros_like(target.mean), torch.full_like(target.mean, _first_std(plan) ** 2))
        mean, variance = gaussian_moments(plan, target, initial=start)
        count(plan.nfe)
        return float(
            gaussian_wasserstein(mean, variance, target.mean, target.variances)
        ) / math.sqrt(target.variances.sum())


@dataclass(frozen=True)
class _Runs:
    """Samples in batches, one run of `n` for each of the first seeds."""

    model: Any
    seeds: tuple[int, ...]
    n: int
    path: PathMaker | None
    features: Callable[[Tensor], Tensor] | None
    batch: int

    def draw(self, plan: Plan, first: int, count: Callable[[int], Any]) -> Tensor:
        """Features of the samples with seeds first, first + 1, …, shape (n, d)."""
        shape, device = tuple(self.model.shape), getattr(self.model, "device", "cpu")
        std = _first_std(plan)
        drawn = []
        with torch.inference_mode():
            for start in range(first, first + self.n, self.batch):
                seeds = range(start, min(start + self.batch, first + self.n))
                x = initial_state(seeds, shape, torch.float32, device).mul_(std)
                source = FreshNoise(seeds) if self.path is None else self.path(seeds)
                drawn.append(self.features_of(execute(plan, self.model, x, source)))
                count(plan.nfe)
        return torch.cat(drawn)

    def features_of(self, samples: Tensor) -> Tensor:
        """Features of samples, shape (n, d)."""
        return samples.flatten(1) if self.features is None else self.features(samples)


@dataclass(frozen=True)
class _Sampled:
    """Distances between sets of samples, the mean over all runs and references."""

    runs: _Runs
    metric: Metric
    measure: str
    references: tuple[Tensor, ...]
    floor: float | None

    @property
    def settings(self) -> dict[str, Any]:
        runs = self.runs
        noise = "fresh" if runs.path is None else "one path for all"
        return {
            "n": runs.n,
            "repeats": len(runs.seeds),
            "seed": runs.seeds[0],
            "noise": noise,
            "references": len(self.references),
        }

    def cost(self, plan: Plan) -> int:
        return plan.nfe * len(self.runs.seeds) * -(-self.runs.n // self.runs.batch)

    def distance(self, plan: Plan, count: Callable[[int], Any]) -> float:
        drawn = [self.runs.draw(plan, first, count) for first in self.runs.seeds]
        return _mean(self.metric(x, y) for x in drawn for y in self.references)


def judge_for(
    model: Any,
    metric: str | Metric | None,
    *,
    n: int,
    repeats: int,
    seed: int,
    path: PathMaker | None,
    reference: Tensor | None,
    independent: Tensor | None,
    features: Callable[[Tensor], Tensor] | None,
    batch: int,
) -> Callable[[], Judge]:
    """Check that the metric fits the model, and return a function that draws the references and
    makes the judge.

    The arguments are those of `expint.quality.comparison.compare_quality`.

    Raises:
        ValueError: for an unknown metric, one that does not fit, or a reference that lacks or does
            not fit.
    """
    is_target = isinstance(model, (Gaussian, GaussianMixture, Empirical))
    if metric is None:
        metric = (
            EXACT
            if isinstance(model, Gaussian)
            else "sliced-wasserstein"
            if is_target
            else "frechet"
        )
    if isinstance(metric, str) and metric not in (known := [EXACT, *METRICS]):
        raise unknown("metric", metric, known, ", or give a function of two sets of samples")
    if metric == EXACT:
        if not isinstance(model, Gaussian):
            raise ValueError(
                f"metric={EXACT!r} is exact for Gaussian data only: give another, for example "
                "'sliced-wasserstein'."
            )
        if not model.variances.sum() > 0:
            raise ValueError(
                "The distance is relative to the total variance of the data, which is 0 here."
            )
        return lambda: _Exact(model)
    shape = getattr(model, "shape", None)
    if shape is None:
        raise ValueError(
            f"{type(model).__name__} has no attribute `shape`: set it to the shape of one sample."
        )
    if reference is None and not is_target:
        raise ValueError(
            f"{type(model).__name__} has no exact samples to compare with: give samples of the "
            "data, reference=..."
        )
    for name, data in (("reference", reference), ("independent", independent)):
        if data is not None and tuple(data.shape[1:]) != tuple(shape):
            raise ValueError(
                f"{name} has samples of shape {tuple(data.shape[1:])}, but those of the model are "
                f"{tuple(shape)}."
            )
    check_seeds([seed, seed + max(repeats, REFERENCES) * n - 1])
    runs = _Runs(model, tuple(range(seed, seed + repeats * n, n)), n, path, features, batch)
    return lambda: _sampled(runs, metric, reference, independent)


def _sampled(
    runs: _Runs, kind: str | Metric, reference: Tensor | None, independent: Tensor | None
) -> _Sampled:
    metric = METRICS[kind] if isinstance(kind, str) else kind
    function = metric.func if isinstance(metric, partial) else metric
    measure = _MEASURES.get(function) or getattr(function, "__name__", type(function).__name__)
    if reference is None:
        first = runs.seeds[0]
        sets = [
            runs.features_of(runs.model.sample(runs.n, seed=first + i * runs.n))
            for i in range(REFERENCES)
        ]
        return _Sampled(
            runs,
            metric,
            measure,
            tuple(sets),
            _mean(metric(x, y) for x, y in combinations(sets, 2)),
        )
    data = runs.features_of(reference)
    floor = None if independent is None else float(metric(runs.features_of(independent), data))
    return _Sampled(runs, metric, measure, (data,), floor)


def _mean(distances: Iterable[Any]) -> float:
    listed = [float(distance) for distance in distances]
    return math.fsum(listed) / len(listed)


def _first_std(plan: Plan) -> float:
    assert plan.sde.schedule is not None
    return float(plan.sde.schedule.std(plan.grid[0].item()))
