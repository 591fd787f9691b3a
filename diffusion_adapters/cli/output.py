"""Files that commands write: checked for before the work starts, and put in place whole or not at
all.
"""

import errno
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusion_adapters.pictures import pixels_of
from diffusion_adapters.runs.origin import origin as origin
from expint.files import replacing
from expint.plans.file_format import json_values

_LEGIBLE = 64  # pixels: the least side of an image in a picture


def check_folder(folder: Path, names: Sequence[str]) -> None:
    """Make sure that files called `names` can be written to `folder`; nothing is left there.

    Raises:
        ValueError: saying what is in the way.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    probe = there / f".probe.{os.getpid()}.part"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        reason = error.strerror if there.is_dir() else "a file is in its place"
        raise _refusal(f"to the folder {str(folder)!r}", reason) from error
    for name in names:
        if (folder / name).is_dir():
            raise _refusal(repr(str(folder / name)), "it is a folder")


def write_files(folder: Path, files: Mapping[str, bytes]) -> str:
    """Write {name: content} into `folder`. All are written in full under other names first, then
    moved into place.

    Returns:
        The names and the folder, to be printed.

    Raises:
        ValueError: if they cannot be written; older files of the same names are then still there.
    """
    names = ", ".join(files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for name, content in files.items():
                stack.enter_context(replacing(folder / name)).write_bytes(content)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise _refusal(f"{names} to {str(folder)!r}", reason) from error
    return f"{names} in {folder}"


def _refusal(what: str, reason: str | None) -> ValueError:
    return ValueError(f"Cannot write {what} ({reason}). Choose another folder with --out.")


def content_of(write: Callable[..., Any], *arguments: Any, **options: Any) -> bytes:
    """The bytes that write(file, …) writes into a binary file."""
    buffer = io.BytesIO()
    write(buffer, *arguments, **options)
    return buffer.getvalue()


def picture_bytes(images: np.ndarray) -> bytes:
    """A PNG with all images in rows, the first at the top left.

    Small images are enlarged by a whole factor (nearest neighbour) to at least 64 pixels.

    Args:
        images: (N, C, H, W), C = 1 or 3, values in [-1, 1]; those outside are clipped.

    Raises:
        ValueError: for another shape.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"A picture has shape (N, C, H, W) with C = 1 or 3, got {images.shape}.")
    count, channels, height, width = images.shape
    factor, gap = max(1, math.ceil(_LEGIBLE / min(height, width))), 4
    columns = math.ceil(math.sqrt(count))
    missing = -count % columns
    pixels = pixels_of(images).repeat(factor, axis=2).repeat(factor, axis=3)
    # Each image with the gap to its right and below it, and grey where the last row has none.
    cells = np.pad(pixels, ((0, missing), (0, 0), (0, gap), (0, gap)), constant_values=96)
    cells = cells.reshape(-1, columns, *cells.shape[1:]).transpose(0, 3, 1, 4, 2)
    canvas = cells.reshape(cells.shape[0] * cells.shape[1], -1, channels)
    canvas = np.pad(canvas, ((gap, 0), (gap, 0), (0, 0)), constant_values=96)
    image = Image.fromarray(canvas[..., 0] if channels == 1 else canvas)
    return content_of(image.save, format="PNG", optimize=True)


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """The content as JSON, for people to read; infinity is text, and NaN refused."""
    return (
        json.dumps(json_values(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()
