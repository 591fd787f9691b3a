"""Kinetic Langevin dynamics for sampling from e^{−U}, and how good its chains are."""

from expint.chains import Chains, autocorrelation, effective_sample_size
from expint.dynamics.kinetic import kinetic_langevin, splitting_plan

__all__ = [
    "Chains", "autocorrelation", "effective_sample_size", "kinetic_langevin", "splitting_plan",
]  # fmt: skip
