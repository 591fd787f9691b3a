"""Linear parts that are matrices: coefficients that act on a component axis, and the propagator,
the weights and the noise covariance of an interval."""

from expint.blocks.linear_system import BlockNodes, Integral, LinearSystem
from expint.blocks.matrices import Block, square_root, symmetric_root

__all__ = ["Block", "BlockNodes", "Integral", "LinearSystem", "square_root", "symmetric_root"]
