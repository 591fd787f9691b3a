"""Real orthonormal modes on an interval, and their transforms.

    periodic    1/√L, then √(2/L) cos(2πkx/L) and √(2/L) sin(2πkx/L) in turn, k = 1, 2, …
    neumann     1/√L, √(2/L) cos(πkx/L) for k = 1 … N−1
    dirichlet   √(2/L) sin(πkx/L) for k = 1 … N

A field of the last two is continued to the double length, evenly or oddly, so that one real FFT
serves all three.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

# By boundary, up to how many modes a product with a matrix is faster than an FFT and its copies.
DENSE = {"periodic": 32, "neumann": 64, "dirichlet": 64}


@dataclass(frozen=True)
class Axis:
    """The first `modes` modes on [0, length] with a boundary condition."""

    modes: int
    length: float
    boundary: str

    @property
    def waves(self) -> Tensor:
        """Wave numbers, float64, shape (modes,)."""
        k = torch.arange(self.modes).double() + (self.boundary == "dirichlet")
        return math.pi / self.length * ((k + 1) // 2 * 2 if self.boundary == "periodic" else k)

    def places(self, points: int) -> Tensor:
        """The points: j L/M, for walls the midpoints (j + 1/2) L/M."""
        middle = 0.0 if self.boundary == "periodic" else 0.5
        return (torch.arange(points).double() + middle) * (self.length / points)

    def to_points(self, x: Tensor, points: int) -> Tensor:
        """Values at the points; modes in the last dimension."""
        sizes, turns = _factors(self, points, x.dtype, x.device)
        x = x * sizes
        if self.boundary == "periodic":
            pairs = x.new_zeros(*x.shape[:-1], points // 2 + 1, 2)
            pairs[..., 0, 0], pairs.flatten(-2)[..., 2 : self.modes + 1] = x[..., 0], x[..., 1:]
            return torch.fft.irfft(torch.view_as_complex(pairs), points, norm="forward")
        if self.boundary == "dirichlet":
            x = torch.nn.functional.pad(x, (1, 0))
        return torch.fft.irfft(turns * x, 2 * points, norm="forward")[..., :points]

    def to_modes(self, u: Tensor) -> Tensor:
        """The modes of values at points, in the last dimension."""
        sizes, turns = _factors(self, u.shape[-1], u.dtype, u.device)
        if self.boundary == "periodic":
            found = torch.view_as_real(torch.fft.rfft(u, norm="forward")).flatten(-2)
            found[..., 1] = found[..., 0]
            return found[..., 1 : self.modes + 1] / sizes
        sine = self.boundary == "dirichlet"
        u = torch.cat([u, -u.flip(-1) if sine else u.flip(-1)], -1)
        found = torch.fft.rfft(u, norm="forward")[..., : len(turns)] * turns.conj()
        return found.real[..., int(sine) :] / sizes

    def derivative(self, x: Tensor) -> Tensor:
        """Modes of the derivative of a periodic field; the unpaired last cosine of an even number
        has none."""
        n = (self.modes - 1) // 2 * 2 + 1
        waves, found = self.waves[1:n:2].to(x), torch.zeros_like(x)
        found[..., 1:n:2] = x[..., 2:n:2] * waves
        found[..., 2:n:2] = -x[..., 1:n:2] * waves
        return found


def along(axis: Axis, x: Tensor, dim: int, points: int, back: bool = False) -> Tensor:
    """The transform to points in dimension `dim` < 0, or back to modes."""
    if points < axis.modes:
        raise ValueError(f"{axis.modes} modes need at least as many points, got {points}.")
    if axis.modes > DENSE[axis.boundary]:
        x = x.transpose(dim, -1)
        return (axis.to_modes(x) if back else axis.to_points(x, points)).transpose(dim, -1)
    matrix = _matrix(axis, points, back, x.dtype, x.device)
    tail = x.shape[dim + 1 :]
    return x @ matrix.mT if dim == -1 else (matrix @ x.flatten(dim + 1)).unflatten(-1, tail)


@lru_cache(256)
@torch.inference_mode(False)  # else no gradients could go through what is remembered
def _matrix(axis: Axis, points: int, back: bool, dtype: Any, device: Any) -> Tensor:
    one = torch.eye(points if back else axis.modes, dtype=torch.float64)
    made = axis.to_modes(one) if back else axis.to_points(one, points)
    return made.mT.contiguous().to(device, dtype)


@lru_cache(256)
@torch.inference_mode(False)
def _factors(axis: Axis, points: int, dtype: Any, device: Any) -> tuple[Tensor, Tensor]:
    """Sizes of the modes in those of e^{ikx}, with the sign −1 of sines, and the phases that put
    the first point half a cell from a wall."""
    walls, sine = axis.boundary != "periodic", axis.boundary == "dirichlet"
    k, length = axis.waves * axis.length / math.pi, 2 * points  # of a period of twice the length
    sizes = torch.full_like(k, math.sqrt(0.5 / axis.length))
    sizes[(k == 0) | (k.round() == points)] = math.sqrt(1.0 / axis.length)  # no pair of e^{±ikx}
    sizes[2::2] *= 1.0 if walls else -1.0
    turns = math.pi * torch.arange(axis.modes + sine).double() / length - 0.5 * math.pi * sine
    phases = torch.polar(torch.ones_like(turns), turns)
    return sizes.to(device, dtype), phases.to(device, dtype.to_complex())
