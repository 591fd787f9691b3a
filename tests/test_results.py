"""All results of studies are one kind of thing: they print, draw themselves and save alike."""

import inspect
import io
import json
import math
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import expint
from expint.convergence import (
    Certificate,
    Comparison,
    NoiseStudy,
    OrderStudy,
    Problem,
    certify,
    deterministic_order,
)
from expint.quality import QualityStudy, compare_quality
from expint.results import Result, jsonable, table_text, write_json
from expint.schedules import VP
from expint.spectra import StiffnessStudy
from expint.targets import Gaussian

KINDS = (
    OrderStudy, Comparison, Certificate, NoiseStudy, QualityStudy, StiffnessStudy, expint.Likelihood
)  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def results() -> dict[type, Any]:
    target = Gaussian([0.7, -1.0], [0.3, 2.0], VP())
    problem = Problem(target)
    order = deterministic_order("seeds-1", problem, steps=(8, 16, 32), starts=2)
    certificate = certify(
        "seeds-1", problem, kinds=("deterministic",), studies={"deterministic": order}
    )
    found = [
        order,
        Comparison((order,)),
        certificate,
        certificate.noise,
        compare_quality(target, ["seeds-1", "seeds-2"], [4, 10], tolerance=0.5),
        expint.stiffness(target, expint.plan_sampling(target.schedule, "seeds-1", nfe=4)),
        expint.log_likelihood(target, target.sample(12), "seeds-1", steps=4),
    ]
    return {type(result): result for result in found}


def test_they_are_all_the_results_there_are():
    assert set(results()) == set(KINDS) == set(Result.__subclasses__())


@every_kind
def test_table(kind: type):
    result = results()[kind]
    text, markdown = result.table(), result.table(markdown=True)
    word = "noise" if kind is StiffnessStudy else "seeds-1"
    assert word in text and word in markdown and text != markdown
    if kind is Certificate:
        assert "\n  stage covariances: " in text and "\n- stage covariances: " in markdown
    else:
        assert "|---" in markdown and "|" not in text


@every_kind
def test_picture(kind: type, tmp_path: Path):
    result = results()[kind]
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")):
        result.plot(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    result.plot(str(tmp_path / "b.dat"), "svg")
    assert (tmp_path / "b.dat").read_bytes().startswith(b"<?xml")
    opened = io.BytesIO()
    result.plot(opened)
    assert min(Image.open(opened).size) > 200


@every_kind
def test_json(kind: type):
    result = results()[kind]
    stored = json.loads(result.to_json())
    assert stored == result.to_dict()
    assert set(stored) == {*(field.name for field in fields(result)), *result.derived}


@every_kind
def test_without_matplotlib(kind: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'expint\[plot\]'"):
        results()[kind].plot(tmp_path / "a.png")


@pytest.mark.parametrize("what", ["plot_pixels", "plot_previews"])
def test_the_recorder_without_matplotlib(what: str, monkeypatch: pytest.MonkeyPatch):
    recorder = expint.Recorder()
    recorder(1, 1, 0.5, torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'expint\[plot\]'"):
        getattr(recorder, what)(io.BytesIO())


@every_kind
def test_no_result_overrides_a_concrete_method(kind: type):
    concrete = {
        name
        for name, value in vars(Result).items()
        if inspect.isfunction(value) and name not in Result.__abstractmethods__
    }
    assert concrete == {"table", "plot", "to_dict", "to_json"} and not concrete & set(vars(kind))


def test_numbers_that_json_does_not_have_become_null():
    found = {"a": math.nan, "b": (1.0, -math.inf), "c": torch.tensor([math.nan, 2.0]), "d": 3}
    assert jsonable(found) == {"a": None, "b": [1.0, None], "c": [None, 2.0], "d": 3}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(file, {"a": math.nan})
    assert json.loads(file.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [file]


def test_rows_are_aligned():
    assert table_text([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d"
    assert table_text([("a", "bb"), ("ccc", "d")], markdown=True).splitlines() == [
        "| a   | bb |",
        "|-----|----|",
        "| ccc | d  |",
    ]
