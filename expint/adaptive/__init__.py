"""Steps whose size follows from an estimate of their error."""

from expint.adaptive.control import StepControl
from expint.adaptive.pairs import EmbeddedPair, embedded_pairs, get_pair
from expint.adaptive.sampling import RESOLUTION, AdaptiveResult, sample_adaptive

__all__ = [
    "RESOLUTION",
    "AdaptiveResult",
    "EmbeddedPair",
    "StepControl",
    "embedded_pairs",
    "get_pair",
    "sample_adaptive",
]
