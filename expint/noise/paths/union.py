"""One Brownian path known at a fixed set of times: the fast way to drive many grids and solvers
with the same noise.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from expint.noise import source
from expint.noise.paths.path import PathSource
from expint.noise.source import SubstepNoise

# Times nearer than this, relative to their size, are one time: equal nodes of different grids come
# within rounding only.
_SAME = 1e-11


@dataclass(frozen=True, eq=False)
class UnionPath(PathSource):
    """A Brownian motion W in the noise clock, and its integral, at all times that a family of runs
    will ask for.

    Between neighbouring times, ΔW and U are drawn once; a query over several of these intervals
    adds the increments and composes the integrals by Chen's relation U(a,c) = U(a,b) + U(b,c) +
    (W(b) − W(a)) (c − b). The joint law of all answers is exact, whatever the grids. Sample i
    depends on seed i and on the times, unlike `BrownianPath`, which is one path for all times.

    Memory: 2 · times · batch · event numbers per stream.

    Args:
        seeds: one integer per sample.
        taus: the times, float64, shape (n,), in any order and with repeats; see `union_of_times`.

    Example:
        >>> import torch
        >>> path = UnionPath([0, 1], [1.0, 2.0, 4.0]).open(torch.zeros(2, 3, dtype=torch.float64))
        >>> fine = path.increments(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
        >>> coarse = path.increments(torch.tensor([1.0, 4.0], dtype=torch.float64))
        >>> torch.allclose(fine.sum(0), coarse[0], rtol=1e-12)
        True
    """

    seeds: Sequence[int]
    taus: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", source.check_seeds(self.seeds))
        times = torch.as_tensor(self.taus, dtype=torch.float64).detach().cpu()
        if times.ndim != 1 or len(times) < 2 or not torch.isfinite(times).all():
            raise ValueError(
                "taus must be at least 2 finite times in one dimension, got shape "
                f"{tuple(times.shape)}: {times}."
            )
        times = torch.sort(times).values
        kept = torch.ones(len(times), dtype=torch.bool)
        kept[1:] = times.diff() > _SAME * times.abs()[1:]
        object.__setattr__(self, "taus", times[kept])

    @property
    def identity(self) -> str:
        """Seeds and times."""
        return f"UnionPath{self.seeds} {self.taus.tolist()}"

    def check(self, like: Tensor, substep: SubstepNoise) -> None:
        """Refuse a time that is not among those that the path was made for."""
        assert substep.times is not None
        _places(self.taus, substep.times)

    def open(self, like: Tensor, run: Sequence[SubstepNoise] = ()) -> "_Composed":
        """See `PathSource.open`."""
        source.check_batch(self.seeds, like)
        count = len(self.taus) - 1
        normals = []
        for stream in (source.PATH_STREAM, source.INTEGRAL_STREAM):
            block = torch.empty(
                (len(self.seeds), count, *like.shape[1:]), dtype=like.dtype, device=like.device
            )
            source.fill_normals(source.generators(self.seeds, stream, like.device), block)
            normals.append(block.movedim(1, 0).contiguous())
        increments, integral = normals
        return _Composed(
            self.taus, increments.mul_(_column(self.taus.diff().sqrt(), increments)), integral
        )


class _Composed:
    def __init__(self, taus: Tensor, increments: Tensor, normals: Tensor) -> None:
        self._taus, self._increments, self._normals = taus, increments, normals

    def increments(self, taus: Tensor, space_time: bool = False) -> Any:
        """See `OpenedPath.increments`.

        A ValueError names a time that is not among those the path was made for.
        """
        places = _places(self._taus, taus)
        steps = torch.stack([self._increments[a:b].sum(0) for a, b in pairwise(places)])
        if not space_time:
            return steps
        whole = slice(places[0], places[-1])
        times = self._taus[places[0] : places[-1] + 1]
        return steps, _integral_of_path(times, self._increments[whole], self._normals[whole])


def _places(known: Tensor, taus: Tensor) -> list[int]:
    """Where the times lie among the known ones.

    Raises:
        ValueError: naming a time that is not among them.
    """
    if taus.ndim != 1:
        raise ValueError(
            f"A UnionPath serves a scalar noise clock, got times of shape {tuple(taus.shape)}: use "
            "BrownianPath."
        )
    wanted = taus.detach().to(device="cpu", dtype=torch.float64)
    right = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    left = (right - 1).clamp(min=0)
    nearer = (wanted - known[left]).abs() <= (known[right] - wanted).abs()
    nearest = torch.where(nearer, left, right)
    far = (known[nearest] - wanted).abs() > 100 * _SAME * wanted.abs()
    if far.any():
        raise ValueError(
            f"The path was made for {len(known)} times of the noise clock, and "
            f"{wanted[far][0].item():.12g} is not one of them."
        )
    return nearest.tolist()


def _column(values: Tensor, like: Tensor) -> Tensor:
    """One value per interval, ready to multiply increments of shape (n, batch, *event)."""
    return values.reshape(-1, *[1] * (like.ndim - 1)).to(like)


def _integral_of_path(taus: Tensor, increments: Tensor, normals: Tensor) -> Tensor:
    """U over the whole of `taus` from the increments and one more standard normal ζ per interval.

    On one interval U_k = Δ_k ΔW_k/2 + √(Δ_k³/12) ζ_k; intervals join by U(a,c) = U(a,b) + U(b,c) +
    (W(b) − W(a)) (c − b), so that U = Σ_k [(τ_n − (τ_k + τ_{k+1})/2) ΔW_k + √(Δ_k³/12) ζ_k].
    """
    ahead, lengths = taus[-1] - 0.5 * (taus[1:] + taus[:-1]), taus.diff()
    own = _column(lengths**1.5 / 12**0.5, normals) * normals
    return (_column(ahead, increments) * increments + own).sum(0)


def union_of_times(run: Iterable[SubstepNoise]) -> Tensor:
    """All noise times of some runs, for `UnionPath`.

    Args:
        run: what their substeps ask of the noise (`Plan.run`).

    Raises:
        ValueError: if there is none, or one that is not finite.
    """
    parts = [noise.times for noise in run]
    found = [times for times in parts if times is not None]
    if not found:
        raise ValueError("These plans use no noise (ell = 0): there is no path to draw.")
    if any(times.ndim != 1 for times in found):
        raise ValueError(
            "A UnionPath serves a scalar noise clock, not a diagonal one: use BrownianPath."
        )
    joined = torch.cat(found).nan_to_num(-math.inf, math.inf, -math.inf)
    if not torch.isfinite(joined).all():
        bad = next(float(tau) for tau in joined if not math.isfinite(tau))
        raise ValueError(f"A Brownian path has no value at τ = {bad}: start at a finite σ.")
    return joined
