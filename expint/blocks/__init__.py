"""Linear parts that are matrices: coefficients that act on a component axis, and the propagator,
the weights and the noise covariance of an interval."""

from expint.blocks.linear_system import BlockNodes, LinearSystem
from expint.blocks.matrices import Block, square_root

__all__ = ["Block", "BlockNodes", "LinearSystem", "square_root"]
