"""`expint compare`, as a user runs it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import expint
from diffusion_adapters import load, runs
from diffusion_adapters.cli import drawing, main
from diffusion_adapters.cli.output import origin
from diffusion_adapters.shipped.image_quality import EveryClass, frechet_judging, real_images
from expint.quality.comparison import analytic_target, compare_quality

FILES = ["compare.json", "compare.png", "table.md"]


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def stored(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "compare.json").read_text(encoding="utf-8"))


def test_three_files_are_written_and_the_table_is_printed(tmp_path: Path):
    out = tmp_path / "new" / "folder"
    options = "--model gaussian-64 --nfe 20,3 --solvers seeds-1,seeds-3 --grid karras"
    result = run(*options.split(), "--no-progress", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert sorted(path.name for path in out.iterdir()) == FILES
    study = compare_quality(
        analytic_target("gaussian-64"),
        ["seeds-1", "seeds-3"],
        [3, 20],
        grid="karras",
        name="gaussian-64",
    )
    assert result.stdout.startswith(study.table())
    assert "seeds-3 has no distance at NFE 3: nfe=3 is too small" in result.stdout
    assert (out / "table.md").read_text(encoding="utf-8") == study.table(markdown=True) + "\n"
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    content = stored(out)
    assert content["curves"] == study.to_dict()["curves"] and content["options"]["nfe"] == "20,3"
    assert content["options"]["solvers"] == "seeds-1,seeds-3"
    assert {name: content[name] for name in origin()} == origin()
    assert not [
        value
        for value in content["options"].values()
        if isinstance(value, str) and Path(value).is_absolute()
    ]


def test_all_solvers_are_the_default_and_progress_is_on_stderr(tmp_path: Path):
    result = run("--nfe", "8", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "NFE" in result.stderr and "seeds-1" in result.stderr
    assert [curve["name"] for curve in stored(tmp_path)["curves"]] == expint.solvers.names()


def test_all_options_reach_the_comparison(tmp_path: Path):
    options = (
        "--model grid-25 --nfe 6 --solvers seeds-1 --n 300 --seed 4 --repeats 2 --metric energy "
        "--final none --form noise --ell 0.5 --tolerance 9 --common-path --no-progress"
    )
    result = run(*options.split(), "--out", tmp_path)
    assert result.exit_code == 0, result.output
    content = stored(tmp_path)
    settings = content["settings"]
    assert (settings["n"], settings["seed"], settings["repeats"]) == (300, 4, 2)
    assert (settings["final"], settings["form"], settings["ell"]) == ("none", "noise", 0.5)
    assert settings["noise"] == "one path for all" and content["measure"] == "energy distance"
    assert content["threshold"] == 9.0 and content["curves"][0]["reached"] == 6
    assert content["curves"][0]["setting"] == "noise form, ell=0.5"


def test_a_network_is_judged_by_the_features_of_its_classifier(tmp_path: Path):
    pytest.importorskip("sklearn")
    options = "--model digits-edm --nfe 2,7 --solvers seeds-3 --n 300 --no-progress"
    result = run(*options.split(), "--out", tmp_path)
    assert result.exit_code == 0, result.output
    content = stored(tmp_path)
    assert content["measure"] == "Fréchet distance" and content["settings"]["n"] == 300
    gap, point = content["curves"][0]["points"]
    assert gap["distance"] is None
    # The floor is some tenths, and noise is far away.
    assert (
        0.1 < content["floor"] < 1.5
        and 0.5 * content["floor"] < point["distance"] < 5 * content["floor"]
    )


def test_samples_of_a_network_are_of_all_classes_in_turn():
    model, bare = EveryClass("digits-edm"), load("digits-edm", labels=[0, 1, 2])
    x = torch.linspace(-2, 2, 3 * 64).reshape(3, 1, 8, 8)
    t = torch.tensor(0.7, dtype=torch.float64)
    torch.testing.assert_close(model(x, t), bare(x, t))
    torch.testing.assert_close(model(x[:2], t), bare.with_labels([0, 1])(x[:2], t))
    plain = EveryClass("digits-vp")
    torch.testing.assert_close(plain(x, t), load("digits-vp")(x, t))


def test_the_held_out_digits_are_those_that_no_network_was_trained_on():
    pytest.importorskip("sklearn")
    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples"))
    try:
        import training_data  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.pop(0)
    images = training_data.digits()
    train, held_out = real_images("digits-edm")
    assert torch.equal(held_out, images.test)
    assert sorted(map(bytes, train.numpy())) == sorted(map(bytes, images.train.numpy()))
    known = {
        bytes(image): int(label)
        for image, label in zip(images.train.numpy(), images.train_labels, strict=True)
    }
    assert [known[bytes(image)] for image in train[:30].numpy()] == 3 * list(range(10))


def test_images_of_mnist_come_from_a_file(tmp_path: Path):
    file = tmp_path / "mnist.npz"
    pixels = np.repeat(np.array([10, 20, 30], np.uint8), 28 * 28).reshape(3, 28, 28)
    arrays = {
        "x_train": pixels,
        "x_test": np.zeros((2, 28, 28), np.uint8),
        "y_train": np.array([1, 1, 0]),
    }
    np.savez(file, **arrays)
    train, held_out = real_images("mnist-edm", file)
    assert ((train[:, 0, 0, 0] + 1) * 127.5).tolist() == pytest.approx(
        [30, 10, 20]
    )  # classes in turn
    assert train.shape == (3, 1, 28, 28) and (held_out == -1).all()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"test_x": None}, "train_x, test_x, train_y"),
        ({"train_x": np.zeros((3, 784))}, r"uint8 of shape \(N, H, W\), got float64 \(3, 784\)"),
        ({"train_y": np.zeros(2)}, r"one class per image, \(3,\), got \(2,\)"),
    ],
)
def test_a_file_of_other_arrays_is_refused(tmp_path: Path, changed: dict[str, Any], words: str):
    images = np.zeros((3, 28, 28), np.uint8)
    arrays = {"train_x": images, "test_x": images, "train_y": np.zeros(3)} | changed
    np.savez(
        tmp_path / "mnist.npz",
        **{name: array for name, array in arrays.items() if array is not None},
    )
    with pytest.raises(ValueError, match=words):
        real_images("mnist-edm", tmp_path / "mnist.npz")


def test_too_few_samples_for_the_features_are_refused():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="needs more than 32 samples, got n=32"):
        frechet_judging("digits-edm", n=32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "gausian-64"], ["'gausian-64'", "nearest: ['gaussian-64'"]),
        (["--model", "digit-edm"], ["'digit-edm'", "nearest: ['digits-edm'"]),
        (["--model", "mnist-edm"], ["--data"]),
        (["--solvers", "seeds-1,seeds-33"], ["'seeds-33'", "nearest: ['seeds-3"]),
        (["--solvers", "seeds-1,,seeds-3"], ["--solvers takes values with commas"]),
        (["--grid", "karas"], ["'karas'", "nearest: ['karras'"]),
        (["--form", "precon"], ["'precon'", "nearest: ['precond'"]),
        (["--metric", "frechett"], ["'frechett'", "nearest: ['frechet'"]),
        (["--model", "grid-25", "--metric", "wasserstein"], ["Gaussian data only"]),
        (["--nfe", "10,x"], ["'10,x'", "whole numbers"]),
        (["--nfe", "2", "--solvers", "seeds-3"], ["too small", "at least 4"]),
        (["--ell", "-1"], ["ell", ">= 0"]),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
):
    monkeypatch.setattr(
        "expint.quality.distances.execute", lambda *a, **k: pytest.fail("something ran")
    )
    monkeypatch.setattr(
        "expint.quality.distances.gaussian_moments", lambda *a, **k: pytest.fail("something ran")
    )
    result = run(*arguments, "--no-progress", "--out", tmp_path / "out")
    assert result.exit_code == 2 and result.stdout == "", result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and all(word in line for word in words), line
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_file_in_the_place_of_the_folder_is_told_first(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    result = run("--out", tmp_path / "file")
    assert result.exit_code == 2 and "a file is in its place" in result.stderr


KEPT = ["--model", "grid-25", "--nfe", "8,12", "--n", "600", "--repeats", "2"]


def distances(folder: Path) -> dict[str, list[Any]]:
    return {c["name"]: [p["distance"] for p in c["points"]] for c in stored(folder)["curves"]}


def test_samples_that_are_kept_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A comparison that is stopped goes on, and one with a solver more draws only that one's; the
    distances are those without."""
    few = [*KEPT, "--solvers", "seeds-1,seeds-2", "--no-progress"]
    assert run(*few, "--out", tmp_path / "fresh").exit_code == 0
    keep, calls = ("--keep", tmp_path / "samples"), []
    original = runs.draw

    def stopping(*arguments: Any, **settings: Any) -> Any:
        calls.append(settings["plan"].solver)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "draw", stopping)
        assert run(*few, *keep, "--out", tmp_path / "kept").exit_code == 1
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("samples/*/shards/*.npz")}
    assert len(kept) == 2 * 3  # both repeats of the first plan, in shards of 250
    more = [*KEPT, "--solvers", "seeds-1,seeds-2,unipc-2", "--no-progress"]
    result = run(*more, *keep, "--out", tmp_path / "kept")
    assert result.exit_code == 0, result.output
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("samples/*/shards/*.npz")}
    assert {path: after[path] for path in kept} == kept and len(after) == 3 * 2 * 2 * 3
    found, fresh = distances(tmp_path / "kept"), distances(tmp_path / "fresh")
    for name, values in fresh.items():
        assert found[name] == pytest.approx(values, rel=1e-5), name


def test_what_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Common paths; samples that did not stay finite; and the files of other processes."""
    keep = ("--solvers", "seeds-1", "--keep", tmp_path / "samples", "--out", tmp_path / "out")
    result = run(*KEPT, *keep, "--common-path")
    assert result.exit_code == 2 and "leave out --common-path" in result.stderr
    (tmp_path / "file").touch()
    result = run(*KEPT, "--keep", tmp_path / "file", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "--keep is a folder" in result.stderr
    monkeypatch.setenv("RANK", "1")
    result = run(*KEPT, *keep)
    assert result.exit_code == 0 and not result.stdout and not (tmp_path / "out").exists()
    monkeypatch.delenv("RANK")
    monkeypatch.setattr(drawing, "draw", lambda *_, **__: SimpleNamespace(not_finite=[(1, 2)]))
    result = run(*KEPT, *keep)
    assert result.exit_code == 0 and distances(tmp_path / "out") == {"seeds-1": [None, None]}
    assert "1 samples became NaN or infinite" in result.stdout


def test_a_network_is_kept_with_its_classes_in_turn(tmp_path: Path):
    few = ("--nfe", "6", "--n", 300, "--solvers", "seeds-2", "--model", "digits-edm")
    result = run(*few, "--keep", tmp_path / "samples", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "samples").iterdir()
    labels = np.concatenate([part["labels"] for part in runs.RunFolder(folder)])
    assert labels.tolist() == [i % 10 for i in range(300)]
