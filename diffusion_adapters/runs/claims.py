"""Claims of pieces of work by processes that share nothing but a folder, on one machine or many."""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

from expint.files import replacing

_BEAT = 1.0  # seconds between two beats of a claim


def _machine() -> str:
    """This machine; of containers that share one, this container: a process number is known by
    it."""
    with suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


class TakenOverError(Exception):
    """Another process has taken a claim over."""


class Claim:
    """A claim that this process holds. Others may take it over when its file has not been touched
    for a while: `beat` does so.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text, self._next = path, text, 0.0

    def beat(self, now: bool = False) -> None:
        """Say that this process is alive: at most once a second, unless `now`.

        Raises:
            TakenOverError: if the claim is no longer this process's.
            OSError: if its folder has been removed, or cannot be written to.
        """
        if monotonic() < self._next and not now:
            return
        self._next = monotonic() + _BEAT
        if not self._held():
            raise TakenOverError
        os.utime(self._path)

    def release(self) -> None:
        """Give the claim back, if it is still held."""
        if self._path.parent.is_dir() and self._held():
            self._path.unlink(missing_ok=True)

    def _held(self) -> bool:
        if not self._path.parent.is_dir():
            raise FileNotFoundError(2, "the folder was removed", str(self._path.parent))
        return self._path.is_file() and self._path.read_text() == self._text


class Claims:
    """The claims of all processes on the pieces of work in a folder. A claim is a file that is
    created by one process alone. It is abandoned if its process, on this machine, is gone; or if
    it has not been touched while this process watched for `patience` seconds of its own: so clocks
    of other machines, and jumps of this one's, do not matter.

    Two processes may in rare cases work on one piece. That is harmless if they do the same and
    write their files whole.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        self._folder, self._patience = folder, patience
        self._seen: dict[str, tuple[Any, float]] = {}

    def take(self, name: str) -> Claim | None:
        """A claim on a piece of work, or None if another process holds one."""
        path = self._folder / f"{name}.claim"
        text = json.dumps({"machine": _machine(), "process": os.getpid(), "claim": uuid4().hex})
        if not path.exists():
            try:
                with path.open("x") as file:
                    file.write(text)
            except FileExistsError:
                return None
        elif self._abandoned(path):
            with replacing(path) as part:
                part.write_text(text)
        else:
            return None
        return Claim(path, text)

    def _abandoned(self, path: Path) -> bool:
        try:
            text, touched = path.read_text(), path.stat().st_mtime_ns
            holder = json.loads(text)
        except FileNotFoundError:  # given back this moment
            return False
        except ValueError:  # cut by a kill
            return True
        if holder["machine"] == _machine() and _is_gone(holder["process"]):
            return True
        known, since = self._seen.get(path.name, (None, 0.0))
        if known != (text, touched):
            since = monotonic()
            self._seen[path.name] = (text, touched), since
        return monotonic() - since > self._patience


def _is_gone(process: int) -> bool:
    """Whether a process of this machine does not run any more; this one holds no claim while it
    looks for another."""
    if process == os.getpid():
        return True
    if os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
