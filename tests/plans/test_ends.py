"""Both ends of the noise scale: the last step to σ = 0 and the first from σ = ∞, where other
formulas divide by zero.
"""

import math

import pytest
import torch
from pairs import every_schedule_and_solver
from solver_kinds import KINDS
from toy_models import FunctionModel, constant, forbidden, mixture, wavy

from expint import compile_plan, grids, reverse_sde, sample, schedules, solvers
from expint.equations.forms import EXPONENTIAL
from expint.equations.predictions import PREDICTIONS
from expint.noise import Replay
from expint.runs import Reparametrized, execute
from expint.schedules import Cosine, Flow, Schedule
from expint.targets import Gaussian

SIGMA_DATA = 0.7
X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)


class Louder(Flow):
    """α = 1 − t, σ̄ = 2t, so that σ̄ is not 1 where σ = ∞."""

    def _log_std(self, t: torch.Tensor) -> torch.Tensor:
        return torch.log(2 * t)

    def _t_of_lam(self, lam: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(-lam - math.log(2))


INFINITE = [Flow(), Cosine(t_max=1.0), Louder()]
every_form = pytest.mark.parametrize("form", EXPONENTIAL)
every_solver = pytest.mark.parametrize("solver", KINDS)
every_start = pytest.mark.parametrize("schedule", INFINITE, ids=["flow", "cosine", "louder"])


def normals(count: int) -> Replay:
    generator = torch.Generator().manual_seed(5)
    return Replay(torch.randn(max(count, 1), *X.shape, dtype=torch.float64, generator=generator))


@every_form
@every_schedule_and_solver
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_last_step_to_zero_noise_is_the_denoiser(form: str, solver: str, ell: float, name: str):
    schedule = schedules.get(name)
    model = Reparametrized(mixture(schedule), "precond", SIGMA_DATA)
    s = schedule.t_of_sigma(0.3)
    clean = schedule.t_of_lam(math.inf)
    for end in (clean, -math.inf):
        plan = compile_plan(
            reverse_sde(schedule, form, ell, sigma_data=SIGMA_DATA), solver, [s, end]
        )
        assert (plan.nfe, plan.normals) == (1, 0) and plan.rows[0].scale == 0.0
        expected = schedule.alpha(clean) * mixture(schedule)(X, s)
        torch.testing.assert_close(execute(plan, model, X), expected, rtol=1e-12, atol=1e-12)


@every_form
@every_schedule_and_solver
def test_final_none_stops_at_the_data_end_with_all_its_noise(form: str, solver: str, name: str):
    schedule = schedules.get(name)
    start, data = schedule.t_of_sigma(30.0), schedule.sampling_range[1]
    plan = compile_plan(
        reverse_sde(schedule, form, 1.0, sigma_data=SIGMA_DATA), solver, [start, data]
    )
    assert plan.nfe == solvers.get(solver).tableau.evaluations and plan.rows[-1].target == data
    # With exact noise and D = 0 (the data concentrated at 0) the state ends as N(0, σ̄²) whatever
    # the start.
    if form == "data":
        model = constant(schedule, "data", 0.0)
        variance = sum(
            execute(plan, model, torch.zeros(1, 1, dtype=torch.float64), Replay(unit)) ** 2
            for unit in torch.eye(plan.normals, dtype=torch.float64).reshape(-1, plan.normals, 1, 1)
        )
        kept = plan.rows[-1].scale ** 2 * schedule.std(start) ** 2
        assert float(variance) + kept == pytest.approx(schedule.std(data) ** 2, rel=1e-9)


@every_form
@every_solver
@every_start
@pytest.mark.parametrize("ell", [0.3, 1.0])
def test_first_step_from_infinite_noise_is_fresh(
    form: str, solver: str, schedule: Schedule, ell: float
):
    """ℓ > 0: P = 0, weight α_t on D, and noise of standard deviation σ̄_t."""
    plan = compile_plan(
        reverse_sde(schedule, form, ell, sigma_data=SIGMA_DATA), solver, [1.0, 0.6, 0.2]
    )
    first = plan.rows[0]
    assert (
        first.scale == 0.0
        and first.weights == ((0, pytest.approx(schedule.alpha(0.6), rel=1e-14)),)
        and plan.ends_step[0]
    )
    assert float(plan.noise_std(first)) == pytest.approx(schedule.std(0.6), rel=1e-14)
    assert plan.nfe == 1 + solvers.get(solver).tableau.evaluations
    one = compile_plan(plan.sde, solver, [1.0, 0.6])
    z = torch.tensor([[[1.0, -0.5], [0.2, 2.0]]], dtype=torch.float64)
    model = mixture(schedule)
    expected = schedule.alpha(0.6) * model(X, 1.0) + schedule.std(0.6) * z[0]
    torch.testing.assert_close(execute(one, model, X, Replay(z)), expected, rtol=1e-12, atol=1e-12)


@every_form
@every_solver
@every_start
def test_first_step_from_infinite_noise_keeps_the_direction(
    form: str, solver: str, schedule: Schedule
):
    """ℓ = 0: P = σ̄_t/σ̄_s and no noise."""
    plan = compile_plan(reverse_sde(schedule, form, 0.0, sigma_data=SIGMA_DATA), solver, [1.0, 0.6])
    model = mixture(schedule)
    expected = schedule.alpha(0.6) * model(X, 1.0) + schedule.std(0.6) / schedule.std(1.0) * X
    torch.testing.assert_close(execute(plan, model, X), expected, rtol=1e-12, atol=1e-12)


@every_start
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_first_step_is_the_limit_of_large_noise(schedule: Schedule, ell: float):
    """From ever larger finite σ the first-order step tends to the one from σ = ∞."""
    model = mixture(schedule)

    def step(start: float) -> torch.Tensor:
        return execute(
            compile_plan(reverse_sde(schedule, "data", ell), "seeds-1", [start, 0.6]),
            model,
            X,
            normals(1),
        )

    errors = [float((step(1.0 - eps) - step(1.0)).abs().max()) for eps in (1e-2, 1e-4, 1e-6)]
    assert errors[2] < 1e-5 and errors[1] < 0.05 * errors[0] and errors[2] < 0.05 * errors[1]


@every_start
@every_form
@every_solver
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_both_ends_in_one_run(schedule: Schedule, form: str, solver: str, ell: float):
    """Every prediction that knows the data at σ = ∞ samples; noise and score predictions are
    refused before the first call.
    """
    settings = {
        "steps": 5,
        "grid": "uniform_time",
        "progress": False,
        "dtype": torch.float64,
        "form": form,
        "ell": ell,
    }
    results = []
    for prediction in PREDICTIONS:
        if prediction in ("noise", "score"):
            with pytest.raises(
                ValueError, match=rf"'{prediction}' cannot give 'data' at t = 1, where sigma = inf"
            ):
                sample(forbidden(schedule, prediction, SIGMA_DATA), (2, 2), solver, **settings)
            continue
        results.append(
            sample(
                Reparametrized(mixture(schedule), prediction, SIGMA_DATA),
                (2, 2),
                solver,
                **settings,
            )
        )
    for result in results:
        assert torch.isfinite(result).all()
        torch.testing.assert_close(result, results[0], rtol=1e-9, atol=1e-9)


@every_start
def test_one_step_from_infinity_to_zero(schedule: Schedule):
    """At σ = ∞ the denoiser is the mean of the data."""
    model = Gaussian([0.4, -2.0], [0.3, 1.0], schedule)
    clean = schedule.t_of_lam(math.inf)
    for ell in (0.0, 1.0):
        plan = compile_plan(reverse_sde(schedule, "data", ell), "seeds-3", [1.0, clean])
        assert plan.nfe == 1
        torch.testing.assert_close(
            execute(plan, model, X), model.mean.expand(2, 2), rtol=1e-12, atol=1e-12
        )


def test_default_sampling_ends_clean_and_final_none_does_not():
    """A model that always answers 0 is left with exactly 0, or with noise of the data end's σ̄."""
    for name in schedules.names():
        schedule = schedules.get(name)
        model = constant(schedule, "data", 0.0)
        assert torch.equal(
            sample(model, (2, 3), "seeds-1", steps=4, progress=False), torch.zeros(2, 3)
        )
        left = sample(
            model, (2000, 1), "seeds-1", steps=4, final="none", progress=False, dtype=torch.float64
        )
        # 5 sigma for the standard deviation of n = 2000 normals: 5/√(2n) = 8 %.
        assert float(left.std()) == pytest.approx(
            schedule.std(schedule.sampling_range[1]), rel=0.08
        )


def test_the_model_is_not_called_at_the_clean_end():
    schedule = schedules.get("vp")
    seen: list[float] = []

    def note(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(float(t))
        return wavy(schedule)(x, t)

    settings = {"steps": 4, "grid": "uniform_lambda", "progress": False}
    sample(FunctionModel(schedule, "data", note), (1, 2), "seeds-2", **settings)
    assert len(seen) == 7 and min(seen) == schedule.sampling_range[1]
    assert grids.uniform_lambda(schedule, 4)[-1] < schedule.sampling_range[1]
