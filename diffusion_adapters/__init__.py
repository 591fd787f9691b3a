"""Adapters that present networks of the diffusion families, and of other libraries, as models for
expint.
"""

from diffusion_adapters import runs
from diffusion_adapters.checkpoints.conversion import convert_checkpoint
from diffusion_adapters.checkpoints.loading import (
    from_edm,
    load_edm,
    load_edm_pickle,
    load_guided_diffusion,
)
from diffusion_adapters.checkpoints.pickles import (
    CheckpointError,
    UntrustedPickleError,
    imported_globals,
    read_checkpoint,
)
from diffusion_adapters.checkpoints.score_sde import load_score_sde
from diffusion_adapters.diffusers.networks import from_diffusers
from diffusion_adapters.families import CLDAdapter, EDMAdapter, IDDPMAdapter, VEAdapter, VPAdapter
from diffusion_adapters.guidance.constraints import inpaint, reconstruction_guidance, threshold
from diffusion_adapters.guidance.guidance import cfg, classifier_guidance
from diffusion_adapters.guidance.image_start import Start, start
from diffusion_adapters.shipped.files import load_classifier, names
from diffusion_adapters.shipped.models import load

__all__ = [
    "CLDAdapter", "CheckpointError", "EDMAdapter", "IDDPMAdapter", "Start", "UntrustedPickleError",
    "VEAdapter", "VPAdapter", "cfg", "classifier_guidance", "convert_checkpoint", "from_diffusers",
    "from_edm", "imported_globals", "inpaint", "load", "load_classifier", "load_edm",
    "load_edm_pickle", "load_guided_diffusion", "load_score_sde", "names", "read_checkpoint",
    "reconstruction_guidance", "runs", "start", "threshold",
]  # fmt: skip
