"""Files that are written whole or not at all."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["creating", "replacing"]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; the file is moved into place at the end, when it
    is on the disk.

    If the block raises, the temporary file is removed, and a file that was there before still is.

    Raises:
        OSError: if the file cannot be written there.
    """
    with _part_of(Path(path)) as part:
        yield part
        _to_disk(part)
        os.replace(part, path)


@contextmanager
def creating(path: str | Path) -> Iterator[Path]:
    """As `replacing`, for a file that is not there: of any number of processes that try, one
    writes it.

    Raises:
        FileExistsError: if there is one at the end.
        OSError: if the file cannot be written there.
    """
    with _part_of(Path(path)) as part:
        yield part
        _to_disk(part)
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError as error:  # a file system without links
            if Path(path).exists():
                raise FileExistsError(f"There is a file at {path}.") from error
            os.replace(part, path)


@contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    if target.is_dir() or not target.parent.is_dir():
        raise OSError(f"Cannot write to {target}: it is a folder, or its folder does not exist.")
    # Machines that share a folder have processes of the same number.
    part = target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _to_disk(part: Path) -> None:
    with part.open("rb+") as written:
        os.fsync(written.fileno())
