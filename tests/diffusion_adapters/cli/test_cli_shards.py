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
from diffusion_adapters.runs import RunFolder, draw

TARGET = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
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


def test_a_folder_alone_continues_its_run(tmp_path: Path):
    """With the options of the run, whatever they were; those that samples do not depend on may be
    given."""
    labels = tmp_path / "labels.txt"
    labels.write_text("3 1 4 1 5")
    given = ["--seed", 3, "--shard", 2, "--solver", "seeds-2", "--labels", labels]
    given += ["--operation", "churn(s_churn=5)", "--grid", "cosine"]
    assert run(*SMALL, tmp_path / "out", *given).exit_code == 0
    before = RunFolder(tmp_path / "out").done
    for kind in ("npz", "json"):
        (tmp_path / "out" / "shards" / f"000001.{kind}").unlink()
    result = run("sample", "--out", tmp_path / "out", "--batch", 1, "--merge", "--no-progress")
    assert result.exit_code == 0, result.output
    assert "5 samples of digits-edm" in result.stdout and "All samples in" in result.stdout
    after = RunFolder(tmp_path / "out")
    assert after.count == 5 and after.done["000001"]["batch"] == 1
    with np.load(tmp_path / "out" / "samples.npz") as merged:
        assert merged["labels"].tolist() == [3, 1, 4, 1, 5]
    assert after.done["000000"] == before["000000"]
    result = run("sample", "--out", tmp_path / "out", "--seed", 4)
    assert result.exit_code == 2 and "seed (3 there, 4 here)" in result.stderr


def test_what_a_folder_alone_does_not_continue(tmp_path: Path):
    draw(TARGET, 3, steps=8, out=tmp_path / "python", progress=False)
    result = run("sample", "--out", tmp_path / "python")
    assert result.exit_code == 2 and "was not begun by `expint sample`" in result.stderr
    assert run(*SMALL, tmp_path / "small").exit_code == 0
    result = run(*SMALL, tmp_path / "small", "--shard", 2)
    assert result.exit_code == 2 and result.stderr == (
        f"Error: The folder '{tmp_path / 'small'}' holds a run of other settings: format, as its "
        "manifest.json is not that of a run in shards. Give another folder.\n"
    )


MINE = """
from expint import schedules, targets

target = targets.Gaussian([1.0, -2.0], [0.25, 1.0], schedules.EDM())
"""


def test_the_precision_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The state stays in float32."""
    seen = []
    original = torch.nn.Linear.forward

    def forward(self: Any, given: torch.Tensor) -> torch.Tensor:
        seen.append(given.dtype)
        return original(self, given)

    monkeypatch.setattr(torch.nn.Linear, "forward", forward)
    shard = ("--shard", 5, "--solver", "seeds-1", "--final", "none", "--grid", "cosine")
    half = (*shard, "--network-dtype", "bfloat16")
    assert run(*SMALL, tmp_path / "half", *half).exit_code == 0
    assert torch.bfloat16 in seen and RunFolder(tmp_path / "half").manifest["dtype"] == "float32"
    assert run(*SMALL, tmp_path / "full", *shard).exit_code == 0
    parts = [next(iter(RunFolder(tmp_path / name)))["samples"] for name in ("half", "full")]
    rounded = torch.from_numpy(parts[0]).bfloat16().float().numpy()
    assert (parts[0] != rounded).mean() > 0.5 and 0.0 < np.abs(parts[0] - parts[1]).mean() < 0.1
    result = run(*SMALL, tmp_path / "half", *shard)
    assert result.exit_code == 2 and "other settings: model, weights." in result.stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_without_network.py").write_text(MINE)
    own = ("--model", "mine_without_network:target", "--out", "own", "--network-dtype", "float16")
    result = run("sample", *own)
    assert result.exit_code == 2 and "cast the network where the model is made" in result.stderr


def test_a_compiled_network_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []

    def compiled(model: Any, *, backend: str, dynamic: bool) -> Any:
        seen.append((backend, dynamic))
        return model

    monkeypatch.setattr(torch, "compile", compiled)
    assert run(*SMALL, tmp_path, "--shard", 2, "--compile").exit_code == 0
    assert seen and {backend for backend, _ in seen} == {"inductor"}


def test_options_that_torchrun_takes_for_its_own():
    """Behind two dashes all arrive; without them --num and --start do not."""
    from torch.distributed.run import parse_args

    command = main.commands["sample"]
    launcher = ["--nproc-per-node=2", "-m", "diffusion_adapters.cli"]
    taken = set()
    for option in command.params:
        arguments = ["sample", option.opts[0], "1"]
        parsed = parse_args([*launcher, "--", *arguments]).training_script_args
        assert [each for each in parsed if each != "--"] == arguments
        try:
            if parse_args([*launcher, *arguments]).training_script_args != arguments:
                taken.add(option.opts[0])
        except SystemExit:
            taken.add(option.opts[0])
    assert taken == {"--num", "--start"}
