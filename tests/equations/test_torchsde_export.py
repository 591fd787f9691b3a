"""The SDE as torchsde sees it: coefficients by hand, time and noise clocks, and solutions that
agree on one Brownian path.
"""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
import torchsde
from torch import Tensor
from toy_models import wavy

from expint import (
    SemiLinearSDE,
    compile_plan,
    execute,
    integrate,
    noise,
    reverse_sde,
    targets,
    to_torchsde,
)
from expint.equations.sde import Clock
from expint.equations.torchsde_export import TorchSDE
from expint.schedules import VP, Schedule

pytestmark = pytest.mark.filterwarnings("ignore:Should have:UserWarning:torchsde")
SPAN = (0.9, 0.02)
BATCH, EVENT = 8, (2,)


def start(seed: int = 0) -> Tensor:
    return torch.randn(
        BATCH, *EVENT, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def vp_by_hand(t: float, ell: float) -> tuple[float, float, float]:
    """A, b (of D) and g of VP's reverse SDE, time running down."""
    beta = 0.1 + 19.9 * t
    alpha = math.exp(-0.25 * 19.9 * t**2 - 0.05 * t)
    variance = 1 - alpha**2
    return (
        -0.5 * beta + 0.5 * (1 + ell**2) * beta / variance,
        -0.5 * (1 + ell**2) * beta * alpha / variance,
        ell * math.sqrt(beta),
    )


@pytest.mark.parametrize("ell", [0.5, 1.0])
def test_drift_and_diffusion_of_the_reverse_sde(ell: float):
    schedule = VP()
    model = wavy(schedule)
    y = start()
    for clock in ("time", "noise"):
        exported = to_torchsde(
            reverse_sde(schedule, "data", ell), model, event_shape=EVENT, span=SPAN, clock=clock
        )
        assert (exported.noise_type, exported.sde_type) == ("diagonal", "ito")
        for t in (0.9, 0.3, 0.02):
            A, b, g = vp_by_hand(t, ell)
            drift = A * y + b * model(y, torch.tensor(t, dtype=torch.float64))
            s = exported.s_of(t)
            assert float(exported.t_of(s)) == pytest.approx(t, rel=1e-12)
            # s = 0.9 − t; or ds = (g/a)² |dt| with a = α σ^(1+ℓ²)
            a = float(schedule.alpha(t)) * float(schedule.sigma(t)) ** (1 + ell**2)
            speed, strength = (-1.0, g) if clock == "time" else (-((a / g) ** 2), a)
            torch.testing.assert_close(exported.f(s, y), drift * speed, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(
                exported.g(s, y), torch.full_like(y, strength), rtol=1e-9, atol=0
            )


def test_event_shapes_are_flattened():
    A = -torch.arange(6.0).reshape(2, 3)
    sde = SemiLinearSDE.from_coefficients(A, 2.0, 0.5, span=(0.0, 1.0))
    exported = to_torchsde(sde, lambda x, t: x**2, event_shape=(2, 3), span=(0.0, 1.0))
    y = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(exported.f(0.3, y), A.flatten() * y + 2 * y**2)
    torch.testing.assert_close(exported.g(0.3, y), torch.full((4, 6), 0.5))


def srk(exported: TorchSDE, x: Tensor, times: Tensor, bm: object, method: str = "srk") -> Tensor:
    """torchsde's solution, one step for each interval of its own `times` (its steps are of equal
    length otherwise).
    """
    y = x.reshape(len(x), -1)
    with torch.no_grad():
        for pair in times.unfold(0, 2, 1):
            y = torchsde.sdeint(
                exported, y, pair, bm=bm, method=method, dt=float(pair[1] - pair[0])
            )[-1]
    return y.reshape(x.shape)


def motion(low: float, high: float, seed: int) -> torchsde.BrownianInterval:
    return torchsde.BrownianInterval(
        low,
        high,
        size=(BATCH, math.prod(EVENT)),
        dtype=torch.float64,
        entropy=seed,
        levy_area_approximation="space-time",
        cache_size=None,
    )


def rms(difference: Tensor) -> float:
    return float((difference**2).mean().sqrt())


def solutions(
    sde: SemiLinearSDE,
    F: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    seed: int,
    grid: Callable[[int], Tensor],
):
    """Ours and torchsde's at `steps` and 4·`steps` steps, all on one Brownian motion in the noise
    clock.
    """
    span = tuple(grid(steps)[[0, -1]].tolist())
    exported = to_torchsde(sde, F, event_shape=EVENT, span=span, clock="noise")
    low, high = (float(exported.s_of(t)) for t in span)
    interval = motion(low, high, seed)
    ours, theirs = [], []
    for n in (steps, 4 * steps):
        ours.append(
            execute(compile_plan(sde, "seeds-2", grid(n)), F, start(), noise.FromTorchsde(interval))
        )
        taus = exported.s_of(grid(n)).clamp(low, high)
        theirs.append(srk(exported, start(), taus, interval))
    return ours, theirs


def agree_on_a_path(
    sde: SemiLinearSDE,
    F: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    grid: Callable[[int], Tensor],
) -> None:
    """The distance of the fine solutions is no more than the two change by refining; and on another
    path they are far apart.
    """
    ours, theirs = solutions(sde, F, steps, 11, grid)
    changes = rms(ours[1] - ours[0]) + rms(theirs[1] - theirs[0])
    another = execute(
        compile_plan(sde, "seeds-2", grid(steps)), F, start(), noise.Gaussian(range(BATCH))
    )
    distance, spread = rms(ours[1] - theirs[1]), rms(ours[1] - another)
    assert distance < 0.5 * changes
    assert distance < 0.1 * spread
    assert rms(ours[1] - theirs[1]) < 0.5 * rms(ours[0] - theirs[0])


@pytest.mark.parametrize("ell", [0.7, 1.0])
def test_reverse_sde_on_a_shared_path(ell: float):
    schedule = VP()

    def grid(n: int) -> Tensor:
        low, high = (float(schedule.lam(t)) for t in SPAN)
        return schedule.t_of_lam(torch.linspace(low, high, n + 1, dtype=torch.float64))

    agree_on_a_path(reverse_sde(schedule, "data", ell), wavy(schedule), 10, grid)


@pytest.mark.parametrize(
    "coefficients",
    [(-2.0, 1.0, 0.6), ("-1-t", "1+t/2", "0.5+0.2*sin(3*t)")],
    ids=["constant", "variable"],
)
@pytest.mark.parametrize("span", [(0.0, 1.5), (1.5, 0.0)])
def test_another_sde_on_a_shared_path(coefficients: tuple[object, ...], span: tuple[float, float]):
    sde = SemiLinearSDE.from_coefficients(*coefficients, span=span)
    agree_on_a_path(
        sde,
        lambda x, t: torch.sin(3 * x) + 0.2 * t,
        10,
        lambda n: torch.linspace(*span, n + 1, dtype=torch.float64),
    )


def test_brownian_path_drives_torchsde():
    """The other way round: our path as torchsde's Brownian motion."""
    sde = SemiLinearSDE.from_coefficients(-2.0, 1.0, 0.6, span=(0.0, 1.0))
    F = lambda x, t: torch.cos(2 * x)  # noqa: E731
    path = noise.BrownianPath(range(BATCH), resolution=2**12)
    exported = to_torchsde(sde, F, event_shape=EVENT, span=(0.0, 1.0), clock="noise")
    grid = torch.linspace(0, 1, 161, dtype=torch.float64)
    ours = integrate(sde, F, start(), grid, "seeds-2", path).x
    bm = noise.AsTorchsde(path, (BATCH, *EVENT), dtype=torch.float64)
    theirs = srk(exported, start(), exported.s_of(grid), bm, method="euler")
    assert rms(ours - theirs) < 0.02
    other = integrate(
        sde,
        F,
        start(),
        grid,
        "seeds-2",
        noise.BrownianPath(range(50, 50 + BATCH), resolution=2**12),
    ).x
    assert rms(ours - other) > 0.2


def test_law_in_the_time_clock():
    """In "time" the Brownian motions differ, the laws do not: mean and variance, to 6 standard
    errors.
    """
    sde = SemiLinearSDE.from_coefficients(-1.0, 1.0, 0.8, span=(2.0, 1.0))
    exported = to_torchsde(
        sde, lambda x, t: torch.full_like(x, 0.5), event_shape=(1,), span=(2.0, 1.0)
    )
    assert (
        float(exported.s_of(2.0)) == 0.0
        and float(exported.s_of(1.0)) == 1.0
        and float(exported.t_of(0.25)) == 1.75
    )
    n = 4000
    bm = torchsde.BrownianInterval(
        0.0, 1.0, size=(n, 1), entropy=3, levy_area_approximation="space-time", dtype=torch.float64
    )
    with torch.no_grad():
        x = torchsde.sdeint(
            exported,
            torch.ones(n, 1, dtype=torch.float64),
            torch.linspace(0, 1, 2),
            bm=bm,
            method="srk",
            dt=0.05,
        )[-1]
    # Run from t = 2 down to 1, dx = (0.5 − x) dt grows: x − 0.5 gains the factor e.
    variance = 0.64 * (math.exp(2) - 1) / 2
    mean = 0.5 + (1 - 0.5) * math.exp(1)
    assert x.mean().item() == pytest.approx(mean, abs=6 * math.sqrt(variance / n))
    assert x.var().item() == pytest.approx(variance, rel=6 * math.sqrt(2 / n))
    plan = compile_plan(sde, "seeds-1", [2.0, 1.0])
    assert float(plan.noise_std(plan.rows[0])) ** 2 == pytest.approx(variance, rel=1e-12)


def test_without_noise_it_is_the_ode():
    schedule: Schedule = VP()
    sde = reverse_sde(schedule, "noise", 0.0)
    model = wavy(schedule, "noise")
    exported = to_torchsde(sde, model, event_shape=EVENT, span=SPAN)
    assert not exported.g(0.1, start()).any()
    ts = torch.linspace(0, SPAN[0] - SPAN[1], 2, dtype=torch.float64)
    with torch.no_grad():
        theirs = torchsde.sdeint(exported, start(), ts, method="euler", dt=2e-3)[-1]
    ours = execute(compile_plan(sde, "seeds-3", torch.linspace(*SPAN, 200)), model, start())
    assert rms(ours - theirs) < 0.05 * rms(ours - start())


def test_refusals():
    F = lambda x, t: x  # noqa: E731
    sde = SemiLinearSDE.from_coefficients(-1.0, g=0.1, span=(0.0, 1.0))
    with pytest.raises(ValueError, match="Unknown clock 'tau': choose 'time' or 'noise'"):
        to_torchsde(sde, F, event_shape=(1,), span=(0.0, 1.0), clock="tau")
    still = SemiLinearSDE.from_coefficients(-1.0, span=(0.0, 1.0))
    diagonal = SemiLinearSDE.from_coefficients(-torch.ones(3), g=0.1, span=(0.0, 1.0))
    for other in (still, diagonal):
        with pytest.raises(
            ValueError, match=r"The noise clock of .* cannot serve as time.* Use clock='time'"
        ):
            to_torchsde(other, F, event_shape=(3,), span=(0.0, 1.0), clock="noise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_torchsde(diagonal, F, event_shape=(3,), span=(0.0, 1.0))


def test_defaults_are_the_flat_state_and_the_span_of_the_sde():
    schedule = VP()
    target = targets.Gaussian([0.5, -1.0], [0.3, 2.0], schedule)
    sde = reverse_sde(schedule)
    short, long = (
        to_torchsde(sde, target),
        to_torchsde(sde, target, event_shape=(2,), span=schedule.sampling_range),
    )
    y = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    assert torch.equal(short.f(0.2, y), long.f(0.2, y)) and torch.equal(
        short.g(0.2, y), long.g(0.2, y)
    )
    bare = SemiLinearSDE(log_propagator=lambda t: -t, clock=Clock(lambda t: t, lambda mu: mu))
    with pytest.raises(ValueError, match="give span="):
        to_torchsde(bare, target)
