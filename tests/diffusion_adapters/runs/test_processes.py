"""Runs in a folder by several processes, and processes that are killed, as a user starts them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import expint
from diffusion_adapters.cli import main
from diffusion_adapters.runs import RunFolder

# A target whose evaluations take their time, but for a run that is to be finished.
MINE = """
import os
import time
from pathlib import Path

from expint import schedules, targets


class Slow:
    target = targets.Gaussian([1.0, -2.0], [0.25, 1.0], schedules.EDM())
    schedule, prediction, shape = target.schedule, target.prediction, (2,)

    def __call__(self, x, t):
        if os.environ.get("DIES") and os.environ["RANK"] == "1" and len(x) > 1:
            while not list(Path("out/shards").glob("*.json")):  # until the other is at work
                time.sleep(0.02)
            os._exit(3)
        time.sleep(float(os.environ.get("PAUSE", "0")))
        return self.target(x, t)
"""
TARGET = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
MODULE = ["-m", "diffusion_adapters.cli", "--", "sample"]
SETTINGS = ["--model", "mine_in_shards:Slow", "--solver", "seeds-2", "--steps", "9", "--seed", "3"]
NUM = 60
RUN = [*SETTINGS, "--num", str(NUM), "--shard", "5", "--out", "out"]


def started(
    folder: Path, *command: str, pause: float = 0.0, **variables: str
) -> "subprocess.Popen[str]":
    (folder / "mine_in_shards.py").write_text(MINE)
    # Both this source and the model, wherever the command is run.
    path = os.pathsep.join([str(Path(__file__).parents[3]), str(folder)])
    environment = os.environ | {"PYTHONPATH": path, "PAUSE": str(pause), "OMP_NUM_THREADS": "1"}
    environment |= variables
    # In the background of a shell these tests run with SIGINT ignored, which would be inherited.
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def finished(process: "subprocess.Popen[str]") -> tuple[str, str]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output, errors


def wait_for(run: Path, shards: int) -> None:
    end = time.monotonic() + 60
    while len(list(run.glob("shards/*.json"))) < shards:
        assert time.monotonic() < end, "the run does not go on"
        time.sleep(0.02)


def check(run: Path) -> None:
    """All samples are there, once, and those of `expint.sample`; nothing else is."""
    expected = expint.sample(TARGET, (NUM, 2), "seeds-2", steps=9, seed=3, progress=False)
    parts: list[dict[str, Any]] = list(RunFolder(run))
    np.testing.assert_array_equal(np.concatenate([part["samples"] for part in parts]), expected)
    seeds = np.concatenate([part["seeds"] for part in parts]).tolist()
    assert seeds == list(expint.noise.per_sample(3, NUM))
    assert not RunFolder(run).damaged()
    names = {path.name for path in run.rglob("*") if path.is_file()} - {"manifest.json"}
    assert names == {f"{i:06d}.{kind}" for i in range(NUM // 5) for kind in ("npz", "json")}


def test_processes_of_torchrun_share_a_run(tmp_path: Path):
    """Four; one and two in `benchmarks/faults.py`."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    output, errors = finished(started(tmp_path, *launcher, *MODULE, *RUN, pause=0.02))
    assert output.splitlines() == [
        f"{NUM} samples of mine_in_shards:Slow in out/shards, {NUM // 5} files"
    ]
    assert f"{NUM}/{NUM}" in errors and errors.count("[00:00<?,") == 1  # one bar begins
    check(tmp_path / "out")


def test_a_worker_of_torchrun_that_dies_ends_the_others_and_its_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two, one of which dies in its first shard."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = started(tmp_path, *launcher, *MODULE, *RUN, pause=0.1, DIES="1")
    _, errors = process.communicate(timeout=120)
    count = RunFolder(tmp_path / "out").count
    assert process.returncode == 1 and "exitcode  : 3" in errors and count < NUM
    assert f"Interrupted: {count} of {NUM} samples are in out. The same command cont" in errors
    assert not list((tmp_path / "out").rglob("*.part"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["sample", "--out", "out"])
    assert result.exit_code == 0, result.output
    check(tmp_path / "out")


def test_a_killed_process_loses_its_shard_alone_and_others_take_it_over(tmp_path: Path):
    first = started(tmp_path, *MODULE, *RUN, pause=0.1)
    wait_for(tmp_path / "out", 1)
    second = started(tmp_path, *MODULE, *RUN, pause=0.01)
    wait_for(tmp_path / "out", 3)
    first.kill()
    first.communicate()
    finished(second)
    check(tmp_path / "out")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, sent: signal.Signals, monkeypatch: pytest.MonkeyPatch
):
    process = started(tmp_path, *MODULE, *RUN, "--no-progress", pause=0.05)
    wait_for(tmp_path / "out", 2)
    process.send_signal(sent)
    output, errors = process.communicate(timeout=60)
    count = RunFolder(tmp_path / "out").count
    assert process.returncode == 130 and not output and 10 <= count < NUM
    assert errors == (
        f"Interrupted: {count} of {NUM} samples are in out. The same command continues the run.\n"
    )
    assert not list((tmp_path / "out").rglob("*.claim")) + list((tmp_path / "out").rglob("*.part"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["sample", *RUN])
    assert result.exit_code == 0, result.output
    check(tmp_path / "out")
