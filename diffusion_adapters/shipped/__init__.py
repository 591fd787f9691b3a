"""Networks that come with the package."""

from diffusion_adapters.shipped.files import load_classifier, names
from diffusion_adapters.shipped.models import load

__all__ = ["load", "load_classifier", "names"]
