"""Fields on a box: stochastic partial differential equations as semi-linear SDEs of their modes."""

from expint.equations.time_dependence import time_dependent
from expint.fields.box import Box

__all__ = ["Box", "time_dependent"]
