"""The pages of the studies show the figures that are there; and diffusers' schedulers are measured
exactly on Gaussian data."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from expint import plan_sampling
from expint.schedules import EDM

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["stiffness", "work_precision", "noise_decomposition", "churn", "cld"]


@pytest.fixture
def study(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "studies")
    return importlib.import_module(request.param)


@pytest.mark.parametrize("study", PAGES, indirect=True)
def test_a_page_has_the_tables_of_its_figures(study: ModuleType):
    text = study.PAGE.read_text(encoding="utf-8")
    found = study.FILE.read_text(encoding="utf-8")
    assert study.page_of(text, json.loads(found)) == text
    assert study.page_of(text, json.loads(found.replace(" 0.0", " 0.5"))) != text


@pytest.mark.parametrize("study", ["work_precision"], indirect=True)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers
@pytest.mark.parametrize("name", ["diffusers SDE-DPM++", "diffusers Heun"])
def test_schedulers_are_exact_on_gaussian_data(study: ModuleType, name: str):
    """Mean and standard deviations of 40000 samples (errors .4 % of each) give a distance within
    1 % of the exact one, which takes no samples; without their noise SDE-DPM++ has .5 of it."""
    law, make = study.Law("gaussian-64"), study.schedulers()[name]
    error, used, _ = study.theirs(law, make, 10)
    assert used <= 10
    assert error > 0.1
    gen = torch.Generator().manual_seed(0)
    law.count = 40_000
    x = study.by_scheduler(law, make, 10, lambda shape: torch.randn(shape, generator=gen)).double()
    assert law.exact(x.std(0), x.mean(0)) == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize("study", ["work_precision"], indirect=True)
def test_cells_have_no_exponent(study: ModuleType):
    """The page sorts by the first number that it finds."""
    assert [study.cell(value) for value in (1.234e-5, 0.5, 481.23, None)] == [
        "0.0000123", "0.5", "481", "–",
    ]  # fmt: skip


@pytest.mark.parametrize("study", ["noise_decomposition"], indirect=True)
def test_independent_noise_has_the_variances_and_no_covariances(study: ModuleType):
    plan = plan_sampling(EDM(), "seeds-3", steps=4, ell=1.0)
    other = study.independent(plan)
    for k, noise in enumerate(plan.noises):
        if noise is None:
            continue
        exact, found = plan.noise_covariance(k), other.noise_covariance(k)
        assert exact[0, -1] > 0
        torch.testing.assert_close(found, exact.diag().diag(), rtol=1e-12, atol=0.0)
