"""Transitions of a plan: the density of every step, and the noise that leads to a given sample."""

from expint.transitions.inversion import invert
from expint.transitions.kernels import Kernel, kernels
from expint.transitions.rollouts import Rollout, log_prob, rollout

__all__ = ["Kernel", "Rollout", "invert", "kernels", "log_prob", "rollout"]
