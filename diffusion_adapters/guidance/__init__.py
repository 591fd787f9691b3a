"""Wrappers that steer a model: classifier-free and classifier guidance, constraints, and runs that
begin at an image.
"""

from diffusion_adapters.guidance.constraints import inpaint, reconstruction_guidance, threshold
from diffusion_adapters.guidance.guidance import cfg, classifier_guidance
from diffusion_adapters.guidance.image_start import Start, start

__all__ = [
    "Start",
    "cfg",
    "classifier_guidance",
    "inpaint",
    "reconstruction_guidance",
    "start",
    "threshold",
]
