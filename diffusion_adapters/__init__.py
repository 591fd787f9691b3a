"""Adapters that present networks of the diffusion families, and of other libraries, as models for expint."""

from diffusion_adapters.checkpoints import from_edm, load_edm, load_edm_pickle, load_guided_diffusion, load_score_sde
from diffusion_adapters.constraints import inpaint, reconstruction_guidance, threshold
from diffusion_adapters.conversion import convert_checkpoint
from diffusion_adapters.diffusers_networks import from_diffusers
from diffusion_adapters.embedded import load_classifier, names
from diffusion_adapters.families import EDMAdapter, IDDPMAdapter, VEAdapter, VPAdapter
from diffusion_adapters.guidance import cfg, classifier_guidance
from diffusion_adapters.image_start import Start, start
from diffusion_adapters.models import load
from diffusion_adapters.pickles import CheckpointError, UntrustedPickleError, imported_globals, read_checkpoint

__all__ = [
    "CheckpointError", "EDMAdapter", "IDDPMAdapter", "Start", "UntrustedPickleError", "VEAdapter", "VPAdapter", "cfg",
    "classifier_guidance", "convert_checkpoint", "from_diffusers", "from_edm", "imported_globals", "inpaint", "load",
    "load_classifier", "load_edm", "load_edm_pickle", "load_guided_diffusion", "load_score_sde", "names", "read_checkpoint",
    "reconstruction_guidance", "start", "threshold",
]  # fmt: skip
