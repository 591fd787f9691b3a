"""The folder of a run: its manifest, and its samples in shards, each with a record of its own."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

import numpy as np

from diffusion_adapters.sealed_json import sealed, unsealed
from expint.files import replacing
from expint.guards.warning import warn
from expint.plans.file_format import checksum_of

FORMAT = "expint samples 1"
MANIFEST, MERGED, SHARDS = "manifest.json", "samples.npz", "shards"
PROBE, _ALIKE = "probe", 1e-2  # relative to its norm; it depends on the precision of the network
# Which differ from one process to the next.
_FACTS = ("about", "versions", "platform", "checksum")


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
        ValueError: if there is no run; when shards are read, for one that is not what was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        there = unsealed(self.path / MANIFEST)
        if there is None or there.get("format") != FORMAT:
            kind = f"it holds no run of samples in shards, or its {MANIFEST} is damaged"
            raise ValueError(f"There is no run in the folder {str(path)!r}: {kind}.")
        self.manifest, self._run = there, _signature(_known(there))

    @classmethod
    def begin(cls, path: Path, settings: Mapping[str, Any]) -> "RunFolder":
        """The run with these settings in a folder: begun, or as it was left.

        Raises:
            ValueError: if the folder holds a run of other settings, naming what differs.

        Warns:
            UserWarning: if the manifest was cut or changed; it is written again.
        """
        path.mkdir(parents=True, exist_ok=True)
        content, file = {"format": FORMAT, **settings}, path / MANIFEST
        # Whether it is there is asked first: another process may begin the run at this moment.
        here, was_there, there = _known(content), file.exists(), unsealed(file)
        refusal = f"The folder {str(path)!r} holds a run of other settings: "
        way_out = "Give the settings of that run to continue it, or another folder."
        if there is None:
            if was_there and not is_run(path):
                kind = f"format, as its {MANIFEST} is not that of a run in shards"
                raise ValueError(f"{refusal}{kind}. Give another folder.")
            records = [unsealed(record) for record in (path / SHARDS).glob("*.json")]
            if any(record and record.get("run") != _signature(here) for record in records):
                raise ValueError(f"{refusal}its {MANIFEST} is damaged or gone. {way_out}")
            if was_there:
                warn(f"{_damaged(MANIFEST, path)}: it is written again.")
            try:
                with replacing(file, new=not was_there) as part:
                    part.write_text(sealed(content))
            except OSError:
                if not file.exists():  # of no other process: the file system has no links
                    with replacing(file) as part:
                        part.write_text(sealed(content))
        there = _known(unsealed(file) or content)
        names = {**here, **there}.keys() - {PROBE}
        other = sorted(name for name in names if there.get(name) != here.get(name))
        if not other and math.dist(here[PROBE], there[PROBE]) > _ALIKE * math.hypot(*here[PROBE]):
            other = [PROBE]  # which is another, too, where anything else is
        if other:
            shown = ", ".join(_difference(each, there, here) for each in other)
            raise ValueError(f"{refusal}{shown}. {way_out}")
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
        return {shard: record for shard in self.shards if (record := self._record(shard))}

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
        done no more, and a warning names each."""
        there = [name for name in [*self.shards, MERGED] if self._record_file(name).exists()]
        wrong = [name for name in there if not self._is_whole(name)]
        for name in wrong:
            warn(f"{_damaged(name, self.path)}: it counts as missing.")
            self._record_file(name).unlink(missing_ok=True)
        return wrong

    def put(self, name: str, write: Callable[[BinaryIO], Any], **about: Any) -> None:
        """Write a file and then its record, each whole."""
        with replacing(self._file(name)) as part:
            with part.open("wb+") as file:
                write(file)
                file.seek(0)
                digest, size = file_digest(file, "sha256").hexdigest(), file.tell()
        with replacing(self._record_file(name)) as part:
            part.write_text(sealed({"run": self._run, "sha256": digest, "bytes": size, **about}))

    def merge(self, beat: Callable[[], Any]) -> None:
        """Write all samples, seeds and labels to one file, shard by shard; `beat` is called for
        each."""
        shape = tuple(self.manifest["shape"])
        kinds = {"samples": ("<f4", shape), "seeds": ("<u8", ()), "labels": ("<i8", ())}

        def write(merged: BinaryIO) -> None:
            with ZipFile(merged, "w") as archive:
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
                if not self._is_whole(shard):
                    raise ValueError(f"{_damaged(shard, self.path)}: continue the run.")
                with np.load(self._file(shard)) as arrays:
                    yield dict(arrays)

    def _file(self, name: str) -> Path:
        return self.path / (MERGED if name == MERGED else f"{SHARDS}/{name}.npz")

    def _record_file(self, name: str) -> Path:
        return self.path / SHARDS / f"{name}.json"

    def _record(self, name: str) -> dict[str, Any] | None:
        record = unsealed(self._record_file(name))
        return record if record and record.get("run") == self._run else None

    def _is_whole(self, name: str) -> bool:
        record = self._record(name)
        if record is None or not self._file(name).exists():
            return False
        with self._file(name).open("rb") as file:
            return file_digest(file, "sha256").hexdigest() == record["sha256"]


def is_run(path: Path) -> bool:
    """Whether a folder holds a run of samples in shards."""
    return (path / SHARDS).is_dir()


def _damaged(name: str, path: Path) -> str:
    return f"{name} in {str(path)!r} is not what was written there (checksum)"


def _known(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is known by. The last digits of numbers, which depend on the machine, are left
    out."""
    plain = json.dumps({name: each for name, each in manifest.items() if name not in _FACTS})
    return json.loads(plain, parse_float=lambda text: round(float(f"{float(text):.9g}"), 12) + 0.0)


def _signature(known: Mapping[str, Any]) -> str:
    """By which the record of a shard knows its run, also when the manifest is lost."""
    return checksum_of({**known, PROBE: None})


def _difference(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    values = [json.dumps(each.get(name)) for each in (there, here)]
    short = max(map(len, values)) <= 64  # and no checksum
    known = f"{name}, a few outputs of the network" if name == PROBE else name
    return f"{name} ({values[0]} there, {values[1]} here)" if short else known
