"""Steps of order 3 for kinetic Langevin dynamics: strong order on common paths, and the law of a
step beside closed forms."""

import math
from typing import Any

import pytest
import scipy.linalg
import torch
from torch import Tensor

from expint import Plan, execute, noise
from expint.convergence import fitted_order
from expint.dynamics import splitting_plan
from expint.noise.paths.composed import ComposedNoise
from expint.nystrom import NYSTROM

LOW, HIGH = 0.5 - math.sqrt(3.0) / 6.0, 0.5 + math.sqrt(3.0) / 6.0
GAMMA, H, T = 1.3, 0.4, 0.7


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def well(u: Tensor, t: Any) -> Tensor:
    """−∇ of (x² − 1)²/4."""
    return u[:, :1] - u[:, :1] ** 3


def two_wells(u: Tensor, t: Any) -> Tensor:
    """−∇ of x²/2 − log cosh 2x."""
    return 2.0 * torch.tanh(2.0 * u[:, :1]) - u[:, :1]


def on_paths(name: str, steps: int) -> Tensor:
    """States at t = 1 from (.5, 0), on 256 paths with 256 fine steps."""
    grid = torch.linspace(0, 1.0, 257, dtype=torch.float64)
    u = torch.zeros(256, 2, 1, dtype=torch.float64)
    u[:, 0] = 0.5
    plan = splitting_plan(name, 1.0, 1.0 / steps, steps)
    assert plan.nfe == (1 if name == "ubu" else 2) * steps
    return execute(plan, two_wells, u, ComposedNoise(plan.sde, range(256), grid))


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


@pytest.mark.parametrize("name", NYSTROM)
def test_strong_order_three(name: str):
    """With two gradients a step, on the paths of UBU, whose error at 128 steps is 4.1e-6; the
    standard errors of the orders are .03 and .05."""
    exact, counts = on_paths(name, 128), (8, 16, 32)
    errors = [rms(on_paths(name, n) - exact) for n in counts]
    assert fitted_order(counts, errors) == pytest.approx(3.0, abs=0.15), errors
    assert rms(exact - on_paths("ubu", 128)) < 6e-6


def law(plan: Plan, F: Any) -> Tensor:
    """Covariance of the end from (0, 0), for a linear F."""
    zero = torch.zeros(plan.normals, 1, 2, 1, dtype=torch.float64)
    total = torch.zeros(2, 2, dtype=torch.float64)
    for k in range(plan.normals):
        for component in range(2):
            unit = zero.clone()
            unit[k, 0, component] = 1.0
            added = execute(plan, F, zero[0], noise.Replay(unit))[0, :, 0]
            total += torch.outer(added, added)
    return total


def test_quicsort_is_as_published():
    """One step from given states without noise, and the joint covariance of its stages and its end,
    beside the formulas with W, H and K, whose variances are h, h/12 and h/720."""
    plan = splitting_plan("quicsort", GAMMA, H, 1, temperature=T)
    h, rho = H, math.sqrt(2 * GAMMA * T)
    beta, a, b = (
        lambda c: math.exp(-GAMMA * c * h),
        lambda c: (1 - math.exp(-GAMMA * c * h)) / GAMMA,
        lambda c: (math.exp(-GAMMA * c * h) + GAMMA * c * h - 1) / (GAMMA**2 * h),
    )
    u = torch.tensor([[[0.3], [-1.0]], [[1.5], [0.2]]], dtype=torch.float64)
    x, v = u.unbind(1)
    first = well((x + a(LOW) * v)[:, None], 0)[:, 0]
    second = well((x + a(HIGH) * v + a(1 / 3) * h * first)[:, None], 0)[:, 0]
    x, v = x + a(1) * v, beta(1) * v
    x = x + 0.5 * h * (a(HIGH) * first + a(LOW) * second)
    v = v + 0.5 * h * (beta(HIGH) * first + beta(LOW) * second)
    silence = noise.Replay(torch.zeros(plan.normals, *u.shape, dtype=torch.float64))
    found = execute(plan, well, u, silence)
    torch.testing.assert_close(found, torch.stack([x, v], 1), rtol=1e-12, atol=1e-13)
    # Coefficients of (W, H, K): H + 6K times the first, W − 12K times the second, and H − 6K.
    shift, slope = double([[0.0, 1, 6], [1, 0, -12]])
    rows = [a(c) * shift + b(c) * slope for c in (LOW, HIGH, 1.0)]
    back = double([0.0, 1, -6])
    rows.append(beta(1) * shift + a(1) / h * slope - back)
    whole = rho * torch.stack(rows)
    expected = whole @ torch.diag(double([h, h / 12, h / 720])) @ whole.T
    places = torch.tensor([0, 2, 4, 5])  # positions of the stages, position and velocity of the end
    covariance = plan.noise_covariance(0)[places][:, places]
    torch.testing.assert_close(covariance, expected, rtol=1e-10, atol=1e-14)


def test_nystrom_is_exact_where_it_says():
    """A constant force: the end of three steps, and the covariance of one. A force −εx: that
    covariance has an error of order ε², so the response to the noise is exact to first order."""
    plan = splitting_plan("nystrom-3", GAMMA, H, 3, temperature=T)
    u = torch.tensor([[[0.3], [-1.0]]], dtype=torch.float64)
    silence = noise.Replay(torch.zeros(plan.normals, *u.shape, dtype=torch.float64))
    found = execute(plan, lambda u, t: torch.full_like(u[:, :1], 2.5), u, silence)
    affine = double([[0, 1, 0], [0, -GAMMA, 2.5], [0, 0, 0]])
    flow = torch.as_tensor(scipy.linalg.expm(affine.numpy() * 3 * H))
    exact = flow @ double([0.3, -1.0, 1.0])
    torch.testing.assert_close(found[0, :, 0], exact[:2], rtol=1e-13, atol=1e-13)
    plan, errors = splitting_plan("nystrom-3", GAMMA, H, 1, temperature=T), []
    for epsilon in (0.0, 1e-2, 1e-3):
        A = double([[0, 1], [-epsilon, -GAMMA]])
        van_loan = torch.zeros(4, 4, dtype=torch.float64)
        van_loan[:2, :2], van_loan[1, 3], van_loan[2:, 2:] = -A, 2 * GAMMA * T, A.T
        big = torch.as_tensor(scipy.linalg.expm(van_loan.numpy() * H))
        exact = big[2:, 2:].T @ big[:2, 2:]
        F = lambda u, t, e=epsilon: -e * u[:, :1]  # noqa: E731
        errors.append((law(plan, F) - exact).abs().max().item())
    assert errors[0] < 1e-14
    assert errors[1] < 1e-6 and errors[1] / errors[2] == pytest.approx(100, rel=0.05), errors


@pytest.mark.parametrize("name", ["ubu", "nystrom-3"])
@pytest.mark.parametrize("gamma", [1e6, 1e-8])
def test_friction_of_any_size(name: str, gamma: float):
    """Variances of three free steps beside their leading orders, of relative error 1e-6 and 2e-8,
    and a force −x, under which the position decays at the rate 1/γ or oscillates."""
    t, plan = 3 * H, splitting_plan(name, gamma, H, 3)
    stiff = gamma > 1.0
    variances = double([2 * t / gamma, 1.0] if stiff else [2 * gamma * t**3 / 3, 2 * gamma * t])
    free = law(plan, lambda u, t: 0.0 * u[:, :1]).diagonal()
    torch.testing.assert_close(free, variances, rtol=2e-6, atol=0.0)
    u = torch.tensor([[[1.0], [0.0]]], dtype=torch.float64)
    silence = noise.Replay(torch.zeros(plan.normals, *u.shape, dtype=torch.float64))
    x = execute(plan, lambda u, t: -u[:, :1], u, silence)[0, 0].item()
    assert x - 1.0 == pytest.approx(-t / gamma if stiff else math.cos(t) - 1.0, rel=0.02)


@pytest.mark.parametrize("name", NYSTROM)
def test_stationary_law_of_an_oscillator(name: str):
    """Var x of U = x²/2 at T = 1/2 by linear response to every normal of a long run, without Monte
    Carlo: its bias at h = 0.8 is below .0016, that of UBU .05; it falls at order 3 at least."""
    bias = []
    for h, steps in ((0.8, 50), (0.4, 100)):
        plan = splitting_plan(name, 1.0, h, steps, temperature=0.5)
        count = 2 * plan.normals  # each has two components
        units = torch.eye(count, dtype=torch.float64).reshape(count, plan.normals, 2, 1)
        start, replay = torch.zeros(count, 2, 1).double(), noise.Replay(units.transpose(0, 1))
        found = execute(plan, lambda u, t: -u[:, :1], start, replay)
        bias.append(abs(found[:, 0].square().sum().item() - 0.5))
    assert bias[0] < 1.6e-3 and bias[0] > 7 * bias[1], bias
