"""The command that measures likelihoods."""

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
from diffusion_adapters.shipped.image_quality import real_images

torch.set_num_threads(1)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, ["likelihood", *map(str, arguments), "--no-progress"])


def test_command_measures_held_out_images(tmp_path: Path):
    out = tmp_path / "found.json"
    options = "--model digits-vp --num 3 --levels 0.125 --steps 6 --solver seeds-ab3".split()
    result = run(*options, "--seed", 4, "--out", out)
    assert result.exit_code == 0, result.output
    images = real_images("digits-vp")[1][:3]
    model = load("digits-vp")
    expected = expint.log_likelihood(model, images, "seeds-ab3", steps=6, levels=0.125, seed=4)
    assert result.output == expected.table() + "\n"
    assert json.loads(out.read_text())["nats"] == pytest.approx(expected.nats, rel=1e-6)


def test_command_takes_a_file_with_classes(tmp_path: Path):
    file = tmp_path / "data.npz"
    images, labels = np.linspace(-1, 1, 256, dtype=np.float32).reshape(4, 1, 8, 8), [3, 1, 4, 1]
    np.savez(file, samples=images, labels=np.array(labels))
    result = run("--data", file, "--labels", "labels", "--bound", "--steps", 5, "--batch", 3)
    model = load("digits-edm", labels=labels)
    expected = expint.log_likelihood(model, torch.from_numpy(images), bound=True, steps=5)
    assert f"{expected.mean:.4f} +- " in result.output and "variational bound" in result.output


def test_refusals_are_one_line():
    assert "give it with --data" in run("--labels", "labels").output
    assert "leave out the solver" in run("--bound", "--solver", "seeds-2").output
    assert "do not come with the package" in run("--model", "mnist-edm").output
