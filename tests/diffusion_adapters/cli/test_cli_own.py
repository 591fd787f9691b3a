"""The command line with models and solvers of one's own, and its refusals in one line."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import expint
from diffusion_adapters.cli import main

MINE = """
from dataclasses import replace

import torch
from diffusion_adapters import VPAdapter, load
from expint import schedules, solvers, targets

target = targets.Gaussian([1.0, -2.0], [0.25, 1.0], schedules.EDM())
method = replace(solvers.get("seeds-2"), name="mine")
schedule = schedules.VP(beta_min=0.2)


class Network(torch.nn.Module):
    def forward(self, x, labels):
        return 0.3 * x


def model():
    return VPAdapter(Network())


def images():
    return load("digits-vp")


number = 3
"""


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine_for_expint.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_for_expint", raising=False)
    return tmp_path


def test_sample_of_ones_own(mine: Path):
    common = ["--num", 3, "--steps", 4, "--no-progress", "--out", mine / "out"]
    own = ["--model", "mine_for_expint:target", "--solver", "mine_for_expint:method"]
    result = run("sample", *own, *common)
    assert result.exit_code == 0, result.output
    # Samples that are not images have no picture.
    assert sorted(p.name for p in (mine / "out").iterdir()) == ["manifest.json", "samples.npz"]
    target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
    expected = expint.sample(target, (3, 2), "seeds-2", steps=4, progress=False)
    np.testing.assert_array_equal(np.load(mine / "out" / "samples.npz")["samples"], expected)
    manifest = json.loads((mine / "out" / "manifest.json").read_text())
    assert manifest["settings"]["solver"] == "mine_for_expint:method"

    result = run("sample", "--model", "mine_for_expint:model", *common)
    assert result.exit_code == 2 and "has no shape: give --shape" in result.stderr
    result = run("sample", "--model", "mine_for_expint:model", "--shape", "3,4,4", *common)
    assert result.exit_code == 0, result.output
    assert (mine / "out" / "samples.png").is_file()
    result = run("sample", "--model", "mine_for_expint:images", "--device", "cpu", *common)
    assert result.exit_code == 0 and "on cpu" in result.stdout, result.output


def test_plan_of_ones_own(mine: Path):
    own = ["--schedule", "mine_for_expint:schedule", "--solver", "mine_for_expint:method"]
    result = run("plan", *own, "--steps", 4, "--json")
    assert result.exit_code == 0, result.output
    schedule = expint.schedules.VP(beta_min=0.2)
    expected = expint.plan_sampling(schedule, "seeds-2", steps=4).to_dict()
    assert json.loads(result.stdout)["rows"] == json.loads(json.dumps(expected["rows"]))


def test_noise_levels_in_place_of_times():
    """Those of k-diffusion, on a schedule whose time is another."""
    result = run("plan", "--schedule", "vp", "--sigmas", "20,3,0.5,0", "--json")
    assert result.exit_code == 0, result.output
    schedule = expint.schedules.VP()
    found = [schedule.sigma(t) for t in json.loads(result.stdout)["grid"]]
    assert found == pytest.approx([20.0, 3.0, 0.5, 0.0], rel=1e-9)


def test_compare_of_ones_own(mine: Path):
    own = "--model mine_for_expint:target --solvers mine_for_expint:method,seeds-2 --nfe 10"
    result = run("compare", *own.split(), "--no-progress", "--out", mine / "out")
    assert result.exit_code == 0, result.output
    first, second = json.loads((mine / "out" / "compare.json").read_text())["curves"]
    assert first["name"] == "mine_for_expint:method"
    assert first["points"] == second["points"]


REFUSALS = [
    (["sample", "--model", "mine_for_expint:number"], "must be a Model"),
    (["sample", "--model", "mine_for_expint:absent"], "Cannot load the model"),
    (["sample", "--solver", "mine_for_expint:number"], "must be a Method or Tableau"),
    (["sample", "--device", "nowhere"], "Cannot use device='nowhere'"),
    (["sample", "--steps", "10000000"], "at most 100000 steps"),
    (["sample", "--num", "100000000000"], "is not in the range"),
    (["sample", "--grid", "karras", "--sigmas", "3,1"], "give one of them"),
    (["sample", "--sigmas", "3,-1"], "finite noise levels >= 0"),
    (["sample", "--sigmas", "1,3"], "strictly decreasing noise"),
    (["sample", "--sigmas", "3,0", "--final", "none"], "let the last time say where to end"),
    (["sample", "--steps", "many"], "'many' is not a valid integer"),
    (["sample", "--what"], "No such option"),
    (["compare", "--tolerance", "-1"], "tolerance is a distance, positive and finite, got -1.0"),
    (["compare", "--tolerance", "nan"], "tolerance is a distance"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSALS)
def test_refusals_are_one_line(mine: Path, arguments: list[str], words: str):
    result = run(*arguments, "--out", mine / "out")
    assert result.exit_code == 2 and result.stdout == "", result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and words in line
    assert not (mine / "out").exists()


@pytest.mark.parametrize("arguments", [["--what"], ["simple"], ["sample"]])
def test_refusals_of_click_are_one_line(arguments: list[str]):
    result = run(*arguments)
    assert result.exit_code == 2 and result.stdout == "", result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and line.endswith("--help`.")


def test_a_device_that_is_not_there(tmp_path: Path):
    result = run("sample", "--device", "cuda:77", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "Cannot use device='cuda:77'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["compare", "--solvers", "seeds-1"], ["convergence", "--solver", "seeds-1"]]
)
def test_without_matplotlib_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for name in ("expint.quality.distances.gaussian_moments", "expint.quality.distances.execute"):
        monkeypatch.setattr(name, lambda *given, **options: pytest.fail("something ran"))
    result = run(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 1 and result.stdout == "", result.output
    assert result.stderr == "Error: Pictures need matplotlib: pip install 'expint[plot]'.\n"
    assert not (tmp_path / "out").exists()
