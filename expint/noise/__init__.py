"""Noise sources: the only place where randomness enters."""

from expint.noise.brownian import BrownianPath
from expint.noise.gaussian import Gaussian, Rademacher
from expint.noise.replay import Replay
from expint.noise.source import NoiseSource, NoiseStream, initial_state
from expint.noise.torchsde_bridge import AsTorchsde, FromTorchsde

__all__ = [
    "AsTorchsde",
    "BrownianPath",
    "FromTorchsde",
    "Gaussian",
    "NoiseSource",
    "NoiseStream",
    "Rademacher",
    "Replay",
    "initial_state",
]
