"""Plans tuned for a model and a number of evaluations."""

from expint.tuning.objective import GaussianObjective, Objective, SampleObjective, random_features
from expint.tuning.search import tune

__all__ = ["GaussianObjective", "Objective", "SampleObjective", "random_features", "tune"]
