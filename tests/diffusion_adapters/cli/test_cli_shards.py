"""`expint sample` of many samples."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import expint
from diffusion_adapters import load
from diffusion_adapters.cli import main, shards
from diffusion_adapters.runs import RunFolder

SMALL = ["sample", "--model", "digits-edm", "--nfe", "7", "--num", "5", "--no-progress", "--out"]


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_run_in_shards_and_on_it_goes(tmp_path: Path):
    result = run(*SMALL, tmp_path, "--shard", 2, "--merge", "--images", "png", "--seed", 3)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert result.stdout.splitlines() == [
        f"5 samples of digits-edm in {tmp_path}/shards, 3 files",
        f"All samples in {tmp_path}/samples.npz",
    ]
    model = load("digits-edm", labels=range(5))
    expected = expint.sample(model, (5, 1, 8, 8), nfe=7, seed=3, progress=False)
    with np.load(tmp_path / "samples.npz") as merged:
        np.testing.assert_allclose(merged["samples"], expected, atol=1e-5)
        assert merged["labels"].tolist() == [0, 1, 2, 3, 4]
    assert len(list((tmp_path / "images").iterdir())) == 5
    about = RunFolder(tmp_path).manifest["about"]
    assert (about["model"], about["nfe"], about["seed"]) == ("digits-edm", 7, 3)
    # A folder of shards is known: its settings are asked for, and nothing in it is overwritten.
    result = run(*SMALL, tmp_path, "--seed", 4)
    assert result.exit_code == 2 and "seed (3 there, 4 here)" in result.stderr


def test_what_is_written_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "_LARGEST", 4)
    assert run(*SMALL, tmp_path / "large").exit_code == 0
    assert RunFolder(tmp_path / "large").count == 5
    monkeypatch.setattr(shards, "_LARGEST", 5)
    assert run(*SMALL, tmp_path / "small").exit_code == 0
    assert not (tmp_path / "small" / "shards").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = run(*SMALL, tmp_path / "several")
    assert RunFolder(tmp_path / "several").count == 5 and not result.stdout


def test_labels_of_a_file(tmp_path: Path):
    file = tmp_path / "labels.txt"
    file.write_text("3\n1\n4\n1\n5\n")
    assert run(*SMALL, tmp_path / "out", "--labels", file).exit_code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["labels"] == [3, 1, 4, 1, 5]
    result = run(*SMALL, tmp_path / "other", "--labels", file, "--num", 6)
    assert result.exit_code == 2 and "5 labels in" in result.stderr and "6 samples" in result.stderr


def test_a_device_for_each_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "usable_device", torch.device)
    assert shards.device_of(None) is None and str(shards.device_of("cuda")) == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    found = [str(shards.device_of(name)) for name in ("cuda", "cuda:1", "cpu")]
    assert found == ["cuda:3", "cuda:1", "cpu"]


def test_samples_that_are_not_finite_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    original = load("digits-edm").__class__.__call__
    seeds = expint.noise.per_sample(0, 5)
    first = 80.0 * expint.noise.initial_state(seeds[3:4], (1, 8, 8), torch.float32)[0]

    def spoilt(self: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        bad = (x == first).flatten(1).all(1)
        return torch.where(bad[:, None, None, None], torch.nan, original(self, x, t))

    monkeypatch.setattr("diffusion_adapters.families.adapter.NetworkAdapter.__call__", spoilt)
    result = run(*SMALL, tmp_path, "--shard", 5)
    assert result.exit_code == 0
    assert result.stderr == (
        f"Warning: NaN, as they did not stay finite: sample 3 (seed {seeds[3]})\n"
    )
