"""Noise sources: the only place where randomness enters."""

from expint.noise.from_generators import FromGenerators
from expint.noise.gaussian import Gaussian, Rademacher
from expint.noise.paths.brownian import BrownianPath
from expint.noise.paths.torchsde_bridge import AsTorchsde, FromTorchsde
from expint.noise.paths.union import UnionPath
from expint.noise.replay import Replay
from expint.noise.source import NoiseSource, NoiseStream, initial_state

__all__ = [
    "AsTorchsde",
    "BrownianPath",
    "FromGenerators",
    "FromTorchsde",
    "Gaussian",
    "NoiseSource",
    "NoiseStream",
    "Rademacher",
    "Replay",
    "UnionPath",
    "initial_state",
]
