"""The folder of a run: its manifest, and its samples in shards, each with a record of its own."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from expint.files import replacing

FORMAT = "expint samples 1"
MANIFEST, MERGED, SHARDS = "manifest.json", "samples.npz", "shards"
PROBE, _ALIKE = "probe", 1e-2  # relative to its norm; it depends on the precision of the network
_FACTS = ("about", "versions", "platform")  # which differ from one process to the next


class RunFolder:
    """A run of samples in a folder, finished or not.

    Attributes:
        path: of the folder.
        manifest: the settings of the run, as `draw` wrote them when it began.

    Iterating gives the arrays of one shard after another, in order of the samples: samples, float32
    (n, *shape), seeds, uint64 (n,), and labels, int64 (n,), −1 for none. A sample that did not stay
    finite is NaN.

    Args:
        path: of the folder.

    Raises:
        ValueError: if there is no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = _manifest(self.path)
        if self.manifest.get("format") != FORMAT:
            raise ValueError(f"The folder {str(path)!r} holds no run of samples in shards.")

    @classmethod
    def begin(cls, path: Path, settings: Mapping[str, Any]) -> "RunFolder":
        """The run with these settings in a folder: begun, or as it was left.

        Raises:
            ValueError: if the folder holds a run of other settings, naming what differs.
        """
        path.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, **settings}
        file, text = path / MANIFEST, json.dumps(content, indent=1, allow_nan=False) + "\n"
        if not file.exists():
            try:
                with replacing(file, new=True) as part:
                    part.write_text(text)
            except OSError:
                if not file.exists():  # of no other process: the file system has no links
                    file.write_text(text)
        there = _manifest(path)
        names = [name for name in {**content, **there} if name not in _FACTS]
        other = [name for name in names if not _same(there.get(name), content.get(name), name)]
        if other:
            # The probe is another where anything else is.
            named = [name for name in other if name != PROBE] or other
            shown = ", ".join(_difference(each, there, content) for each in named)
            raise ValueError(
                f"The folder {str(path)!r} holds a run of other settings: {shown}. Give the "
                "settings of that run to continue it, or another folder."
            )
        (path / SHARDS).mkdir(exist_ok=True)
        return cls(path)

    @property
    def num(self) -> int:
        """How many samples there are when the run is finished."""
        return self.manifest["num"]

    @property
    def shards(self) -> list[str]:
        """The names of all shards."""
        return [f"{i:06d}" for i in range(-(-self.num // self.manifest["shard"]))]

    def places(self, shard: str) -> range:
        """The places of a shard's samples among those of the run: 0, 1, …."""
        size = self.manifest["shard"]
        return range(self.num)[int(shard) * size : (int(shard) + 1) * size]

    @property
    def done(self) -> dict[str, dict[str, Any]]:
        """The records of the shards that are there, by name: sha256 and size of the file, and what
        is known of how it was drawn."""
        names = {file.stem for file in (self.path / SHARDS).glob("*.json")}
        return {shard: self._record(shard) for shard in self.shards if shard in names}

    def is_done(self, name: str) -> bool:
        """Whether a shard, or the file of all samples, is there."""
        return self._record_file(name).exists() and self._file(name).exists()

    @property
    def count(self) -> int:
        """How many samples are there."""
        # By one listing: a question for each shard takes long on a file system of a network.
        names = {file.name for file in (self.path / SHARDS).glob("[0-9]*")}
        done = [s for s in self.shards if {f"{s}.npz", f"{s}.json"} <= names]
        return sum(len(self.places(shard)) for shard in done)

    @property
    def not_finite(self) -> list[tuple[int, int]]:
        """Place and seed of each sample that did not stay finite."""
        return [tuple(pair) for each in self.done.values() for pair in each["not_finite"]]

    def damaged(self) -> list[str]:
        """The shards, and the file of all samples, that are not what their records say. They are
        done no more."""
        wrong = []
        for name in [*self.shards, MERGED]:
            if self._record_file(name).exists() and not self._is_whole(name):
                self._record_file(name).unlink(missing_ok=True)
                wrong.append(name)
        return wrong

    def put(self, name: str, write: Callable[[Path], Any], **about: Any) -> None:
        """Write a file and then its record, each whole."""
        with replacing(self._file(name)) as part:
            write(part)
            with part.open("rb") as written:
                digest, size = file_digest(written, "sha256").hexdigest(), part.stat().st_size
        with replacing(self._record_file(name)) as part:
            part.write_text(json.dumps({"sha256": digest, "bytes": size, **about}) + "\n")

    def merge(self, beat: Callable[[], Any]) -> None:
        """Write all samples, seeds and labels to one file, shard by shard; `beat` is called for
        each."""
        shape = tuple(self.manifest["shape"])
        kinds = {"samples": ("<f4", shape), "seeds": ("<u8", ()), "labels": ("<i8", ())}

        def write(part: Path) -> None:
            with ZipFile(part, "w") as archive:
                for name, (kind, event) in kinds.items():
                    header = {"descr": kind, "fortran_order": False, "shape": (self.num, *event)}
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array_header_1_0(file, header)
                        for shard in self.shards:
                            with np.load(self._file(shard)) as arrays:
                                file.write(arrays[name].astype(kind).tobytes())
                            beat()

        self.put(MERGED, write)

    def tidy(self) -> None:
        """Remove what processes that were killed have left, when all is done."""
        shards = self.path / SHARDS
        for left in (*self.path.glob(".*.part"), *shards.glob(".*.part"), *shards.glob("*.claim")):
            left.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for shard in self.shards:
            if self.is_done(shard):
                with np.load(self._file(shard)) as arrays:
                    yield dict(arrays)

    def _file(self, name: str) -> Path:
        return self.path / (MERGED if name == MERGED else f"{SHARDS}/{name}.npz")

    def _record_file(self, name: str) -> Path:
        return self.path / SHARDS / f"{name}.json"

    def _record(self, name: str) -> dict[str, Any]:
        return json.loads(self._record_file(name).read_text())

    def _is_whole(self, name: str) -> bool:
        try:
            with self._file(name).open("rb") as file:
                return file_digest(file, "sha256").hexdigest() == self._record(name)["sha256"]
        except (FileNotFoundError, ValueError, KeyError):
            return False


def is_run(path: Path) -> bool:
    """Whether a folder holds a run of samples in shards."""
    try:
        return bool(RunFolder(path).manifest)
    except ValueError:
        return False


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"There is no run in the folder {str(path)!r}: {error}.") from error


def _same(one: Any, other: Any, name: str = "") -> bool:
    """Whether two JSON values are equal, but for the last digits of numbers, which depend on the
    machine."""
    if name == PROBE and one and len(one) == len(other):
        return math.dist(one, other) <= _ALIKE * math.hypot(*one)
    if isinstance(one, dict) and isinstance(other, dict):
        return {*one} == {*other} and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


def _difference(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    values = [json.dumps(each.get(name)) for each in (there, here)]
    short = max(map(len, values)) <= 100
    known = f"{name}, a few outputs of the network" if name == PROBE else name
    return f"{name} ({values[0]} there, {values[1]} here)" if short else known
