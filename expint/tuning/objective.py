"""What a search minimises: the distance of a plan's samples from a reference."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, functional
from torch.nn.modules.module import register_module_forward_hook as on_all_layers
from torch.utils.checkpoint import checkpoint

from expint.convergence import gaussian_moments
from expint.noise import BrownianPath, per_sample
from expint.noise.source import fill_normals, generators
from expint.plans import Plan
from expint.runs import Run, describe, drive
from expint.runs.model import Description
from expint.runs.start import start_state
from expint.targets import Gaussian

Features = Callable[[Tensor], Tensor]
_FILTERS = 0x51A7C3D9
BATCH = 500
_ROWS = 250  # of a table of distances
UNIT = 1000
RESOLUTION = 2**10  # leaves of Brownian paths per e-fold of their clock
_LOCAL = (0.005, 0.05)  # quantiles of the distances in the reference that are local widths
# Runs of the seeds that are drawn, so that none of the three shares numbers with another.
REFERENCE, SEARCH, HELD_OUT = 0, 1, 2


class Objective(ABC):
    """A plan's distance from the law that it should sample.

    `cost` counts evaluations of the network on one sample; a gradient counts four (the run, the
    rows computed again, and the way back).
    """

    cost: int = 0

    @abstractmethod
    def of(self, plan: Plan, count: int, part: int = SEARCH, start: int = 0) -> Tensor:
        """The distance by `count` samples, from sample `start` of a part of the seeds on, float64,
        with gradients if the plan's coefficients carry any; the same samples every time."""


class GaussianObjective(Objective):
    """The squared Wasserstein-2 distance on Gaussian data, exact, without samples; see
    `expint.convergence.gaussian_moments`."""

    def __init__(self, target: Gaussian) -> None:
        self.target = target

    def of(self, plan: Plan, count: int, part: int = SEARCH, start: int = 0) -> Tensor:
        """See `Objective.of`; which samples does not matter."""
        (mean, variance), own = gaussian_moments(plan, self.target), self.target.moments()
        spread = variance.sqrt() - own[1].sqrt()
        return ((mean - own[0]) ** 2 + spread**2).sum()


class Drawn(Objective):
    """A distance that is measured on samples.

    Args:
        model, shape, features, seed: as for `SampleObjective`.
    """

    def __init__(
        self, model: Any, shape: Sequence[int], features: Features | None = None, seed: int = 0
    ) -> None:
        self.model, self._about, self.shape = model, describe(model), tuple(shape)
        self.seed, self.image = seed, len(self.shape) == 3 and min(self.shape[1:]) >= 8
        self._views: list[Features] = [partial(torch.flatten, start_dim=1)]
        self._extra = 0  # evaluations of the network that the features of a sample take
        if self.image:
            if features is None:
                features = bottleneck_features(model, self.shape)
                self._extra = int(features is not None)
            self._views += [_high_pass, features or random_features(self.shape[0], seed)]
        elif features is not None:
            self._views.append(features)

    def _sides(self, samples: Tensor) -> "list[Side]":
        return [
            Side(_in_parts(view, samples.float()), local=not self.image and k == 0)
            for k, view in enumerate(self._views)
        ]

    def _seen(self, samples: Tensor) -> list[Tensor]:
        self.cost += len(samples) * self._extra * (4 if samples.requires_grad else 1)
        return [_in_parts(view, samples) for view in self._views]

    def samples(
        self, plan: Plan, count: int, part: int, start: int = 0, *, path: bool = False
    ) -> Tensor:
        """Samples of a plan, float32; with gradients, checkpointed per evaluation, if it has
        any; along Brownian paths that are the same for every grid, or with a step's own noise."""
        learned = any(
            isinstance(value, Tensor)
            for row in plan.rows
            for value in (row.scale, *row.noise, *dict(row.weights).values())
        )
        self.cost += count * plan.nfe * (4 if learned else 1)
        call = _Checkpointed(self._about, self.model) if learned else self.model
        parts = []
        for begin in range(start, start + count, BATCH):
            size = min(BATCH, start + count - begin)
            seeds = per_sample(3 * self.seed + part, size, start=begin)
            noise = BrownianPath(seeds, RESOLUTION) if path else None
            how: Any = (lambda _, seeds=seeds: seeds, noise, None, None)
            with torch.set_grad_enabled(learned):
                x, noise = start_state(self._about, (size, *self.shape), plan, *how)
                state = Run(plan, call, x, noise)
                drive(state, call)
                parts.append(state.result())
        return torch.cat(parts)


class SampleObjective(Drawn):
    """The energy distance from a reference at several length scales, in units of what as many
    samples of the law have: of whole samples, and of what is finer (of images their high-pass part
    and features, of vectors two kernels of local width).

    Args:
        model: what is sampled.
        shape: of one sample.
        reference: samples of the law, shape (n, *event): the first half serves the search, the
            other the held-out distance.
        features: makes (n, d) features of samples; default: of images those of the network's own
            bottleneck, or of fixed random convolutions where it has none; else none.
        seed: of the samples.
    """

    def __init__(
        self,
        model: Any,
        shape: Sequence[int],
        reference: Tensor,
        features: Features | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, shape, features, seed)
        self.cost = self._extra * len(reference)
        halves = reference.tensor_split(2)
        self._halves = {SEARCH: self._sides(halves[0]), HELD_OUT: self._sides(halves[1])}

    def of(self, plan: Plan, count: int, part: int = SEARCH, start: int = 0) -> Tensor:
        """See `Objective.of`: the mean over all views, 1 for samples of the law itself.

        Raises:
            FloatingPointError: if the samples are not finite.
        """
        views = self._seen(self.samples(plan, count, part, start))
        pairs = zip(self._halves[part], views, strict=True)
        return torch.stack([side.distance(view) for side, view in pairs]).mean()


class _Checkpointed:
    """A model whose inner results are computed again on the way back, so that a gradient needs the
    memory of one evaluation."""

    def __init__(self, about: Description, model: Any) -> None:
        self.schedule, self.prediction = about.schedule, about.prediction
        self.sigma_data, self._inner = about.sigma_data, model

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        output = checkpoint(self._inner, x, t, use_reentrant=False)
        if x.requires_grad and not output.requires_grad:
            raise RuntimeError("The model's output carries no gradient.")
        return output


class Side:
    """One view of samples of a law, and the energy distance from it at some length scales."""

    def __init__(self, view: Tensor, local: bool) -> None:
        self._view = view.detach()
        self._widths = [math.inf]
        if local:
            some = _pairs(self._view[:_ROWS], self._view).flatten()[:1_000_000]
            self._widths += torch.quantile(some[some > 0.0], torch.tensor(_LOCAL)).tolist()

    def distance(self, view: Tensor) -> Tensor:
        """Of features of samples, the mean over length scales, in units of what as many samples of
        the law itself have on average."""
        across, inner = self._means(view, self._view), self._means(view, view)
        total = ((2.0 * across - inner - self._own) / self._own).mean()
        return total / (1.0 / len(view) + 1.0 / len(self._view))

    def paired(self, view: Tensor, start: int) -> Tensor:
        """The same of samples each of which belongs to one of the law's, from `start` on: the share
        of each pair, shape (n,), without the distance within it; their mean has expectation 0 for
        samples of the law, in units of what `UNIT` of them have."""
        other = self._view[start : start + len(view)]
        own = self._sums(other, other, pairs=True)
        total = self._sums(view, other, pairs=True) + self._sums(other, view, pairs=True)
        total = (total - self._sums(view, view, pairs=True) - own) / own.mean(0)
        return total.mean(1) * UNIT / 2.0

    @cached_property
    def _own(self) -> Tensor:
        return self._means(self._view, self._view)

    def _means(self, x: Tensor, y: Tensor) -> Tensor:
        return self._sums(x, y).sum(0) / (len(x) * len(y))

    def _sums(self, x: Tensor, y: Tensor, *, pairs: bool = False) -> Tensor:
        """Of each row of x and at every width w, over all y, of the distance d, or of 1 − e^{−d/w},
        which is sensitive to the law within w; some rows at a time, for memory; without that of
        x[i] from y[i], if they are pairs."""
        totals = []
        for i, rows in enumerate(x.split(_ROWS)):
            apart = _pairs(rows, y)
            if pairs:
                apart.diagonal(i * _ROWS).zero_()
            values = [apart if w == math.inf else -torch.expm1(-apart / w) for w in self._widths]
            totals.append(torch.stack([v.sum(1, dtype=torch.float64) for v in values], 1))
        return torch.cat(totals)


def _in_parts(view: Features, samples: Tensor) -> Tensor:
    with torch.set_grad_enabled(samples.requires_grad):
        return torch.cat([view(part) for part in samples.split(BATCH)])


def _pairs(x: Tensor, y: Tensor) -> Tensor:
    mode = "donot_use_mm_for_euclid_dist" if x.shape[1] <= 16 else "use_mm_for_euclid_dist"
    return torch.cdist(x, y, compute_mode=mode)


def _high_pass(x: Tensor) -> Tensor:
    """What is finer than 3 × 3 pixels."""
    return (x - functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)).flatten(1)


_eager = partial(torch.compiler.set_stance, "force_eager")  # hooks see no compiled layers


def bottleneck_features(model: Any, shape: Sequence[int], sigma: float = 1.0) -> Features | None:
    """What a network makes of samples in its layer of the fewest pixels, averaged over them.

    Args:
        model: is called with the samples, scaled to the noise level but without noise.
        shape: of one sample.
        sigma: the noise level, at which a network looks at what a sample shows as a whole.

    Returns:
        The features, or None where no layer has fewer pixels than the sample.
    """
    about = describe(model)
    t = torch.as_tensor(about.schedule.t_of_sigma(sigma), dtype=torch.float64)
    t = t if about.round_time is None else about.round_time(t)
    scale = float(about.schedule.alpha(t))
    layers: list[tuple[int, int, Module]] = []

    def see(layer: Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            layers.append((math.prod(output.shape[2:]), -output.shape[1], layer))

    with torch.no_grad(), _eager(), warnings.catch_warnings(action="ignore"), on_all_layers(see):
        model(torch.zeros(2, *shape, device=about.device), t)
    fewest = min((size for *size, _ in layers), default=[math.inf])
    if fewest[0] >= math.prod(shape[1:]):
        return None
    chosen = [layer for *size, layer in layers if size == fewest][-1]

    def features(x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        with _eager(), chosen.register_forward_hook(lambda *call: outputs.append(call[2])):
            model(scale * x, t)
        return outputs[-1].mean((2, 3))

    return features


def random_features(channels: int, seed: int = 0) -> Features:
    """Two layers of convolutions with fixed random weights, averaged over a 4 × 4 raster.

    Args:
        channels: of the images.
        seed: of the weights.
    """
    sizes = ((32, channels, 3, 3), (64, 32, 3, 3))
    weights = []
    for k, size in enumerate(sizes):
        weight = torch.empty(1, *size)
        fill_normals(generators([seed + k], _FILTERS, weight.device), weight)
        weights.append(weight[0] * math.sqrt(2.0 / math.prod(size[1:])))

    def features(x: Tensor) -> Tensor:
        for weight in weights:
            x = functional.relu(functional.conv2d(x, weight.to(x), stride=1, padding=1))
            x = functional.avg_pool2d(x, 2) if min(x.shape[2:]) >= 8 else x
        return functional.adaptive_avg_pool2d(x, 4).flatten(1)

    return features
