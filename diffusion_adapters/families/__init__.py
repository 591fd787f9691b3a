"""Adapters of the four families of networks: VP, VE, iDDPM and EDM."""

from diffusion_adapters.families.adapter import NetworkAdapter
from diffusion_adapters.families.adapters import EDMAdapter, IDDPMAdapter, VEAdapter, VPAdapter

__all__ = ["EDMAdapter", "IDDPMAdapter", "NetworkAdapter", "VEAdapter", "VPAdapter"]
