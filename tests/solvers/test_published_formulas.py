"""One step of every scheme against the formulas as they stand in the papers, with a network that is
not linear.
"""

import math
import pickle
from fractions import Fraction

import pytest
import torch
from toy_models import FunctionModel, wavy

from expint import compile_plan, reverse_sde, schedules, solvers
from expint.noise import Replay
from expint.runs import execute
from expint.sampling import plan_sampling
from expint.schedules import EDM, Schedule
from expint.schedules.discrete import TabulatedVP
from expint.solvers import Tableau

torch.set_num_threads(1)
every_schedule = pytest.mark.parametrize(
    "schedule", [schedules.get(name) for name in schedules.names()], ids=schedules.names()
)
X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)
Z = torch.tensor(
    [[[0.3, -0.8], [1.2, 0.5]], [[-1.0, 0.4], [0.2, -1.7]], [[0.6, 0.1], [-0.9, 1.1]]],
    dtype=torch.float64,
)


class Step:
    """α, σ̄ at both ends and at nodes in λ of a step from σ = 2 to σ = 0.5, where the papers' h =
    λ_t − λ_s.
    """

    def __init__(self, schedule: Schedule, solver: str | Tableau, form: str, ell: float):
        self.schedule = schedule
        self.s, self.t = (
            (schedule.t_of_sigma(sigma) for sigma in (2.0, 0.5))
            if not isinstance(schedule, TabulatedVP)
            else (700.0, 420.0)
        )
        self.h = schedule.lam(self.t) - schedule.lam(self.s)
        self.model: FunctionModel = wavy(schedule, form)
        plan = compile_plan(reverse_sde(schedule, form, ell), solver, [self.s, self.t])
        self.result = execute(plan, self.model, X, Replay(Z[: plan.normals]) if ell else None)

    def at(self, r: float) -> tuple[float, float, float]:
        """Time, α and σ̄ at the node r."""
        t = self.schedule.t_of_lam(self.schedule.lam(self.s) + r * self.h)
        return t, self.schedule.alpha(t), self.schedule.std(t)

    def agrees_with(self, expected: torch.Tensor) -> None:
        torch.testing.assert_close(self.result, expected, rtol=1e-10, atol=1e-10)


@every_schedule
def test_dpm_solver_1(schedule: Schedule):
    step = Step(schedule, "seeds-1", "noise", 0.0)
    (s, a_s, _), (_, a_t, d_t) = step.at(0), step.at(1)
    step.agrees_with(a_t / a_s * X - d_t * math.expm1(step.h) * step.model(X, s))


@every_schedule
@pytest.mark.parametrize("r1", [Fraction(1, 2), Fraction(3, 10), Fraction(1)])
def test_dpm_solver_2(schedule: Schedule, r1: Fraction):
    """u = (α_{s1}/α_s) x − σ_{s1}(e^{r1 h} − 1) ε_s; x_t = (α_t/α_s) x − σ_t(e^h − 1) ε_s − σ_t/(2
    r1) (e^h − 1)(ε_u − ε_s).
    """
    step = Step(schedule, solvers.get("seeds-2", c=r1), "noise", 0.0)
    (s, a_s, _), (s1, a_1, d_1), (_, a_t, d_t) = step.at(0), step.at(float(r1)), step.at(1)
    eps = step.model(X, s)
    u = a_1 / a_s * X - d_1 * math.expm1(float(r1) * step.h) * eps
    change = step.model(u, s1) - eps
    step.agrees_with(a_t / a_s * X - d_t * math.expm1(step.h) * (eps + change / (2 * float(r1))))


@every_schedule
def test_dpm_solver_3(schedule: Schedule):
    """DPM-Solver-3 of arXiv 2206.00927, algorithm 2, with r1 = 1/3 and r2 = 2/3."""
    step, r1, r2 = Step(schedule, "seeds-3", "noise", 0.0), 1 / 3, 2 / 3
    h = step.h
    (s, a_s, _), (s1, a_1, d_1), (s2, a_2, d_2), (_, a_t, d_t) = (
        step.at(r) for r in (0, r1, r2, 1)
    )
    eps = step.model(X, s)
    u1 = a_1 / a_s * X - d_1 * math.expm1(r1 * h) * eps
    first = step.model(u1, s1) - eps
    u2 = (
        a_2 / a_s * X
        - d_2 * math.expm1(r2 * h) * eps
        - d_2 * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * first
    )
    second = step.model(u2, s2) - eps
    step.agrees_with(
        a_t / a_s * X - d_t * math.expm1(h) * eps - d_t / r2 * (math.expm1(h) / h - 1) * second
    )


@every_schedule
def test_dpm_solver_plus_plus_2s(schedule: Schedule):
    """u = (σ_{s1}/σ_s) x − α_{s1}(e^{−h/2} − 1) D_s; x_t = (σ_t/σ_s) x − α_t(e^{−h} − 1) D_u (arXiv
    2211.01095).
    """
    step = Step(schedule, "seeds-2", "data", 0.0)
    (s, _, d_s), (s1, a_1, d_1), (_, a_t, d_t) = step.at(0), step.at(0.5), step.at(1)
    u = d_1 / d_s * X - a_1 * math.expm1(-step.h / 2) * step.model(X, s)
    step.agrees_with(d_t / d_s * X - a_t * math.expm1(-step.h) * step.model(u, s1))


@every_schedule
def test_seeds_1_noise_form(schedule: Schedule):
    """x_t = (α_t/α_s) x − 2σ̄_t(e^h − 1) ε + σ̄_t √(e^{2h} − 1) z."""
    step = Step(schedule, "seeds-1", "noise", 1.0)
    (s, a_s, _), (_, a_t, d_t) = step.at(0), step.at(1)
    expected = (
        a_t / a_s * X
        - 2 * d_t * math.expm1(step.h) * step.model(X, s)
        + d_t * math.sqrt(math.expm1(2 * step.h)) * Z[0]
    )
    step.agrees_with(expected)


@every_schedule
def test_seeds_2_noise_form(schedule: Schedule):
    """SEEDS-2 of arXiv 2305.14267, algorithm 3, with a plus before the noise."""
    step = Step(schedule, "seeds-2", "noise", 1.0)
    h = step.h
    (s, a_s, _), (s1, a_1, d_1), (_, a_t, d_t) = step.at(0), step.at(0.5), step.at(1)
    u = (
        a_1 / a_s * X
        - 2 * d_1 * math.expm1(h / 2) * step.model(X, s)
        + d_1 * math.sqrt(math.expm1(h)) * Z[0]
    )
    noise = math.sqrt(math.exp(2 * h) - math.exp(h)) * Z[0] + math.sqrt(math.expm1(h)) * Z[1]
    step.agrees_with(a_t / a_s * X - 2 * d_t * math.expm1(h) * step.model(u, s1) + d_t * noise)


@every_schedule
def test_seeds_3_noise_form(schedule: Schedule):
    """SEEDS-3 of arXiv 2305.14267, algorithm 4, r = (1/3, 2/3), each stage with the path up to its
    own node.
    """
    step, r1, r2 = Step(schedule, "seeds-3", "noise", 1.0), 1 / 3, 2 / 3
    h = step.h
    (s, a_s, _), (s1, a_1, d_1), (s2, a_2, d_2), (_, a_t, d_t) = (
        step.at(r) for r in (0, r1, r2, 1)
    )
    unit = math.sqrt(math.expm1(2 * h / 3))
    eps = step.model(X, s)
    u1 = a_1 / a_s * X - 2 * d_1 * math.expm1(r1 * h) * eps + d_1 * unit * Z[0]
    first = step.model(u1, s1) - eps
    u2 = (
        a_2 / a_s * X
        - 2 * d_2 * math.expm1(r2 * h) * eps
        - 2 * d_2 * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * first
    )
    u2 = u2 + d_2 * unit * (math.exp(h / 3) * Z[0] + Z[1])
    second = step.model(u2, s2) - eps
    drift = (
        a_t / a_s * X
        - 2 * d_t * math.expm1(h) * eps
        - 2 * d_t / r2 * (math.expm1(h) / h - 1) * second
    )
    step.agrees_with(
        drift + d_t * unit * (math.exp(2 * h / 3) * Z[0] + math.exp(h / 3) * Z[1] + Z[2])
    )


@every_schedule
def test_seeds_3_data_form(schedule: Schedule):
    """With φ_2 of the data form complete: its weight (1 − (1 − e^{−2h})/(2h))/r2 tends to 0 with h
    (published: to −1).
    """
    step, r1, r2 = Step(schedule, "seeds-3", "data", 1.0), 1 / 3, 2 / 3
    h = step.h
    (s, a_s, d_s), (s1, a_1, d_1), (s2, a_2, d_2), (_, a_t, d_t) = (
        step.at(r) for r in (0, r1, r2, 1)
    )
    psi = math.sqrt(-math.expm1(-2 * h / 3))
    D = step.model(X, s)

    def linear(r: float, a: float, d: float) -> torch.Tensor:
        return d**2 / a * a_s / d_s**2 * X - a * math.expm1(-2 * r * h) * D

    def slope(r: float) -> float:
        return 1 + math.expm1(-2 * r * h) / (2 * r * h)

    u1 = linear(r1, a_1, d_1) + d_1 * psi * Z[0]
    u2 = linear(r2, a_2, d_2) + a_2 * r2 / r1 * slope(r2) * (step.model(u1, s1) - D)
    u2 = u2 + d_2 * psi * (math.exp(-h / 3) * Z[0] + Z[1])
    final = linear(1.0, a_t, d_t) + a_t / r2 * slope(1.0) * (step.model(u2, s2) - D)
    step.agrees_with(
        final + d_t * psi * (math.exp(-2 * h / 3) * Z[0] + math.exp(-h / 3) * Z[1] + Z[2])
    )


@every_schedule
def test_ddpm_ancestral_sampling_with_the_posterior_variance(schedule: Schedule):
    """q(x_t | x_s, x_0) by Bayes' rule: precisions add, α_{s|t}²/σ²_{s|t} from the transition and
    1/σ̄_t² from the prior.
    """
    step = Step(schedule, "seeds-1", "data", 1.0)
    (s, a_s, d_s), (_, a_t, d_t) = step.at(0), step.at(1)
    ratio = a_s / a_t
    transition = d_s**2 - ratio**2 * d_t**2
    variance = 1 / (ratio**2 / transition + 1 / d_t**2)
    mean = variance * (ratio / transition * X + a_t / d_t**2 * step.model(X, s))
    step.agrees_with(mean + math.sqrt(variance) * Z[0])


@pytest.mark.parametrize(
    "name", [n for n in schedules.names() if isinstance(schedules.get(n), TabulatedVP)]
)
def test_ddpm_in_its_own_letters(name: str):
    """μ̃ = √ᾱ_{t−1} β/(1−ᾱ_t) x_0 + √(1−β)(1−ᾱ_{t−1})/(1−ᾱ_t) x, β̃ = (1−ᾱ_{t−1})/(1−ᾱ_t) β,
    between neighbours of the table.
    """
    schedule = schedules.get(name)
    model = wavy(schedule)
    plan = compile_plan(reverse_sde(schedule), "seeds-1", [300.0, 299.0])
    now, before = schedule.alpha(300.0) ** 2, schedule.alpha(299.0) ** 2
    beta = 1 - now / before
    mean = (
        math.sqrt(before) * beta / (1 - now) * model(X, 300.0)
        + math.sqrt(1 - beta) * (1 - before) / (1 - now) * X
    )
    expected = mean + math.sqrt((1 - before) / (1 - now) * beta) * Z[0]
    torch.testing.assert_close(
        execute(plan, model, X, Replay(Z[:1])), expected, rtol=1e-10, atol=1e-10
    )


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim(schedule: Schedule, eta: float):
    """x_t = α_t x_0 + √(σ̄_t² − v) ε + √v z, v = η² (σ̄_t²/σ̄_s²)(σ̄_s² − (α_s/α_t)² σ̄_t²)."""
    step = Step(schedule, "seeds-1", "data", eta)
    (s, a_s, d_s), (_, a_t, d_t) = step.at(0), step.at(1)
    D = step.model(X, s)
    v = eta**2 * d_t**2 / d_s**2 * (d_s**2 - (a_s / a_t) ** 2 * d_t**2)
    step.agrees_with(a_t * D + math.sqrt(d_t**2 - v) * (X - a_s * D) / d_s + math.sqrt(v) * Z[0])


@pytest.mark.parametrize("name", solvers.names())
def test_a_method_travels_to_another_process(name: str):
    method = solvers.get(name)
    sent = pickle.loads(pickle.dumps(method))
    schedule = EDM()
    plans = [plan_sampling(schedule, each, steps=4).to_dict()["rows"] for each in (method, sent)]
    assert plans[0] == plans[1]
