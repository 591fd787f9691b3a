"""Adapters of the families of networks: VP, VE, iDDPM and EDM, and CLD."""

from diffusion_adapters.families.adapter import NetworkAdapter
from diffusion_adapters.families.adapters import EDMAdapter, IDDPMAdapter, VEAdapter, VPAdapter
from diffusion_adapters.families.phase_space import CLDAdapter

__all__ = ["CLDAdapter", "EDMAdapter", "IDDPMAdapter", "NetworkAdapter", "VEAdapter", "VPAdapter"]
