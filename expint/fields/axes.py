"""Real orthonormal modes on an interval, and their transforms.

    periodic    1/√L, √(2/L) cos(2πkx/L) for k = 1 … ⌊N/2⌋, √(2/L) sin(2πkx/L) for k = 1 … ⌊(N−1)/2⌋
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

BOUNDARIES = ("periodic", "neumann", "dirichlet")


@dataclass(frozen=True)
class Axis:
    """The first `modes` modes on [0, length] with a boundary condition."""

    modes: int
    length: float
    boundary: str

    @property
    def waves(self) -> Tensor:
        """Wave numbers, float64, shape (modes,)."""
        n, unit = self.modes, math.pi / self.length
        if self.boundary == "periodic":
            k = torch.cat([torch.arange(n // 2 + 1), torch.arange(1, (n + 1) // 2)])
            return 2.0 * unit * k.double()
        return unit * (torch.arange(n) + (self.boundary == "dirichlet")).double()

    def places(self, points: int) -> Tensor:
        """The points: j L/M, for walls the midpoints (j + 1/2) L/M."""
        middle = 0.0 if self.boundary == "periodic" else 0.5
        return (torch.arange(points).double() + middle) * (self.length / points)

    def to_points(self, x: Tensor, points: int) -> Tensor:
        """Values at the points; modes in the last dimension."""
        factors = self._factors(points, x)
        if self.boundary == "periodic":
            cosines, sines = x.split([self.modes // 2 + 1, (self.modes - 1) // 2], -1)
            after = len(factors) - 1 - sines.shape[-1]
            sines = torch.nn.functional.pad(sines, (1, after))
            return torch.fft.irfft(factors * torch.complex(cosines, -sines), points, norm="forward")
        if self.boundary == "dirichlet":
            x = torch.nn.functional.pad(x, (1, 0))
        return torch.fft.irfft(factors * x, 2 * points, norm="forward")[..., :points]

    def to_modes(self, u: Tensor) -> Tensor:
        """The modes of values at points, in the last dimension."""
        points = u.shape[-1]
        factors = self._factors(points, u)
        if self.boundary == "periodic":
            found = torch.fft.rfft(u, norm="forward")[..., : len(factors)] / factors
            sines = (self.modes - 1) // 2
            return torch.cat([found.real, -found.imag[..., 1 : sines + 1]], -1)
        sine = self.boundary == "dirichlet"
        u = torch.cat([u, -u.flip(-1) if sine else u.flip(-1)], -1)
        found = torch.fft.rfft(u, norm="forward")[..., : len(factors)] / factors
        return found.real[..., int(sine) :]

    def derivative(self, x: Tensor) -> Tensor:
        """Modes of the derivative of a periodic field; the unpaired last cosine of an even number
        has none."""
        pairs = (self.modes - 1) // 2
        waves = self.waves[1 : pairs + 1].to(x)
        cosines, sines = x[..., 1 : pairs + 1] * waves, x[..., self.modes - pairs :] * waves
        zero = x.new_zeros(*x.shape[:-1], 1)
        unpaired = [zero] * (self.modes - 1 - 2 * pairs)
        return torch.cat([zero, sines, *unpaired, -cosines], -1)

    def _factors(self, points: int, like: Tensor) -> Tensor:
        return _factors(self, points, like.dtype, like.device)


@lru_cache(256)
def _factors(axis: Axis, points: int, dtype: torch.dtype, device: Any) -> Tensor:
    """Coefficients of e^{ikx} in units of those of the modes."""
    walls = axis.boundary != "periodic"
    count = (axis.modes + (axis.boundary == "dirichlet")) if walls else axis.modes // 2 + 1
    k = torch.arange(count).double()
    sizes = torch.full_like(k, math.sqrt(0.5 / axis.length))
    length = 2 * points if walls else points
    sizes[(k == 0) | (2 * k == length)] = math.sqrt(1.0 / axis.length)  # no pair of e^{±ikx}
    turns = math.pi * k / length if walls else torch.zeros_like(k)
    if axis.boundary == "dirichlet":
        turns = turns - 0.5 * math.pi
    factors = torch.polar(sizes, turns) if walls else sizes
    return factors.to(device, dtype.to_complex() if walls else dtype)
