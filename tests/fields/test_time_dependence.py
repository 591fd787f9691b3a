"""Diagonal coefficients that depend on time: beside constant ones, and beside quadrature."""

import math
from typing import Any

import pytest
import torch
from scipy.integrate import quad, solve_ivp
from torch import Tensor

from expint import Plan, SemiLinearSDE, compile_plan, integrate, noise
from expint.convergence import SemiLinearProblem, strong_orders
from expint.fields import time_dependent

WAVES = torch.tensor([0.0, 1.0, 30.0, 1000.0], dtype=torch.float64)
SLOW = WAVES / 1000
SPAN = (0.0, 1.0)


def numbers(plan: Plan) -> list[Tensor]:
    """Every coefficient of every row, shape (coefficients, modes)."""
    return [
        torch.stack([
            torch.as_tensor(v, dtype=torch.float64).expand(len(WAVES))
            for v in (row.scale, *(w for _, w in row.weights), *row.noise)
        ])
        for row in plan.rows
    ]  # fmt: skip


@pytest.mark.parametrize("span", [SPAN, (1.0, 0.0)])
@pytest.mark.parametrize("solver", ["seeds-3", "seeds-sra3", "seeds-ab3", "pndm", "unipc-2"])
def test_constants_as_functions(solver: str, span: tuple[float, float]):
    """The closed forms of constant coefficients, with rates up to 1e6; backwards, where modes would
    grow, with slower ones."""
    rates = -(WAVES**2) if span == SPAN else -WAVES / 100
    closed = SemiLinearSDE.from_coefficients(rates, 1.3, 0.4, span=span)
    ours = time_dependent(lambda t: rates + 0 * t, 1.3, 0.4, span=span)
    grid = [span[0], *((0.1, 0.4) if span == SPAN else (0.9, 0.6)), span[1]]
    pairs = zip(*(numbers(compile_plan(sde, solver, grid)) for sde in (closed, ours)), strict=True)
    for expected, found in pairs:
        size = expected.abs().amax(1, keepdim=True)
        torch.testing.assert_close(found / size, expected / size, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "A",
    [
        lambda t: -SLOW.numpy() * (1 + math.sin(t)),
        lambda t: [-wave * (1 + math.sin(float(t))) for wave in SLOW.tolist()],
        lambda t: -SLOW * (1 + torch.sin(t)) if t > 2 else -SLOW * (1 + math.sin(t)),
    ],
)
def test_functions_of_one_time(A: Any):
    """The coefficients of formulas for many times, but for rounding."""
    many = time_dependent(lambda t: -SLOW * (1 + torch.sin(t)), 1.0, 0.3, span=SPAN)
    one_by_one = time_dependent(A, lambda t: 1.0, lambda t: [0.3], span=SPAN)
    plans = [compile_plan(sde, "seeds-1", [0.0, 1.0]) for sde in (many, one_by_one)]
    for one, other in zip(*map(numbers, plans), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-13, atol=0)


def test_a_solver_with_derivatives():
    closed = SemiLinearSDE.from_coefficients(-WAVES, 1.3, span=SPAN)
    ours = time_dependent(lambda t: -WAVES + 0 * t, 1.3, span=SPAN)
    x = torch.ones(1, 4, dtype=torch.float64)
    ends = [integrate(sde, lambda x, t: torch.cos(x + t), x, [0.0, 0.5, 1.0], "taylor-2").x
            for sde in (closed, ours)]  # fmt: skip
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-10, atol=0)


def rate(t: Any, k: float) -> Any:
    """∫ of it is −k² (t + 1/10 − cos(5t)/10)."""
    return -(k**2) * (1 + 0.5 * math.sin(5 * t))


def propagator(s: float, t: float, k: float) -> float:
    return math.exp(-(k**2) * (t - s - 0.1 * (math.cos(5 * t) - math.cos(5 * s))))


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-2", "seeds-sra"])
@pytest.mark.parametrize("steps", [1, 5])
def test_beside_quadrature(solver: str, steps: int):
    """Mean and variance where F is constant, and the propagator, to 1e-10."""
    A = lambda t: -(WAVES**2) * (1 + 0.5 * torch.sin(5 * t))  # noqa: E731
    b = lambda t: 1 + t**2  # noqa: E731
    g = lambda t: torch.exp(-t) / (1 + WAVES)  # noqa: E731
    sde = time_dependent(A, b, g, span=SPAN)
    plan = compile_plan(sde, solver, torch.linspace(0, 1, steps + 1, dtype=torch.float64))
    mean, variance = torch.ones_like(WAVES), torch.zeros_like(WAVES)
    for row, ends_step in zip(plan.rows, plan.ends_step, strict=True):
        if ends_step:
            kept = torch.as_tensor(row.scale)
            mean = kept * mean + sum(torch.as_tensor(w) for _, w in row.weights)
            variance = kept**2 * variance + torch.as_tensor(plan.noise_std(row)) ** 2
    for i, k in enumerate(WAVES.tolist()):
        layer = [1 - 0.5**j for j in range(1, 30)]
        options = {"epsabs": 0, "epsrel": 1e-12, "limit": 400, "points": layer}
        response = quad(lambda u, k=k: propagator(u, 1, k) * (1 + u**2), 0, 1, **options)[0]
        noisy = quad(lambda u, k=k: (propagator(u, 1, k) * math.exp(-u) / (1 + k)) ** 2, 0, 1,
                     **options)[0]  # fmt: skip
        assert mean[i].item() == pytest.approx(propagator(0, 1, k) + response, rel=1e-10)
        assert variance[i].item() == pytest.approx(noisy, rel=1e-10)


def test_orders():
    """SEEDS-3 on the ODE beside scipy, of order 3; strong orders 1 and at least 3/2: 48 paths, on
    which their standard errors are .04 and .1."""
    rates = -torch.tensor([0.0, 1.0, 9.0], dtype=torch.float64)
    A = lambda t: rates * (1 + 0.5 * torch.sin(5 * t))  # noqa: E731
    F = lambda x, t: torch.cos(x.flip(-1) + t)  # noqa: E731
    start = torch.ones(3, dtype=torch.float64)

    def field(t: float, x: Any) -> Any:
        state = torch.as_tensor(x)
        return (A(torch.tensor(t)) * state + F(state, t)).numpy()

    exact = solve_ivp(field, SPAN, start.numpy(), "Radau", rtol=1e-12, atol=1e-13).y[:, -1]
    quiet = time_dependent(A, span=SPAN)
    errors = [
        (integrate(quiet, F, start[None], torch.linspace(0, 1, n + 1).double(), "seeds-3").x[0]
         - torch.as_tensor(exact)).norm().item()
        for n in (16, 32)
    ]  # fmt: skip
    assert math.log2(errors[0] / errors[1]) > 2.7
    noisy = time_dependent(A, 1.0, lambda t: 0.5 + 0.2 * t, span=SPAN)
    problem = SemiLinearProblem(noisy, F, start)
    first, second = strong_orders(
        ["seeds-1", "seeds-sra"], problem, steps=(8, 16, 32), paths=48, refine=4
    ).studies
    assert first.order == pytest.approx(1.0, abs=0.15), first.table()
    assert second.order >= 1.4, second.table()


@pytest.mark.parametrize(
    ("A", "span", "message"),
    [
        (-1.0, (1.0, 1.0), "span must be two different finite times"),
        (lambda t: 1 / (t - 0.5), SPAN, "A must be finite on the span from 0 to 1"),
        (lambda t: -100 * (1 if t > 1 / 3 else 0), SPAN, "does not settle: it varies too fast"),
        (lambda t: -100 * (t > 1 / 3), SPAN, "does not settle: it varies too fast; split the span"),
    ],
)
def test_what_is_refused(A: Any, span: tuple[float, float], message: str):
    with pytest.raises(ValueError, match=message):
        compile_plan(time_dependent(A, g=1.0, span=span), "seeds-1", [0.0, 1.0])


def test_times_outside_the_span_and_paths():
    sde = time_dependent(lambda t: -(WAVES**2) * (1 + t), g=1.0, span=SPAN)
    with pytest.raises(ValueError, match=r"t = 2 is outside the span from 0 to 1"):
        compile_plan(sde, "seeds-1", [0.0, 2.0])
    with pytest.raises(ValueError, match="fresh noise"):
        integrate(sde, lambda x, t: 0 * x, torch.zeros(1, 4), [0.0, 1.0], "seeds-1",
                  noise.BrownianPath([0]))  # fmt: skip
