"""Critically-damped Langevin diffusion: the reverse equation in its forms, exact denoisers and
moments, and the published comparators."""

from expint.phase_space.comparators import GDDIM, split_score, sscs_plan
from expint.phase_space.moments import block_moments
from expint.phase_space.reverse import Denoised, reverse_cld
from expint.phase_space.targets import Mixture

__all__ = [
    "GDDIM",
    "Denoised",
    "Mixture",
    "block_moments",
    "reverse_cld",
    "split_score",
    "sscs_plan",
]
