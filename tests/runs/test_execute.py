"""The loop over a plan: callbacks, predictions and forms, dtypes, and errors before the first
evaluation.
"""

import math

import pytest
import torch
from solver_kinds import KINDS
from toy_models import FunctionModel, Recorder, forbidden, mixture, wavy

from expint import compile_plan, reverse_sde, schedules, solvers
from expint.equations.forms import EXPONENTIAL
from expint.equations.predictions import PREDICTIONS
from expint.noise import Gaussian, Replay
from expint.runs import Reparametrized, execute
from expint.schedules import VP

SIGMA_DATA = 0.7
X = torch.tensor([[0.7, -1.1], [2.0, 0.1], [-0.4, 0.9]], dtype=torch.float64)
GRID = [0.9, 0.7, 0.4, 0.1, 0.0]
every_form = pytest.mark.parametrize("form", EXPONENTIAL)
every_solver = pytest.mark.parametrize("solver", KINDS)


def plan_for(
    solver: str = "seeds-3", form: str = "data", ell: float = 1.0, grid: list[float] | None = None
):
    return compile_plan(reverse_sde(VP(), form, ell, sigma_data=SIGMA_DATA), solver, grid or GRID)


@every_form
@every_solver
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_prediction_and_form_are_independent(form: str, solver: str, prediction: str, ell: float):
    plan, model = plan_for(solver, form, ell), mixture(VP())
    noise = Gaussian([1, 2, 3])
    reference = execute(plan, model, X, noise)
    result = execute(plan, Reparametrized(model, prediction, SIGMA_DATA), X, noise)
    torch.testing.assert_close(result, reference, rtol=1e-10, atol=1e-10)


def test_sigma_data_of_the_network_and_of_the_form_may_differ():
    model = mixture(VP())
    for form in EXPONENTIAL:
        plan = plan_for(form=form)
        result = execute(plan, Reparametrized(model, "precond", 2.0), X, Gaussian([1, 2, 3]))
        torch.testing.assert_close(
            result, execute(plan, model, X, Gaussian([1, 2, 3])), rtol=1e-10, atol=1e-10
        )


@every_form
@every_solver
def test_callback(form: str, solver: str):
    """callback(step, nfe, t, x, denoised) once per step; denoised is what the model says at the
    last evaluation, as data.
    """
    plan, target = plan_for(solver, form), mixture(VP())
    model = Recorder(Reparametrized(target, "noise"))
    seen = []
    result = execute(plan, model, X, Gaussian([1, 2, 3]), lambda *call: seen.append(call))
    assert [call[0] for call in seen] == [1, 2, 3, 4]
    calls = [
        sum(row.evaluates for row in plan.rows[: i + 1])
        for i, ends in enumerate(plan.ends_step)
        if ends
    ]
    assert [call[1] for call in seen] == calls and calls[-1] == solvers.get(solver).evaluations_in(
        4, to_zero=True
    )
    assert [call[2] for call in seen] == plan.grid[1:].tolist()
    assert torch.equal(seen[-1][3], result)
    assert model.times == [row.time for row in plan.rows if row.evaluates]
    if not solvers.get(
        solver
    ).tableau.reuse:  # else the last evaluation is at the state before its correction
        torch.testing.assert_close(seen[-1][4], target(seen[-2][3], 0.1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        seen[-1][4], result, rtol=1e-12, atol=1e-12
    )  # the last step returns the denoised state


def test_states_given_to_the_callback_are_not_overwritten():
    kept = []
    noise = Gaussian([1, 2, 3])
    execute(
        plan_for("seeds-2"),
        wavy(VP()),
        X,
        noise,
        lambda s, n, t, x, d: kept.append((x, x.clone(), d, d.clone())),
    )
    assert all(torch.equal(x, copy) and torch.equal(d, same) for x, copy, d, same in kept)


@every_solver
def test_the_given_state_is_not_changed(solver: str):
    x = X.clone()
    execute(plan_for(solver), wavy(VP()), x, Gaussian([1, 2, 3]))
    assert torch.equal(x, X)


@every_form
@every_solver
def test_a_model_that_returns_its_input_is_safe(form: str, solver: str):
    """The output may share memory with the state: nothing is updated in place that the caller or
    the model owns.
    """
    plan = plan_for(solver, form)
    model = FunctionModel(VP(), "data", lambda x, t: x)
    copies = FunctionModel(VP(), "data", lambda x, t: x.clone())
    assert torch.equal(
        execute(plan, model, X, Gaussian([1, 2, 3])), execute(plan, copies, X, Gaussian([1, 2, 3]))
    )


@every_form
@every_solver
def test_single_precision_follows_double(form: str, solver: str):
    plan, model = plan_for(solver, form), mixture(VP())
    normals = torch.randn(
        plan.normals, *X.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    double = execute(plan, model, X, Replay(normals))
    single = execute(plan, model, X.float(), Replay(normals))
    assert double.dtype == torch.float64 and single.dtype == torch.float32
    torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-4)


def test_a_model_of_another_dtype_is_cast():
    model = FunctionModel(VP(), "data", lambda x, t: torch.tanh(x.float()))
    assert execute(plan_for(), model, X, Gaussian([1, 2, 3])).dtype == torch.float64


@every_solver
def test_events_of_any_shape(solver: str):
    plan = plan_for(solver)
    for event in ((), (5,), (3, 4, 4)):
        x = torch.ones(2, *event, dtype=torch.float64)
        assert execute(plan, wavy(VP()), x, Gaussian([1, 2])).shape == x.shape


@every_solver
def test_each_sample_depends_on_itself_only(solver: str):
    """Bitwise, in a batch of another size and order."""
    plan, model = plan_for(solver), wavy(VP())
    together = execute(plan, model, X, Gaussian([5, 6, 7]))
    assert torch.equal(execute(plan, model, X[[2, 0]], Gaussian([7, 5])), together[[2, 0]])
    assert torch.equal(execute(plan, model, X[1:2], Gaussian([6])), together[1:2])


@every_solver
def test_gradients_reach_the_initial_state(solver: str):
    plan, model = plan_for(solver, ell=0.0, grid=[0.6, 0.3]), wavy(VP())
    assert torch.autograd.gradcheck(
        lambda x: execute(plan, model, x), X.clone().requires_grad_(True)
    )


def test_a_plan_without_noise_needs_no_source_and_one_with_noise_does():
    execute(plan_for(ell=0.0), wavy(VP()), X)
    with pytest.raises(
        ValueError,
        match=r"'seeds-3' on .* uses 9 Gaussians per component: give a noise source.*or use ell=0",
    ):
        execute(plan_for(), forbidden(VP()), X)


def bad_state(value: float) -> torch.Tensor:
    x = X.clone()
    x[1, 0] = value
    return x


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            bad_state(math.nan),
            ValueError,
            r"initial state contains NaN or infinity in 1 of 6 entries",
        ),
        (bad_state(math.inf), ValueError, r"NaN or infinity in 1 of 6"),
        (
            torch.ones(3, 2, dtype=torch.int64),
            TypeError,
            r"tensor of shape \(batch, \*event\), got dtype torch\.int64",
        ),
        ([[1.0, 2.0]], TypeError, "got list"),
        (torch.tensor(1.0), ValueError, "0-dimensional"),
    ],
)
def test_states_that_are_refused(x: object, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        execute(plan_for(), forbidden(VP()), x, Gaussian([1, 2, 3]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x, t: x, r"has no attribute `prediction`: set it to what the network predicts"),
        (forbidden(VP(), "epsilon"), r"Unknown prediction 'epsilon'"),
        (forbidden(VP(), "nois"), r"nearest: \['noise'"),
        (forbidden(VP(), "precond"), r"'precond' needs the network's own sigma_data > 0, got None"),
    ],
)
def test_models_that_are_refused(model: object, message: str):
    with pytest.raises(ValueError, match=message):
        execute(plan_for(), model, X, Gaussian([1, 2, 3]))


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (Gaussian([1, 2]), r"2 seeds came for a state of shape \(3, 2\)"),
        (Replay(torch.zeros(8, 3, 2)), "uses 9 standard normals, but Replay holds 8"),
        (Replay(torch.zeros(9, 2, 2)), r"shape \(2, 2\), but the state has shape \(3, 2\)"),
    ],
)
def test_noise_that_is_refused(noise: object, message: str):
    with pytest.raises(ValueError, match=message):
        execute(plan_for(), forbidden(VP()), X, noise)  # type: ignore[arg-type]


def counted(answer: object) -> tuple[FunctionModel, list[float]]:
    calls: list[float] = []

    def call(x: torch.Tensor, t: torch.Tensor) -> object:
        calls.append(float(t))
        return answer

    return FunctionModel(VP(), "data", call), calls  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 4), (3,), (1, 2), (3, 2, 1)])
def test_output_of_the_wrong_shape_is_told_at_the_first_call(shape: tuple[int, ...]):
    model, calls = counted(torch.zeros(shape, dtype=torch.float64))
    with pytest.raises(
        ValueError, match=r"returned shape \([\d, ]*\) for a state of shape \(3, 2\)"
    ) as caught:
        execute(plan_for(), model, X, Gaussian([1, 2, 3]))
    assert str(shape) in str(caught.value) and len(calls) == 1


def test_output_that_is_no_tensor():
    model, calls = counted((X, None))
    with pytest.raises(TypeError, match="must return a tensor, got tuple"):
        execute(plan_for(), model, X, Gaussian([1, 2, 3]))
    assert len(calls) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("bad_step", [0, 2, 3])
def test_a_state_that_stops_being_finite(value: float, bad_step: int):
    """Says the step and the time at which it starts."""
    start = GRID[bad_step]

    def break_down(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, value) if float(t) <= start + 1e-9 else torch.zeros_like(x)

    with pytest.raises(
        FloatingPointError,
        match=rf"in step {bad_step + 1} of 4, which starts at t = {start:g} \(sigma = ",
    ):
        execute(
            plan_for("seeds-1"), FunctionModel(VP(), "data", break_down), X, Gaussian([1, 2, 3])
        )


@pytest.mark.parametrize("name", schedules.names())
def test_times_given_to_the_model_are_float64_scalars(name: str):
    schedule = schedules.get(name)
    start, data = schedule.t_of_sigma(5.0), schedule.sampling_range[1]
    model = Recorder(wavy(schedule))
    plan = compile_plan(reverse_sde(schedule), "seeds-2", [start, data])
    execute(plan, model, X.float(), Gaussian([1, 2, 3]))
    assert model.times[0] == start
