"""Samples as pictures."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def pixels_of(images: np.ndarray) -> np.ndarray:
    """Bytes of images in [-1, 1], of the same shape; what is outside is clipped."""
    return np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


def write_pictures(folder: Path, images: Iterable[tuple[int, np.ndarray]]) -> None:
    """Write a PNG for each number and image, (C, H, W), into a folder, under its number; none for
    an image that is not finite."""
    folder.mkdir(exist_ok=True)
    for number, image in images:
        if np.isfinite(image).all():
            pixels = pixels_of(image)
            shown = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
            Image.fromarray(shown).save(folder / f"{number:08d}.png")
