"""Quality studies: the distance of a sampler's output from the data, against the network
evaluations that it takes.
"""

from expint.quality.comparison import analytic_target, chosen_solvers, compare_quality, target_names
from expint.quality.distances import EXACT, METRICS, Metric
from expint.quality.studies import QualityCurve, QualityPoint, QualityStudy

__all__ = [
    "EXACT", "METRICS", "Metric", "QualityCurve", "QualityPoint", "QualityStudy", "analytic_target",
    "chosen_solvers", "compare_quality", "target_names",
]  # fmt: skip
