"""Each fault: what is said, what is left, and that a second start completes the run as if nothing
had happened. Faults of processes are in test_processes.py."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import expint
from diffusion_adapters.runs import RunFolder, claims, draw, folder, production
from diffusion_adapters.runs.claims import Claims

TARGET = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())


def drawn(folder: Path, model: Any = TARGET, **changed: Any) -> RunFolder:
    settings: dict[str, Any] = {"steps": 6, "seed": 3, "shard": 5, "merge": True} | changed
    return draw(model, 23, "seeds-3", out=folder, progress=False, **settings)


def content(folder: Path) -> dict[str, Any]:
    """All files, with the content of those that hold samples, and the settings."""
    found: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes() if path.suffix == ".npz" else None
        for path in folder.rglob("*")
        if path.is_file()
    }
    return found | {"manifest.json": json.loads((folder / "manifest.json").read_text())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    drawn(folder)
    return content(folder)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of its own."""
    drawn(tmp_path / "run")
    return tmp_path / "run"


@contextmanager
def unchanged(folder: Path, *but: str) -> Iterator[None]:
    """No shard is written again, but for some."""
    before = {path: path.stat().st_mtime_ns for path in folder.glob("shards/*.npz")}
    yield
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.stem for path in before if before[path] != after[path]} == {*but}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "the disk is full"),
        (OSError(30, "Read-only file system"), "Read-only file system"),
        (OSError(122, "Disk quota exceeded"), "Disk quota exceeded"),
    ],
    ids=["full", "read-only", "quota"],
)
def test_a_disk_that_takes_no_more(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
):
    """The third shard is written halfway."""
    savez, left = np.savez, [2]

    def full(file: Any, **arrays: Any) -> None:
        if not left[0]:
            file.write(b"half of it")
            raise error
        left[0] -= 1
        savez(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(
            OSError, match=rf"Cannot go on .*\({words}\): 10 of 23 samples are kept"
        ):
            drawn(tmp_path)
    kept = [f"00000{i}.{kind}" for i in (0, 1) for kind in ("json", "npz")]
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == kept
    with unchanged(tmp_path):
        drawn(tmp_path)
    assert content(tmp_path) == whole


def test_an_interrupted_run_keeps_what_is_done(tmp_path: Path, whole: Any):
    """Ctrl-C in the third shard; that before is still being written."""
    calls = []

    class Interrupted:
        schedule, prediction, shape = TARGET.schedule, TARGET.prediction, (2,)

        def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            if len(calls) > 1 + 2 * 16 + 5:
                raise KeyboardInterrupt
            return TARGET(x, t)

    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path, Interrupted(), about={"model": "x"})
    assert RunFolder(tmp_path).count == 10 and not list(tmp_path.rglob("*.claim"))
    assert not list(tmp_path.rglob(".*"))
    calls.clear()
    Interrupted.__call__ = lambda self, x, t: TARGET(x, t)  # pyright: ignore
    with unchanged(tmp_path):
        drawn(tmp_path, Interrupted())
    done = content(tmp_path)
    assert {n: done[n] for n in done if n.endswith("npz")} == {
        n: whole[n] for n in whole if n.endswith("npz")
    }


def test_what_a_killed_process_leaves(tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch):
    """Two shards, a claim of its own, one that is cut, and files half written."""
    original, done = production._draw_shard, []

    def two(*arguments: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(original(*arguments))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(production, "_draw_shard", two)
        drawn(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    holder = {"machine": claims._machine(), "process": gone.pid, "claim": "x"}
    shards = tmp_path / "shards"
    (shards / "000002.claim").write_text(json.dumps(holder))
    (shards / "000003.claim").write_text('{"mach')
    (shards / "000004.claim").write_text("")
    (shards / ".000002.npz.host.1.part").write_bytes(b"half")
    (tmp_path / ".manifest.json.host.1.part").write_bytes(b"half")
    with unchanged(tmp_path):
        drawn(tmp_path)
    assert content(tmp_path) == whole


@pytest.mark.parametrize("fault", ["cut", "changed", "empty", "another kind", "no text"])
def test_a_manifest_that_is_cut_or_changed_is_written_again(run: Path, whole: Any, fault: str):
    file = run / "manifest.json"
    text = file.read_text()
    texts = {"cut": text[:200], "changed": text.replace('"num": 23', '"num": 24'), "empty": ""}
    texts |= {"another kind": "[1]"}
    file.write_bytes(texts[fault].encode() if fault in texts else b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"There is no run in the folder .* is damaged"):
        RunFolder(run)
    with unchanged(run), pytest.warns(UserWarning, match=r"manifest.json in .* is not what"):
        drawn(run)
    assert content(run) == whole


@pytest.mark.parametrize("moment", ["before it asks", "after it asks"])
def test_of_two_runs_that_begin_at_once_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    """The other process begins when this one looks for a manifest."""
    drawn(tmp_path / "other", seed=4)
    original, begun = folder.unsealed, []

    def begin() -> None:
        begun.append("it has")
        (tmp_path / "run" / "shards").mkdir()
        shutil.copy(tmp_path / "other" / "manifest.json", tmp_path / "run")

    def racing(file: Path) -> Any:
        if begun:
            return original(file)
        if moment == "before it asks":
            begin()
        found = original(file)
        if not begun:
            begin()
        return found

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(folder, "unsealed", racing)
    with pytest.raises(ValueError, match=r"other settings: seed \(4 there, 3 here\)"):
        drawn(tmp_path / "run")
    assert RunFolder(tmp_path / "run").manifest["seed"] == 4


@pytest.mark.parametrize("fault", ["cut", "removed"])
def test_shards_without_their_manifest_are_not_taken_for_those_of_another_run(
    run: Path, whole: Any, fault: str
):
    file = run / "manifest.json"
    text = file.read_text()
    if fault == "removed":
        file.unlink()
    else:
        file.write_text(text[:100])
    with unchanged(run), pytest.raises(ValueError, match=r"its manifest.json is damaged or gone"):
        drawn(run, seed=4)
    file.unlink(missing_ok=True)
    with unchanged(run):
        drawn(run)
    assert content(run) == whole


@pytest.mark.parametrize("fault", ["cut", "changed", "another kind", "empty"])
def test_a_record_that_is_cut_or_changed(run: Path, whole: Any, fault: str):
    record = run / "shards" / "000002.json"
    text = record.read_text()
    changed = text.replace('"not_finite": []', '"not_finite": [[3, 5]]')
    assert changed != text
    texts = {"cut": text[:50], "changed": changed, "another kind": "[]", "empty": ""}
    record.write_text(texts[fault])
    assert RunFolder(run).not_finite == []
    with unchanged(run, "000002"), pytest.warns(UserWarning, match=r"000002 in .* \(checksum\)"):
        drawn(run)
    assert content(run) == whole


def test_a_shard_of_another_run_is_not_taken(run: Path, whole: Any, tmp_path: Path):
    drawn(tmp_path / "other", seed=4)
    for name in ("000001.npz", "000001.json"):
        (tmp_path / "other" / "shards" / name).replace(run / "shards" / name)
    with unchanged(run, "000001"), pytest.warns(UserWarning, match="000001 in"):
        drawn(run)
    assert content(run) == whole


def test_a_shard_that_is_cut_is_not_read(run: Path):
    shard = run / "shards" / "000001.npz"
    shard.write_bytes(shard.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"000001 in .* \(checksum\): continue the run"):
        list(RunFolder(run))


def test_a_shard_that_is_cut_while_the_run_goes_on_is_not_merged(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
):
    original = production._draw_shard

    def cutting(run: RunFolder, name: str, *arguments: Any) -> None:
        if name == "000004":
            shard = run.path / "shards" / "000001.npz"
            shard.write_bytes(shard.read_bytes()[:300])
        original(run, name, *arguments)

    monkeypatch.setattr(production, "_draw_shard", cutting)
    with pytest.warns(UserWarning, match="000001 in"):
        drawn(tmp_path)
    assert content(tmp_path) == whole


def test_jumps_of_clocks_take_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither those of this machine, whose times files get, nor of the other."""
    now = [0.0]
    monkeypatch.setattr(claims, "monotonic", lambda: now[0])
    path, watching = tmp_path / "x.claim", Claims(tmp_path, 300.0)
    path.write_text(json.dumps({"machine": "another", "process": 1, "claim": "x"}))
    for stamp in (0, 4_000_000_000, 1_000_000_000, 1_000_000_001):
        os.utime(path, (stamp, stamp))
        assert watching.take("x") is None
        now[0] += 299.0
        assert watching.take("x") is None
    now[0] += 2.0
    taken = watching.take("x")
    assert taken is not None
    os.utime(path, (0, 0))
    taken.beat(now=True)
    taken.release()
    assert not path.exists()


def test_a_sample_that_is_not_finite_stays_so(tmp_path: Path, whole: Any):
    """One of 23; a second start finds the run complete, and names it again."""
    seeds = expint.noise.per_sample(3, 23)
    first = 80.0 * expint.noise.initial_state(seeds[7:8], (2,), torch.float32)

    class Spoilt:
        schedule, prediction, shape = TARGET.schedule, TARGET.prediction, (2,)

        def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return torch.where((x == first).all(1, keepdim=True), torch.nan, TARGET(x, t))

    for _ in range(2):
        assert drawn(tmp_path, Spoilt()).not_finite == [(7, seeds[7])]
    with np.load(tmp_path / "samples.npz") as found, (tmp_path / "good.npz").open("wb") as file:
        file.write(whole["samples.npz"])
        file.close()
        good = np.load(tmp_path / "good.npz")["samples"]
        assert np.isnan(found["samples"][7]).all()
        np.testing.assert_array_equal(np.delete(found["samples"], 7, 0), np.delete(good, 7, 0))


def test_the_shards_of_a_run_have_the_size_that_they_had(run: Path, whole: Any):
    with unchanged(run):
        drawn(run, shard=None)
    assert content(run) == whole
