"""How long a run keeps the outputs of the model, and what it tells of its place."""

import math
import weakref
from typing import Any

import pytest
import torch
from solver_kinds import KINDS
from torch import Tensor
from toy_models import FunctionModel, forbidden, mixture

from expint import Reparametrized, compile_plan, reverse_sde, sample, solvers
from expint.noise import BrownianPath, Gaussian, Replay
from expint.runs import execute
from expint.sampling import plan_sampling
from expint.schedules import EDM, VP

X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)


@pytest.mark.parametrize("solver", [*KINDS, "ipndm", "dpmpp-2m", "edm-stochastic"])
def test_outputs_live_as_long_as_they_are_used(solver: str):
    """At every call only those are alive that a later row uses, and the latest one."""
    target = mixture(EDM())
    plan = plan_sampling(EDM(), solver, steps=8, grid="karras", form="data")
    calls = [i for i, row in enumerate(plan.rows) if row.evaluates]
    made: dict[int, Any] = {}

    def model(x: Tensor, t: Tensor) -> Tensor:
        i = calls[len(made)]
        alive = {j for j, output in made.items() if output() is not None}
        used = {j for row in plan.rows[i:] for j, _ in row.weights if j < i}
        assert alive <= used | {max(made, default=-1)}, (i, alive, used)
        output = target(x, t)
        made[i] = weakref.ref(output)
        return output

    execute(plan, FunctionModel(EDM(), "data", model), X, Gaussian([0, 1]))
    assert len(made) == len(calls)


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "seeds-ab3"])
def test_a_state_that_stops_being_finite_is_told_with_its_place(solver: str):
    """Number, time and σ of the step are those of one and the same step."""
    schedule = VP()
    grid = torch.linspace(0.9, 0.1, 9, dtype=torch.float64)
    plan = compile_plan(solvers.get(solver).equation(schedule), solver, grid)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x, math.inf) if float(t) < 0.45 else mixture(schedule)(x, t)

    with pytest.raises(FloatingPointError, match="became NaN or infinite in step") as raised:
        execute(plan, FunctionModel(schedule, "data", model), X, Gaussian([0, 1]))
    step = 5 if solver == "seeds-3" else 6
    place = plan.sde.place(grid[step - 1].item())
    assert f"in step {step} of 8, which starts at {place}, in sample 0, 1 of 2" in str(raised.value)


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "unipc-2"])
def test_a_model_that_changes_its_input_is_safe_in_inference_mode(solver: str):
    target = mixture(EDM())

    def overwriting(x: Tensor, t: Tensor) -> Tensor:
        output = target(x, t)
        x.zero_()
        return output

    options = {"steps": 6, "progress": False, "dtype": torch.float64}
    expected = sample(target, (4, 2), solver, **options)
    with torch.inference_mode():
        found = sample(FunctionModel(EDM(), "data", overwriting), (4, 2), solver, **options)
    assert found.equal(expected)


class Fainter(EDM):
    """EDM's λ with α = 1/2."""

    def _log_alpha(self, t: Tensor) -> Tensor:
        return 0.0 * t - math.log(2.0)

    def _log_std(self, t: Tensor) -> Tensor:
        return torch.log(0.5 * t)


@pytest.mark.parametrize(
    ("planned", "own"),
    [(EDM(), Fainter()), (Fainter(), EDM()), (VP(), VP(19.95)), (VP(), VP(19.9, 0.101))],
)
def test_schedules_that_differ_a_little_are_refused(planned: Any, own: Any):
    grid = [planned.t_of_sigma(sigma) for sigma in (3.0, 0.5)]
    plan = compile_plan(reverse_sde(planned, ell=0.0), "seeds-1", grid)
    with pytest.raises(ValueError, match="compile the plan for the model's schedule"):
        execute(plan, forbidden(own), X)


@pytest.mark.parametrize("source", [Gaussian([3]), BrownianPath([3], 16)], ids=["fresh", "path"])
@pytest.mark.parametrize("solver", ["seeds-1", "seeds-2", "seeds-sra"])
def test_gradients_keep_the_noise_that_was_used(solver: str, source: Any):
    """Whatever a source draws later. The gradient is that with the same numbers given."""
    x = torch.full((1, 2**15), 4.0, dtype=torch.float64)
    found, given = [], []
    for step in range(2):
        grid = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.2], dtype=torch.float64, requires_grad=True)
        plan = compile_plan(reverse_sde(EDM()), solver, grid)
        stream = source.stream(x, plan.run)
        given = given or [z.clone() for substep in plan.run for z in stream.normals(substep)]
        model = FunctionModel(EDM(), "data", lambda x, t: 0.5 * x)
        noise = Replay(torch.stack(given)) if step else source
        execute(plan, model, x, noise).square().mean().backward()
        found.append(grid.grad)
    assert found[0] is not None and found[0].abs().min() > 0
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("prediction", ["data", "noise", "v"])
@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("solver", ["seeds-2", "unipc-2"])
def test_the_denoised_estimate_is_that_of_the_latest_evaluation(
    solver: str, form: str, prediction: str
):
    """In every form; and the step to σ = 0 ends on it, also where it makes no evaluation of its
    own."""
    schedule = VP()
    target = mixture(schedule)
    shown, calls, told = Reparametrized(target, prediction), [], []

    def model(x: Tensor, t: Tensor) -> Tensor:
        calls.append(target(x, t))
        return shown(x, t)

    def callback(step: int, nfe: int, t: float, x: Tensor, denoised: Tensor) -> None:
        torch.testing.assert_close(denoised, calls[-1], rtol=1e-9, atol=1e-9)
        told.append(step)

    plan = plan_sampling(schedule, solver, steps=6, form=form, ell=0.0)
    end = execute(plan, FunctionModel(schedule, prediction, model), X, None, callback)
    assert told == [1, 2, 3, 4, 5, 6] and len(calls) == plan.nfe
    torch.testing.assert_close(end, calls[-1], rtol=1e-9, atol=1e-9)


def test_one_entry_that_is_not_finite_ends_the_run():
    def model(x: Tensor, t: Tensor) -> Tensor:
        output = mixture(VP())(x, t)
        output[1, 1] = math.nan if float(t) < 0.5 else 0.0
        return output

    plan = plan_sampling(VP(), "seeds-1", steps=8, ell=0.0)
    with pytest.raises(FloatingPointError, match="in sample 1 of 2"):
        execute(plan, FunctionModel(VP(), "data", model), X)
