"""Transitions of a plan: the density of every step, and the noise that leads to a given sample."""

from expint.transitions.inversion import invert
from expint.transitions.joint_laws import Kernel, kernels
from expint.transitions.noise_levels import ell_from_noise_level, noise_level_from_ell
from expint.transitions.rollouts import Rollout, log_prob, rollout

__all__ = [
    "Kernel", "Rollout", "ell_from_noise_level", "invert", "kernels", "log_prob",
    "noise_level_from_ell", "rollout",
]  # fmt: skip
