"""Checkpoint files: what kind they are, what reading them would execute, and reading them without
executing anything.

A pickle is a program: reading it imports what it names and calls it. The globals that a file names
can be listed without running it (`imported_globals`), and that list is for people to read: whether
a file is run is decided by `trust` alone. Files of torch.save are read by torch's restricted
unpickler, which builds tensors and plain containers and refuses everything else.
"""

import _compat_pickle
import io
import pickle
import pickletools
import re
import shlex
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch

from expint.guards.arguments import checked

_TORCH, _PICKLE, _SAFETENSORS = "torch.save", "pickle", "safetensors"
_ZIP = b"PK\x03\x04"
# The integer that begins every file of the torch.save of before 1.6, as a pickle opcode LONG1 and
# STOP.
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# How a pickle, or a file of torch.save, begins that another pickle carries; and how deep to look.
_NESTED, _DEEPEST = re.compile(rb"PK\x03\x04|\x80[\x02-\x05]"), 5
_EXPANSION, _SMALL = 4, 2**20  # times its size, and bytes that any archive may expand to
_LARGEST_PICKLE = 2**28  # bytes of the program in a file of torch.save, which holds no tensors
_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, storage keys; raw storages follow
# What torch.save writes for tensors in containers: rebuilt by torch's own restricted unpickler,
# without a call of anything else.
_PLAIN = re.compile(
    r"collections\.OrderedDict|torch\.Size|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.\w+Storage"
    r"|torch\.storage\.(Untyped|Typed)Storage|torch\.(float|bfloat|int|uint|complex)\d+|torch\.bool"
)
_NOT_CHECKPOINTS = {  # how they begin
    rb"\Z": "empty",
    rb"(?i)\s*(<!doctype html|<html|<head|<\?xml)": "a web page, not the file",
    rb"version https://git-lfs": "a Git LFS pointer, not the file: fetch it with `git lfs pull`",
}


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or does not fit the network; the message names the file,
    and nothing was loaded.
    """


class UntrustedPickleError(CheckpointError):
    """A file that would execute code, read without `trust=True`; nothing was executed.

    Attributes:
        globals: dotted names of what the file would import and may call, in order of appearance.
    """

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.globals = names


def first_of(items: Sequence[str], most: int = 4, between: str = ", ") -> str:
    """The first few, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return between.join(items[:most]) + more


@checked
def imported_globals(path: str | Path) -> tuple[str, ...]:
    """What a pickle, or a file of torch.save, names to be imported when it is read. The file is
    parsed, never run.

    Pickles within pickles (the tensors of a pickled network are such) are parsed as well. A name
    that the file computes while it is read cannot be seen and is listed as "?". From a damaged file
    comes what stands before the damage.

    Args:
        path: the file.

    Returns:
        Dotted names in order of appearance, each once; empty for safetensors.

    Raises:
        CheckpointError: if there is no such file, or it is not a checkpoint.

    Example:
        >>> import pickle, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "net.pkl"
        ...     _ = file.write_bytes(pickle.dumps({"ema": print}))
        ...     imported_globals(file)
        ('builtins.print',)
    """
    file = Path(path)
    return () if _kind(file) == _SAFETENSORS else _named(file)


@checked
def read_checkpoint(path: str | Path, trust: bool = False) -> Any:
    """The content of a checkpoint: safetensors, a file of torch.save (both formats), or a pickle.

    Args:
        path: the file.
        trust: allow the file to execute code. Without it, safetensors and files of torch.save that
            hold tensors in plain containers are read, and everything else is refused.

    Returns:
        What the file holds, tensors on the CPU. Safetensors give a dict from name to tensor.

    Raises:
        UntrustedPickleError: if reading would execute code and `trust` is False; the message lists
            what.
        CheckpointError: if the file is missing, a folder, cut short, not a checkpoint, or an
            archive that expands to several times its size.
    """
    file = Path(path)
    kind = _kind(file)
    if kind == _PICKLE and not trust:
        raise _refusal(file, "a pickle")
    check_expansion(file)
    try:
        if kind == _SAFETENSORS:
            return safetensors.torch.load_file(file)
        if kind != _PICKLE:
            return torch.load(file, map_location="cpu", weights_only=not trust)
        with file.open("rb") as stream:
            return pickle.load(stream)
    except Exception as error:  # whatever damage, or the code of a trusted file, leads to
        if trust and isinstance(error, ImportError | AttributeError):
            way_out = "have the repository that wrote it on the Python path"
            raise CheckpointError(f"{str(file)!r} needs code ({error}): {way_out}.") from error
        if not trust and isinstance(error, pickle.UnpicklingError) and _foreign(_named(file)):
            raise _refusal(file, "more than tensors in plain containers") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(
            f"{str(file)!r} cannot be read: it is cut short, damaged or of another kind ({reason})."
        ) from error


def check_expansion(file: Path, most: int = _EXPANSION) -> None:
    """Refuse an archive that expands to more than `most` times what lies in the file. The default
    is for torch.save, which compresses nothing.

    Raises:
        CheckpointError: with both sizes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            expanded = sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError):
        return  # no archive, or a damaged one, which reading reports
    stored = file.stat().st_size
    if expanded > most * stored + _SMALL:
        raise CheckpointError(
            f"{str(file)!r} has {stored:,} bytes and would expand to {expanded:,}, more than "
            f"{most} times as many; nothing was read. If you trust it, save it anew, uncompressed."
        )


def _foreign(names: Iterable[str]) -> list[str]:
    """The names of what torch's restricted unpickler does not build."""
    return [name for name in names if not _PLAIN.fullmatch(name)]


def _kind(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise CheckpointError(f"{str(file)!r} cannot be read ({error.strerror}).") from error
    for pattern, what in _NOT_CHECKPOINTS.items():
        if re.match(pattern, head):
            raise CheckpointError(f"{str(file)!r} is {what}.")
    if file.suffix == ".safetensors" or head[4:9] == b"\0\0\0\0{":  # a length in 8 bytes, then JSON
        return _SAFETENSORS
    if head.startswith(_ZIP) or _LEGACY_MAGIC in head[:32]:
        return _TORCH
    if head[0] == 0x80 and head[1:2] <= b"\x05":
        return _PICKLE
    with file.open("rb") as stream:  # protocols 0 and 1 have no header
        if _scan(stream, {}):
            return _PICKLE
    others = "neither safetensors, nor a file of torch.save, nor a pickle"
    raise CheckpointError(f"{str(file)!r} is not a checkpoint: {others}.")


def _refusal(file: Path, what: str) -> UntrustedPickleError:
    names = _named(file)
    listed = first_of(_foreign(names) or names, most=12) or "nothing that can be seen from outside"
    carries = any("torch_utils.persistence" in name for name in names)
    source = " It also carries Python source, which is executed." if carries else ""
    return UntrustedPickleError(
        f"{str(file)!r} is {what}, and reading it would execute what it says; nothing was "
        f"executed. It would import and may call: {listed}.{source} If you trust where it comes "
        "from, pass trust=True, or convert it once with `expint convert "
        f"{shlex.join([file.name, file.stem + '.safetensors'])} --trust`.",
        names,
    )


def _named(file: Path) -> tuple[str, ...]:
    found: dict[str, None] = {}
    with file.open("rb") as stream:
        _scan_file(stream, found)
    return tuple(found)


def _scan_file(stream: BinaryIO, found: dict[str, None], depth: int = 0) -> None:
    """Enter the globals of all pickles of a file, or of a pickle, into `found`."""
    head = stream.read(32)
    stream.seek(0)
    if not head.startswith(_ZIP):
        for _ in range(_LEGACY_PICKLES if _LEGACY_MAGIC in head else 1):
            if not _scan(stream, found, depth):
                break
        return
    try:
        with zipfile.ZipFile(stream) as archive:
            for entry in archive.namelist():
                if entry.endswith(".pkl") and archive.getinfo(entry).file_size < _LARGEST_PICKLE:
                    _scan(io.BytesIO(archive.read(entry)), found, depth)
    except Exception:  # whatever damage leads to: reading the file reports it
        return


def _scan(stream: BinaryIO, found: dict[str, None], depth: int = 0) -> bool:
    """Enter the globals of one pickle into `found`; whether it could be parsed to its end.

    The pickle machine's stack is followed with strings for the strings and None for everything
    else, because since protocol 4 a global's two names are taken from the stack, possibly by way of
    the memo.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    argument: Any
    protocol = 0
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name in ("GLOBAL", "INST"):
                module, _, attribute = argument.partition(" ")
                found[_global_name(module, attribute, protocol)] = None
            elif name == "STACK_GLOBAL":
                found[_global_name(stack[-2], stack[-1], protocol)] = None
            elif name == "PROTO":
                protocol = argument
            elif name in ("EXT1", "EXT2", "EXT4"):
                found[f"copyreg extension {argument}"] = None
            elif _NESTED.match(data := _as_bytes(argument)) and depth < _DEEPEST:
                _scan_file(io.BytesIO(data), found, depth + 1)
            if "PUT" in name or name == "MEMOIZE":
                memo[len(memo) if argument is None else argument] = stack[-1]
            else:
                string = argument if isinstance(argument, str) else None
                _move(stack, opcode, memo.get(argument) if "GET" in name else string)
    except (ValueError, IndexError, TypeError, OverflowError, MemoryError):
        return False
    return True


def _global_name(module: Any, name: Any, protocol: int) -> str:
    """The dotted name, with "?" for what is computed.

    Protocols below 3 name things as Python 2 did, which reading maps.
    """
    if protocol < 3 and (module, name) in _compat_pickle.NAME_MAPPING:
        module, name = _compat_pickle.NAME_MAPPING[module, name]
    elif protocol < 3 and isinstance(module, str):
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    return ".".join(part if isinstance(part, str) else "?" for part in (module, name))


def _move(stack: list[Any], opcode: pickletools.OpcodeInfo, value: Any) -> None:
    """What an opcode does to the stack, when it pushes `value` (every other object is None)."""
    before, after, mark = opcode.stack_before, opcode.stack_after, pickletools.markobject
    if mark in before:
        while stack.pop() is not mark:
            pass
        before = before[: before.index(mark)]
    elif opcode.name == "DUP":
        value = stack[-1]
    for _ in before:
        stack.pop()
    stack.extend(mark if kind is mark else value for kind in after)


def _as_bytes(argument: Any) -> bytes:
    """Bytes that a pickle carries, which protocol 2 writes as a string; nothing for all else."""
    if isinstance(argument, str):
        return argument.encode("latin-1", "ignore")
    return argument if isinstance(argument, bytes) else b""
