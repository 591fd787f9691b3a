"""Likelihoods of data under a diffusion model, along the ODE and by the bound of the SDE."""

from expint.likelihoods.probability_flow import log_likelihood
from expint.likelihoods.results import Likelihood

__all__ = ["Likelihood", "log_likelihood"]
