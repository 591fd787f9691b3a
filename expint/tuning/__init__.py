"""Plans fitted to a network: what its own curve of errors, or its own paths, say about the grid."""

from expint.tuning.bound import klub, klub_grid
from expint.tuning.curve import MmseCurve, mmse_curve
from expint.tuning.from_paths import gits_grid, oss_grid

__all__ = ["MmseCurve", "gits_grid", "klub", "klub_grid", "mmse_curve", "oss_grid"]
