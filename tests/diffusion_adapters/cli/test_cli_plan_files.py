"""Plan files on the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import expint
from diffusion_adapters import load
from diffusion_adapters.cli import main
from expint import Plan
from expint.plans import extrapolated
from expint.plans.file_format import plan_text


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    plan = expint.plan_sampling(load("digits-edm").schedule, "seeds-ab2", steps=4, ell=[1, 0.5, 0])
    extrapolated(plan, [1.0, 0.9, 0.5, 1.0]).save(tmp_path / "p.json", network="digits-edm")
    return tmp_path / "p.json"


def drawn(folder: Path, *arguments: Any) -> tuple[dict[str, Any], np.ndarray, str]:
    done = run("sample", "--no-progress", "--num", 3, "--out", folder, *arguments)
    assert done.exit_code == 0, done.output
    with np.load(folder / "samples.npz") as stored:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return manifest, stored["samples"], done.stdout


def test_samples_of_a_plan_and_of_its_manifest(file: Path, tmp_path: Path):
    """From the manifest alone, in Python and on the command line: the file may be gone."""
    manifest, samples, printed = drawn(tmp_path / "a", "--plan", file, "--seed", 5)
    assert "seeds-ab2, extended form, noise scale ell per step" in printed
    content = manifest["settings"]["plan"]
    assert content == json.loads(file.read_text(encoding="utf-8"))
    assert (manifest["nfe"], manifest["settings"]["solver"]) == (4, None)
    file.unlink()
    names = expint.sampling.SamplingOptions.__annotations__
    options = {name: manifest["settings"][name] for name in names}
    again = expint.sample(
        load("digits-edm", labels=manifest["labels"]), (3, *manifest["model"]["shape"]),
        manifest["settings"]["solver"], **options, seed=5, progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(again.to(torch.float32).numpy(), samples)
    _, same, _ = drawn(tmp_path / "b", "--plan", plan_text(content), "--seed", 5)
    np.testing.assert_array_equal(same, samples)


def test_a_plan_is_printed_and_written(file: Path, tmp_path: Path):
    shown = run("plan", "--plan", file)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == Plan.load(file).table() + "\nnetwork: digits-edm\n"
    copied = run("plan", "--plan", file, "--save", tmp_path / "copy.json")
    assert copied.exit_code == 0, copied.output
    assert (tmp_path / "copy.json").read_bytes() == file.read_bytes()
    made = run("plan", "--schedule", "vp", "--nfe", 7, "--save", tmp_path / "vp.json")
    assert made.exit_code == 0, made.output
    assert Plan.load(tmp_path / "vp.json").nfe == 7
    numbers = json.loads(run("plan", "--plan", file, "--json").stdout)
    assert numbers["solver"] == "seeds-ab2"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--solver", "seeds-1"), "leave out solver"),
        (("--nfe", "5", "--sigmas", "3,0"), "leave out nfe, sigmas"),
        (("--final", "none"), "leave out final"),
        (("--operation", "churn(s_churn=3)"), "leave out operations"),
        (("--model", "digits-vp"), "it is for the schedule EDM"),
    ],
    ids=str,
)
def test_what_a_plan_fixes_is_refused(
    file: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
):
    done = run("sample", "--plan", file, "--out", tmp_path / "a", *arguments)
    assert done.exit_code == 2 and reason in done.stderr, done.output
    assert done.stderr.count("\n") == 1 and not (tmp_path / "a").exists()


def test_files_that_are_not_plans(file: Path, tmp_path: Path):
    text = file.read_text(encoding="utf-8")
    file.write_text(text[:-100], encoding="utf-8")
    for wrong in (file, tmp_path, tmp_path / "none.json", "x", "{"):
        for command in (("plan",), ("sample", "--out", tmp_path / "a")):
            done = run(*command, "--plan", wrong)
            assert done.exit_code == 2 and "cannot be loaded" in done.stderr, done.output
    nothing = run("plan", "--nfe", 5)
    assert nothing.exit_code == 2 and "Give --schedule, or a plan with --plan" in nothing.stderr
    nowhere = run("plan", "--schedule", "vp", "--save", tmp_path / "no" / "p.json")
    assert nowhere.exit_code == 1 and "Cannot write" in nowhere.stderr
