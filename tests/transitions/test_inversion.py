"""Inversion: a run with the normals that were found returns the samples."""

from typing import Any

import pytest
import torch

import expint
from expint import schedules, solvers
from tests.toy_models import forbidden, mixture

SCHEDULES = {"EDM": schedules.EDM(), "Flow": schedules.Flow()}
# Two nodes of a step have noise of their own, but its end has none: see the test below.
LEFT_OUT = {"seeds-sra3"}


def plan_of(name: str, schedule: expint.schedules.Schedule, steps: int = 10):
    for ell in (None, 1.0):
        try:
            plan = expint.plan_sampling(schedule, name, steps=steps, final="none", ell=ell)
        except ValueError:
            continue
        if plan.run:
            return plan
    return None


NAMES = [e.name for e in solvers.entries() if plan_of(e.name, SCHEDULES["EDM"])]


CASES = [("EDM", name) for name in NAMES if name not in LEFT_OUT]
CASES += [("Flow", name) for name in ("seeds-1", "seeds-3", "dpm2-ancestral", "unipc-2", "pece-2")]


@pytest.mark.parametrize(("schedule", "name"), CASES)
def test_a_run_returns_the_samples(schedule: str, name: str):
    model = mixture(SCHEDULES[schedule])
    plan = plan_of(name, model.schedule)
    for dtype, near in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        x0 = model.sample(3).to(dtype)
        x, noise = expint.invert(model, x0, plan=plan, seed=2)
        assert x.dtype == dtype and x.shape == x0.shape
        again = expint.sample(model, x, plan=plan, noise=noise, progress=False)
        assert (again - x0).abs().max() <= near * max(1.0, x0.abs().max())


def test_the_noise_of_one_path_is_nearly_standard_for_a_perfect_model():
    """Of 1,000 Gaussian samples with 200 short steps the normals have standard deviation 1 but for
    the steps' error of some percent; noised independently, more."""
    model = expint.targets.Gaussian([0.5, -0.2], [1.0, 0.3], SCHEDULES["EDM"])
    options: Any = {"steps": 200, "grid": "uniform_lambda"}
    x0 = model.sample(1_000)
    along = expint.invert(model, x0, "seeds-ab2", **options)[1].normals.std().item()
    apart = expint.invert(model, x0, "seeds-ab2", **options, independent=True)[1].normals.std()
    assert abs(along - 1.0) < 0.05
    assert apart.item() > 1.2


@pytest.mark.parametrize("name", ["seeds-1", "seeds-3", "edm-stochastic", "dpm2-ancestral"])
def test_a_last_step_to_zero_denoises_the_samples(name: str):
    """A run goes through x0 before that step, and ends at its denoised estimate, as the warning
    says."""
    model = mixture(SCHEDULES["EDM"])
    plan, x0 = expint.plan_sampling(model.schedule, name, steps=20), model.sample(3)
    with pytest.warns(UserWarning, match=r"sigma = 0: .* from x0 at most") as found:
        x, noise = expint.invert(model, x0, plan=plan)
    seen = []
    again = expint.sample(
        model,
        x,
        plan=plan,
        noise=noise,
        progress=False,
        callback=lambda *step: seen.append(step[3]),
    )
    before = plan.rows[-1].time
    assert (again - model(x0, before)).abs().max() < 1e-10
    assert f"{(again - x0).abs().max():.3g} from x0" in str(found[0].message)
    if "ancestral" not in name and name != "edm-stochastic":
        assert (seen[-2] - x0).abs().max() < 1e-11


def test_an_ode_is_refused_before_any_evaluation():
    x0 = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="no transition density"):
        expint.invert(forbidden(SCHEDULES["EDM"]), x0, "ddim", steps=4)


def test_other_samples_are_refused_before_any_evaluation():
    model = forbidden(SCHEDULES["EDM"])
    with pytest.raises(TypeError, match="float16"):
        expint.invert(model, torch.zeros(2, 2, dtype=torch.float16))
    with pytest.raises(ValueError, match="NaN"):
        expint.invert(model, torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match="3 seeds came for a batch of 2"):
        expint.invert(model, torch.zeros(2, 2), seeds=[1, 2, 3])


def test_a_fixed_point_that_is_not_reached_is_said():
    model = mixture(SCHEDULES["EDM"])
    with pytest.raises(RuntimeError, match="is missing"):
        expint.invert(model, model.sample(3).float(), "seeds-sra3", steps=8)


def test_the_solver_by_default_is_stochastic_and_the_seed_counts():
    model = mixture(SCHEDULES["EDM"])
    x0 = model.sample(2)
    one, two, same = (expint.invert(model, x0, nfe=10, seed=n)[0] for n in (1, 2, 1))
    assert torch.equal(one, same) and not torch.allclose(one, two)
    alone = expint.invert(model, x0[1:], nfe=10, seed=1, start=1)[0]
    assert torch.equal(alone, one[1:])
