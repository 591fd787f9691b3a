"""The second-order Taylor method, and the derivative along the ODE that it takes."""

import json
import math
from typing import Any

import pytest
import torch
from toy_models import FunctionModel, Recorder, forbidden, mixture, wavy

import expint
from diffusion_adapters import load
from expint import (
    SemiLinearSDE,
    compile_plan,
    execute,
    integrate,
    plan_sampling,
    reverse_sde,
    schedules,
)
from expint.convergence import Problem, deterministic_order, gaussian_moments
from expint.equations.predictions import PREDICTIONS
from expint.runs import Reparametrized
from expint.runs.conversions import conversion_rates
from expint.runs.forward_mode import along
from expint.runs.run import Run
from expint.schedules import EDM, VP, Flow, Schedule
from expint.solvers import Method, Stage, Tableau, Term, taylor2
from expint.targets import Gaussian

torch.set_num_threads(1)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


SIGMA_DATA = 0.7
X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)
every_schedule = pytest.mark.parametrize("schedule", [VP(), EDM()], ids=["vp", "edm"])
every_form = pytest.mark.parametrize("form", ["data", "noise", "precond", "sigma"])


def ode(schedule: Schedule, form: str = "data") -> SemiLinearSDE:
    return reverse_sde(schedule, form, 0.0, sigma_data=SIGMA_DATA)


@pytest.mark.parametrize(
    ("schedule", "form"),
    [(VP(), "data"), (VP(), "noise"), (EDM(), "data"), (EDM(), "noise"), (VP(), "precond")],
    ids=lambda value: type(value).__name__ if isinstance(value, Schedule) else value,
)
def test_deterministic_order(schedule: Schedule, form: str):
    problem = Problem(mixture(schedule), form, 0.0, sigma_data=SIGMA_DATA)
    study = deterministic_order(taylor2(), problem, steps=(32, 64, 128), starts=8)
    assert study.declared == taylor2().deterministic_order == 2
    assert study.order == pytest.approx(2.0, abs=0.15), study.table()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@every_form
def test_what_the_network_predicts_makes_no_difference(form: str, prediction: str):
    plan = compile_plan(ode(VP(), form), taylor2(), [0.9, 0.6, 0.3, 0.1])
    expected = execute(plan, mixture(VP()), X)
    model = Reparametrized(mixture(VP()), prediction, SIGMA_DATA)
    torch.testing.assert_close(execute(plan, model, X), expected, rtol=1e-9, atol=1e-9)


@every_schedule
@pytest.mark.parametrize("form", ["data", "noise", "precond", "sigma"])
def test_one_step_is_the_formula_with_a_finite_difference(schedule: Schedule, form: str):
    """x_t = P x_s + κ a_t e^{ρμ_t} h [φ_1 F + h φ_2 dF/dμ], dF/dμ by central differences along
    dx/dμ of the first-order step.
    """
    sde, (s, t) = ode(schedule, form), (schedule.t_of_sigma(3.0), schedule.t_of_sigma(1.2))
    model = Reparametrized(mixture(schedule), form if form != "sigma" else "noise", SIGMA_DATA)
    mu, a = (lambda u: float(sde.clock(number(u)))), (lambda u: float(sde.propagator(u)))
    h, z = mu(t) - mu(s), -float(sde.rho) * (mu(t) - mu(s))
    weight = float(sde.kappa) * a(t) * math.exp(float(sde.rho) * mu(t)) * h
    F = model(X, number(s))

    def moved(
        by: float,
    ) -> torch.Tensor:  # the solution, to second order in a very small `by`, and F there
        u = float(sde.clock.time(number(mu(s) + by)))
        plan = compile_plan(sde, "seeds-2", [s, u]) if by > 0 else None
        k = (
            float(sde.kappa)
            * math.exp(float(sde.rho) * (mu(s) + by))
            * a(u)
            * by
            * float(expint.phi(1, -float(sde.rho) * by))
        )
        state = execute(plan, model, X) if plan is not None else a(u) / a(s) * X + k * F
        return model(state, number(u))

    e = 1e-5
    slope = (moved(e) - moved(-e)) / (2 * e)
    expected = a(t) / a(s) * X + weight * (
        float(expint.phi(1, z)) * F + h * float(expint.phi(2, z)) * slope
    )
    found = execute(compile_plan(sde, taylor2(), [s, t]), model, X)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    first_order = a(t) / a(s) * X + weight * float(expint.phi(1, z)) * F
    assert float((found - first_order).abs().max()) > 1e-3


def test_genie_in_the_clock_sigma():
    """x_t/α_t = x_s/α_s + Δσ ε + ½ (Δσ)² dε/dσ, and dε/dσ = ∂_σ ε + J ε in z = x/α (arXiv
    2210.05475).
    """
    schedule, (s, t) = EDM(), (2.0, 1.1)
    model = Reparametrized(mixture(schedule), "noise")
    eps = model(X, number(s))
    e = 1e-5
    slope = (model(X + e * eps, number(s + e)) - model(X - e * eps, number(s - e))) / (2 * e)
    found = execute(compile_plan(ode(schedule, "sigma"), taylor2(), [s, t]), model, X)
    torch.testing.assert_close(
        found, X + (t - s) * eps + 0.5 * (t - s) ** 2 * slope, rtol=1e-8, atol=1e-8
    )


def central(
    model: Any, x: torch.Tensor, t: torch.Tensor, direction: torch.Tensor, e: float
) -> torch.Tensor:
    return (model(x + e * direction, t + e) - model(x - e * direction, t - e)) / (2 * e)


@pytest.mark.parametrize("name", ["digits-edm", "digits-vp", "digits-ve", "digits-iddpm"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_derivative_of_a_network_is_the_finite_difference(name: str, mode: Any):
    model = load(name)
    model.network.double()
    generator = torch.Generator().manual_seed(0)
    x, direction = torch.randn(2, 2, *model.shape, dtype=torch.float64, generator=generator)
    t = torch.tensor(30.3 if name == "digits-iddpm" else 0.4, dtype=torch.float64)
    if name == "digits-ve":
        x = x * float(model.schedule.std(t))
    with mode():
        found = along(model, x.clone(), t, direction)
        expected = central(model, x, t, direction, 1e-5)
    assert not found.requires_grad and float(expected.abs().max()) > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_derivative_goes_through_fused_attention():
    """Its fast kernels have no forward mode; the plain one is taken, and gradients go through it
    too.
    """
    x = torch.randn(
        2, 4, 256, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_(True)
    t, direction = torch.tensor(0.8, dtype=torch.float64), torch.ones_like(x)

    def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, t.to(x) * x, x)

    found = along(model, x, t, direction)
    torch.testing.assert_close(found, central(model, x, t, direction, 1e-5), rtol=1e-6, atol=1e-6)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert torch.isfinite(slope).all() and float(slope.abs().max()) > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_graph_is_kept_where_none_is_wanted(mode: Any):
    model = load("digits-vp")
    model.network.requires_grad_(True)
    with mode():
        x = torch.zeros(1, *model.shape)
        assert not along(
            model, x, torch.tensor(0.4, dtype=torch.float64), torch.ones_like(x)
        ).requires_grad
    assert along(
        model, x.clone(), torch.tensor(0.4, dtype=torch.float64), torch.ones_like(x)
    ).requires_grad


def test_derivative_can_be_differentiated():
    model = mixture(VP())
    x = X.clone().requires_grad_(True)
    t = torch.tensor(0.5, dtype=torch.float64)
    (slope,) = torch.autograd.grad(along(model, x, t, torch.ones_like(X)).sum(), x)
    e = 1e-5
    up = along(model, X + e * torch.eye(2, dtype=torch.float64)[0], t, torch.ones_like(X)).sum(1)
    down = along(model, X - e * torch.eye(2, dtype=torch.float64)[0], t, torch.ones_like(X)).sum(1)
    torch.testing.assert_close(slope[:, 0], (up - down) / (2 * e), rtol=1e-6, atol=1e-6)


@every_schedule
@pytest.mark.parametrize("form", ["data", "noise", "precond"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_conversion_rates_are_finite_differences(schedule: Schedule, form: str, prediction: str):
    model = Reparametrized(mixture(schedule), prediction, 0.5)
    times = [schedule.t_of_sigma(sigma) for sigma in (3.0, 1.0, 0.4)]
    plan = compile_plan(ode(schedule, form), taylor2(), times)
    rates = conversion_rates(plan, model)
    assert sorted(rates) == [0, 1]
    for i, rate in rates.items():
        e = 1e-5 * times[i]
        ends = [
            expint.equations.predictions.conversion(
                prediction,
                form,
                schedule,
                times[i] + sign * e,
                source_sigma_data=0.5,
                target_sigma_data=SIGMA_DATA,
            )
            for sign in (1, -1)
        ]
        assert rate == pytest.approx(
            [float(up - down) / (2 * e) for up, down in zip(*ends, strict=True)], rel=1e-6, abs=1e-8
        )


@pytest.mark.parametrize("name", ["digits-edm", "digits-vp", "digits-ve", "digits-iddpm"])
def test_shipped_networks_run(name: str):
    model, seen = load(name), []
    x = expint.sample(
        model,
        (2, *model.shape),
        taylor2(),
        steps=4,
        progress=False,
        callback=lambda step, nfe, *rest: seen.append((step, nfe)),
    )
    assert (
        x.dtype == torch.float32
        and torch.isfinite(x).all()
        and seen == [(1, 2), (2, 4), (3, 6), (4, 7)]
    )


@pytest.mark.parametrize("name", ["digits-vp", "digits-ve"])
def test_it_is_nearer_the_solution_than_ddim_in_as_many_steps(name: str):
    model = load(name)
    exact, taylor, ddim = (
        expint.sample(model, (2, *model.shape), solver, steps=steps, ell=0.0, progress=False)
        for solver, steps in (("seeds-3", 24), (taylor2(), 8), ("ddim", 8))
    )
    assert float((taylor - exact).abs().mean()) < 0.6 * float((ddim - exact).abs().mean())


def test_evaluations_are_counted_with_the_products():
    plan = plan_sampling(VP(), taylor2(), steps=5)
    assert (
        plan.nfe == 2 * 4 + 1
        and taylor2().tableau.evaluations == 2
        and plan.has_tangents
        and plan.normals == 0
    )
    model = Recorder(mixture(VP()))
    execute(plan, FunctionModel(VP(), "data", lambda x, t: counted(model, x, t)), X)
    assert len(model.times) == plan.nfe
    assert plan_sampling(VP(), taylor2(), nfe=10).nfe == 9
    with pytest.raises(ValueError, match="must be at least 3"):
        plan_sampling(VP(), taylor2(), nfe=2)


def counted(model: Recorder, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    model.times.append(0.0)
    return model.model(x, t)


def test_plan_shows_the_derivative():
    plan = compile_plan(ode(VP()), taylor2(), [0.9, 0.5, 0.1])
    assert [[j for j, _ in row.weights] for row in plan.rows] == [[0, ~0], [1, ~1]]
    assert "D'[1]*" in plan.table() and "4 evaluations" in plan.table()
    row = json.loads(json.dumps(plan.to_dict()))["rows"][0]
    A, b, _ = plan.sde.coefficients_at(0.9)
    assert row["tangent"] == pytest.approx([float(A), float(b)]) and row["weights"][1][0] == -1
    assert not compile_plan(ode(VP()), "seeds-3", [0.9, 0.5]).has_tangents


def test_ends_at_zero_and_starts_at_infinity():
    flow = Flow()
    for schedule, grid in ((flow, [1.0, 0.6, 0.3, 0.0]), (VP(), [0.9, 0.5, 0.0])):
        plan = compile_plan(ode(schedule), taylor2(), grid)
        found = execute(plan, mixture(schedule), X)
        assert torch.isfinite(found).all() and plan.nfe == len(grid) + (
            0 if schedule is flow else 1
        ) - 1 + (schedule is flow)
    plan = compile_plan(ode(flow), taylor2(), [1.0, 0.6, 0.3, 0.0])
    assert [row.tangent is not None for row in plan.rows] == [False, True, False]


def test_gaussian_moments_follow():
    """The variance of the output of two plans, to the order of the scheme."""
    schedule = VP()
    target = Gaussian([0.7], [0.3], schedule)
    errors = []
    for steps in (40, 80):
        grid = schedule.t_of_lam(torch.linspace(-1.5, 1.5, steps + 1, dtype=torch.float64))
        _, variance = gaussian_moments(compile_plan(ode(schedule), taylor2(), grid), target)
        errors.append(abs(float(variance - target.moments(grid[-1])[1])))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_equations_outside_diffusion_with_diagonal_coefficients():
    """x' = A x + sin(x + t), A diagonal: order 2, and exact for F linear in time."""
    A = torch.tensor([-1.0, -0.2], dtype=torch.float64)
    sde = SemiLinearSDE.from_coefficients(A, 1.0, span=(0.0, 1.0))
    assert sde.event_ndim == 1

    def run(F: Any, steps: int, solver: Any = None) -> torch.Tensor:
        return integrate(
            sde, F, X, torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64), solver or taylor2()
        ).x

    exact = run(lambda x, t: torch.sin(x + t), 400, "etd-rk4")
    errors = [
        float((run(lambda x, t: torch.sin(x + t), steps) - exact).abs().max()) for steps in (20, 40)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("ell", [0.3, 1.0])
def test_noise_is_refused_with_the_reason(ell: float):
    with pytest.raises(
        ValueError,
        match=r"derivative of F along the ODE, and paths with noise have none: use it with ell=0",
    ):
        compile_plan(reverse_sde(VP(), ell=ell), taylor2(), [0.9, 0.5])


def test_forms_and_tables_without_a_derivative_are_refused():
    with pytest.raises(ValueError, match="use form='data'"):
        compile_plan(reverse_sde(VP(), "time", 0.0), taylor2(), [0.9, 0.5])
    table = schedules.get("discrete")
    with pytest.raises(ValueError, match="timesteps='interpolate'"):
        compile_plan(reverse_sde(table, ell=0.0), taylor2(), [900.0, 500.0], round_time=table.round)
    grid = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="cannot be differentiated with respect to the grid"):
        compile_plan(ode(VP()), taylor2(), grid)


class _NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return 0.5 * grads[0]


@pytest.mark.parametrize(
    "function",
    [lambda x, t: _NoForwardMode.apply(x), lambda x, t: torch.from_numpy(0.5 * x.numpy())],
    ids=["custom", "numpy"],
)
def test_a_model_without_forward_mode_is_named(function: Any):
    model = FunctionModel(VP(), "data", function)
    assert torch.isfinite(execute(compile_plan(ode(VP()), "seeds-2", [0.9, 0.5]), model, X)).all()
    with pytest.raises(
        TypeError,
        match=r"FunctionModel cannot be differentiated in forward mode .*'seeds-2' at ell=0",
    ):
        execute(compile_plan(ode(VP()), taylor2(), [0.9, 0.5]), model, X)


def test_a_run_fed_by_hand_refuses_at_its_start():
    plan = compile_plan(ode(VP()), taylor2(), [0.9, 0.5])
    with pytest.raises(ValueError, match=r"fed evaluations alone: use expint\.execute"):
        Run(plan, forbidden(VP()), X)


def test_a_wrong_shape_is_refused():
    plan = compile_plan(ode(VP()), taylor2(), [0.9, 0.5])
    with pytest.raises(ValueError, match="returned shape"):
        execute(plan, FunctionModel(VP(), "data", lambda x, t: x[:, :1]), X)


def test_ordinary_plans_take_no_derivative(monkeypatch: pytest.MonkeyPatch):
    plan = compile_plan(ode(VP()), "seeds-3", [0.9, 0.5, 0.1])
    monkeypatch.setattr("expint.runs.run.rate_of_change", None)
    monkeypatch.setattr("torch.autograd.grad", None)
    assert conversion_rates(plan, wavy(VP())) == {}
    assert torch.isfinite(execute(plan, wavy(VP()), X)).all()


SLOPE = {0: (Term(1, 2, 1),)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stage(1, through=(0,), slope={-1: SLOPE[0]}), "same step"),
        (
            lambda: Tableau("late", (Stage(1, through=(0,), slope={1: SLOPE[0]}),)),
            "only 0..0 are made",
        ),
        (
            lambda: Tableau("time", (Stage(1, through=(0,), slope=SLOPE),), variable="time"),
            "derivatives are in the clock",
        ),
        (
            lambda: Tableau(
                "reuse", (Stage(1, through=(0,)), Stage(1, through=(0, 1), slope=SLOPE)), reuse=True
            ),
            "not of evaluations that are reused",
        ),
    ],
)
def test_slopes_that_do_not_fit_are_refused(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_declared_order_follows_from_the_weights():
    half = Tableau("half", (Stage(1, through=(0,), slope={0: (Term(1, 3, 1),)}),))  # type: ignore[arg-type]
    assert half.order() == Method(half, ell=0.0).deterministic_order == 1
    study = deterministic_order(
        half, Problem(mixture(VP()), "data", 0.0), steps=(64, 128, 256), starts=4
    )
    assert study.order == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("form", ["data", "noise", "precond"])
def test_a_run_to_sigma_zero_in_every_form(form: str):
    """The last step takes the denoised estimate of an evaluation whose derivative was taken too."""
    target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
    options = {"ell": 0.0, "dtype": torch.float64, "progress": False}
    x = expint.sample(
        Reparametrized(target, form, 0.5), (3, 2), "taylor-2", steps=200, form=form, **options
    )
    fine = expint.sample(target, (3, 2), "seeds-3", steps=400, **options)
    torch.testing.assert_close(x, fine, rtol=0.0, atol=1e-3)
