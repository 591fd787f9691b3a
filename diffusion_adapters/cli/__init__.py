"""The command line `expint`."""

from diffusion_adapters.cli.commands import main

__all__ = ["main"]
