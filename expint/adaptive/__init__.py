"""Steps whose size follows from an estimate of their error."""

from expint.adaptive.control import StepControl
from expint.adaptive.pairs import EmbeddedPair, embedded_pairs, get_pair
from expint.adaptive.walk import RESOLUTION, Adaptive, AdaptiveReport

__all__ = [
    "RESOLUTION", "Adaptive", "AdaptiveReport", "EmbeddedPair", "StepControl", "embedded_pairs",
    "get_pair",
]  # fmt: skip
