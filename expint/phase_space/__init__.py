"""Critically damped diffusion, CLD and PSLD: the reverse equation in its forms, exact denoisers and
moments, and the published comparators."""

from expint.phase_space.gddim import GDDIM
from expint.phase_space.moments import block_moments
from expint.phase_space.reverse import Denoised, reverse_cld
from expint.phase_space.sscs import split_score, sscs_plan
from expint.phase_space_targets import FromIsotropic, Mixture

__all__ = [
    "GDDIM",
    "Denoised",
    "FromIsotropic",
    "Mixture",
    "block_moments",
    "reverse_cld",
    "split_score",
    "sscs_plan",
]
