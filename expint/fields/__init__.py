"""Fields on a box: stochastic partial differential equations as semi-linear SDEs of their modes."""

from expint.fields.box import Box
from expint.fields.time_dependence import time_dependent

__all__ = ["Box", "time_dependent"]
