"""One noise for plans of different grids where the linear part is a matrix: increments of a fine
grid, composed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from expint.blocks import Block, BlockNodes, LinearSystem, square_root
from expint.blocks.integral import Integral
from expint.noise import source
from expint.noise.source import SubstepNoise
from expint.numerics.float64 import as_float64


@dataclass(frozen=True, eq=False)
class ComposedNoise:
    """The noise ∫ Φ G dω of an equation with matrices, drawn in the steps of a fine grid: every
    plan whose noise nodes lie on that grid sees the same path, exactly. For strong errors.

    Over the fine steps j of an interval N ← Φ_j N + ξ_j; a plan is answered with the standard
    normals of the N that it finds. Where a solver takes the integral of the path, that is a sum
    over the fine steps, exact in law at any number of them and along the path as they get short;
    and so are the components that the noise of a plan has beyond those of the equation.

    Args:
        sde: from `SemiLinearSDE.from_blocks`.
        seeds: one integer per sample.
        grid: the fine times, along the integration.

    Raises:
        ValueError: for another equation, or times at which its clock does not increase.
    """

    sde: Any
    seeds: Sequence[int]
    grid: Any

    def __post_init__(self) -> None:
        if not (self.sde.blocks and self.sde.is_stochastic):
            raise ValueError(f"{self.sde} has no noise with matrices (SemiLinearSDE.from_blocks).")
        object.__setattr__(self, "seeds", source.check_seeds(self.seeds))
        object.__setattr__(self, "grid", self.sde.check_grid(as_float64(self.grid)))

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_ComposedStream":
        """See `NoiseSource.stream`."""
        source.check_batch(self.seeds, like)
        system = own = self.sde.blocks
        for nodes in (substep.nodes for substep in run):
            if not isinstance(nodes, BlockNodes) or own not in (nodes.system, nodes.extends):
                raise ValueError("The run is of another equation than this noise.")
            _places(self.grid, nodes.times)
            system = nodes.system
        return _ComposedStream(system, self.grid, self.seeds, like)


class _ComposedStream:
    def __init__(self, system: LinearSystem, grid: Tensor, seeds: Any, like: Tensor) -> None:
        self._system, self._grid, self._like, drawn = system, grid, like, list[Tensor]()
        self._phi, self._q = system.transition(grid[:-1], grid[1:])
        more = system.sizes[0] - like.shape[1]
        for stream, k in (source.PATH_STREAM, like.shape[1]), (source.INTEGRAL_STREAM, more):
            shape = len(seeds), len(grid) - 1, k, *like.shape[2:]
            drawn.append(like.new_empty(shape, dtype=torch.float64))
            source.fill_normals(source.generators(seeds, stream, like.device), drawn[-1])
        self._fine = [*map(_apply, square_root(self._q), torch.cat(drawn, 2).unbind(1))]

    def normals(self, substep: SubstepNoise) -> list[Tensor]:
        """See `NoiseStream.normals`."""
        assert isinstance(substep.nodes, BlockNodes)
        times = substep.nodes.times
        places = _places(self._grid, times)
        roots = square_root(self._system.transition(times[:-1], times[1:])[1])
        inverses = torch.linalg.pinv(roots, rtol=1e-13)
        sums = (self._sum(a, b, None)[0] for a, b in pairwise(places))
        made = [*map(_apply, inverses, sums)]
        if substep.integral:
            made.append(self._integral(places[0], places[-1]))
        return [part.to(self._like) for z in made for part in z.split(self._like.shape[1], 1)]

    def _integral(self, a: int, b: int) -> Tensor:
        """The normals of the integral of the path given the increment."""
        part = self._grid[a : b + 1]
        ahead = (part[-1] - 0.5 * (part[1:] + part[:-1])) / (part[-1] - part[0])
        (integral, own, across), (increment, q, _) = self._sum(a, b, ahead), self._sum(a, b, None)
        split = Integral(self._system.strength(part[-1])[1], q, across, own)
        flat = [value.transpose(0, 1).flatten(1) for value in (increment, integral)]
        z = split.normals(*(value.double().cpu() for value in flat))
        return z.reshape(len(z), -1, *increment.shape[2:]).transpose(0, 1).to(increment)

    def _sum(self, a: int, b: int, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Σ_j w_j Φ ξ_j, its covariance, and that with Σ_j Φ ξ_j."""
        total, own = torch.zeros_like(self._fine[a]), torch.zeros_like(self._q[a])
        cross, all_w = own, [1.0] * (b - a) if weights is None else weights.tolist()
        for w, phi, q, xi in zip(all_w, self._phi[a:b], self._q[a:b], self._fine[a:b], strict=True):
            total = _apply(phi, total) + w * xi
            own, cross = phi @ own @ phi.mT + w * w * q, phi @ cross @ phi.mT + w * q
        return total, own, cross


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    return matrix.to(x).as_subclass(Block).on(x)


def _places(grid: Tensor, times: Tensor) -> list[int]:
    """Where times lie on the fine grid."""
    distance, places = (times[:, None] - grid).abs().min(1)
    far = distance > 1e-9 * (grid[-1] - grid[0]).abs()
    if far.any():
        raise ValueError(
            f"The run has a noise node at t = {times[far][0].item():.9g}, which is not on the fine "
            "grid of this noise: take a grid that holds the nodes of every plan."
        )
    return places.tolist()
