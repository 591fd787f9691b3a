"""Adapters that present networks of the diffusion families, and of other libraries, as models for expint."""

from diffusion_adapters.embedded import load_classifier, names
from diffusion_adapters.families import EDMAdapter, IDDPMAdapter, VEAdapter, VPAdapter
from diffusion_adapters.models import load

__all__ = ["EDMAdapter", "IDDPMAdapter", "VEAdapter", "VPAdapter", "load", "load_classifier", "names"]
