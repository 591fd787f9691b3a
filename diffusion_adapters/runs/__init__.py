"""Runs of many samples in a folder, by any number of processes."""

from diffusion_adapters.image_features import ImageFeatures
from diffusion_adapters.runs.evaluation import evaluate
from diffusion_adapters.runs.folder import RunFolder
from diffusion_adapters.runs.production import draw

__all__ = ["ImageFeatures", "RunFolder", "draw", "evaluate"]
