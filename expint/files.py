"""Files that are written whole or not at all."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | Path, *, new: bool = False) -> Iterator[Path]:
    """A temporary name beside `path` to write to; the file is moved into place at the end, when it
    is on the disk.

    If the block raises, the temporary file is removed, and a file that was there before still is.
    With `new` a file that is there at the end is left: of all processes that write it one succeeds.

    Raises:
        OSError: if the file cannot be written there.
    """
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise OSError(f"Cannot write to {target}: it is a folder, or its folder does not exist.")
    # Machines that share a folder have processes of the same number.
    part = target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        (os.link if new else os.replace)(part, target)
    finally:
        part.unlink(missing_ok=True)
