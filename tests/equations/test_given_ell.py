"""ℓ as a number, one for each step, or a function of σ: one conversion for every entrance."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import expint
from expint import plan_sampling, reverse_sde, sample
from expint.equations.given_ell import ALWAYS_FRESH, asked_noise, root_of, varying_ell
from expint.schedules import EDM, VP, Flow
from expint.targets import Gaussian

GRID = [10.0, 2.0, 0.7, 0.1, 0.0]
QUIET: dict[str, Any] = {"progress": False, "dtype": torch.float64, "seed": 3}


def rows(plan: Any) -> list[tuple[Any, ...]]:
    return [(row.scale, row.weights, row.noise) for row in plan.rows]


def numbers(plan: Any) -> torch.Tensor:
    values = [v for row in plan.rows for v in (row.scale, *(w for _, w in row.weights), *row.noise)]
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "seeds-ab2", "unipc-2"])
def test_one_number_however_it_is_given(solver: str):
    plain = numbers(plan_sampling(EDM(), solver, grid=GRID, ell=0.8, form="data"))
    for ell in ([0.8] * 3, torch.tensor([0.8] * 3, dtype=torch.float64), lambda sigma: 0.8):
        assert torch.allclose(numbers(plan_sampling(EDM(), solver, grid=GRID, ell=ell)), plain)


@pytest.mark.parametrize("schedule", [EDM(), VP(), Flow()], ids=str)
def test_a_function_adds_its_noise_in_every_step(schedule: Any):
    """ℓ² = σ gives ∫ ℓ² dλ = σ_s − σ_t: φ_t/φ_s = (σ_t/σ_s) exp(σ_t − σ_s)."""
    plan = plan_sampling(schedule, "seeds-1", steps=7, ell=lambda sigma: sigma**0.5)
    for row in plan.rows[1:-1]:
        s, t = schedule.sigma(row.time), schedule.sigma(row.target)
        alpha = schedule.alpha(row.target)
        ratio = t / s * math.exp(t - s)
        assert row.scale == pytest.approx(alpha / schedule.alpha(row.time) * ratio, rel=1e-10)
        assert row.weights[0][1] == pytest.approx(alpha * (1.0 - ratio), rel=1e-10)
        assert row.noise[0] == pytest.approx(alpha * (t**2 - (s * ratio) ** 2) ** 0.5, rel=1e-9)


def test_a_function_may_be_written_in_any_way():
    ways = (torch.sqrt, np.sqrt, math.sqrt, lambda s: torch.as_tensor(s) ** 0.5)
    first, *others = (rows(plan_sampling(EDM(), "seeds-2", grid=GRID, ell=way)) for way in ways)
    assert all(other == first for other in others)


def test_what_jumps_is_noise_on_one_side():
    plan = plan_sampling(EDM(), "seeds-1", grid=GRID, ell=lambda s: 1.0 if s > 0.7 else 0.0)
    assert [bool(plan.noise_std(row)) for row in plan.rows] == [True, True, False, False]


def test_a_plan_with_a_function_is_saved(tmp_path: Any):
    plan = plan_sampling(EDM(), "seeds-2", grid=GRID, ell=torch.sqrt)
    plan.save(tmp_path / "plan.json")
    assert torch.allclose(numbers(expint.Plan.load(tmp_path / "plan.json")), numbers(plan))


class Untouched:
    prediction = "data"
    schedule = EDM()

    def __call__(self, x: Any, t: Any) -> Any:
        raise AssertionError("called")


@pytest.mark.parametrize(
    ("ell", "kind", "message"),
    [
        ([1.0, 1.0], ValueError, "one for each of the 3 steps with finite sigma; got 2 values"),
        ([1.0, -0.5, 1.0], ValueError, r"finite and >= 0 in every step.*-0\.5"),
        ([1.0, math.nan, 1.0], ValueError, "finite and >= 0 in every step.*nan"),
        ([1.0, 2e4, 1.0], ValueError, "at most 10000, got .*; inf stands for"),
        (["a", "b", "c"], TypeError, "real numbers"),
        (lambda s: -s, ValueError, r"ell\(sigma\) must be a number >= 0, got -"),
        (lambda s: s * math.nan, ValueError, r"ell\(sigma\) must be a number >= 0, got nan at"),
        (lambda s: "much", TypeError, r"ell\(sigma\).* must be a real number, got 'much'"),
        (lambda s: None, TypeError, r"ell\(sigma\).* must be a real number, got None"),
        (lambda s: 1j * s, TypeError, r"ell\(sigma\).* must be a real number"),
        (lambda: 1.0, TypeError, r"ell\(sigma\).* fails with TypeError"),
        ("much", ValueError, "for each step or a function of sigma"),
        (math.nan, ValueError, "must be a finite number >= 0, got nan"),
        (-math.inf, ValueError, "must be a finite number >= 0, got -inf"),
    ],
)
def test_what_is_no_ell_is_refused(ell: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        sample(Untouched(), (2, 3), "seeds-1", grid=GRID, ell=ell, **QUIET)


@pytest.mark.parametrize(
    "ell", [[1.0, 0.5], math.inf, lambda sigma: 1.0], ids=["listed", "inf", "function"]
)
def test_adaptive_steps_take_one_number(ell: Any):
    with pytest.raises(
        ValueError, match=r"Adaptive steps choose the grid .* give a number of step"
    ):
        sample(Untouched(), (2, 3), steps=expint.Adaptive(), ell=ell, **QUIET)


@pytest.mark.parametrize(
    "ell", [[1.0, 0.5, 0.3], lambda sigma: 1.0, math.inf], ids=["listed", "function", "inf"]
)
def test_other_forms_are_refused(ell: Any):
    with pytest.raises(ValueError, match=r"form='data'"):
        plan_sampling(EDM(), "seeds-1", grid=GRID, ell=ell, form="noise")


def test_whether_noise_is_asked_for():
    """By it the default solver is chosen."""
    assert asked_noise([None, None]) is None
    assert asked_noise([0.0]) is asked_noise([[0.0, 0.0]]) is False
    assert asked_noise([[0.0, 1.0]]) is asked_noise(["ode"]) is asked_noise([torch.sqrt]) is True
    quiet = plan_sampling(EDM(), grid=GRID, ell=[0.0] * 3)
    assert quiet.solver == plan_sampling(EDM(), grid=GRID, ell=0.0).solver


def test_roots():
    assert root_of(None) is None and root_of(4) == 2.0 and root_of(math.inf) == math.inf
    assert root_of([4.0, 0.0]).tolist() == [2.0, 0.0] and root_of(lambda s: s)(9.0) == 3.0
    for wrong in (-1.0, math.nan, [1.0, -1.0]):
        with pytest.raises(ValueError, match="ell squared"):
            root_of(wrong)


def test_infinity_in_every_step_is_infinity():
    assert varying_ell(EDM(), GRID, [math.inf] * 3) is ALWAYS_FRESH
    assert varying_ell(EDM(), GRID, lambda sigma: math.inf) is ALWAYS_FRESH
    assert reverse_sde(EDM(), ell=math.inf).diffusion.noise_scale is ALWAYS_FRESH  # pyright: ignore
    assert varying_ell(EDM(), GRID, ["inf"] * 3) is ALWAYS_FRESH
    assert reverse_sde(EDM(), ell="inf").diffusion.noise_scale is ALWAYS_FRESH  # pyright: ignore
    assert varying_ell(EDM(), GRID, 1.0) is varying_ell(EDM(), GRID, None) is None


def test_samples_of_a_list_and_of_a_function_are_one():
    target = Gaussian([1.0, -2.0], [0.25, 1.0], EDM())
    listed = sample(target, (4, 2), "seeds-2", grid=GRID, ell=[1.0, 0.5, 0.0], **QUIET)

    def ell(sigma: float) -> float:
        return 1.0 if sigma > 2.0 else 0.5 if sigma > 0.7 else 0.0

    assert torch.allclose(sample(target, (4, 2), "seeds-2", grid=GRID, ell=ell, **QUIET), listed)
