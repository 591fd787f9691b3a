"""Encoding: a run of the plan from what was found returns the samples."""

from typing import Any

import pytest
import torch

import expint
from diffusion_adapters import load
from expint import schedules, solvers
from expint.fixed_points import rms, solve
from tests.toy_models import FunctionModel, forbidden, mixture

EDM, FLOW = schedules.EDM(), schedules.Flow()


def plan_of(name: str, schedule: Any = EDM, steps: int = 40) -> Any:
    grid = "karras" if schedule is FLOW else "uniform_lambda"
    try:
        plan = expint.plan_sampling(schedule, name, ell=0.0, steps=steps, grid=grid, final="none")
    except ValueError:
        return None
    return None if plan.run else plan


NAMES = [entry.name for entry in solvers.entries() if plan_of(entry.name, steps=4)]


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_with_every_solver_of_the_ode(name: str):
    # Euler's rule in σ² needs many steps.
    model, plan = mixture(EDM), plan_of(name, steps=200 if name == "reverse-diffusion" else 40)
    x0 = model.sample(8)
    x = expint.encode(model, x0, plan=plan)
    again = expint.sample(model, x, plan=plan, progress=False)
    near = {1: 0.25, 2: 0.03, 3: 0.01}.get(plan.method.deterministic_order, 2e-3)
    assert (again - x0).abs().max() < near


@pytest.mark.parametrize(("schedule", "name"), [(FLOW, "unipc-2"), (schedules.Cosine(), "heun")])
def test_from_an_infinite_noise_level(schedule: Any, name: str):
    """The first step of a flow starts at σ = ∞: x = σ̄ ε on the way back."""
    model, plan = mixture(schedule), plan_of(name, schedule, 60)
    x0 = model.sample(8)
    x = expint.encode(model, x0, plan=plan)
    assert (x.std() - 1.0).abs() < 0.5
    assert (expint.sample(model, x, plan=plan, progress=False) - x0).abs().max() < 0.1


@pytest.mark.parametrize(
    ("schedule", "name", "steps"),
    [(EDM, "seeds-ab4", 20), (EDM, "heun", 20), (FLOW, "seeds-ab4", 20)],
)
def test_refined_it_is_exact(schedule: Any, name: str, steps: int):
    model, plan = mixture(schedule), plan_of(name, schedule, steps)
    for dtype, near in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        x0 = model.sample(8).to(dtype)
        x = expint.encode(model, x0, plan=plan, refine=True)
        assert x.dtype == dtype
        again = expint.sample(model, x, plan=plan, progress=False)
        assert (rms(again - x0) <= near * rms(x0).clamp(min=1.0)).all()
    rough = expint.encode(model, x0, plan=plan)
    assert (expint.sample(model, rough, plan=plan, progress=False) - x0).abs().max() > 1e-5


def test_a_network():
    """40 evaluations each way, and refined."""
    model = load("digits-edm", labels=range(1))
    x0 = expint.sample(model, (1, 1, 8, 8), nfe=20, progress=False)
    plan = expint.plan_sampling(
        model.schedule, "seeds-ab4", ell=0, nfe=40, grid="karras", final="none"
    )
    for refine, near in ((False, 1e-2), (True, 1e-6)):
        x = expint.encode(model, x0, nfe=40, refine=refine)
        again = expint.sample(model, x, plan=plan, progress=False)
        assert rms(again - x0).max() < near


def test_refinement_that_does_not_come_to_an_end_is_said():
    model = FunctionModel(EDM, "data", lambda x, t: x.round())
    x0 = torch.full((2, 2), 0.4)  # a run ends near whole numbers
    with pytest.raises(RuntimeError, match="Take more steps"):
        expint.encode(model, x0, steps=5, refine=True)


def test_bad_input_is_refused_before_any_evaluation():
    model, x0 = forbidden(EDM), torch.zeros(2, 2)
    for match, options in {
        "adds noise": {"ell": 1.0},
        "'euler-ancestral' on .* adds noise": {"solver": "euler-ancestral"},
        "denoised estimate": {"final": "denoise"},
    }.items():
        with pytest.raises(ValueError, match=match):
            expint.encode(model, x0, **options)
    with pytest.raises(ValueError, match="no step between finite"):
        expint.encode(forbidden(FLOW), x0, grid=[1.0, 0.5])
    with pytest.raises(TypeError, match="float16"):
        expint.encode(model, x0.half())
    with pytest.raises(ValueError, match="NaN"):
        expint.encode(model, x0 * torch.nan)


def test_a_fixed_point_of_a_map_that_expands():
    """y ← y + r(y) alone diverges for eigenvalues of r' below −2 and above 0."""
    slope = torch.tensor([-3.0, 0.5, -0.1], dtype=torch.float64)
    allowed = torch.full((2,), 1e-12, dtype=torch.float64)
    y, reached = solve(lambda y: slope * (y - 2.0), torch.zeros(2, 3).double(), allowed)
    assert reached
    torch.testing.assert_close(y, torch.full((2, 3), 2.0).double(), atol=1e-10, rtol=0.0)
    assert not solve(lambda y: torch.ones_like(y), torch.zeros(1, 2), torch.zeros(1))[1]
