"""The pages of the studies show the figures that are there; and diffusers' schedulers are measured
exactly on Gaussian data."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from imported import imported_from

import expint
from expint import plan_sampling
from expint.schedules import EDM

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "stiffness", "work_precision", "noise_decomposition", "churn", "trajectories", "rademacher",
    "strong_orders", "best_schedule", "ornstein_uhlenbeck", "networks", "cld", "network_paths",
    "cld_network", "allen_cahn",
]  # fmt: skip


@pytest.fixture
def study(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported_from(ROOT / "studies", request.param, monkeypatch)


@pytest.mark.parametrize("study", PAGES, indirect=True)
def test_a_page_has_the_tables_of_its_figures(study: ModuleType):
    text = study.PAGE.read_text(encoding="utf-8")
    found = study.FILE.read_text(encoding="utf-8")
    assert study.page_of(text, json.loads(found)) == text
    others = json.loads(found, parse_float=lambda value: 2.0 * float(value) + 0.5)
    assert study.page_of(text, others) != text


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


@pytest.mark.parametrize("study", ["rademacher"], indirect=True)
def test_the_distance_of_a_sum_of_signs_from_a_normal_law(study: ModuleType):
    """Of none, of one: E (z − sign z)²; of 400 of equal weight, whose values are 0.1 apart: about
    0.1²/12."""
    start = torch.tensor([0.0, 1.0, 2.0, 0.0], dtype=torch.float64)
    first = torch.tensor([1.0, 0.0, 0.0, 0.05], dtype=torch.float64)
    rest = torch.zeros(399, 4, dtype=torch.float64)
    rest[:, 3] = 0.05
    right = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    found = study.distance_of_signs(torch.cat([first[None], rest, start[None]]), right)
    exact = torch.tensor([study.APART, 0.0, 1.0, 0.1**2 / 12], dtype=torch.float64)
    torch.testing.assert_close(found, exact, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("study", ["trajectories"], indirect=True)
def test_the_scaling_changes_no_sample(study: ModuleType):
    ends = [
        study.run("seeds-3", "VP, equal t", schedule)[1][-1] for schedule in study.SCALINGS.values()
    ]
    torch.testing.assert_close(*ends, rtol=0.0, atol=1e-4)
    assert ends[0].std() > 0.3


@pytest.mark.parametrize("study", ["work_precision"], indirect=True)
def test_what_is_there_is_not_measured_again(study: ModuleType, monkeypatch: pytest.MonkeyPatch):
    def refuse(law: object) -> None:
        raise AssertionError("a model was made")

    monkeypatch.setattr(study.Law, "model", property(refuse))
    study.main.main([], standalone_mode=False)


@pytest.mark.parametrize("study", ["ornstein_uhlenbeck"], indirect=True)
def test_the_law_of_the_chain_is_what_an_exponential_scheme_tends_to(study: ModuleType):
    first, second = (study.ours("pece-2", nfe)[0] for nfe in (20, 40))
    assert second < 0.004
    assert first / second > 3.5


@pytest.mark.parametrize("study", ["network_paths"], indirect=True)
@pytest.mark.filterwarnings("ignore::expint.PlanWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers
def test_samples_of_the_same_noise_approach_the_fine_solution(study: ModuleType):
    """Which is known for Gaussian data at ℓ = 0; on other paths the SDE's are 1.4 away."""
    fine = {"seeds-3": 120, "seeds-sra3": 160}
    paths = study.Paths(expint.targets.Gaussian([1.0, -1.0], [0.25, 1.0], EDM()), fine)
    noise = expint.noise.initial_state(expint.noise.per_sample(0, 16), (2,), torch.float32)
    mean, variances = torch.tensor([1.0, -1.0]), torch.tensor([0.25, 1.0])
    exact = mean + (80.0 * noise - mean) * (variances / (variances + 80.0**2)).sqrt()
    assert study.relative(paths.fine(None), exact) < 1e-4
    assert paths.ours("unipc-3", 40)[0] < 0.003
    edm = study.schedulers()["diffusers EDM DPM++"]
    assert paths.theirs(edm, 40)[0] < 0.02 < paths.theirs(edm, 5)[0]
    first, second = (paths.ours("seeds-sra", nfe)[0] for nfe in (40, 160))
    assert 5.0 * second < first < 0.3
    with pytest.raises(ValueError, match="follows no path"):
        paths.ours("euler-ancestral", 10)


@pytest.mark.parametrize("study", ["allen_cahn"], indirect=True)
def test_euler_maruyama_sees_the_paths_of_the_exponential_schemes(
    study: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    """A quarter of the step leaves a quarter of the error of each scheme of order 1."""
    monkeypatch.setattr(study, "COUNT", study.BATCH)
    found, floor = study.errors(study.Field(16), ["seeds-1", *study.EULER], (24, 96), 288)
    assert floor < 0.0005
    for points in found.values():
        assert points["24"][0] / points["96"][0] == pytest.approx(4.3, abs=0.4)


def test_the_dark_scheme_turns_charts_round_and_leaves_pictures_of_pixels():
    rule = (ROOT / "docs" / "assets" / "style.css").read_text(encoding="utf-8")
    left = re.search(r'"slate"\] \.md-typeset img:not\((.*)\) \{\s*filter: invert\(1\)', rule)
    assert left is not None
    kept = re.findall(r'src\*="([\w-]+)"', left[1])
    assert (
        len(kept) == 4
        and "edit-digits" in kept
        and all((ROOT / "docs" / "img" / f"{n}.png").exists() for n in kept)
    )
