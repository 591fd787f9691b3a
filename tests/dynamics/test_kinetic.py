"""Kinetic Langevin dynamics: the splittings beside their flows, strong order 2 of UBU, stationary
laws, diagnostics and refusals."""

import math
import re
from typing import Any

import pytest
import scipy.linalg
import torch
from torch import Tensor

from expint import Plan, execute, noise
from expint.convergence import fitted_order
from expint.dynamics import (
    autocorrelation,
    effective_sample_size,
    kinetic_langevin,
    r_hat,
    splitting_plan,
    standard_error,
)
from expint.noise.paths.composed import ComposedNoise

NAMES = ("ubu", "baoab", "obabo")


def double_well(x: Tensor) -> Tensor:
    """∇ of (x² − 1)²/4."""
    return x**3 - x


def logistic(count: int = 128, d: int = 64) -> Any:
    """∇U of a posterior: d standard normal weights, `count` labels."""
    gen = torch.Generator().manual_seed(0)
    data = torch.randn(count, d, generator=gen, dtype=torch.float64) / math.sqrt(d)
    labels = (torch.rand(count, generator=gen) < 0.5).double()
    return lambda w: w + (torch.sigmoid(w @ data.T) - labels) @ data


def run(plan: Plan, grad: Any, u: Tensor, grid: Tensor) -> Tensor:
    source = ComposedNoise(plan.sde, range(len(u)), grid)
    return execute(plan, lambda u, t: -grad(u[:, 0])[:, None], u, source)


@pytest.mark.parametrize(
    ("grad", "d", "paths"), [(double_well, 1, 256), (logistic(), 64, 16)], ids=["well", "logistic"]
)
def test_strong_order_of_ubu(grad: Any, d: int, paths: int):
    """2 on common paths whose increments compose exactly, with one gradient a step; the standard
    errors of the orders are .03 and .01."""
    end, fine = 2.0, 256
    grid = torch.linspace(0, end, 2 * fine + 1, dtype=torch.float64)
    u = torch.zeros(paths, 2, d, dtype=torch.float64)
    u[:, 0] = 0.5
    exact = run(splitting_plan("ubu", 1.0, end / fine, fine), grad, u, grid)
    errors, counts = [], (8, 16, 32)
    for n in counts:
        plan = splitting_plan("ubu", 1.0, end / n, n)
        assert plan.nfe == n
        errors.append((run(plan, grad, u, grid) - exact).square().mean().sqrt().item())
    assert fitted_order(counts, errors) == pytest.approx(2.0, abs=0.1), errors


def flow(letter: str, h: float, gamma: float, x: Tensor, grad: Any) -> tuple[Tensor, Tensor]:
    """Map of the state (x, v) and covariance of a part of a step, by scipy."""
    drift = {"A": [[0, 1], [0, 0]], "O": [[0, 0], [0, -gamma]], "U": [[0, 1], [0, -gamma]]}[letter]
    spread = 0.0 if letter == "A" else 2 * gamma * 0.7
    whole = torch.zeros(4, 4, dtype=torch.float64)
    A = torch.tensor(drift, dtype=torch.float64)
    whole[:2, :2], whole[1, 3], whole[2:, 2:] = -A, spread, A.T  # Van Loan
    big = torch.as_tensor(scipy.linalg.expm(whole.numpy() * h))
    return big[2:, 2:].T, big[2:, 2:].T @ big[:2, 2:]


@pytest.mark.parametrize("name", NAMES)
def test_splittings_are_their_flows(name: str):
    """Three steps without noise, and the covariance of one step, on a quartic potential; one
    gradient a step, and one more where a step ends with a kick or begins with one."""
    parts = {"ubu": "U.5 B1 U.5", "baoab": "B.5 A.5 O1 A.5 B.5", "obabo": "O.5 B.5 A1 B.5 O.5"}
    gamma, h, steps = 1.3, 0.4, 3
    plan = splitting_plan(name, gamma, h, steps, temperature=0.7)
    assert plan.nfe == steps + (name != "ubu")
    u = torch.tensor([[[0.3], [-1.0]], [[1.5], [0.2]]], dtype=torch.float64)
    F = lambda u, t: -double_well(u[:, :1])  # noqa: E731
    silence = noise.Replay(torch.zeros(plan.normals, *u.shape, dtype=torch.float64))
    found, expected = execute(plan, F, u, silence), u
    covariance = torch.zeros(2, 2, dtype=torch.float64)
    for n in range(steps):
        for part in parts[name].split():
            if part[0] == "B":
                kick = -float(part[1:]) * h * double_well(expected[:, :1])
                expected = expected + torch.cat([torch.zeros_like(kick), kick], 1)
                continue
            phi, q = flow(part[0], float(part[1:]) * h, gamma, u, double_well)
            expected = torch.einsum("ij,bjk->bik", phi, expected)
            if n == 0:
                covariance = phi @ covariance @ phi.T + q
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    row = [row for row in plan.rows if row.step == 0][-1]
    columns = torch.cat([column.as_subclass(Tensor) for column in row.noise], 1)
    torch.testing.assert_close(columns @ columns.T, covariance, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("solver", [*NAMES, "seeds-1", "seeds-sra"])
def test_stationary_law_of_an_oscillator(solver: str):
    """Var x of U = x²/2 at T = 1/2 by linear response, without Monte Carlo: the bias is none for
    BAOAB, of order 1 for the exponential Euler scheme, 3 for seeds-sra and 2 for the others."""
    bias = []
    for h in (0.4, 0.2):
        chains = kinetic_langevin(
            lambda x: x, 1.0, torch.zeros(2, 1).double(), step=h, steps=1, solver=solver,
            temperature=0.5,
        )  # fmt: skip
        u = torch.eye(2, dtype=torch.float64)[:, :, None]
        F = lambda u, t: -u[:, :1]  # noqa: E731
        plan, zero = chains.plan, torch.zeros(chains.plan.normals, 2, 2, 1, dtype=torch.float64)
        phi = execute(plan, F, u, noise.Replay(zero))[:, :, 0].T
        q = torch.zeros(2, 2, dtype=torch.float64)
        for k in range(plan.normals):
            unit = zero.clone()
            unit[k] = u
            added = execute(plan, F, 0 * u, noise.Replay(unit))[:, :, 0]
            q = q + added.T @ added
        law = scipy.linalg.solve_discrete_lyapunov(phi.numpy(), q.numpy())
        bias.append(abs(law[0, 0] - 0.5))
    if solver == "baoab":
        assert max(bias) < 1e-12
    else:
        order = {"seeds-1": 1, "seeds-sra": 3}.get(solver, 2)
        assert math.log2(bias[0] / bias[1]) == pytest.approx(order, abs=0.3), bias


def test_chains_in_a_batch_have_seeds_of_their_own():
    x = torch.zeros(3, 2, 2, dtype=torch.float64)
    whole = kinetic_langevin(double_well, 1.0, x, step=0.2, steps=6, seeds=[4, 7, 9], keep=2)
    alone = kinetic_langevin(double_well, 1.0, x[:1], step=0.2, steps=6, seeds=[7], keep=2)
    assert whole.x.shape == whole.v.shape == (3, 3, 2, 2) and whole.gradients == 6
    torch.testing.assert_close(alone.x[:, 0], whole.x[:, 1], rtol=1e-12, atol=1e-14)


def test_diagnostics_of_an_autoregression():
    """x ← ρ x + …, whose autocorrelation is ρ^k and whose draws count (1 − ρ)/(1 + ρ) each; 64
    chains of 4000: the standard error of the sample size is 2 %."""
    rho, gen = 0.8, torch.Generator().manual_seed(0)
    z = torch.randn(4000, 64, generator=gen, dtype=torch.float64)
    x = [z[0]]
    for step in z[1:]:
        x.append(rho * x[-1] + math.sqrt(1 - rho**2) * step)
    values = torch.stack(x)
    found = autocorrelation(values)
    powers = rho ** torch.arange(8, dtype=torch.float64)
    torch.testing.assert_close(found[:8], powers, rtol=0, atol=0.02)
    each = effective_sample_size(values).item() / values.numel()
    assert each == pytest.approx((1 - rho) / (1 + rho), rel=0.1)
    assert effective_sample_size(z).item() == pytest.approx(z.numel(), rel=0.1)
    exact = math.sqrt((1 + rho) / (1 - rho) / values.numel())
    assert standard_error(values).item() == pytest.approx(exact, rel=0.05)
    # Half chains of n = 2000: the variance of their means is (1 + ρ)/(1 − ρ)/n; then means ±1.
    assert r_hat(values).item() == pytest.approx(math.sqrt(1 + 8 / 2000), abs=2e-3)
    apart = torch.ones(4000, 64, dtype=torch.float64)
    apart[:, ::2] = -1.0
    drift = torch.linspace(-1.0, 1.0, 4000).sign()[:, None]
    for moved in (apart, drift):
        assert r_hat(values + moved).item() == pytest.approx(math.sqrt(2), rel=0.02)


def test_effective_sample_size_of_chains_that_alternate():
    """Where neighbours have opposite signs draws count for more than one: 3 each at ρ = −.5, and
    at most log₁₀ n at ρ = −1, where the sum would be any number."""
    gen = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 64, generator=gen, dtype=torch.float64)
    x = [z[0]]
    for step in z[1:]:
        x.append(-0.5 * x[-1] + math.sqrt(0.75) * step)
    assert effective_sample_size(torch.stack(x)).item() == pytest.approx(3 * z.numel(), rel=0.1)
    signs = torch.tensor([1.0, -1.0]).repeat(50)[:, None].repeat(1, 10)
    assert effective_sample_size(signs).item() == pytest.approx(1000 * 3.0)


X = torch.zeros(2, 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gamma": 0.0}, r"gamma is a finite number > 0, got 0\.0"),
        ({"step": math.nan}, "step is a finite number > 0, got nan"),
        ({"steps": 0, "keep": 0}, "keep is an integer from 1"),
        ({"steps": 1.5}, "steps is an integer >= 1, got 1.5"),
        ({"temperature": -1.0}, "temperature is a finite number > 0"),
        ({"keep": 0}, "keep is an integer from 1 to the number of steps"),
        ({"v": torch.zeros(3, 1)}, r"v has the shape of x, \(2, 1\), got \(3, 1\)"),
        ({"seeds": [1]}, "one seed per sample, but 1 seeds"),
        ({"solver": "dpmpp-2m-sde-karras"}, "Unknown solver"),
        ({"solver": "UBU"}, r"Kinetic Langevin dynamics has its own: ubu, baoab, obabo, nystrom-3"),
        ({"steps": "2"}, "steps is an integer >= 1, got '2'"),
        ({"v": 0.0}, r"v has the shape of x, \(2, 1\), got 0\.0"),
        ({"x": X * math.nan}, "The initial state contains NaN"),
        ({"grad_U": lambda x: x.sum(-1)}, r"returns the shape of x, \(2, 1\), got \(2,\)"),
        ({"grad_U": lambda x: None}, "returns the shape of x.* got NoneType"),
    ],
)
def test_what_is_refused(changed: dict[str, Any], message: str):
    options: dict[str, Any] = {"grad_U": double_well, "gamma": 1.0, "x": X, "step": 0.1, "steps": 2}
    with pytest.raises(ValueError, match=message):
        kinetic_langevin(**(options | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.zeros(2, 1, dtype=torch.int64)}, "must be a floating-point tensor"),
        ({"x": [[0.0]]}, "must be a floating-point tensor"),
        ({"x": torch.zeros(2, 1, dtype=torch.complex64)}, "x holds real numbers"),
        ({"grad_U": 3.0}, r"grad_U is called as grad_U\(x\), got 3\.0"),
    ],
)
def test_what_is_of_another_kind(changed: dict[str, Any], message: str):
    options: dict[str, Any] = {"grad_U": double_well, "gamma": 1.0, "x": X} | changed
    with pytest.raises(TypeError, match=message):
        kinetic_langevin(**options, step=0.1, steps=2)


@pytest.mark.parametrize("solver", ["ubu", "baoab"])
def test_chains_that_are_thrown_out(solver: str):
    """A step too long for a quartic: the first step, its start and the chains."""
    x = torch.tensor([[0.0], [1e4]], dtype=torch.float64)
    with pytest.raises(FloatingPointError, match=r"in step \d+ of 20, .*too long for this U") as e:
        kinetic_langevin(double_well, 1.0, x, step=1.0, steps=20, solver=solver)
    step, start = re.findall(r"in step (\d+) .* starts at t = ([\d.]+),", str(e.value))[0]
    assert int(step) == float(start) + 1 and "sample 1 of 2" in str(e.value)


def test_chains_print_in_a_line():
    chains = kinetic_langevin(double_well, 1.0, X, step=0.1, steps=6, keep=2)
    shape = "(kept, chains, *event) = (3, 2, 1)"
    assert repr(chains) == f"Chains({shape}, gradients=6, solver='ubu')"


def test_refusals_of_diagnostics_and_paths():
    with pytest.raises(ValueError, match="at least 2 kept states"):
        autocorrelation(torch.ones(1, 3))
    with pytest.raises(ValueError, match="constant"):
        effective_sample_size(torch.ones(4, 3))
    with pytest.raises(ValueError, match="at least 4 kept states"):
        r_hat(torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"one of .*, got 'aboba'"):
        splitting_plan("aboba", 1.0, 0.1, 2)
    plan = splitting_plan("baoab", 1.0, 0.5, 2)
    with pytest.raises(ValueError, match="another equation"):
        run(plan, double_well, torch.zeros(1, 2, 1).double(), torch.linspace(0, 1, 5).double())
    plan = splitting_plan("ubu", 1.0, 0.5, 2)
    with pytest.raises(ValueError, match="fresh noise"):
        execute(plan, lambda u, t: u[:, :1], torch.zeros(1, 2, 1), noise.BrownianPath([0]))
