"""The noise of a plan: covariances by quadrature, explicit formulas for any nodes, one path at
every resolution.
"""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pairs import every_schedule_and_solver
from quadrature import ReverseSDE, interval
from solver_kinds import ONE_STEP
from toy_models import constant

from expint import Plan, SemiLinearSDE, compile_plan, reverse_sde, schedules, solvers
from expint.equations.forms import EXPONENTIAL
from expint.equations.sde import Clock, NoiseClock
from expint.noise import Replay, SubstepNoise
from expint.noise.paths.path import PathSource
from expint.runs import execute
from expint.schedules import EDM, VP

SIGMA_DATA = 0.7
X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)
INTERIOR = st.integers(1, 999).map(lambda n: Fraction(n, 1000))


def assert_covariance(plan: Plan, reference: ReverseSDE, step: int, s: float) -> None:
    targets = [row.target for row in plan.rows if row.step == step]
    exact = torch.stack(
        [torch.stack([reference.covariance(s, a, b) for b in targets]) for a in targets]
    )
    got = plan.noise_covariance(step)
    # Stages that take their noise from the space-time integral have the exact covariance with the
    # step's, not among themselves.
    seen = -1 if any(noise.integral for noise in plan.run) else slice(None)
    torch.testing.assert_close(got[seen], exact[seen], rtol=1e-10, atol=0)
    torch.testing.assert_close(got, got.T, rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", EXPONENTIAL)
@every_schedule_and_solver
def test_covariance_of_the_stages(form: str, solver: str, name: str):
    schedule = schedules.get(name)
    sde = reverse_sde(schedule, form, 0.8, sigma_data=SIGMA_DATA)
    s, t = interval(schedule)
    plan = compile_plan(sde, solver, [s, t])
    assert_covariance(plan, ReverseSDE(schedule, sde.diffusion.prediction, 0.8, SIGMA_DATA), 0, s)
    tableau = solvers.get(solver).tableau
    assert plan.normals == len(tableau.noise_nodes) + tableau.needs_integral == tableau.normals


@pytest.mark.parametrize("form", EXPONENTIAL)
@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    r1=INTERIOR,
    r2=INTERIOR,
    ell=st.floats(0.05, 2.0),
    sigma=st.floats(0.05, 8.0),
    h=st.floats(1e-3, 2.0),
    schedule=st.sampled_from([VP(), EDM()]),
)
def test_covariance_for_any_nodes(
    form: str, r1: Fraction, r2: Fraction, ell: float, sigma: float, h: float, schedule: VP
):
    assume(r1 < r2)
    sde = reverse_sde(schedule, form, ell, sigma_data=SIGMA_DATA)
    s, t = schedule.t_of_sigma(sigma), schedule.t_of_sigma(sigma * math.exp(-h))
    plan = compile_plan(sde, solvers.get("seeds-3", r1=r1, r2=r2, published_row=True), [s, t])
    assert_covariance(plan, ReverseSDE(schedule, sde.diffusion.prediction, ell, SIGMA_DATA), 0, s)


def loadings(plan: Plan) -> list[list[float]]:
    """Coefficient of each standard normal of the first step in each of its rows."""
    return [[float(value) for value in row.noise] for row in plan.rows]


@pytest.mark.parametrize("c", [Fraction(1, 10), Fraction(1, 3), Fraction(1, 2), Fraction(9, 10)])
@pytest.mark.parametrize("h", [0.01, 0.7, 3.0])
@pytest.mark.parametrize("schedule", [VP(), EDM()], ids=["vp", "edm"])
def test_explicit_formulas(c: Fraction, h: float, schedule: VP):
    """ℓ = 1, nodes 0 < c < 1. Noise form: σ̄_t [e^{(1−c)h} √expm1(2ch) z1 + √expm1(2(1−c)h) z2];
    data form: σ̄_t [e^{−(1−c)h} ψ(c) z1 + ψ(1−c) z2], ψ(u) = √(1 − e^{−2uh})."""
    lam_s = -1.0
    s, m, t = (schedule.t_of_lam(lam_s + r * h) for r in (0.0, float(c), 1.0))
    d, r = float(schedule.std(t)), float(c)
    tableau = solvers.get("seeds-2", c=c)

    stage, full = loadings(compile_plan(reverse_sde(schedule, "noise", 1.0), tableau, [s, t]))
    assert stage == pytest.approx([schedule.std(m) * math.sqrt(math.expm1(2 * r * h))], rel=1e-9)
    first, second = (
        math.exp((1 - r) * h) * math.sqrt(math.expm1(2 * r * h)),
        math.sqrt(math.expm1(2 * (1 - r) * h)),
    )
    assert full == pytest.approx([d * first, d * second], rel=1e-9)

    def psi(u: float) -> float:
        return math.sqrt(-math.expm1(-2 * u * h))

    stage, full = loadings(compile_plan(reverse_sde(schedule, "data", 1.0), tableau, [s, t]))
    assert stage == pytest.approx([schedule.std(m) * psi(r)], rel=1e-9)
    assert full == pytest.approx([d * math.exp(-(1 - r) * h) * psi(r), d * psi(1 - r)], rel=1e-9)


@pytest.mark.parametrize("form", EXPONENTIAL)
@pytest.mark.parametrize("solver", ONE_STEP)
def test_the_normals_are_those_of_the_path(form: str, solver: str):
    """The rows' coefficients, formed in logarithms, are the law of W at the substep's noise
    times.
    """
    schedule = VP()
    sde = reverse_sde(schedule, form, 0.7, sigma_data=SIGMA_DATA)
    plan = compile_plan(sde, solver, [0.9, 0.6, 0.2, 0.01])
    tableau = solvers.get(solver).tableau
    for k, noise in enumerate(plan.run):
        taus = noise.times
        assert taus is not None and (taus.diff() > 0).all()
        whole = float(taus[-1] - taus[0])
        for stage, row in zip(tableau.stages, plan.rows[k * len(tableau.stages) :], strict=False):
            a, at = float(sde.propagator(row.target)), float(sde.noise_clock(row.target) - taus[0])
            p, c = stage.increment_weight, float(stage.c)
            variance = a**2 * at
            if p is not None:  # of r ΔW + u U, with θ in the place of c
                theta = at / whole
                rest = (c - float(p)) * math.sqrt(theta * (1 - theta) / (c * (1 - c)))
                r, u = a * (theta - rest), 2 * a * rest / whole
                variance = r**2 * whole + r * u * whole**2 + u**2 * whole**3 / 3
            assert math.sqrt(variance) == pytest.approx(float(plan.noise_std(row)), rel=1e-8)
    for before, after in pairwise(noise.times for noise in plan.run):
        assert before is not None and after is not None and before[-1] == after[0]


class SmoothPath(PathSource):
    """A source that knows one path W for all times of the noise clock: any function of τ serves,
    for no law is asked of it.
    """

    def __init__(self, like: torch.Tensor):
        self.directions = (
            torch.arange(1, like.numel() + 1, dtype=torch.float64).reshape(like.shape)
            / like.numel()
        )

    def at(self, tau: torch.Tensor) -> torch.Tensor:
        return torch.sin(3.0 * self.directions + torch.log(tau.abs()))

    def open(self, like: torch.Tensor, run=()) -> "SmoothPath":
        return self

    def check(self, like: torch.Tensor, substep: SubstepNoise) -> None:
        pass

    def increments(
        self, taus: torch.Tensor, space_time: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        increments = torch.stack([self.at(b) - self.at(a) for a, b in pairwise(taus)])
        return (
            (increments, 1e3 * torch.ones_like(self.directions)) if space_time else increments
        )  # no step may end on U


@pytest.mark.parametrize("form", EXPONENTIAL)
@pytest.mark.parametrize("solver", ONE_STEP)
@pytest.mark.parametrize("steps", [1, 10, 640])
def test_pure_noise_is_the_same_path_at_every_resolution(form: str, solver: str, steps: int):
    """F = 0: x_t = (a_t/a_s) x_s + a_t [W(τ_t) − W(τ_s)] for any solver and any number of steps."""
    schedule, path = VP(), SmoothPath(X)
    sde = reverse_sde(schedule, form, 0.7, sigma_data=SIGMA_DATA)
    s, t = schedule.t_of_sigma(20.0), schedule.t_of_sigma(0.1)
    grid = schedule.t_of_lam(
        torch.linspace(schedule.lam(s), schedule.lam(t), steps + 1, dtype=torch.float64)
    )
    grid[0], grid[-1] = s, t
    result = execute(
        compile_plan(sde, solver, grid),
        constant(schedule, sde.diffusion.prediction, 0.0, SIGMA_DATA),
        X,
        path,
    )
    noise = sde.propagator(t) * (path.at(sde.noise_clock(t)) - path.at(sde.noise_clock(s)))
    torch.testing.assert_close(
        result, sde.propagator(t) / sde.propagator(s) * X + noise, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("form", EXPONENTIAL)
def test_no_noise_at_ell_zero(form: str):
    plan = compile_plan(reverse_sde(VP(), form, 0.0, sigma_data=SIGMA_DATA), "seeds-3", [0.9, 0.1])
    assert plan.normals == 0 and plan.noises == (None,) and not plan.noise_covariance(0).any()
    assert all(row.noise == () and plan.noise_std(row) == 0.0 for row in plan.rows)


def test_diagonal_coefficients():
    """Fourier modes with decay c_k and noise g: exact mean for constant F, variance g² (1 −
    e^{−2c_k h})/(2c_k).
    """
    decay, g = torch.tensor([0.0, 1.0, 4.0, 9.0], dtype=torch.float64) + 0.1, 0.6
    sde = SemiLinearSDE(
        log_propagator=lambda t: -decay * t,
        clock=Clock(lambda t: t, lambda mu: mu, rho=decay),
        noise=NoiseClock(lambda t: 2 * decay * t + torch.log(g**2 / (2 * decay))),
        name="modes",
    )
    x = torch.tensor([[1.0, -2.0, 0.5, 3.0]] * 2, dtype=torch.float64)
    F = torch.tensor([0.3, 0.1, -0.7, 2.0], dtype=torch.float64)
    mean = torch.exp(-decay) * x + F * (1 - torch.exp(-decay)) / decay
    for solver in ONE_STEP:
        for grid in ([0.0, 1.0], [0.0, 0.1, 0.35, 1.0]):
            plan = compile_plan(sde, solver, grid)
            quiet = Replay(torch.zeros(plan.normals, *x.shape, dtype=torch.float64))
            torch.testing.assert_close(
                execute(plan, lambda x, t: F.expand_as(x), x, quiet), mean, rtol=1e-12, atol=1e-12
            )
            variance = torch.zeros_like(x)
            for k in range(plan.normals):
                unit = torch.zeros(plan.normals, *x.shape, dtype=torch.float64)
                unit[k] = 1.0
                variance += (
                    execute(
                        plan, lambda x, t: torch.zeros_like(x), torch.zeros_like(x), Replay(unit)
                    )
                    ** 2
                )
            exact = g**2 * (1 - torch.exp(-2 * decay)) / (2 * decay)
            torch.testing.assert_close(variance, exact.expand_as(x), rtol=1e-11, atol=0)


@pytest.mark.parametrize("solver", ["seeds-3", "seeds-sra", "seeds-ab2"])
@pytest.mark.parametrize("noisy", [True, False])
def test_covariance_of_diagonal_coefficients_is_that_of_each_component(solver: str, noisy: bool):
    rates, g = torch.tensor([[-0.3, -2.0, 0.0], [1.0, -40.0, -5.0]]).double(), 0.6 * noisy
    grid = [0.0, 0.3, 1.0]
    sde = SemiLinearSDE.from_coefficients(rates, g=g, span=(0.0, 1.0))
    found = compile_plan(sde, solver, grid).noise_covariance(1)
    for i in range(2):
        for j in range(3):
            one = SemiLinearSDE.from_coefficients(rates[i, j].item(), g=g, span=(0.0, 1.0))
            exact = compile_plan(one, solver, grid).noise_covariance(1)
            own = found[i, j] if noisy else found  # without noise there are no tensors
            torch.testing.assert_close(own, exact, rtol=1e-12, atol=1e-15)
