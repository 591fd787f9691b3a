"""A manifest of `expint sample` makes its run again."""

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

OPERATIONS = (
    "--operation",
    "churn(s_churn=4, s_max=50)",
    "--operation",
    "noise-factor(s_noise=1.1)",
)


def run(*arguments: Any) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def drawn(folder: Path, *arguments: Any) -> tuple[dict[str, Any], np.ndarray, str]:
    """The manifest, the samples, and the line that describes the run."""
    printed = run("sample", "--no-progress", "--out", folder, *arguments)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    with np.load(folder / "samples.npz") as stored:
        return manifest, stored["samples"], printed.splitlines()[1]


def again_in_python(manifest: dict[str, Any], *, on_its_times: bool) -> np.ndarray:
    """The samples by `expint.sample`, from nothing but the manifest."""
    settings, network = manifest["settings"], manifest["model"]
    options = {name: settings[name] for name in expint.sampling.SamplingOptions.__annotations__}
    options["operations"] = [expint.solvers.operation(text) for text in settings["operations"]]
    if on_its_times:
        options |= {"grid": [float(t) for t in manifest["times"]], "steps": None, "nfe": None}
    samples = expint.sample(
        load(network["name"], labels=manifest["labels"]),
        (len(manifest["seeds"]), *network["shape"]),
        settings["solver"],
        **options,
        seeds=manifest["seeds"],
        dtype=getattr(torch, settings["dtype"]),
        compile=settings["compile"],
        device=manifest["device"],
        progress=False,
    )
    return samples.to(torch.float32).numpy()


def again_on_the_command_line(manifest: dict[str, Any], folder: Path) -> np.ndarray:
    """The samples by `expint sample`, from nothing but the settings in the manifest."""
    settings = dict(manifest["settings"])
    arguments = [f"--operation={text}" for text in settings.pop("operations")]
    del settings["out"]
    if isinstance(settings["grid"], list):
        settings["grid"] = ",".join(map(repr, settings["grid"]))
    for name in ("ell", "eta"):
        if isinstance(settings[name], list):
            settings[name] = ",".join(map(str, settings[name]))
    for name, value in settings.items():
        if value is not None and value is not False:
            arguments.append(f"--{name.replace('_', '-')}={value}")
    return drawn(folder, *arguments)[1]


def check(folder: Path, *arguments: Any) -> dict[str, Any]:
    """Draw, and draw again from the manifest: the samples are identical."""
    manifest, samples, described = drawn(folder, "--num", 2, *arguments)
    form = manifest["sde"].removesuffix(f", {manifest['model']['schedule']}")
    assert described == f"{manifest['settings']['solver']}, {form}, float32 on cpu"
    for on_its_times in (False, True):
        again = again_in_python(manifest, on_its_times=on_its_times)
        np.testing.assert_array_equal(again, samples)
    np.testing.assert_array_equal(again_on_the_command_line(manifest, folder / "again"), samples)
    assert np.isfinite(samples).all()
    return manifest


@pytest.mark.parametrize("solver", expint.solvers.names())
def test_a_manifest_makes_the_run_of_every_solver_again(tmp_path: Path, solver: str):
    manifest = check(tmp_path, "--solver", solver, "--steps", 4, "--seed", 3)
    settings, own = manifest["settings"], expint.solvers.get(solver)
    assert (settings["form"], settings["noise_scale"]) == (own.form, own.noise_scale)
    one = own.noise_scale is None and own.ell < float("inf")  # infinity is said by the name
    assert settings["ell"] == (own.ell if one else None)
    assert manifest["operations"] == [str(operation) for operation in own.operations]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--eta", "0.5"), {"form": "data", "ell": None, "noise_scale": None, "eta": 0.5}),
        (("--noise-scale", "log"), {"form": "data", "ell": None, "noise_scale": "log"}),
        (("--solver", "er-sde-2", "--ell", "0.5"), {"ell": 0.5, "noise_scale": None}),
        (("--solver", "dpm-solver-2", "--eta", "1"), {"form": "data", "ell": None, "eta": 1.0}),
        (("--form", "precond", "--ell", "0.7"), {"form": "precond", "ell": 0.7}),
        (("--solver", "seeds-2", "--ell", "1,0.5,0"), {"ell": [1.0, 0.5, 0.0], "form": "data"}),
        (("--solver", "seeds-1", "--ell", "inf,0,inf"), {"ell": ["inf", 0.0, "inf"]}),
        (("--solver", "seeds-1", "--ell", "inf"), {"ell": "inf", "noise_scale": None}),
        (("--eta", "1,0.5,0"), {"ell": None, "eta": [1.0, 0.5, 0.0]}),
        (("--form", "noise", "--grid", "karras"), {"form": "noise", "grid": "karras"}),
        (("--final", "none"), {"final": None, "steps": None}),  # the times say it
        (("--grid", "default"), {"final": None, "steps": None}),
        (("--final", "none", "--grid", "karras"), {"final": "none", "steps": 4}),
        (("--grid", "80,3,0.2"), {"grid": [80.0, 3.0, 0.2], "final": None}),
        (("--grid", "80,3,0"), {"grid": [80.0, 3.0, 0.0], "final": None}),
        (("--sigmas", "20,3,0"), {"sigmas": None, "steps": None, "final": None}),
        (("--solver", "seeds-1", *OPERATIONS), {"operations": list(OPERATIONS[1::2])}),
        (("--labels", "3,1"), {"labels": "3,1"}),
        (("--labels", "none"), {"labels": "none"}),
        (("--model", "digits-vp"), {"model": "digits-vp"}),
        (("--model", "digits-iddpm", "--solver", "er-sde-3"), {"noise_scale": "exp-0.3"}),
    ],
)
def test_a_manifest_holds_whatever_was_asked_for(
    tmp_path: Path, arguments: tuple[str, ...], expected: dict[str, Any]
):
    listed = isinstance(expected.get("grid"), list) or "--sigmas" in arguments
    few = () if listed else ("--steps", 4)
    settings = check(tmp_path, *few, *arguments)["settings"]
    assert {name: settings[name] for name in expected} == expected
