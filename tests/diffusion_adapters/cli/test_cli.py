"""The command line, as a user runs it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from solver_kinds import ONE_STEP

import expint
from diffusion_adapters import load
from diffusion_adapters.cli import main
from diffusion_adapters.cli.output import origin, picture_bytes, write_files

FILES = ["manifest.json", "samples.npz", "samples.png"]
SMALL = ["sample", "--model", "digits-edm", "--nfe", "7", "--num", "5", "--no-progress"]


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refusal(*arguments: Any) -> str:
    """The one line with which a command refuses."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "samples.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """One run with default labels; the folder does not exist before."""
    folder = tmp_path_factory.mktemp("cli") / "new" / "folder"
    return run(*SMALL, "--seed", "3", "--out", folder), folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every evaluation of a network a failure."""

    def called(*arguments: Any) -> None:
        pytest.fail("the network was called")

    monkeypatch.setattr("diffusion_adapters.families.adapter.NetworkAdapter.__call__", called)


def test_sample_writes_three_files_and_says_so(drawn: tuple[Result, Path]):
    result, folder = drawn
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    written = f"samples.png, samples.npz, manifest.json in {folder}"
    assert lines[0] == f"5 samples of digits-edm, seed 3: {written}"
    assert lines[1] == "unipc-2, data form, ell=0, float32 on cpu"
    assert lines[2] == "7 network evaluations per sample in 7 steps"
    assert len(lines) == 4


def test_sample_is_that_of_the_library(drawn: tuple[Result, Path]):
    stored = arrays(drawn[1])
    model = load("digits-edm", labels=[0, 1, 2, 3, 4])
    expected = expint.sample(model, (5, *model.shape), nfe=7, seed=3, progress=False)
    assert stored["samples"].dtype == np.float32
    np.testing.assert_array_equal(stored["samples"], expected.numpy())
    assert stored["labels"].tolist() == [0, 1, 2, 3, 4]
    assert stored["seeds"].tolist() == list(expint.noise.per_sample(3, 5))


def test_manifest_says_everything(drawn: tuple[Result, Path]):
    manifest = json.loads((drawn[1] / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"] == {
        "model": "digits-edm",
        "shape": None,
        "device": None,
        "sigmas": None,
        "solver": "unipc-2",
        "steps": None,
        "nfe": None,
        "form": "data",
        "ell": 0.0,
        "noise_scale": None,
        "grid": manifest["times"],
        "final": None,
        "num": 5,
        "seed": 3,
        "seeds": None,
        "start": 0,
        "labels": None,
        "out": str(drawn[1]),
        "dtype": "float32",
        "network_dtype": None,
        "batch": 64,
        "compile": False,
        "eta": None,
        "operations": [],
        "plan": None,
    }
    assert (manifest["steps"], manifest["nfe"], manifest["gaussians"]) == (7, 7, 0)
    assert manifest["seeds"] == list(expint.noise.per_sample(3, 5)) and manifest["labels"] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert (
        manifest["times"][0] == 80.0
        and manifest["times"][-1] == 0.0
        and len(manifest["times"]) == 8
    )
    assert (
        manifest["model"]["schedule"].startswith("EDM(")
        and manifest["model"]["prediction"] == "data"
    )
    assert manifest["operations"] == [] and manifest["device"] == "cpu"
    assert {name: manifest[name] for name in origin()} == origin()
    assert set(manifest["versions"]) == {"expint", "torch", "numpy", "python"}
    assert set(manifest["platform"]) == {"system", "machine"}
    assert manifest["seconds"] > 0
    assert sorted(manifest["files"]) == FILES
    del manifest["settings"]["out"]
    assert not [value for value in strings(manifest) if Path(value).is_absolute()]


def strings(value: Any) -> list[str]:
    """All strings in a JSON value."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value] if isinstance(value, str) else [text for item in items for text in strings(item)]


def test_picture_is_legible(drawn: tuple[Result, Path]):
    with Image.open(drawn[1] / "samples.png") as picture:
        assert picture.mode == "L"
        # 5 digits in 2 rows of 3; 8 pixels enlarged to 64, 4 between
        assert picture.size == (3 * 68 + 4, 2 * 68 + 4)


def test_picture_holds_the_pixels_in_order():
    images = np.linspace(-1, 1, 3 * 2 * 2, dtype=np.float32).reshape(1, 3, 2, 2).repeat(2, axis=0)
    images[1] = 5.0  # clipped to white
    path = io.BytesIO(picture_bytes(images))
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (72, 140, 3)
    np.testing.assert_array_equal(pixels[4, 4], [0, 93, 185])
    np.testing.assert_array_equal(pixels[4 + 63, 4 + 63], [70, 162, 255])
    assert (pixels[4:68, 72:136] == 255).all() and (pixels[:4] == 96).all()


def test_a_picture_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"shape \(N, C, H, W\) with C = 1 or 3, got \(2, 2\)"):
        picture_bytes(np.zeros((2, 2)))


def test_samples_do_not_depend_on_the_batch(drawn: tuple[Result, Path], tmp_path: Path):
    assert run(*SMALL, "--seed", "3", "--batch", "2", "--out", tmp_path).exit_code == 0
    whole, parts = arrays(drawn[1]), arrays(tmp_path)
    np.testing.assert_allclose(parts["samples"], whole["samples"], atol=1e-4)
    np.testing.assert_array_equal(parts["labels"], whole["labels"])
    np.testing.assert_array_equal(parts["seeds"], whole["seeds"])


def test_part_of_a_run_is_drawn_alone_with_its_labels(drawn: tuple[Result, Path], tmp_path: Path):
    part = ("--seed", "3", "--start", "3", "--num", "2", "--out", tmp_path)
    result = run(*SMALL, *part)
    assert "2 samples of digits-edm, seed 3 from sample 3: " in result.stdout
    whole, found = arrays(drawn[1]), arrays(tmp_path)
    assert found["labels"].tolist() == [3, 4]
    np.testing.assert_array_equal(found["seeds"], whole["seeds"][3:])
    np.testing.assert_allclose(found["samples"], whole["samples"][3:], atol=1e-4)
    assert run(*SMALL, *part, "--labels", "7,8,9").exit_code == 0
    assert arrays(tmp_path)["labels"].tolist() == [7, 8]


def test_a_seed_for_each_sample(tmp_path: Path):
    arguments = ["sample", "--nfe", "2", "--solver", "seeds-1", "--no-progress", "--out", tmp_path]
    result = run(*arguments, "--seeds", "4-6, 9,1-1")
    assert "5 samples of digits-edm, seeds 4-6, 9,1-1: " in result.stdout
    assert arrays(tmp_path)["seeds"].tolist() == [4, 5, 6, 9, 1]


def test_the_manifest_tells_the_seed_of_each_sample(drawn: tuple[Result, Path], tmp_path: Path):
    seed = json.loads((drawn[1] / "manifest.json").read_text())["seeds"][2]
    again = run(*SMALL, "--seeds", str(seed), "--num", "1", "--labels", "2", "--out", tmp_path)
    assert again.exit_code == 0
    np.testing.assert_allclose(
        arrays(tmp_path)["samples"][0], arrays(drawn[1])["samples"][2], atol=1e-4
    )


def test_all_options_reach_the_sampler(tmp_path: Path):
    options = (
        "--solver seeds-2 --steps 2 --form precond --ell 0.5 --grid karras --final none "
        "--labels 7,1 --dtype float64 --num 3"
    )
    result = run(*SMALL[:3], *options.split(), "--no-progress", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    model = load("digits-edm", labels=[7, 1, 7])
    expected = expint.sample(
        model,
        (3, *model.shape),
        "seeds-2",
        steps=2,
        form="precond",
        ell=0.5,
        grid="karras",
        final="none",
        dtype=torch.float64,
        progress=False,
    )
    np.testing.assert_array_equal(arrays(tmp_path)["samples"], expected.to(torch.float32).numpy())
    assert arrays(tmp_path)["labels"].tolist() == [7, 1, 7]
    assert (
        "seeds-2, preconditioned form, ell=0.5, sigma_data=0.752, float64 on cpu" in result.stdout
    )


def test_labels_none_and_a_grid_of_times(tmp_path: Path):
    options = "--num 2 --labels none --solver seeds-3 --grid 80,1,0 --no-progress"
    result = run(*SMALL[:3], *options.split(), "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert arrays(tmp_path)["labels"].tolist() == [-1, -1]
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["labels"] is None and manifest["nfe"] == 4
    assert manifest["times"] == [80.0, 1.0, 0.0]


def test_progress_is_on_stderr_and_adds_up_over_batches(tmp_path: Path):
    result = run("sample", "--nfe", "4", "--num", "3", "--batch", "2", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "8/8" in result.stderr and "NFE" in result.stderr
    assert "8/8" not in result.stdout


def test_nfe_not_used_up_is_told(tmp_path: Path):
    result = run(*SMALL, "--solver", "seeds-3", "--nfe", "6", "--num", "1", "--out", tmp_path)
    assert "4 network evaluations per sample (of at most 6) in 2 steps" in result.stdout


def test_the_network_can_be_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []

    def compiled(model: Any, *, backend: str, dynamic: bool) -> Any:
        seen.append(backend)
        return model

    monkeypatch.setattr(torch, "compile", compiled)
    assert run(*SMALL, "--nfe", "4", "--num", "1", "--compile", "--out", tmp_path).exit_code == 0
    assert seen == ["inductor"]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "digit-edm"], ["'digit-edm'", "'digits-edm'"]),
        (["--solver", "seeds-33"], ["'seeds-33'", "nearest: ['seeds-3"]),
        (["--form", "precon"], ["'precon'", "nearest: ['precond'"]),
        (["--grid", "karas"], ["'karas'", "nearest: ['karras'"]),
        (["--grid", "80,x"], ["'80,x'", "numbers with commas"]),
        (["--nfe", "3", "--solver", "seeds-3"], ["nfe=3 is too small", "at least 4", "'seeds-1'"]),
        (["--steps", "4"], ["either steps or nfe"]),
        (["--final", "clean"], ["'clean'", "denoise"]),
        (["--ell", "-1"], ["ell", "-1.0", ">= 0"]),
        (["--labels", "1,10"], ["--labels must be from 0 to 9, got 10"]),
        (["--labels", "one"], ["'one'", "0 to 9"]),
        (["--labels", "0,1,2,3,4,5"], ["6 labels", "5 samples", "--num 6"]),
        (["--seed", str(2**64)], ["seed < 2**64"]),
        (["--start", str(2**32)], ["start", "2**32 - 5", "4294967296"]),
        (["--seeds", "0-4", "--seed", "1"], ["seed=1", "leave out"]),
        (["--seeds", "0-4", "--start", "1"], ["start=1", "leave out"]),
        (["--seeds", "0-3"], ["4 seeds", "batch of 5"]),
        (["--seeds", "1,x"], ["0-63", "'x'"]),
        (["--seeds", "1--3"], ["0-63", "'1--3'"]),
        (["--seeds", "-3"], ["0-63", "'-3'"]),
        (["--seeds", "3-1"], ["first of a range", "'3-1'"]),
        (["--seeds", f"0-{10**15}"], ["1000000 seeds"]),
    ],
)
def test_what_does_not_fit_is_refused_before_the_network_is_called(
    tmp_path: Path, arguments: list[str], words: list[str]
):
    message = refusal(*SMALL, "--out", tmp_path / "out", *arguments)
    assert all(word in message for word in words), message
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "--nfe", "10,0", "--solvers", "seeds-1"),
        ("convergence", "--solver", "seeds-1", "--paths", "64", "--steps", "2,3"),
    ],
)
def test_what_is_refused_late_leaves_no_folder(tmp_path: Path, arguments: tuple[str, ...]):
    assert run(*arguments, "--out", tmp_path / "a" / "b").exit_code == 2
    assert not list(tmp_path.iterdir())


def test_final_beside_a_grid_of_times_is_refused(tmp_path: Path):
    message = refusal("sample", "--grid", "80,1,0", "--final", "none", "--out", tmp_path / "out")
    assert "let the last time say where to end" in message


@pytest.mark.usefixtures("no_network")
def test_a_file_in_the_place_of_the_folder_is_told_first(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        message = refusal(*SMALL, "--out", out)
        assert "a file is in its place" in message and "another folder with --out" in message
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("no_network")
def test_a_folder_in_the_place_of_a_file_is_told_first(tmp_path: Path):
    (tmp_path / "samples.npz").mkdir()
    assert "it is a folder" in refusal(*SMALL, "--out", tmp_path)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("new", ["", "new", "new/folder"])
def test_a_folder_without_permission_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: str
):
    def denied(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)
    message = refusal(*SMALL, "--out", tmp_path / new)
    assert (
        str(tmp_path) in message
        and "(Permission denied)" in message
        and "another folder with --out" in message
    )


def test_older_files_are_replaced_only_by_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_files(tmp_path, {"a": b"old a", "b": b"old b"})

    def full(self: Path, content: bytes) -> int:
        if content == b"new b":
            raise OSError(28, "No space left on device")
        return original(self, content)

    original = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match=r"Cannot write a, b to .* \(the disk is full\)"):
        write_files(tmp_path, {"a": b"new a", "b": b"new b"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a": b"old a",
        "b": b"old b",
    }
    monkeypatch.undo()
    write_files(tmp_path, {"a": b"new a", "b": b"new b"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a": b"new a",
        "b": b"new b",
    }


def test_a_state_that_is_not_finite_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "diffusion_adapters.families.adapter.NetworkAdapter.__call__",
        lambda self, x, t: torch.full_like(x, float("nan")),
    )
    result = run(*SMALL, "--solver", "seeds-3", "--out", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: The state became NaN or infinite in step 1 of 3")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("always::expint.PlanWarning")
def test_a_plan_that_cannot_be_good_is_told_in_one_line(tmp_path: Path):
    wanted = "--solver seeds-3 --grid uniform_lambda --form noise --nfe 9 --num 1"
    result = run("sample", *wanted.split(), "--out", tmp_path / "a")
    (line,) = [line for line in result.stderr.splitlines() if "cannot be good" in line]
    assert result.exit_code == 0 and line.startswith("Warning: 'seeds-3' with 3 steps on ")


@pytest.mark.filterwarnings("always::expint.PlanWarning")
def test_the_plan_itself_is_told_of_too():
    result = run("plan", "--schedule", "edm", "--solver", "etd-rk4", "--nfe", "8")
    assert result.exit_code == 0 and "cannot be good" in result.stderr
    assert run("plan", "--schedule", "edm", "--nfe", "8").stderr == ""


def test_plan_prints_the_table_of_the_library():
    result = run("plan", "--schedule", "vp", "--solver", "seeds-3", "--steps", "5")
    assert result.exit_code == 0, result.output
    assert (
        result.stdout.rstrip("\n")
        == expint.plan_sampling(expint.schedules.VP(), "seeds-3", steps=5).table()
    )


def test_plan_as_json_and_with_all_options():
    options = (
        "--schedule edm --solver seeds-2 --nfe 4 --form precond --sigma-data 0.5 --ell 0 "
        "--grid karras --final none --json"
    )
    result = run("plan", *options.split())
    assert result.exit_code == 0, result.output
    expected = expint.plan_sampling(
        expint.schedules.EDM(),
        "seeds-2",
        nfe=4,
        form="precond",
        sigma_data=0.5,
        ell=0.0,
        grid="karras",
        final="none",
    )
    assert json.loads(result.stdout) == json.loads(json.dumps(expected.to_dict()))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--schedule", "vpp"], ["'vpp'", "nearest: ['vp'"]),
        (["--schedule", "vp", "--form", "precond"], ["sigma_data"]),
        (["--schedule", "vp", "--grid", "discrete"], ["tabulated schedule"]),
    ],
)
def test_a_plan_that_does_not_exist_is_refused(arguments: list[str], words: list[str]):
    message = refusal("plan", *arguments)
    assert all(word in message for word in words), message


def names_listed(command: str, skipped: int) -> list[str]:
    result = run(command)
    assert result.exit_code == 0, result.output
    return [line.split()[0] for line in result.stdout.splitlines()[skipped:]]


def test_lists_are_complete():
    assert names_listed("solvers", 1) == expint.solvers.names()
    assert names_listed("schedules", 0) == expint.schedules.names()
    assert names_listed("grids", 0) == expint.grids.names()
    assert "digits-edm" in names_listed("models", 1)


def test_a_solver_is_described_by_its_tableau():
    header, *rows = run("solvers").stdout.splitlines()
    assert header.split()[:8] == [
        "name",
        "NFE/step",
        "form",
        "ell",
        "ODE",
        "strong",
        "weak",
        "Gaussians/step",
    ]
    row = next(row for row in rows if row.startswith("seeds-3 "))
    assert row.split()[:8] == ["seeds-3", "3", "data", "1", "3", "1", "2", "3"]
    for name in ONE_STEP:  # what is listed is what a step draws
        gaussians = next(row.split()[7] for row in rows if row.startswith(f"{name} "))
        plan = expint.compile_plan(
            expint.reverse_sde(expint.schedules.VP(), ell=1.0), name, [0.9, 0.5]
        )
        assert int(gaussians) == plan.normals, name
    assert "2305.14267" in row


@pytest.mark.parametrize("command", ["sample", "plan"])
def test_all_options_of_sampling_are_options_of_the_command(command: str):
    flags = {flag for option in main.commands[command].params for flag in option.opts}
    names = {"solver", *expint.sampling.SamplingOptions.__annotations__} - {"operations"}
    assert {f"--{name.replace('_', '-')}" for name in names} | {"--operation"} <= flags


def test_a_module_runs_the_command():
    arguments = [sys.executable, "-m", "diffusion_adapters.cli", "--version"]
    version = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert version.stdout.strip() == f"expint {expint.__version__}"


def test_every_command_has_help():
    for name, command in main.commands.items():
        result = run(name, "--help")
        assert result.exit_code == 0 and command.help, name


def test_the_installed_command(tmp_path: Path):
    executable = Path(sys.executable).with_name("expint" + (".exe" if os.name == "nt" else ""))
    arguments = ["sample", "--nfe", "2", "--solver", "seeds-1", "--num", "2", "--out", "out"]
    process = subprocess.run(
        [executable, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "2/2" in process.stderr and "in out" in process.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
