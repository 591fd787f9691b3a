"""Plans fitted to a network: what its own curve of errors, or its own paths, say about the grid,
and a search for the best plan for a number of evaluations."""

from expint.tuning.bound import klub, klub_grid
from expint.tuning.curve import MmseCurve, mmse_curve
from expint.tuning.from_paths import gits_grid, oss_grid
from expint.tuning.objective import (
    GaussianObjective,
    Objective,
    SampleObjective,
    bottleneck_features,
    random_features,
)
from expint.tuning.optimized_times import dmn_bound, dmn_grid
from expint.tuning.search import tune

__all__ = [
    "GaussianObjective", "MmseCurve", "Objective", "SampleObjective", "bottleneck_features",
    "dmn_bound", "dmn_grid", "gits_grid", "klub", "klub_grid", "mmse_curve", "oss_grid",
    "random_features", "tune",
]  # fmt: skip
