"""Kinetic Langevin dynamics for sampling from e^{−U}, and how good its chains are."""

from expint.chains import Chains, autocorrelation, effective_sample_size, r_hat, standard_error
from expint.dynamics.kinetic import kinetic_langevin, splitting_plan

__all__ = [
    "Chains", "autocorrelation", "effective_sample_size", "kinetic_langevin", "r_hat",
    "splitting_plan", "standard_error",
]  # fmt: skip
