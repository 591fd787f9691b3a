"""Files that commands write: checked for before the work starts, and put in place whole or not at
all.
"""

import errno
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["check_folder", "json_bytes", "npz_bytes", "picture_bytes", "write_files"]

_LEGIBLE = 64  # pixels: the least side of an image in a picture
_WAY_OUT = "Choose another folder with --out."


def check_folder(folder: Path, names: Sequence[str]) -> None:
    """Create `folder` if need be, and make sure that files called `names` can be written there.

    Raises:
        ValueError: saying what is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(
            f"Cannot write to the folder {str(folder)!r}: a file is in its place. {_WAY_OUT}"
        ) from error
    except OSError as error:
        raise ValueError(
            f"Cannot create the folder {str(folder)!r} ({error.strerror}). {_WAY_OUT}"
        ) from error
    for name in names:
        if (folder / name).is_dir():
            raise ValueError(f"Cannot write {str(folder / name)!r}: it is a folder. {_WAY_OUT}")
    probe = _part(folder, "probe")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"Cannot write to the folder {str(folder)!r} ({error.strerror}). {_WAY_OUT}"
        ) from error


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write {name: content} into `folder`. All are written in full under other names first, then
    moved into place.

    Raises:
        ValueError: if they cannot be written; older files of the same names are then still there.
    """
    parts = {name: _part(folder, name) for name in files}
    try:
        for name, content in files.items():
            parts[name].write_bytes(content)
        for name, part in parts.items():
            os.replace(part, folder / name)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise ValueError(
            f"Cannot write {', '.join(files)} to {str(folder)!r} ({reason}). {_WAY_OUT}"
        ) from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _part(folder: Path, name: str) -> Path:
    return folder / f".{name}.{os.getpid()}.part"


def picture_bytes(images: np.ndarray) -> bytes:
    """A PNG with all images in rows, the first at the top left.

    Small images are enlarged by a whole factor (nearest neighbour) to at least 64 pixels.

    Args:
        images: (N, C, H, W), C = 1 or 3, values in [-1, 1]; those outside are clipped.

    Raises:
        ValueError: for another shape.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            "A picture is made of images of shape (N, C, H, W) with C = 1 or 3, got "
            f"{images.shape}."
        )
    count, channels, height, width = images.shape
    factor = max(1, math.ceil(_LEGIBLE / min(height, width)))
    gap = 4
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cell_height, cell_width = height * factor + gap, width * factor + gap
    canvas = np.full(
        (rows * cell_height + gap, columns * cell_width + gap, channels), 96, dtype=np.uint8
    )
    pixels = np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    for i, image in enumerate(pixels.repeat(factor, axis=1).repeat(factor, axis=2)):
        top, left = gap + (i // columns) * cell_height, gap + (i % columns) * cell_width
        canvas[top : top + height * factor, left : left + width * factor] = image
    buffer = io.BytesIO()
    Image.fromarray(canvas[..., 0] if channels == 1 else canvas).save(
        buffer, format="PNG", optimize=True
    )
    return buffer.getvalue()


def npz_bytes(samples: np.ndarray, labels: np.ndarray, seeds: np.ndarray) -> bytes:
    """A compressed .npz file of three arrays, each with one row per sample."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, samples=samples, labels=labels, seeds=seeds)
    return buffer.getvalue()


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """The content as JSON, for people to read; NaN and infinity are refused, as JSON has none."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
