"""How far the samples of a large run are from a reference, in features: moments as they stream by,
and neighbours among the first of them.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from expint.metrics import gaussian_wasserstein

_ROWS = 1000  # pairs are formed for this many samples at a time
NEIGHBOURS = 5


def evaluate(
    samples: Iterable[Tensor],
    reference: Iterable[Tensor],
    features: Callable[[Tensor], Tensor],
    *,
    batch: int = 500,
    most: int = 10_000,
) -> dict[str, Any]:
    """Distances of samples from a reference, in features.

    Args:
        samples, reference: parts of them, (n, *shape), in any sizes; samples that are not finite
            are left out. Of all no more than the moments of the features are kept.
        features: makes (n, d) features of (n, *shape).
        batch: of the calls of `features`.
        most: features that are kept of each, for all but the Fréchet distance.

    Returns:
        `samples`, `reference` and `not_finite`, numbers of them; for each of `frechet`, `kernel`,
        `precision`, `recall`, `density` and `coverage` the value of all samples, and under `halves`
        those of every other sample, whose difference shows how certain it is. The Fréchet distance
        grows as samples get fewer, so that it is larger for a half.

    Raises:
        ValueError: for too few samples, or too few that are kept, or features that are not one row
            for each.

    Source: Fréchet distance, Heusel et al., arXiv 1706.08500; kernel distance (squared, unbiased,
    cubic kernel), Bińkowski et al., arXiv 1801.01401; precision and recall, Kynkäänniemi et al.,
    arXiv 1904.06991, density and coverage, Naeem et al., arXiv 2002.09797, with 5 neighbours.

    Example:
        >>> x = [torch.linspace(-1.0, 1.0, 80).reshape(40, 2)]
        >>> found = evaluate(x, x, lambda points: points)
        >>> found["precision"], found["coverage"], round(found["frechet"], 6)
        (1.0, 1.0, 0.0)
    """
    halves, left_out = _collected(samples, features, batch, -(-most // 2))
    others, _ = _collected(reference, features, batch, -(-most // 2))
    counts = {"samples": sum(half.count for half in halves), "not_finite": left_out}
    counts["reference"] = sum(half.count for half in others)
    if min(len(half.first) for half in (*halves, *others)) <= 2 * NEIGHBOURS:
        came = f"got {counts['samples']} and {counts['reference']}, and most={most}"
        raise ValueError(f"Give more than {4 * NEIGHBOURS} samples on each side, {came}.")
    target = others[0] + others[1]
    values = [_distances(each, target) for each in (halves[0] + halves[1], *halves)]
    split = {name: [value[name] for value in values[1:]] for name in values[0]}
    return {**counts, **values[0], "halves": split}


class _Features:
    """Moments of features, and the first of them."""

    def __init__(self, count: int, mean: Tensor, squares: Tensor, first: Tensor) -> None:
        self.count, self.mean, self.squares, self.first = count, mean, squares, first

    @classmethod
    def of(cls, features: Tensor) -> "_Features":
        wide = features.double()
        centred = wide - wide.mean(0)
        return cls(len(wide), wide.mean(0), centred.T @ centred, features)

    def __add__(self, other: "_Features") -> "_Features":
        """Chan, Golub & LeVeque: the squares about the common mean."""
        total, delta = self.count + other.count, other.mean - self.mean
        between = torch.outer(delta, delta) * (self.count * other.count / total)
        mean, squares = self.mean + delta * (other.count / total), self.squares + other.squares
        return _Features(total, mean, squares + between, torch.cat([self.first, other.first]))

    def kept(self, most: int) -> "_Features":
        """With no more than the first of them."""
        return _Features(self.count, self.mean, self.squares, self.first[:most])


def _collected(
    parts: Iterable[Tensor], features: Callable[[Tensor], Tensor], batch: int, most: int
) -> tuple[list[_Features], int]:
    """The features of every other sample from the first and from the second on, and how many
    samples are left out."""
    halves: list[_Features | None] = [None, None]
    place, left_out = 0, 0
    for part in parts:
        finite = part[part.flatten(1).isfinite().all(1)]
        left_out += len(part) - len(finite)
        for images in finite.split(batch):
            with torch.inference_mode():
                found = features(images).flatten(1).float().cpu()
            if len(found) != len(images):
                raise ValueError(f"The features of {len(images)} samples are {len(found)} rows.")
            for i, half in enumerate(halves):
                own = found[(i - place) % 2 :: 2]
                if len(own):
                    new = _Features.of(own)
                    halves[i] = (new if half is None else half + new).kept(most)
            place += len(found)
    if None in halves:
        raise ValueError(f"There are {place} finite samples: give more.")
    return [half for half in halves if half is not None], left_out


def _distances(own: _Features, target: _Features) -> Mapping[str, float]:
    moments = [(each.mean, each.squares / (each.count - 1)) for each in (own, target)]
    x, y = own.first, target.first
    distances = {"frechet": float(gaussian_wasserstein(*moments[0], *moments[1])) ** 2}
    distances["kernel"] = _kernel(x, x) + _kernel(y, y) - 2.0 * _kernel(x, y)
    return distances | _neighbourhoods(x, y)


def _kernel(x: Tensor, y: Tensor) -> float:
    """The mean of (x·y/d + 1)³ over all pairs, of a sample with itself left out."""
    total = 0.0
    for rows in x.double().split(_ROWS):
        total += float(((rows @ y.double().T / x.shape[1] + 1.0) ** 3).sum())
    if x is not y:
        return total / (len(x) * len(y))
    own = float(((x.double() ** 2).mean(1) + 1.0).pow(3).sum())
    return (total - own) / (len(x) * (len(x) - 1))


def _neighbourhoods(x: Tensor, y: Tensor) -> dict[str, float]:
    """How x lies in the balls around the points of y that reach to their neighbours, and y in those
    of x."""
    radii_x, radii_y = _radii(x), _radii(y)
    precise, dense = 0, 0
    covered, recalled = (torch.zeros(len(y), dtype=torch.bool) for _ in range(2))
    for rows, radii in zip(x.split(_ROWS), radii_x.split(_ROWS), strict=True):
        distances = torch.cdist(rows, y)
        inside = distances <= radii_y
        precise, dense = precise + int(inside.any(1).sum()), dense + int(inside.sum())
        covered |= inside.any(0)
        recalled |= (distances <= radii[:, None]).any(0)
    return {
        "precision": precise / len(x),
        "recall": float(recalled.float().mean()),
        "density": dense / (NEIGHBOURS * len(x)),
        "coverage": float(covered.float().mean()),
    }


def _radii(x: Tensor) -> Tensor:
    """The distance of each point from its neighbour number NEIGHBOURS among the others."""
    parts = [torch.cdist(rows, x).kthvalue(NEIGHBOURS + 1, dim=1).values for rows in x.split(_ROWS)]
    return torch.cat(parts)
