"""Noise sources: the only place where randomness enters."""

from expint.noise.from_generators import FromGenerators
from expint.noise.gaussian import Gaussian, Rademacher
from expint.noise.paths import AsTorchsde, BrownianPath, FromTorchsde, RememberingPath, UnionPath
from expint.noise.replay import Replay
from expint.noise.seeding import per_sample
from expint.noise.source import NoiseSource, NoiseStream, SubstepNoise, initial_state

__all__ = [
    "AsTorchsde", "BrownianPath", "FromGenerators", "FromTorchsde", "Gaussian", "NoiseSource",
    "NoiseStream", "Rademacher", "RememberingPath", "Replay", "SubstepNoise", "UnionPath",
    "initial_state", "per_sample",
]  # fmt: skip
