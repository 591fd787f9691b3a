"""What is done around the steps: churn, ancestral steps, noise scale factors and Langevin steps,
with any solver, and what is refused.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from toy_models import Recorder, constant, forbidden, mixture

from expint import Plan, compile_plan, reverse_sde, sample, solvers
from expint.convergence import Problem, fitted_order, gaussian_moments
from expint.grids import uniform_lambda
from expint.noise import BrownianPath, Rademacher, Replay
from expint.noise import Gaussian as GaussianNoise
from expint.runs import execute
from expint.sampling import plan_sampling
from expint.schedules import EDM, IDDPM, VP, Flow, Schedule
from expint.solvers import (
    Method,
    Operation,
    ancestral,
    churn,
    langevin,
    large_variance,
    noise_factor,
    operation,
)
from expint.targets import Gaussian

torch.set_num_threads(1)
X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)
SIGMAS = [9.0, 4.0, 1.5, 0.6, 0.2]
ROOT = math.sqrt(2.0) - 1.0


def plan_of(
    schedule: Schedule,
    solver: str | Method,
    operations: Sequence[Operation],
    *,
    clean: bool = False,
    ell: Any = None,
):
    method = solvers.get(solver)
    grid = [schedule.t_of_sigma(sigma) for sigma in SIGMAS] + (
        [schedule.t_of_lam(math.inf)] if clean else []
    )
    sde = reverse_sde(schedule, method.form, method.ell if ell is None else ell)
    return compile_plan(sde, method, grid, operations=operations)


def normals(plan: Plan) -> Replay:
    generator = torch.Generator().manual_seed(5)
    return Replay(
        torch.randn(max(plan.normals, 1), *X.shape, dtype=torch.float64, generator=generator)
    )


def added(plan: Plan) -> list[tuple[float, float, float]]:
    """(σ before, σ after, standard deviation in units of α) of the rows that only add noise."""
    schedule = plan.sde.diffusion.schedule
    assert schedule is not None
    rows = [row for row in plan.rows if row.noise and not row.weights]
    for row in rows:
        assert not row.evaluates and row.scale == pytest.approx(
            schedule.alpha(row.target) / schedule.alpha(row.time), rel=1e-12
        )
    return [
        (
            schedule.sigma(row.time),
            schedule.sigma(row.target),
            float(plan.noise_std(row)) / schedule.alpha(row.target),
        )
        for row in rows
    ]


# --- Churn


@pytest.mark.parametrize("schedule", [EDM(), VP()], ids=["edm", "vp"])
@pytest.mark.parametrize(("s_churn", "gamma"), [(0.8, 0.2), (40.0, ROOT)])
def test_churn_goes_up_to_sigma_hat(schedule: Schedule, s_churn: float, gamma: float):
    """σ̂ = (1 + γ) σ, γ = min(s_churn/steps, √2 − 1), with noise of variance s_noise² (σ̂² − σ²),
    between s_min and s_max only.
    """
    found = added(plan_of(schedule, "heun", [churn(s_churn, s_min=0.5, s_max=5.0, s_noise=1.1)]))
    assert [sigma for sigma, _, _ in found] == pytest.approx([4.0, 1.5, 0.6], rel=1e-9)
    for sigma, raised, std in found:
        assert raised == pytest.approx(sigma * (1 + gamma), rel=1e-9)
        assert std == pytest.approx(1.1 * math.sqrt(raised**2 - sigma**2), rel=1e-9)


def test_churn_ends_at_the_schedules_noisiest_level():
    """VP has no σ above that of t = 1, from which a run usually starts: there no noise is added."""
    schedule = VP()
    largest = schedule.sigma(1.0)
    start = schedule.t_of_sigma(0.9 * largest)
    for first, expected in ((start, [largest]), (1.0, [])):
        plan = compile_plan(
            reverse_sde(schedule, "data", 0.0), "ddim", [first, 0.5], operations=[churn(40.0)]
        )
        assert [raised for _, raised, _ in added(plan)] == pytest.approx(expected, rel=1e-9)


def test_the_step_starts_at_sigma_hat():
    """EDM's algorithm 2 with Euler, by hand."""
    schedule = EDM()
    plan, model = plan_of(schedule, "ddim", [churn(0.8)]), mixture(EDM())
    z = normals(plan)
    x = X
    for k, (sigma, following) in enumerate(pairwise(SIGMAS)):
        raised = 1.2 * sigma
        x = x + math.sqrt(raised**2 - sigma**2) * z.normals[k]
        x = x + (following - raised) * (x - model(x, raised)) / raised
    torch.testing.assert_close(execute(plan, model, X, z), x, rtol=1e-12, atol=1e-12)


LAWS = [("ddim", 0.0, 1), ("heun", 0.0, 2), ("seeds-2", 1.0, 2), ("dpm-solver-3", 0.0, 3)]


@pytest.mark.parametrize("around", [churn(2.0), ancestral(0.7)], ids=["churn", "ancestral"])
@pytest.mark.parametrize(("solver", "ell", "order"), LAWS)
def test_added_noise_keeps_the_law(around: Operation, solver: str, ell: float, order: int):
    """On Gaussian data from the exact law: the variance converges to the exact one with the
    solver's own order.
    """
    target = Gaussian([0.7], [0.3], VP())
    problem = Problem(target, solvers.get(solver).form, ell)
    exact = target.moments(problem.grid(1)[-1])
    steps = (80, 160, 320)
    method = replace(solvers.get(solver), operations=(around,))
    found = [gaussian_moments(problem.plan(method, n), target) for n in steps]
    variances = [float((variance - exact[1]).abs()) for _, variance in found]
    assert fitted_order(steps, variances) == pytest.approx(order, abs=0.15)
    assert (
        max(float((mean - exact[0]).abs()) for mean, _ in found) < 1e-12
    )  # D of αm is m: the mean is never off


def test_other_factors_leave_a_bias():
    for biased in (churn(6.0, s_noise=1.05), ancestral(s_noise=0.9), noise_factor(1.1), langevin()):
        assert (
            not biased.preserves_law
            and replace(solvers.get("seeds-1"), operations=(biased,)).weak_order == 0
        )
    assert noise_factor(1.0).preserves_law and large_variance().preserves_law


# --- Ancestral steps


@pytest.mark.parametrize("schedule", [EDM(), VP(), Flow()], ids=["edm", "vp", "flow"])
@pytest.mark.parametrize("clean", [False, True])
def test_ancestral_first_order_steps_are_ddpm(schedule: Schedule, clean: bool):
    plan, ddpm = (
        plan_of(schedule, solver, [], clean=clean) for solver in ("euler-ancestral", "ddpm")
    )
    assert plan.normals == ddpm.normals == len(SIGMAS) - 1 and plan.nfe == ddpm.nfe
    model = mixture(schedule)
    results = [execute(each, model, X, normals(each)) for each in (plan, ddpm)]
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", ["ddim", "dpm-solver-2", "seeds-ab2"])
def test_eta_zero_is_the_plain_solver(solver: str):
    with_it, plain = (plan_of(VP(), solver, around, ell=0.0) for around in ([ancestral(0.0)], []))
    assert with_it.rows == plain.rows and with_it.normals == 0


@pytest.mark.parametrize("eta", [0.5, 1.0, 3.0])
def test_ancestral_levels(eta: float):
    """σ_up = min(σ_t, η √(σ_t² (σ_s² − σ_t²)/σ_s²)), σ_down² = σ_t² − σ_up²; nothing is added on
    the way to σ = 0.
    """
    found = added(plan_of(EDM(), "heun", [ancestral(eta)], clean=True))
    assert len(found) == len(SIGMAS) - 1
    for (before, after), (down, target, std) in zip(pairwise(SIGMAS), found, strict=True):
        up = min(after, eta * math.sqrt(after**2 * (before**2 - after**2) / before**2))
        assert target == pytest.approx(after) and std == pytest.approx(up, rel=1e-9)
        assert down == pytest.approx(max(math.sqrt(after**2 - up**2), 1e-6 * after), rel=1e-6)


# --- Langevin steps and noise scale factors
# ------------------------------------------------------------------------------------------------


def test_langevin_row():
    """x + ε s + √(2ε) z, ε = 2 (r σ̄)², s = (αD − x)/σ̄², after every step but the one to σ = 0,
    with an evaluation each.
    """
    schedule, r = VP(), 0.2
    plan = plan_of(schedule, "ddim", [langevin(r, count=2)], clean=True)
    rows = [row for row in plan.rows if row.time == row.target]
    assert [row.time for row in rows] == [t for t in plan.grid[1:-1].tolist() for _ in range(2)]
    model = Recorder(mixture(schedule))
    execute(plan, model, X, normals(plan))
    assert len(model.times) == plan.nfe == (len(SIGMAS) - 1) * 3 + 1
    for row in rows:
        alpha, std = schedule.alpha(row.time), schedule.std(row.time)
        epsilon = 2 * (r * std) ** 2
        assert row.scale == pytest.approx(1 - epsilon / std**2, rel=1e-12)
        assert [w for _, w in row.weights] == pytest.approx([epsilon * alpha / std**2], rel=1e-12)
        assert float(plan.noise_std(row)) == pytest.approx(math.sqrt(2 * epsilon), rel=1e-12)


def test_stationary_law_of_langevin_steps():
    """On N(αm, V) the chain has mean αm and variance V/(1 − ε/(2V)), whatever it starts from."""
    schedule, r = EDM(), 0.3
    target = Gaussian([0.4], [0.8], schedule)
    plan = compile_plan(
        reverse_sde(schedule, "data", 0.0), "ddim", [1.4, 1.0], operations=[langevin(r, count=120)]
    )
    mean, variance = gaussian_moments(plan, target, initial=([3.0], [7.0]))
    epsilon, whole = 2 * r**2, 1.8
    assert float(mean) == pytest.approx(0.4, abs=1e-4)
    assert float(variance) == pytest.approx(whole / (1 - epsilon / (2 * whole)), rel=1e-6)


def test_factors_of_the_noise():
    """Of all noise of the solver, its stages' and the space-time integral's: s_noise; of one step:
    σ̄_s/σ̄_t.
    """
    schedule = VP()
    for solver in ("seeds-1", "seeds-3", "seeds-ab3", "seeds-sra", "euler-maruyama"):
        scaled, plain = (plan_of(schedule, solver, around) for around in ([noise_factor(1.2)], []))
        for a, b in zip(scaled.rows, plain.rows, strict=True):
            assert float(scaled.noise_std(a)) == pytest.approx(
                1.2 * float(plain.noise_std(b)), rel=1e-12
            )
            assert (a.scale, a.weights) == (b.scale, b.weights)
    large, plain = (plan_of(schedule, "seeds-1", around) for around in ([large_variance()], []))
    for a, b in zip(large.rows, plain.rows, strict=True):
        ratio = schedule.std(a.time) / schedule.std(a.target)
        assert float(large.noise_std(a)) == pytest.approx(
            ratio * float(plain.noise_std(b)), rel=1e-12
        )
        # That of the forward transition: α_s² (σ_s² − σ_t²).
        forward = schedule.alpha(a.time) * math.sqrt(
            schedule.sigma(a.time) ** 2 - schedule.sigma(a.target) ** 2
        )
        assert float(large.noise_std(a)) == pytest.approx(forward, rel=1e-9)


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("schedule", [EDM(), VP()], ids=["edm", "vp"])
def test_every_substep_starts_where_the_one_before_ended(schedule: Schedule, clean: bool):
    """ancestral steps and churn together: no noise is added twice, and no level is jumped."""
    plan = plan_of(
        schedule, "dpm-solver-2", [ancestral(0.5), churn(0.8), langevin(0.1)], clean=clean
    )
    substeps = [
        [row for row in plan.rows if row.substep == substep] for substep in range(len(plan.noises))
    ]
    assert substeps[0][0].time == plan.grid[0] and substeps[-1][-1].target == plan.grid[-1]
    for before, after in pairwise(substeps):
        assert after[0].time == before[-1].target
    ups = [(before, after) for before, after, _ in added(plan)]
    assert len(ups) == len(set(ups)) == 2 * (len(SIGMAS) - 1) + clean
    assert sum(plan.ends_step) == plan.steps


def test_from_infinity_nothing_is_added_before_the_first_step():
    plan = compile_plan(
        reverse_sde(Flow(), "data", 0.0),
        "ddim",
        [1.0, 0.6, 0.2, 0.0],
        operations=[churn(0.3), langevin()],
    )
    times = [(row.time, row.target) for row in plan.rows]
    assert times[:1] == [(1.0, 0.6)] and times[-1][1] == 0.0 and len(added(plan)) == 2
    assert math.isfinite(float(execute(plan, mixture(Flow()), X, normals(plan)).sum()))


# --- Budgets, names, refusals
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "seeds-ab3", "pc-sampler"])
@pytest.mark.parametrize("final", ["none", "denoise"])
@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
def test_budget_with_langevin_steps(solver: str, final: str, schedule: Schedule):
    """nfe takes the most steps that fit, Langevin steps included."""
    around = [langevin(count=2)]
    for nfe in (14, 25, 50):
        plan = plan_sampling(schedule, solver, nfe=nfe, final=final, operations=around)
        more = plan_sampling(schedule, solver, steps=plan.steps + 1, final=final, operations=around)
        assert plan.nfe <= nfe < more.nfe


def test_operations_by_name():
    assert operation("churn(s_churn=40, s_max=50)") == churn(40, s_max=50)
    assert operation(" ancestral ") == ancestral() and operation(
        "noise-factor(s_noise=1.01)"
    ) == noise_factor(1.01)
    assert (
        operation("langevin(snr=0.1,count=2)") == langevin(0.1, 2)
        and operation("large-variance") == large_variance()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chrun(s_churn=40)", r"Unknown operation 'chrun'; nearest: \['churn'"),
        ("churn(s_chrn=40)", r"Unknown argument of churn 's_chrn'; nearest: \['s_churn'"),
        (
            "churn(40)",
            r"write churn as churn\(s_churn=…, s_min=…, s_max=…, s_noise=…\), with numbers",
        ),
        ("churn(s_churn=many)", r"with numbers"),
        ("churn", r"churn needs a value for s_churn"),
        ("churn(s_churn=-1)", r"churn: s_churn must be a number >= 0, got -1"),
        ("churn(s_churn=1, s_min=3, s_max=2)", r"churn: s_max must be a number >= 3, got 2"),
        ("churn(s_churn=nan)", r"churn: s_churn must be a number >= 0, got nan"),
        ("ancestral(eta=inf)", r"ancestral: eta must be a number >= 0, got inf"),
        ("langevin(snr=0.8)", r"langevin: snr must lie in \(0, 0\.707\), got 0\.8"),
        ("langevin(count=1.5)", r"langevin: count must be a positive integer, got 1\.5"),
    ],
)
def test_names_that_are_refused(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        operation(text)


@pytest.mark.parametrize(
    ("solver", "around", "options", "message"),
    [
        (
            "unipc-2",
            churn(40.0),
            {},
            (
                r"'unipc-2' corrects a step .* churn\(.*\) changes the state in between.*without a "
                r"corrector"
            ),
        ),
        ("sa-solver", langevin(), {}, r"langevin\(.*\) changes the state in between"),
        (
            "seeds-2",
            large_variance(),
            {},
            r"large-variance .* for a solver of one stage with ell > 0, not for 'seeds-2'",
        ),
        (
            "seeds-1",
            large_variance(),
            {"ell": 0.0},
            r"for a solver of one stage with ell > 0, not for 'seeds-1'",
        ),
        (
            "seeds-1",
            churn(1.0),
            {"noise": BrownianPath([0, 1])},
            r"adds noise that is not part of the path .*BrownianPath cannot",
        ),
        (
            "edm-stochastic",
            noise_factor(1.0),
            {"noise": BrownianPath([0, 1])},
            r"The run adds noise that is not part of the path .*BrownianPath cannot",
        ),
        (
            "seeds-sra",
            noise_factor(1.0),
            {"noise": Rademacher([0, 1])},
            r"Rademacher noise has no space-time integral",
        ),
    ],
)
def test_what_is_refused_before_the_first_evaluation(
    solver: str, around: Operation, options: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        sample(
            forbidden(VP()), (2, 2), solver, steps=4, operations=[around], progress=False, **options
        )


def test_a_factor_alone_can_take_its_noise_from_a_path():
    for around in (noise_factor(1.1), large_variance()):
        found = sample(
            mixture(VP()),
            (2, 2),
            "seeds-1",
            steps=4,
            operations=[around],
            noise=BrownianPath([0, 1]),
            progress=False,
        )
        assert torch.isfinite(found).all()


def test_rounded_times_and_unknown_objects_are_refused():
    schedule = IDDPM(200)
    with pytest.raises(
        ValueError,
        match=r"churn\(.*\) moves the noise level off the table .* timesteps='interpolate'",
    ):
        compile_plan(
            reverse_sde(schedule),
            "seeds-1",
            [150.0, 20.0],
            round_time=schedule.round,
            operations=[churn(1.0)],
        )
    wrong: Any = "churn"
    with pytest.raises(TypeError, match=r"operations are those of expint\.solvers .*, got 'churn'"):
        compile_plan(reverse_sde(schedule), "seeds-1", [150.0, 20.0], operations=[wrong])


def test_silent_data_are_left_with_the_noise_of_the_last_level():
    """D = 0 and fresh noise: whatever is added and removed on the way, the state ends as N(0,
    σ̄²).
    """
    plan = plan_of(VP(), "ddim", [ancestral(0.6), churn(0.5)])
    model = constant(VP(), "data", 0.0)
    start = (
        VP().std(plan.grid[0].item())
        * torch.randn(4000, 1, generator=torch.Generator().manual_seed(0)).double()
    )
    found = execute(plan, model, start, GaussianNoise(range(4000)))
    # 5 sigma for the standard deviation of n = 4000 normals: 5/√(2n) = 5.6 %.
    assert float(found.std()) == pytest.approx(VP().std(plan.grid[-1].item()), rel=0.056)


@pytest.mark.parametrize("solver", ["euler-ancestral", "dpm2-ancestral", "edm-stochastic"])
def test_gradients_of_the_coefficients_are_finite(solver: str):
    """Also at the last time, from which no step starts."""
    schedule = EDM()
    grid = uniform_lambda(schedule, 4)
    inner = grid[1:-1].clone().requires_grad_(True)
    times = torch.cat([grid[:1], inner, grid[-1:]])
    plan = compile_plan(solvers.get(solver).equation(schedule), solver, times)
    target = Gaussian([1.0, -2.0], [0.25, 1.0], schedule)
    x = execute(plan, target, torch.ones(3, 2, dtype=torch.float64), GaussianNoise([3, 9, 4]))
    (gradient,) = torch.autograd.grad(x.square().sum(), inner)
    assert torch.isfinite(gradient).all() and gradient.abs().min() > 0
