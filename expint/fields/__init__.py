"""Fields on a box: stochastic partial differential equations as semi-linear SDEs of their modes."""

from expint.fields.box import Box

__all__ = ["Box"]
