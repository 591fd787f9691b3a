"""Numbers: φ-functions, quadrature, roots and inverses, and the float64 boundary."""

from expint.numerics.phi_functions import phi

__all__ = ["phi"]
