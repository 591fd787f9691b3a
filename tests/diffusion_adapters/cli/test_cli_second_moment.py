"""The command that measures the statistic of Analytic-DPM."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from click.testing import CliRunner

import expint
from diffusion_adapters import load
from diffusion_adapters.cli import main
from diffusion_adapters.cli.given_data import read_data
from diffusion_adapters.shipped.image_quality import real_images
from expint import SecondMoment, second_moment
from expint.solvers import analytic_dpm

torch.set_num_threads(1)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(
        main, ["second-moment", *(str(argument) for argument in arguments), "--no-progress"]
    )


def images(n: int = 6) -> np.ndarray:
    return np.linspace(-1, 1, n * 64, dtype=np.float32).reshape(n, 1, 8, 8)


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_command_measures_a_network_on_a_file(tmp_path: Path, kind: str):
    file, out = tmp_path / f"data.{kind}", tmp_path / "moment.json"
    extra = {"seeds": np.arange(6)}
    if kind == "npy":
        np.save(file, images())
    elif kind == "npz":
        np.savez(file, samples=images(), **extra)
    else:
        safetensors.numpy.save_file({"samples": images(), **extra}, file)
    result = run("--model", "digits-vp", "--data", file, "--times", 3, "--draws", 4, "--out", out)
    assert result.exit_code == 0, result.output
    assert (
        result.output.splitlines()[0] == f"3 times, 4 draws each, of digits-vp on 6 samples: {out}"
    )
    expected = second_moment(load("digits-vp"), torch.from_numpy(images()), 3, draws=4)
    found = SecondMoment.load(out)
    assert found.times == expected.times and found.values == pytest.approx(
        expected.values, rel=1e-6
    )


def test_command_takes_classes_and_its_output_drives_the_sampler(tmp_path: Path):
    file, out = tmp_path / "data.npz", tmp_path / "moment.json"
    np.savez(file, samples=images(), other=images(3), labels=np.array([3, 1, 4, 1, 5, 9]))
    options = "--model digits-edm --times 3 --estimator residual".split()
    common = (*options, "--data", file, "--out", out)
    assert "2 arrays of shape" in run(*common).output
    assert run(*common, "--array", "samples", "--labels", "labels").exit_code == 0
    model = load("digits-edm", labels=[3, 1, 4, 1, 5, 9])
    expected = second_moment(model, torch.from_numpy(images()), 3, estimator="residual")
    moment = SecondMoment.load(out)
    assert (
        moment.values == pytest.approx(expected.values, rel=1e-6) and moment.estimator == "residual"
    )
    unconditional = second_moment(
        load("digits-edm"), torch.from_numpy(images()), 3, estimator="residual"
    )
    assert unconditional.values != pytest.approx(expected.values, rel=1e-6)
    x = expint.sample(
        model, (6, 1, 8, 8), analytic_dpm(moment, data_range=(-1, 1)), steps=4, progress=False
    )
    assert torch.isfinite(x).all()


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"a": np.zeros((2, 3))}, (), "0 arrays of shape"),
        ({"a": images()}, ("--array", "b"), "no array 'b'"),
        ({"a": np.zeros((2, 3))}, ("--array", "a"), "the network needs"),
        ({"a": np.zeros((2, 1, 8, 8), dtype=np.uint8)}, (), "must be float32 or float64"),
        ({"a": images(), "y": np.zeros(5, dtype=int)}, ("--labels", "y"), "one class per sample"),
        ({"a": images(), "y": np.zeros(6)}, ("--labels", "y"), "one class per sample"),
        (
            {"a": images(), "y": np.zeros(6, dtype=int)},
            ("--labels", "y", "--model", "digits-vp"),
            "has no classes",
        ),
        ({"a": np.array([object()])}, (), "pickle"),
        (None, (), "Cannot read"),
    ],
)
def test_command_refuses_in_one_line(
    tmp_path: Path, arrays: Any, options: tuple[str, ...], message: str
):
    file = tmp_path / "data.npz"
    if arrays is None:
        file.write_bytes(b"PK\x03\x04 cut")
    else:
        np.savez(file, **arrays)
    result = run("--data", file, "--out", tmp_path / "moment.json", *options)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
    assert not (tmp_path / "moment.json").exists()


def test_command_refuses_other_files_and_stray_options(tmp_path: Path):
    out = tmp_path / "moment.json"
    assert "a file of a kind in" in run("--data", tmp_path / "x.pkl", "--out", out).output
    assert "give it with --data" in run("--labels", "y", "--out", out).output
    assert "do not come with the package" in run("--model", "mnist-edm", "--out", out).output


def test_an_archive_that_expands_to_much_more_than_it_holds_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """80 kB that would fill 80 MB; pictures that are mostly of one colour expand to 20 times."""
    few = np.zeros((2000, 1, 8, 8), dtype=np.float32)
    few[:, :, 3, 3:5] = np.random.default_rng(0).standard_normal((2000, 1, 2))
    np.savez_compressed(tmp_path / "few.npz", few)
    assert read_data(tmp_path / "few.npz", (1, 8, 8))[0].shape == few.shape
    np.savez_compressed(tmp_path / "data.npz", np.zeros((20, 1000, 1000), dtype=np.float32))
    np.savez_compressed(tmp_path / "mnist.npz", train_x=np.zeros((20_000, 28, 28), np.uint8))
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(ValueError, match=r"would expand to 80,0.*nothing was read"):
        read_data(tmp_path / "data.npz", (1, 1000, 1000))
    with pytest.raises(ValueError, match=r"would expand to 15,6.*nothing was read"):
        real_images("mnist-edm", tmp_path / "mnist.npz")
