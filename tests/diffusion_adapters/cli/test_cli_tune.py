"""`expint tune`, and a run of what it wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import expint
from diffusion_adapters.cli import main
from diffusion_adapters.cli.tune import _ell


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_tuned_and_sampled(tmp_path: Path):
    out = tmp_path / "p.json"
    reference = tmp_path / "x.npy"
    np.save(reference, np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32) * 0.5)
    arguments = ("--model", "digits-edm", "--reference", reference, "--no-progress", "--out", out)
    done = run(
        "tune", "--nfe", 4, "--solver", "seeds-ab2", "--ell", "0.3,2", "--budget", 8000, *arguments
    )
    assert done.exit_code == 0, done.output
    assert "seeds-ab2, 4 evaluations, begun with seeds-ab2" in done.stdout
    plan = expint.Plan.load(out)
    assert plan.nfe == 4 and plan.about["network"] == "digits-edm"
    assert 0.3 <= plan.sde.diffusion.ell <= 2.0
    folder = tmp_path / "out"
    done = run(
        "sample",
        "--model",
        "digits-edm",
        "--plan",
        out,
        "--num",
        2,
        "--no-progress",
        "--out",
        folder,
    )
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("0.3, 2", (0.3, 2.0)), ("free", "free")])
def test_ell_as_text(text: str, value: Any):
    assert _ell(text) == value


def test_refusals(tmp_path: Path):
    out = tmp_path / "p.json"
    for arguments, message in (
        (("--nfe", 5, "--ell", "much"), "--ell takes a number, low,high or free"),
        (
            ("--nfe", 5, "--ell", "2,1"),
            "ell is a number >= 0, a pair (low, high) of such, or 'free'",
        ),
        (("--nfe", 2, "--solver", "seeds-3"), "nfe=2 is too small for 'seeds-3'"),
        (("--nfe", 5, "--solver", "nothing"), "Unknown solver 'nothing'"),
        (("--nfe", 5, "--array", "x"), "give it with --reference"),
        (("--nfe", 5, "--budget", "10"), "budget is at least"),
    ):
        done = run("tune", "--no-progress", "--out", out, *arguments)
        assert done.exit_code == 2 and message in done.stderr, done.output
    assert not out.exists()
