"""Distances of streamed samples from a reference."""

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from diffusion_adapters.cli import main
from diffusion_adapters.runs import ImageFeatures, RunFolder, draw, evaluate, evaluation
from diffusion_adapters.shipped.files import load_classifier
from expint import targets
from expint.metrics import frechet_distance
from expint.schedules import EDM

K = evaluation.NEIGHBOURS


def points(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    target = targets.Gaussian([shift] * d, [1.0] * d, EDM())
    return target.sample(n, seed=seed).float()


def neighbourhoods(x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """Point by point, as the papers say them."""

    def reach(points: torch.Tensor) -> list[float]:
        return [sorted((points - p).norm(dim=1).tolist())[K] for p in points]

    inside_y = [[(a - b).norm() <= r for b, r in zip(y, reach(y), strict=True)] for a in x]
    inside_x = [[(a - b).norm() <= r for a, r in zip(x, reach(x), strict=True)] for b in y]
    return {
        "precision": float(np.mean([any(row) for row in inside_y])),
        "recall": float(np.mean([any(row) for row in inside_x])),
        "density": float(np.sum(inside_y) / (K * len(x))),
        "coverage": float(np.mean(np.any(inside_y, axis=0))),
    }


def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
    """Pair by pair."""

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a.double() @ b.double() / len(a) + 1.0) ** 3)

    def own(z: torch.Tensor) -> float:
        pairs = [k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
        return float(np.mean(pairs))

    return own(x) + own(y) - 2.0 * float(np.mean([k(a, b) for a in x for b in y]))


def test_streamed_distances_are_those_of_their_definitions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluation, "_ROWS", 17)
    x, y = points(61, 3, 0, shift=0.7), points(48, 3, 1)
    found = evaluate(x.split(7), y.split(20), lambda part: part, batch=5)
    assert (found["samples"], found["reference"], found["not_finite"]) == (61, 48, 0)
    ways = {"all": x, "even": x[::2], "odd": x[1::2]}
    values = {
        "all": found,
        **{w: {n: v[i] for n, v in found["halves"].items()} for i, w in enumerate(["even", "odd"])},
    }
    for way, part in ways.items():
        expected = {"frechet": float(frechet_distance(part, y)), "kernel": kernel(part, y)}
        expected |= neighbourhoods(part, y)
        for name, value in expected.items():
            assert values[way][name] == pytest.approx(value, rel=1e-5, abs=1e-6), (way, name)


def test_moments_are_of_all_and_neighbours_of_the_first(monkeypatch: pytest.MonkeyPatch):
    x, y = points(400, 2, 0), points(300, 2, 1, shift=0.3)
    whole, few = (evaluate([x], [y], lambda part: part, most=n) for n in (10_000, 60))
    assert few["frechet"] == pytest.approx(whole["frechet"], rel=1e-9)
    assert few["coverage"] == evaluate([x[:60]], [y[:60]], lambda part: part)["coverage"]


def test_samples_that_are_not_finite_are_left_out():
    x, y = points(61, 3, 0), points(48, 3, 1)
    spoilt = torch.cat([x[:5], torch.full((2, 3), torch.nan), x[5:]])
    found = evaluate([spoilt], [y], lambda part: part)
    assert found.pop("not_finite") == 2
    expected = evaluate([x], [y], lambda part: part)
    assert {n: found[n] for n in found} == {n: expected[n] for n in found}


@pytest.mark.parametrize("n", [0, 1, 20])
def test_too_few_samples_are_refused(n: int):
    with pytest.raises(ValueError, match="samples"):
        evaluate([points(50, 2, 0)[:n]], [points(50, 2, 1)], lambda part: part)


def test_too_few_that_are_kept_are_refused():
    with pytest.raises(ValueError, match=r"more than 20 .*, got 50 and 50, and most=20\."):
        evaluate([points(50, 2, 0)], [points(50, 2, 1)], lambda part: part, most=20)


MINE = """
import torch

def pixels(images):
    return images.flatten(1)[:, :3]
"""


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_run_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_to_evaluate.py").write_text(MINE)
    target = targets.Gaussian(torch.zeros(1, 8, 8), torch.full((1, 8, 8), 0.2), EDM())
    runs = [
        draw(target, 90, "seeds-1", steps=8, seed=seed, out=tmp_path / name, shard=40,
             progress=False)
        for seed, name in enumerate(["own", "other"])
    ]  # fmt: skip
    x, y = (torch.from_numpy(np.concatenate([p["samples"] for p in each])) for each in runs)
    result = run("evaluate", "own", "--reference", "other")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "own" / "evaluation.json").read_text())
    expected = evaluate([x], [y], load_classifier("digits-classifier")[0].features)
    assert found["frechet"] == pytest.approx(expected["frechet"], rel=1e-4)
    assert found["options"]["reference"] == "other" and "versions" in found
    assert (tmp_path / "own" / "samples.png").is_file()
    np.savez(tmp_path / "bytes.npz", images=((y + 1.0) * 127.5).clamp(0, 255).byte().numpy())
    features = ("--features", "mine_to_evaluate:pixels")
    result = run("evaluate", "own", "--reference", "bytes.npz", *features, "--out", "new")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "new" / "evaluation.json").read_text())
    rounded = [((y + 1.0) * 127.5).clamp(0, 255).byte().float() / 127.5 - 1.0]
    expected = evaluate([x], rounded, lambda images: images.flatten(1)[:, :3])
    assert found["kernel"] == pytest.approx(expected["kernel"], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "--reference", "own"], "holds no samples"),
        (["own", "--reference", "nothing"], "Give a file of a kind in"),
        (["own", "--reference", "own"], "Unknown features 'classifier'"),
        (["own", "--reference", "own", "--features", "no:thing"], "Cannot load the features"),
        (["own", "--reference", "own", "--device", "nowhere"], "Cannot use device='nowhere'"),
    ],
)
def test_what_cannot_be_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
):
    monkeypatch.chdir(tmp_path)
    target = targets.Gaussian([0.0], [1.0], EDM())
    draw(target, 3, steps=8, out=tmp_path / "own", progress=False)
    result = run("evaluate", *arguments)
    assert result.exit_code == 2 and words in result.stderr, result.stderr


def test_images_are_given_to_a_network_as_it_knows_them():
    """RGB, of its size, normalised; by default in [-1, 1]."""
    given = []

    class Network(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            given.append(images)
            return images.mean((2, 3))

    grey = torch.linspace(-1.0, 1.0, 4 * 64).reshape(4, 1, 8, 8)
    features = ImageFeatures(Network(), 16)
    assert features(grey).shape == (4, 3) and given[0].shape == (4, 3, 16, 16)
    torch.testing.assert_close(features(grey), grey.mean((2, 3)).expand(-1, 3))
    colour = torch.stack([torch.full((8, 8), v) for v in (-1.0, 0.0, 1.0)]).expand(2, 3, 8, 8)
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    found = ImageFeatures(Network(), 4, mean=mean, std=std)(colour)
    expected = [(v - m) / s for v, m, s in zip((0.0, 0.5, 1.0), mean, std, strict=True)]
    torch.testing.assert_close(found[1], torch.tensor(expected))
    for wrong in (torch.zeros(4, 2, 8, 8), torch.zeros(4, 8)):
        with pytest.raises(ValueError, match="Images have shape"):
            features(wrong)


class Inception(torch.nn.Module):
    """In the place of torchvision's: two means of an image, and a last layer to leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3, 1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2:] == (299, 299) and not self.training
        return self.fc(images.mean((2, 3)))


def test_the_features_of_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a network in the place of torchvision's, which is not installed here."""
    monkeypatch.chdir(tmp_path)
    target = targets.Gaussian(torch.zeros(3, 2, 2), torch.full((3, 2, 2), 0.2), EDM())
    for seed, name in enumerate(["own", "other"]):
        draw(target, 30, steps=8, seed=seed, out=tmp_path / name, progress=False)
    arguments = ("evaluate", "own", "--reference", "other", "--features", "inception")
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    result = run(*arguments)
    assert result.exit_code == 2 and "need torchvision" in result.stderr
    url = "https://nowhere.invalid/models/inception.pth"
    asked = []

    def inception_v3(**settings: Any) -> Inception:
        asked.append(settings)
        return Inception()

    weights = SimpleNamespace(DEFAULT=SimpleNamespace(url=url))
    module = SimpleNamespace(Inception_V3_Weights=weights, inception_v3=inception_v3)
    monkeypatch.setitem(sys.modules, "torchvision.models", module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    result = run(*arguments)
    file = tmp_path / "hub" / "checkpoints" / "inception.pth"
    assert result.exit_code == 2 and f"put {url} at {file}" in result.stderr
    file.parent.mkdir(parents=True)
    file.touch()
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert asked == [{"weights": weights.DEFAULT, "transform_input": False}]
    found = json.loads((tmp_path / "own" / "evaluation.json").read_text())
    x, y = (next(iter(RunFolder(tmp_path / name)))["samples"] for name in ("own", "other"))
    x, y = (torch.from_numpy(each) for each in (x, y))
    sized = partial(torch.nn.functional.interpolate, size=(299, 299), mode="bilinear")
    expected = evaluate([x], [y], lambda images: sized(images, antialias=True).mean((2, 3)))
    assert found["frechet"] == pytest.approx(expected["frechet"], rel=1e-3)
