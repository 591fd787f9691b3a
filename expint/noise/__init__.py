"""Noise sources: the only place where randomness enters."""

from expint.noise.gaussian import Gaussian, Rademacher
from expint.noise.replay import Replay
from expint.noise.source import NoiseSource, NoiseStream, initial_state

__all__ = ["Gaussian", "NoiseSource", "NoiseStream", "Rademacher", "Replay", "initial_state"]
