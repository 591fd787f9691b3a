"""Runs of samples in a folder: what is drawn, continued, refused and repaired."""

import json
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import expint
from diffusion_adapters import cfg, load
from diffusion_adapters.runs import RunFolder, draw, production
from diffusion_adapters.runs.batches import Batches
from diffusion_adapters.runs.claims import Claim

TARGET = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())


def drawn(folder: Path, num: int = 23, model: Any = TARGET, **changed: Any) -> RunFolder:
    settings: dict[str, Any] = {"steps": 6, "seed": 3, "shard": 5, "progress": False} | changed
    return draw(model, num, "seeds-3", out=folder, **settings)


def samples(run: RunFolder) -> np.ndarray:
    return np.concatenate([part["samples"] for part in run])


def checksums(run: RunFolder) -> dict[str, str]:
    return {name: record["sha256"] for name, record in run.done.items()}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_run_in_shards_is_that_of_sample(tmp_path: Path):
    run = drawn(tmp_path, merge=True, start=2)
    whole = expint.sample(TARGET, (23, 2), "seeds-3", steps=6, seed=3, start=2, progress=False)
    np.testing.assert_array_equal(samples(run), whole)
    seeds = expint.noise.per_sample(3, 23, start=2)
    with np.load(tmp_path / "samples.npz") as merged:
        np.testing.assert_array_equal(merged["samples"], whole)
        assert merged["seeds"].tolist() == list(seeds) and merged["seeds"].dtype == np.uint64
        assert (merged["labels"] == -1).all() and merged["samples"].dtype == np.float32
    shards = [f"shards/{i:06d}.{kind}" for i in range(5) for kind in ("json", "npz")]
    assert files(tmp_path) == sorted(
        ["manifest.json", "samples.npz", "shards/samples.npz.json", *shards]
    )
    assert (run.count, run.num, run.not_finite) == (23, 23, [])


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_samples_are_the_same_bit_for_bit_at_any_batch(tmp_path: Path, batch: int):
    whole = drawn(tmp_path / "whole", 130, shard=100)
    assert checksums(drawn(tmp_path / "own", 130, shard=100, batch=batch)) == checksums(whole)


def test_samples_of_a_network_differ_by_rounding_at_most(tmp_path: Path):
    model = load("digits-edm")
    runs = [drawn(tmp_path / str(b), 20, model, batch=b, labels=[3] * 20) for b in (1, 7, 64)]
    for run in runs[1:]:
        np.testing.assert_allclose(samples(run), samples(runs[0]), atol=1e-5)


def test_the_state_of_a_network_in_half_precision_is_in_float32(tmp_path: Path):
    """In bfloat16 the outputs are off by 2⁻⁸; states would keep no more than that of their noise of
    80."""
    model, seen = load("digits-vp").to(torch.bfloat16), []
    model.network.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    half, full = drawn(tmp_path / "half", 8, model), drawn(tmp_path / "full", 8, load("digits-vp"))
    assert set(seen) == {torch.bfloat16}
    part = next(iter(half))["samples"]
    assert (
        part.dtype == np.float32
        and (part != torch.from_numpy(part).bfloat16().float().numpy()).mean() > 0.9
    )
    assert np.abs(samples(half) - samples(full)).mean() < 0.05


def test_seeds_and_labels_of_ones_own_and_pictures(tmp_path: Path):
    model, labels = load("digits-edm"), [7, 1, 7, 0, 2, 2]
    settings = {"seed": None, "seeds": range(40, 46), "labels": labels, "images": "png"}
    run = drawn(tmp_path, 6, model, shard=4, **settings)
    expected = expint.sample(
        model.with_labels(labels), (6, 1, 8, 8), "seeds-3", steps=6, seeds=range(40, 46),
        progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(samples(run), expected, atol=1e-5)
    assert np.concatenate([part["labels"] for part in run]).tolist() == labels
    assert np.concatenate([part["seeds"] for part in run]).tolist() == list(range(40, 46))
    with Image.open(tmp_path / "images" / "00000005.png") as picture:
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(
        pixels, np.clip(np.rint((samples(run)[5, 0] + 1) * 127.5), 0, 255)
    )
    assert len(list((tmp_path / "images").iterdir())) == 6
    same = {**settings, "seeds": np.arange(40, 46), "labels": torch.tensor(labels)}
    assert checksums(drawn(tmp_path, 6, model, shard=4, **same)) == checksums(run)


def test_conditioned_makes_the_model_of_some_labels(tmp_path: Path):
    model, seen = load("digits-edm"), []

    def conditioned(labels: Any) -> Any:
        seen.append(list(labels))
        return model.with_labels(labels)

    drawn(tmp_path, 6, model, labels=[7, 1, 7, 0, 2, 2], conditioned=conditioned, shard=4, batch=3)
    # All labels are checked, and the first sample's model is known by its output.
    assert seen == [[0, 1, 2, 7], [7], [7, 1, 7], [0], [2, 2]]


class StopError(Exception):
    pass


def stopped(folder: Path, after: int, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """A run that is stopped in its shard number `after`."""
    left = [after]
    original = production._draw_shard

    def counted(*arguments: Any) -> None:
        if not left[0]:
            raise StopError
        left[0] -= 1
        original(*arguments)

    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr(production, "_draw_shard", counted)
        drawn(folder, **changed)


def test_a_run_goes_on_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = drawn(tmp_path / "whole")
    stopped(tmp_path / "own", 2, monkeypatch)
    left = RunFolder(tmp_path / "own")
    assert (left.count, list(left.done)) == (10, ["000000", "000001"])
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "own").rglob("*.npz")}
    assert checksums(drawn(tmp_path / "own", batch=2)) == checksums(whole)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert files(tmp_path / "own") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seed": 4}, "settings: seed (3 there, 4 here)."),
        ({"num": 24}, "num (23 there, 24 here)"),
        ({"shard": 6}, "shard (5 there, 6 here)"),
        ({"start": 1}, "start (0 there, 1 here)"),
        ({"steps": 7}, "nfe (16 there, 19 here), plan"),
        ({"ell": 0.5}, "other settings: plan."),
        ({"dtype": torch.float64}, 'dtype ("float32" there, "float64" here)'),
        ({"model": expint.targets.Gaussian([0.0], [1.0], expint.schedules.EDM())}, "shape"),
    ],
)
def test_other_settings_are_refused_with_the_difference(
    tmp_path: Path, changed: dict[str, Any], words: str
):
    before = checksums(drawn(tmp_path))
    with pytest.raises(ValueError, match="holds a run of other settings") as refused:
        drawn(tmp_path, **changed)
    assert words in str(refused.value) and "or another folder" in str(refused.value)
    assert checksums(RunFolder(tmp_path)) == before


def test_other_weights_are_refused(tmp_path: Path):
    drawn(tmp_path, 3, load("digits-vp"), steps=2)
    model = load("digits-vp")
    next(iter(model.parameters())).data[0] += 1e-4
    with pytest.raises(ValueError, match="other settings: weights"):
        drawn(tmp_path, 3, model, steps=2)


def test_other_guidance_is_refused(tmp_path: Path):
    model = load("digits-edm")

    def guided(weight: float) -> RunFolder:
        def conditioned(labels: Any) -> Any:
            return cfg(model.with_labels(labels), weight)

        return drawn(tmp_path, 4, model, steps=4, labels=[0, 1, 2, 3], conditioned=conditioned)

    guided(2.0)
    assert guided(2.0).count == 4
    with pytest.raises(ValueError, match=r"other settings: probe, a few outputs of the network\."):
        guided(2.2)


def test_what_kills_have_left_is_gone_in_the_end(tmp_path: Path):
    drawn(tmp_path)
    expected = files(tmp_path)
    for name in ("000001.claim", ".000001.npz.host.1.part", "../.manifest.json.host.1.part"):
        (tmp_path / "shards" / name).write_text("")
    drawn(tmp_path)
    assert files(tmp_path) == expected


def test_a_manifest_says_how_it_was_drawn(tmp_path: Path):
    run = drawn(tmp_path, 3, load("digits-vp"), steps=2)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest == run.manifest and set(manifest["versions"]) >= {"expint", "torch"}
    assert len(manifest["weights"]) == 64 and manifest["plan"]["solver"] == "seeds-3"
    record = run.done["000000"]
    assert record["bytes"] == (tmp_path / "shards" / "000000.npz").stat().st_size
    assert (record["device"], record["batch"]) == ("cpu", 64)


@pytest.mark.parametrize("fault", ["cut", "changed", "removed", "record cut", "merged"])
def test_a_file_that_is_not_what_was_written_is_made_again(tmp_path: Path, fault: str):
    before = checksums(drawn(tmp_path, merge=True))
    merged = (tmp_path / "samples.npz").read_bytes()
    shard = tmp_path / ("samples.npz" if fault == "merged" else "shards/000002.npz")
    content = bytearray(shard.read_bytes())
    if fault == "cut":
        shard.write_bytes(content[: len(content) // 2])
    elif fault == "removed":
        shard.unlink()
    elif fault == "record cut":
        shard.with_suffix(".json").write_text('{"sha')
    else:
        content[200] ^= 1
        shard.write_bytes(content)
    name = "samples.npz" if fault == "merged" else "000002"
    with pytest.warns(UserWarning, match=rf"{name} in .* is not what was written there"):
        run = drawn(tmp_path, merge=True)
    assert checksums(run) == before and (tmp_path / "samples.npz").read_bytes() == merged


class Spoilt:
    """The target, but NaN for states that are one of some samples'."""

    schedule, prediction, shape = TARGET.schedule, TARGET.prediction, (2,)

    def __init__(self, states: torch.Tensor) -> None:
        self.states = states

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        bad = (x[:, None] == self.states).all(-1).any(-1)
        return torch.where(bad[:, None], torch.nan, TARGET(x, t))


def first_states(places: list[int]) -> torch.Tensor:
    seeds = [expint.noise.per_sample(3, 23)[place] for place in places]
    return 80.0 * expint.noise.initial_state(seeds, (2,), torch.float32)


def test_a_sample_that_is_not_finite_is_named_and_the_others_are_kept(tmp_path: Path):
    whole = samples(drawn(tmp_path / "whole"))
    run = drawn(tmp_path / "own", model=Spoilt(first_states([6, 17])), merge=True)
    seeds = expint.noise.per_sample(3, 23)
    assert run.not_finite == [(6, seeds[6]), (17, seeds[17])]
    found, good = samples(run), np.setdiff1d(np.arange(23), [6, 17])
    np.testing.assert_array_equal(found[good], whole[good])
    assert np.isnan(found[[6, 17]]).all()
    record = run.done["000001"]
    assert record["not_finite"] == [[6, seeds[6]]] and "NaN or infinite in step 1" in record["why"]


def test_a_shard_without_a_finite_sample_is_an_error(tmp_path: Path):
    with pytest.raises(
        FloatingPointError, match=r"None of the samples 5 to 9 stayed finite\. The s"
    ):
        drawn(tmp_path, model=Spoilt(first_states([5, 6, 7, 8, 9])))
    assert RunFolder(tmp_path).count == 5
    assert not list(tmp_path.rglob("*.claim"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["cuda", "mps", "cpu", "python"],
)
def test_the_batch_is_halved_when_memory_does_not_do(tmp_path: Path, error: Exception):
    sizes = []

    class Large(Spoilt):
        pass

    def call(self: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 3:
            raise error
        return TARGET(x, t)

    Large.__call__ = call  # pyright: ignore[reportAttributeAccessIssue]
    whole = drawn(tmp_path / "whole", shard=16)
    run = drawn(tmp_path / "own", model=Large(torch.empty(0)), shard=16, batch=13)
    np.testing.assert_array_equal(samples(run), samples(whole))
    assert sizes[:4] == [1, 13, 6, 3] and set(sizes[3:]) <= {3, 1}
    assert run.done["000000"]["batch"] == 3


def test_other_errors_of_a_network_are_its_own(tmp_path: Path):
    class Broken(Spoilt):
        def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            if len(x) > 1:
                raise RuntimeError("no such kernel")
            return TARGET(x, t)

    with pytest.raises(RuntimeError, match="no such kernel"):
        drawn(tmp_path, model=Broken(torch.empty(0)))
    assert not list(tmp_path.rglob("*.claim"))


def test_a_full_disk_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    original = RunFolder.put

    def full(self: RunFolder, name: str, *arguments: Any, **about: Any) -> None:
        if name == "000002":
            raise OSError(28, "No space left on device")
        original(self, name, *arguments, **about)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "put", full)
        with pytest.raises(OSError, match=r"\(the disk is full\): 10 of 23 samples are kept"):
            drawn(tmp_path)
    assert not [name for name in files(tmp_path) if "part" in name or "claim" in name]
    assert drawn(tmp_path).count == 23


def test_a_folder_that_is_removed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import shutil

    original = production._draw_shard

    def removing(folder: RunFolder, name: str, *arguments: Any) -> None:
        if name == "000002":
            arguments[-1].wait()  # for what is written in the background
            shutil.rmtree(folder.path)
        original(folder, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(production, "_draw_shard", removing)
        with pytest.raises(OSError, match="no longer there, and with it all samples"):
            drawn(tmp_path / "own")
    assert drawn(tmp_path / "own").count == 23


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path):
    bad: list[dict[str, Any]] = [
        {"num": 0}, {"num": 2.5}, {"shard": 0}, {"batch": 0}, {"images": "jpg"}, {"images": "png"},
        {"labels": [1, 2]}, {"seeds": [1, 2]}, {"seed": None, "seeds": [1, 2]}, {"start": -1},
        {"start": 2**32}, {"seed": -1}, {"steps": 0}, {"grid": "no grid"}, {"device": "nowhere"},
        {"steps": expint.Adaptive(rtol=0.1)}, {"shape": ()},
    ]  # fmt: skip
    for changed in bad:
        with pytest.raises((ValueError, TypeError)):
            drawn(tmp_path / "out", **changed)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"command": "expint sample"}')
    with pytest.raises(ValueError, match="other settings: format"):
        drawn(tmp_path)
    assert files(tmp_path) == ["manifest.json"] and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="holds no run of samples in shards"):
        RunFolder(tmp_path)
    with pytest.raises(ValueError, match="There is no run"):
        RunFolder(tmp_path / "nothing")


def test_a_claim_that_another_process_has_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A claim of this machine is kept as long as its process runs, and its shard is drawn when it
    does not; the pace is that of the other's beats, not of any clock."""
    stopped(tmp_path, 1, monkeypatch)
    claim = tmp_path / "shards" / "000003.claim"
    claim.write_text(json.dumps({"machine": "another", "process": 1, "claim": "x"}))
    looks = []

    def wait(seconds: float) -> None:
        looks.append(RunFolder(tmp_path).count)
        if len(looks) < 3:
            claim.touch()
        else:
            now[0] += 301.0

    now = [0.0]
    monkeypatch.setattr(production, "sleep", wait)
    monkeypatch.setattr("diffusion_adapters.runs.claims.monotonic", lambda: now[0])
    run = drawn(tmp_path)
    assert looks == [18, 18, 18] and run.count == 23 and not claim.exists()


def test_a_worker_whose_shard_was_taken_over_lets_it_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original, seen = Claim.beat, []

    def beat(self: Claim, now: bool = False) -> None:
        if not seen:
            seen.append(self._path)
            self._path.write_text(json.dumps({"machine": "another", "process": 1, "claim": "x"}))
        original(self, now)

    monkeypatch.setattr(Claim, "beat", beat)
    before = []

    def wait(seconds: float) -> None:
        before.extend(RunFolder(tmp_path).done)
        seen[0].unlink()  # the other has given it back

    monkeypatch.setattr(production, "sleep", wait)
    run = drawn(tmp_path)
    assert seen[0].name == "000000.claim" and before == [f"{i:06d}" for i in range(1, 5)]
    assert run.count == 23


@pytest.mark.parametrize("wrong", [["a"] * 4, [1.5] * 4, [True] * 4, [None] * 4, "abcd"], ids=str)
def test_labels_are_whole_numbers(tmp_path: Path, wrong: Any):
    with pytest.raises(ValueError, match=r"Labels are whole numbers, got|one label for each"):
        draw(load("digits-edm"), 4, steps=4, out=tmp_path, labels=wrong, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_shard_is_written_while_the_next_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The first shard is not there before the second is being computed."""
    drawing, original, order = Event(), RunFolder.put, []

    def put(self: RunFolder, name: str, *arguments: Any, **about: Any) -> None:
        if name == "000000":
            assert drawing.wait(30)
        order.append(name)
        original(self, name, *arguments, **about)

    class Watched(Spoilt):
        calls = 0

        def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls > 1 + 16:  # the probe, and a shard
                drawing.set()
            return TARGET(x, t)

    monkeypatch.setattr(RunFolder, "put", put)
    assert drawn(tmp_path, model=Watched(torch.empty(0))).count == 23
    assert order == [f"{i:06d}" for i in range(5)]


def test_a_gpu_copies_into_pinned_memory_while_it_goes_on(monkeypatch: pytest.MonkeyPatch):
    """The order of the calls, without a GPU: memory for all, batch after batch into it without
    waiting, and one wait at the end."""
    plan = expint.plan_sampling(TARGET.schedule, "seeds-1", steps=4)
    batches = Batches(TARGET, (2,), plan, 5, batch=2)
    expected, calls = batches.draw(range(5), lambda *_: None), []
    empty, copy = torch.empty, torch.Tensor.copy_

    def pinned(*size: Any, pin_memory: bool = False, **settings: Any) -> torch.Tensor:
        if pin_memory:
            calls.append("pinned")
        return empty(*size, **settings)

    def copied(self: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> Any:
        if non_blocking:
            calls.append(f"copy {len(source)}")
        return copy(self, source)

    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append("wait"))
    batches.device = torch.device("cuda")
    drawn = batches.draw(range(5), lambda *_: calls.append("step"))
    assert [call for call in calls if call != "step"] == [
        "pinned", "copy 2", "copy 2", "copy 1", "wait"
    ]  # fmt: skip
    assert torch.equal(drawn, expected)
