"""Models that bring plans of their own: taken where nothing but the number of evaluations is
chosen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_models import FunctionModel, wavy

import expint
from expint import Adaptive, begin_sampling, continue_sampling, plan_sampling, sample
from expint.noise import Gaussian
from expint.schedules import EDM, VP

SCHEDULE = VP()
RUN: dict[str, Any] = {"seed": 3, "dtype": torch.float64}
QUIET: dict[str, Any] = {**RUN, "progress": False}
OWN = replace(
    plan_sampling(SCHEDULE, "seeds-ab2", steps=6, ell=[1.0, 0.4, 0.7, 0.0, 0.3]),
    about={"distance": 1.1},
)


def model(plan_for: Any) -> FunctionModel:
    made = wavy(SCHEDULE)
    made.plan_for = plan_for  # pyright: ignore[reportAttributeAccessIssue]
    return made


def test_the_models_own_plan_is_taken_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As a plan and as a file; by `sample`, `begin_sampling` and `continue_sampling`."""
    expected = sample(wavy(SCHEDULE), (4, 2), plan=OWN, **QUIET)
    OWN.save(tmp_path / "own.json")
    for given in (OWN, tmp_path / "own.json"):
        own = model({6: given}.get)
        for same in ({}, {"final": "denoise", "operations": []}, {"ell": None}):
            assert torch.equal(sample(own, (4, 2), nfe=6, **same, **QUIET), expected)
        assert torch.equal(sample(own, (4, 2), nfe=np.int64(6), **QUIET), expected)
        capsys.readouterr()
        sample(own, (4, 2), nfe=6, **RUN)
        assert "tuned plan for 6 evaluations: seeds-ab2" in capsys.readouterr().err
        begun = begin_sampling(own, (4, 2), nfe=6, **RUN)
        begun.advance(2)
        begun.save(tmp_path / "run.safetensors")
        again = continue_sampling(tmp_path / "run.safetensors", own, nfe=6, **RUN)
        assert torch.equal(again.advance(), expected)


@pytest.mark.parametrize(
    "choice",
    [
        {"solver": "seeds-ab2"}, {"grid": "karras"}, {"grid": "default"}, {"form": "data"},
        {"ell": 0.0}, {"ell": 1.0}, {"eta": 0.5}, {"noise_scale": "log"},
        {"operations": [expint.solvers.noise_factor(1.1)]}, {"final": "none"},
        {"noise": Gaussian(range(4))}, {"nfe": None, "steps": 6},
        {"nfe": None, "steps": Adaptive()}, {"nfe": None, "plan": OWN},
    ],
    ids=lambda choice: " ".join(choice),
)  # fmt: skip
def test_it_is_not_asked_for_where_anything_is_chosen(choice: dict[str, Any]):
    def never(nfe: int) -> Any:
        raise AssertionError("asked")

    options = {"nfe": 6, **choice}
    drawn = sample(model(never), (4, 2), **options, **QUIET)
    assert torch.equal(drawn, sample(wavy(SCHEDULE), (4, 2), **options, **QUIET))


def test_the_default_grid_has_a_name():
    default = sample(wavy(SCHEDULE), (4, 2), nfe=6, **QUIET)
    own = model(lambda nfe: OWN)
    assert torch.equal(sample(own, (4, 2), nfe=6, grid="default", **QUIET), default)
    assert not torch.equal(sample(own, (4, 2), nfe=6, **QUIET), default)


def test_without_a_number_it_is_that_of_the_default():
    asked: list[int] = []
    default = sample(wavy(SCHEDULE), (4, 2), **QUIET)
    assert torch.equal(sample(model(asked.append), (4, 2), **QUIET), default)  # append gives None
    assert asked == [expint.defaults.STEPS]


@pytest.mark.parametrize("wrong", [{6: OWN}, OWN, "own.json", 6], ids=lambda v: type(v).__name__)
def test_plan_for_is_a_function(wrong: Any):
    with pytest.raises(TypeError, match=r"plan_for is a function .* give its method get"):
        sample(model(wrong), (4, 2), nfe=6, **QUIET)


def test_a_plan_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"own plan for 5 evaluations takes 6: give plan_for"):
        sample(model(lambda nfe: OWN), (4, 2), nfe=5, **QUIET)
    other = plan_sampling(EDM(), steps=6)
    with pytest.raises(ValueError, match="plan is for the schedule EDM"):
        sample(model(lambda nfe: other), (4, 2), nfe=6, **QUIET)
    with pytest.raises(TypeError, match="plan is a Plan or the path of its file, got 3"):
        sample(model(lambda nfe: 3), (4, 2), nfe=6, **QUIET)


@pytest.mark.parametrize("wrong", [{"sigma_data": 1.0}, {"round_time": None}])
def test_unknown_options_are_refused_as_ever(wrong: dict[str, Any]):
    with pytest.raises(TypeError, match=f"Unknown option '{next(iter(wrong))}'"):
        sample(model(lambda nfe: OWN), (4, 2), nfe=6, **wrong, **QUIET)
    with pytest.raises(TypeError, match=next(iter(wrong))):
        sample(model(lambda nfe: OWN), (4, 2), plan=OWN, **wrong, **QUIET)


@pytest.mark.parametrize("nfe", [True, 6.0, "6"])
def test_only_numbers_of_evaluations_are_asked_for(nfe: Any):
    with pytest.raises(ValueError, match="nfe must be an integer"):
        sample(model(lambda nfe: OWN), (4, 2), nfe=nfe, **QUIET)
