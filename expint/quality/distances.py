"""How far the output of a sampler is from the data: exactly on Gaussian data, by samples on all
other.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

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
from expint.noise.seeding import per_sample
from expint.plans.plan import Plan
from expint.registry import unknown
from expint.runs.model import describe
from expint.runs.run import execute
from expint.targets import Empirical, Gaussian, GaussianMixture

Metric = Callable[[Tensor, Tensor], Any]
Count = Callable[[int], Any]
Drawing = Callable[[Plan, range], Iterable[Tensor]]

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


@dataclass(frozen=True)
class Distance:
    """The distance of a plan's output from the data.

    Attributes:
        measure: what it is, in words.
        floor: what exact samples reach, if known.
        between: computes it for a plan; its second argument is called with the number of network
            evaluations as they are done.
        runs: how often a plan is run.
        settings: how samples are drawn, as JSON can hold it; empty if none are.
    """

    measure: str
    floor: float | None
    between: Callable[[Plan, Count], float]
    runs: int = 1
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """The samples of a study, drawn in batches, and the data that they are compared with. The
    fields are arguments of `expint.quality.comparison.compare_quality`.
    """

    model: Any
    n: int
    repeats: int
    seed: int
    path: PathMaker | None
    reference: Tensor | None
    independent: Tensor | None
    features: Callable[[Tensor], Tensor] | None
    batch: int
    draw: Drawing | None

    @property
    def is_target(self) -> bool:
        """Whether exact samples of the data can be drawn."""
        return isinstance(self.model, (Gaussian, GaussianMixture, Empirical))

    def parts(self, count: int) -> range:
        """Where each of so many sets of n samples begins in the run `seed`."""
        return range(0, count * self.n, self.n)

    def check(self) -> None:
        """Refuse a model or a reference that does not fit, with a ValueError."""
        name, shape = type(self.model).__name__, describe(self.model).shape
        if shape is None:
            raise ValueError(f"{name} has no attribute `shape`: set it to the shape of one sample.")
        if self.reference is None and not self.is_target:
            raise ValueError(
                f"{name} has no exact samples to compare with: give samples of the data, "
                "reference=..."
            )
        for given in ("reference", "independent"):
            data = getattr(self, given)
            if data is not None and tuple(data.shape[1:]) != shape:
                raise ValueError(
                    f"{given} has samples of shape {tuple(data.shape[1:])}, but those of the model "
                    f"are {shape}."
                )
        per_sample(self.seed, 1, start=max(self.repeats, REFERENCES) * self.n - 1)

    def run(self, plan: Plan, first: int, count: Count) -> Tensor:
        """Features of samples first, first + 1, … of the run `seed`, shape (n, d)."""
        drawn = []
        with torch.inference_mode():
            for samples in (self.draw or self._batches)(plan, range(first, first + self.n)):
                drawn.append(self.features_of(samples))
                count(plan.nfe)
        return torch.cat(drawn)

    def _batches(self, plan: Plan, places: range) -> Iterator[Tensor]:
        model, std = describe(self.model), _first_std(plan)
        for part in (places[i : i + self.batch] for i in range(0, self.n, self.batch)):
            seeds = per_sample(self.seed, len(part), start=part.start)
            x = initial_state(seeds, model.shape or (), torch.float32, model.device or "cpu")
            source = FreshNoise(seeds) if self.path is None else self.path(seeds)
            yield execute(plan, self.model, x * std, source)

    def features_of(self, samples: Tensor) -> Tensor:
        """Features of samples, shape (n, d)."""
        return samples.flatten(1) if self.features is None else self.features(samples)


def distance_from_data(samples: Samples, metric: str | Metric | None) -> Distance:
    """The distance by a metric, by default one that fits the model; draws the exact samples that it
    needs.

    Raises:
        ValueError: for an unknown metric, one that does not fit, or a reference that is missing or
            does not fit.
    """
    model, other = samples.model, "sliced-wasserstein" if samples.is_target else "frechet"
    if metric is None:
        metric = EXACT if isinstance(model, Gaussian) else other
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
        measure = "exact Wasserstein-2 / root of total variance"
        return Distance(measure, 0.0, partial(_exact, model))
    if isinstance(metric, str):
        if metric not in METRICS:
            way_out = ", or give a function of two sets of samples"
            raise unknown("metric", metric, [EXACT, *METRICS], way_out)
        metric = METRICS[metric]
    samples.check()
    return _between_samples(samples, metric)


def _between_samples(samples: Samples, metric: Metric) -> Distance:
    """Means over the runs and the sets of exact samples, or the distance from the reference."""
    function = metric.func if isinstance(metric, partial) else metric
    measure = _MEASURES.get(function) or getattr(function, "__name__", type(function).__name__)
    floor = None
    if samples.reference is None:
        exact = (
            samples.model.sample(samples.n, seed=samples.seed, start=first)
            for first in samples.parts(REFERENCES)
        )
        references = [samples.features_of(drawn) for drawn in exact]
        floor = _mean(metric(x, y) for x, y in combinations(references, 2))
    else:
        references = [samples.features_of(samples.reference)]
        if samples.independent is not None:
            floor = float(metric(samples.features_of(samples.independent), references[0]))

    def between(plan: Plan, count: Count) -> float:
        drawn = [samples.run(plan, first, count) for first in samples.parts(samples.repeats)]
        return _mean(metric(x, y) for x in drawn for y in references)

    settings = {
        "n": samples.n,
        "repeats": samples.repeats,
        "seed": samples.seed,
        "noise": "fresh" if samples.path is None else "one path for all",
        "references": len(references),
    }
    runs = samples.repeats * -(-samples.n // samples.batch)
    return Distance(measure, floor, between, runs, settings)


def _exact(target: Gaussian, plan: Plan, count: Count) -> float:
    """On Gaussian data the output is Gaussian too, and its moments are known."""
    # The start of `expint.sample`, which knows no data.
    start = (torch.zeros_like(target.mean), torch.full_like(target.mean, _first_std(plan) ** 2))
    moments = gaussian_moments(plan, target, initial=start)
    count(plan.nfe)
    distance = gaussian_wasserstein(*moments, target.mean, target.variances)
    return float(distance) / math.sqrt(target.variances.sum())


def _mean(distances: Iterable[Any]) -> float:
    listed = [float(distance) for distance in distances]
    return math.fsum(listed) / len(listed)


def _first_std(plan: Plan) -> float:
    assert plan.sde.diffusion
    return float(plan.sde.diffusion.schedule.std(plan.grid[0].item()))
