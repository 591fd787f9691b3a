"""Inversion: a run with the normals that were found returns the samples."""

from typing import Any

import pytest
import torch

import expint
from expint import schedules, solvers
from tests.toy_models import FunctionModel, forbidden, mixture

SCHEDULES = {"EDM": schedules.EDM(), "Flow": schedules.Flow()}


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


CASES = [("EDM", name) for name in NAMES]
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


@pytest.mark.parametrize("steps", [3, 40])
def test_a_step_of_several_noisy_stages_ends_where_it_should(steps: int):
    """Every step of `seeds-sra3` ends at x0 noised to its time, not the last one alone, and the
    other normal of each step is standard: both within 5 standard errors, of 150 numbers a step (29
    per cent) and of 150 a step in all."""
    model = mixture(SCHEDULES["EDM"])
    plan, x0 = plan_of("seeds-sra3", model.schedule, steps), model.sample(75)
    assert plan
    x, noise = expint.invert(model, x0, plan=plan, seed=2)
    seen: list[torch.Tensor] = []
    options: Any = {"progress": False, "callback": lambda *step: seen.append(step[3])}
    again = expint.sample(model, x, plan=plan, noise=noise, **options)
    assert (again - x0).abs().max() < 1e-12 * max(1.0, x0.abs().max())
    drawn = torch.stack([n for k, n in enumerate(noise.normals) if k % 2])
    assert abs(drawn.std().item() - 1.0) < 5.0 / (2 * drawn.numel()) ** 0.5
    sigma = plan.grid[1:-1]
    expected = (sigma.square() - plan.grid[-1].square()).sqrt()
    away = torch.stack([(state - x0).square().mean().sqrt() for state in seen[:-1]])
    assert ((away / expected - 1.0).abs() < 5.0 / (2 * x0.numel()) ** 0.5 + 2e-3).all()


CHAINS = [("seeds-sra3", solvers.langevin()), ("seeds-sra3", solvers.ancestral(eta=0.5))]
CHAINS += [("deis-rk3", None), ("res-3s", None)]


@pytest.mark.parametrize(("name", "operation"), CHAINS, ids=str)
def test_steps_whose_end_has_no_noise_of_its_own_have_small_normals(name: str, operation: Any):
    """The ends of the steps are noised, where other noise follows them, too: were it their stages,
    the normals would have standard deviations of 70 to 600."""
    model = mixture(SCHEDULES["EDM"])
    options: Any = {"operations": [operation] if operation else [], "ell": 1.0, "final": "none"}
    plan = expint.plan_sampling(model.schedule, name, steps=10, **options)
    x0 = model.sample(20)
    x, noise = expint.invert(model, x0, plan=plan, seed=2)
    again = expint.sample(model, x, plan=plan, noise=noise, progress=False)
    assert (again - x0).abs().max() <= 1e-12 * max(1.0, x0.abs().max())
    assert noise.normals.std() < 10.0


@pytest.mark.parametrize("name", ["seeds-sra3", "pece-2"])
def test_a_fixed_point_that_is_not_reached_is_said(name: str):
    model = FunctionModel(SCHEDULES["EDM"], "data", lambda x, t: torch.sin(1e4 * x))
    with pytest.raises(RuntimeError, match=r"last step .* is missing.* more steps"):
        expint.invert(model, torch.tensor([[0.3, -0.2]]), name, steps=3)


def test_the_solver_by_default_is_stochastic_and_the_seed_counts():
    model = mixture(SCHEDULES["EDM"])
    x0 = model.sample(2)
    one, two, same = (expint.invert(model, x0, nfe=10, seed=n)[0] for n in (1, 2, 1))
    assert torch.equal(one, same) and not torch.allclose(one, two)
    alone = expint.invert(model, x0[1:], nfe=10, seed=1, start=1)[0]
    assert torch.equal(alone, one[1:])
