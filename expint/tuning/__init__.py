"""Plans fitted to a network: what its own curve of errors, or its own paths, say about the grid."""

from expint.tuning.bound import klub, klub_grid
from expint.tuning.curve import MmseCurve, mmse_curve

__all__ = ["MmseCurve", "klub", "klub_grid", "mmse_curve"]
