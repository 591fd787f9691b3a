"""Restarts, and the step scale with steady churn, against the published algorithms."""

from itertools import pairwise
from typing import Any

import pytest
import torch

import expint
from expint import plan_sampling, solvers
from expint.convergence import gaussian_moments
from expint.noise import Gaussian as Fresh
from expint.noise import Replay
from expint.plans import extrapolated, restarted, step_scaled
from expint.schedules import EDM, VP, Flow
from expint.solvers.steady_churn import steady_churn
from expint.targets import Gaussian

DATA = Gaussian([1.0, -2.0], [0.25, 1.0], EDM())
GRID = [80.0, 20.0, 5.0, 1.0, 0.3, 0.05, 0.0]


def karras(high: float, low: float, steps: int) -> list[float]:
    return [
        (high ** (1 / 7) + k / steps * (low ** (1 / 7) - high ** (1 / 7))) ** 7
        for k in range(steps + 1)
    ]


def heun(x: torch.Tensor, levels: list[float]) -> torch.Tensor:
    for s, t in pairwise(levels):
        d = (x - DATA(x, s)) / s
        step = x + (t - s) * d
        if t > 0:
            step = x + (t - s) * 0.5 * (d + (step - DATA(step, t)) / t)
        x = step
    return x


def test_the_published_algorithm():
    """Heun's steps on EDM: down to .3, twice up to 2 and down in 3 steps, and on."""
    plan = restarted(plan_sampling(EDM(), "heun", grid=GRID), 0.3, 2.0, times=2, steps=3)
    assert plan.grid.tolist()[:6] == pytest.approx([80.0, 20.0, 5.0, 1.0, 0.3, 2.0])
    assert plan.nfe == 11 + 2 * 6 and plan.normals == 2 and plan.steps == 6 + 2 * 4
    x = 80.0 * torch.linspace(-1.0, 1.0, 8, dtype=torch.float64).reshape(4, 2)
    z = torch.linspace(-2.0, 2.0, 16, dtype=torch.float64).reshape(2, 4, 2).sin()
    got = expint.execute(plan, DATA, x, Replay(z))
    x = heun(x, GRID[:5])
    for noise in z:
        x = heun(x + (2.0**2 - 0.3**2) ** 0.5 * noise, karras(2.0, 0.3, 3))
    assert torch.allclose(got, heun(x, GRID[4:]), rtol=1e-10)


@pytest.mark.parametrize("schedule", [EDM(), VP(), Flow()], ids=str)
@pytest.mark.parametrize("solver", ["seeds-3", "unipc-2", "taylor-2"])
def test_the_law_is_kept(schedule: Any, solver: str):
    """Exactly, on Gaussian data, but for the solver's own error, which falls with the steps."""
    target = Gaussian([1.0], [0.25], schedule)
    errors = []
    for n in (20, 40):
        plan = restarted(plan_sampling(schedule, solver, steps=n), 0.2, 1.0, times=2)
        mean, variance = gaussian_moments(plan, target)
        errors.append(max(abs(mean - 1.0).item(), abs(variance / 0.25 - 1.0).item()))
    assert errors[1] < 0.03 and errors[1] < 0.55 * errors[0]


def test_an_error_made_above_is_forgotten():
    """Euler steps to σ = .3 leave an error in the mean, of which each restart to 2 keeps the share
    c of the way down (a ratio of 1/6.5 on data of standard deviation .5)."""
    target = Gaussian([0.0], [0.25], EDM())
    plan = plan_sampling(EDM(), "seeds-3", grid=[80.0, 2.0, 0.3, 0.0], ell=0.0)
    off = [torch.full((1, 1), 80.0, dtype=torch.float64)]
    zero = torch.zeros(3, 1, 1, dtype=torch.float64)
    ends = [
        expint.execute(p, target, off[0], Replay(zero[:k])).item()
        for k, p in ((0, plan), (1, restarted(plan, 0.3, 2.0, steps=40)))
    ]
    share = ((0.25 + 0.09) / (0.25 + 4.0)) ** 0.5
    assert ends[1] / ends[0] == pytest.approx(share, rel=0.01)


def test_a_run_goes_through_sample():
    plan = restarted(plan_sampling(EDM(), "seeds-2", steps=10), 0.2, 1.0)
    seen: list[int] = []
    x = expint.sample(
        DATA, (500, 2), plan=plan, seed=1, progress=False, dtype=torch.float64,
        callback=lambda step, *_: seen.append(step),
    )  # fmt: skip
    assert len(seen) == plan.steps
    assert x.std(0).tolist() == pytest.approx([0.5, 1.0], rel=0.2)


@pytest.mark.parametrize(
    ("low", "high", "options", "message"),
    [
        (1.0, 0.5, {}, "up to sigma_high > sigma_low"),
        (0.0, 1.0, {}, "sigma_low > 0"),
        (0.2, 200.0, {}, "within the grid"),
        ("a", 1.0, {}, "got 'a'"),
        (79.0, 80.0, {}, "not to its first"),
        (0.2, 1.0, {"times": 0}, "times is a positive integer, got 0"),
        (0.2, 1.0, {"steps": 1.5}, "steps is a positive integer"),
    ],
)
def test_refusals(low: Any, high: Any, options: dict[str, Any], message: str):
    plan = plan_sampling(EDM(), "seeds-1", steps=8)
    with pytest.raises(ValueError, match=message):
        restarted(plan, low, high, **options)
    with pytest.raises(ValueError, match="plans with factors"):
        restarted(extrapolated(plan_sampling(EDM(), "seeds-ab2", steps=8), [0.5] * 8), 0.2, 1.0)


# --- The step scale ------------------------------------------------------------------------------


def test_the_sampler_of_structures():
    """Algorithm 18 of AlphaFold 3 with γ = .8 above σ = 1, noise 1.003 and the step scale 1.5."""
    plan = plan_sampling(
        EDM(), "seeds-1", grid=GRID, form="sigma", ell=0.0, operations=[steady_churn()]
    )
    plan = step_scaled(plan, 1.5)
    x = torch.linspace(-80.0, 80.0, 8, dtype=torch.float64).reshape(4, 2)
    z = torch.linspace(-2.0, 2.0, 16, dtype=torch.float64).reshape(2, 4, 2).cos()
    got = expint.execute(plan, DATA, x, Replay(z))
    noises = iter(z)
    for before, level in pairwise(GRID):
        gamma = 0.8 if level > 1.0 else 0.0
        hat = before * (gamma + 1.0)
        if gamma:
            x = x + 1.003 * (hat**2 - before**2) ** 0.5 * next(noises)
        delta = (x - DATA(x, hat)) / hat
        x = x + 1.5 * (level - hat) * delta
    assert torch.allclose(got, x, rtol=1e-10)


def test_the_step_scale_of_one_changes_nothing_and_others_narrow_the_law():
    plan = plan_sampling(VP(), "seeds-2", steps=10, ell=0.0)
    same = step_scaled(plan, 1)
    for a, b in zip(plan.rows, same.rows, strict=True):
        assert a.scale == pytest.approx(b.scale, abs=1e-14) and a.weights == b.weights
    churned = plan_sampling(EDM(), "seeds-1", steps=100, ell=0.0, operations=[steady_churn(0.2)])
    _, usual = gaussian_moments(churned, DATA)
    _, narrow = gaussian_moments(step_scaled(churned, 1.2), DATA)
    assert (narrow < 0.9 * usual).all()
    for wrong in (0.0, -1.0, float("nan"), "x"):
        with pytest.raises(ValueError, match="step scale is a positive number"):
            step_scaled(plan, wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="take ell=0, and add noise by operations"):
        step_scaled(plan_sampling(EDM(), "seeds-1", steps=4), 1.5)


def test_steady_churn_by_name():
    assert solvers.operation("steady-churn(gamma=0.5)") == steady_churn(0.5)
    with pytest.raises(ValueError, match="steady-churn: gamma must be a number >= 0"):
        steady_churn(-0.5)
    plan = plan_sampling(EDM(), "seeds-1", steps=5, ell=0.0, operations=[steady_churn()])
    assert expint.execute(plan, DATA, 80.0 * torch.ones(2, 2), Fresh([1, 2])).isfinite().all()
