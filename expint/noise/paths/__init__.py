"""Noise that is one Brownian path, whatever the grid asks of it."""

from expint.noise.paths.brownian import BrownianPath
from expint.noise.paths.remembering import RememberingPath
from expint.noise.paths.torchsde_bridge import AsTorchsde, FromTorchsde
from expint.noise.paths.union import UnionPath

__all__ = ["AsTorchsde", "BrownianPath", "FromTorchsde", "RememberingPath", "UnionPath"]
