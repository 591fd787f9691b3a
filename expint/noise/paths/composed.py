"""One noise for plans of different grids where the linear part is a matrix: increments of a fine
grid, composed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from expint.blocks import Block, BlockNodes, Integral, square_root
from expint.noise import source
from expint.noise.paths.functionals import nested_root, system_of
from expint.noise.source import SubstepNoise
from expint.numerics.float64 import as_float64


@dataclass(frozen=True, eq=False)
class ComposedNoise:
    """The noise ∫ Φ G dω of an equation with matrices, drawn in the steps of a fine grid: every
    plan whose noise nodes lie on that grid sees the same path, exactly. For strong errors.

    Over the fine steps j of an interval N ← Φ_j N + ξ_j; a plan is answered with the standard
    normals of the N that it finds, and of the integral of the path or of the other functionals that
    its noise knows, which the fine steps have too.

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
        if not getattr(getattr(self.sde, "blocks", None), "stochastic", False):
            raise ValueError(f"{self.sde} has no noise with matrices, as from_blocks(A, B, G) has.")
        object.__setattr__(self, "seeds", source.check_seeds(self.seeds))
        object.__setattr__(self, "grid", self.sde.check_grid(as_float64(self.grid)))

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_ComposedStream":
        """See `NoiseSource.stream`."""
        source.check_batch(self.seeds, like)
        places = [self._places(substep.nodes) for substep in run]
        return _ComposedStream(self, like, places, system_of(run, self.sde.blocks, self.grid))

    def _places(self, nodes: Any) -> list[int]:
        """Where nodes lie on the fine grid."""
        if not isinstance(nodes, BlockNodes) or nodes.system is not self.sde.blocks:
            raise ValueError("The run is of another equation than this noise.")
        distance, places = (nodes.times[:, None] - self.grid).abs().min(1)
        far = distance > 1e-9 * (self.grid[-1] - self.grid[0]).abs()
        if far.any():
            raise ValueError(
                f"The run has a noise node at t = {nodes.times[far][0].item():.9g}, which is not "
                "on the fine grid of this noise: take a grid that holds the nodes of every plan."
            )
        return places.tolist()


class _ComposedStream:
    """Composes N and its functionals over the fine steps, with their covariance."""

    def __init__(self, path: ComposedNoise, like: Tensor, places: Any, whole: Any) -> None:
        self._system, self._grid, self._dtype = path.sde.blocks, path.grid, like.dtype
        self._places, (system, self._size) = iter(places), whole
        self._phi, self._q = system.transition(path.grid[:-1], path.grid[1:])
        like = like.movedim(self._system.axis, 1)
        shape = len(like), 2 * len(self._q), *like.shape[1:]
        normals = like.new_empty(shape, dtype=torch.float64)
        source.generators(path.seeds, source.PATH_STREAM, like.device).normals(normals)
        both = torch.cat(normals.chunk(2, 1), 2)
        self._fine = [*map(_apply, nested_root(self._q, like.shape[1]), both.unbind(1))]

    def normals(self, substep: SubstepNoise) -> list[Tensor]:
        """See `NoiseStream.normals`."""
        k, made = self._system.sizes[0], list[Tensor]()
        for a, b in pairwise(next(self._places)):
            both, q = torch.zeros_like(self._fine[a]), torch.zeros_like(self._q[a])
            for j in range(a, b):
                both = _apply(self._phi[j], both) + self._fine[j]
                q = self._phi[j] @ q @ self._phi[j].mT + self._q[j]
            own, root = both[:, : self._size], square_root(q[: self._size, : self._size])
            made += _apply(torch.linalg.pinv(root, rtol=1e-13), own).split(k, 1)
            if substep.integral:
                made.append(_apply(Integral(self._system, self._grid[b], q).normals, both))
        return [z.to(self._dtype).movedim(1, self._system.axis) for z in made]


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    return matrix.to(x).as_subclass(Block).on(x)
