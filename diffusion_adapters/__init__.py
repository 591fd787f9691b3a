"""Adapters that present networks of the diffusion families, and of other libraries, as models for expint."""
