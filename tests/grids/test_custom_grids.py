"""Published grids and tables, grids from σ = ∞, and the law of what is sampled from there."""

import math
from collections.abc import Callable

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

import expint
from expint import grids, schedules
from expint.convergence import fitted_order, gaussian_moments
from expint.schedules import (
    EDM,
    IDDPM,
    VP,
    Cosine,
    Discrete,
    Flow,
    FromCallables,
    Schedule,
    Symbolic,
)

INF = math.inf
AYS = {f"ays_{table}" for table in grids.AYS_TABLES}  # their last step takes the place of the end
ZERO_SNR = Discrete(
    schedules.rescale_zero_terminal_snr(torch.cumprod(1 - schedules.scaled_linear_betas(), 0))
)
CUSTOM: dict[str, Schedule] = {
    "symbolic": Symbolic.from_beta("0.1 + 19.9*t"),
    "symbolic from infinity": Symbolic("1 - t", "t"),
    "unbounded time": Symbolic(1, "exp(t)", domain=(-INF, INF)),
    "callables": FromCallables(math.cos, math.sin, (0.0, 1.5)),
    "zero terminal SNR": ZERO_SNR,
    "cubic": Discrete(None, "cubic"),
    "shifted flow": Flow(shift=3.0),
    "cosine from infinity": Cosine(t_max=1.0),
}


@pytest.mark.parametrize("final", grids.FINALS)
@pytest.mark.parametrize("steps", [2, 3, 17])
@pytest.mark.parametrize("name", grids.names())
@pytest.mark.parametrize("which", CUSTOM)
def test_every_grid_on_every_custom_schedule(which: str, name: str, steps: int, final: str):
    schedule = CUSTOM[which]
    if name in ("discrete", *grids.SPACINGS) and not isinstance(schedule, Discrete):
        with pytest.raises(ValueError, match="needs a tabulated schedule"):
            grids.get(name)(schedule, steps, final=final)
        return
    times = grids.get(name)(schedule, steps, final=final)
    assert times.shape == (steps + 1,) and torch.equal(grids.check(schedule, times), times)
    noise, data = schedule.sampling_range
    if name != "leading":
        assert times[0] == noise
    if name != "trailing" and not (name in AYS and final == "denoise"):
        assert times[-1 if final == "none" else -2] == data
    if final == "denoise":
        assert schedule.sigma(times[-1].item()) == 0.0


def test_names_are_those_that_were_registered():
    assert {
        "beta",
        "cosine",
        "edm_iddpm",
        "edm_ve",
        "edm_vp",
        "exponential",
        "quadratic",
        "shifted",
        "sigmoid",
    } <= set(grids.names())
    own = set(grids.names()) - set(grids.SPACINGS) - AYS
    assert all(grids.get(name) is getattr(grids, name) for name in own)


@pytest.mark.parametrize(
    "schedule", [Flow(), Cosine(t_max=1.0), ZERO_SNR], ids=["flow", "cosine", "zero SNR"]
)
@pytest.mark.parametrize(
    "name", ["uniform_lambda", "exponential", "karras", "edm_vp", "edm_ve", "edm_iddpm"]
)
def test_a_grid_in_sigma_goes_from_infinity_to_first_sigma(schedule: Schedule, name: str):
    for first in (80.0, 500.0):
        sigma = schedule.sigma(grids.get(name)(schedule, 12, first_sigma=first))
        assert sigma[0] == INF and sigma[1] == pytest.approx(first, rel=1e-9)
    assert schedule.sigma(grids.get(name)(schedule, 12))[1] == pytest.approx(
        grids.FIRST_SIGMA, rel=1e-9
    )
    for bad in (1e-9, INF, math.nan):
        with pytest.raises(
            ValueError, match=r"goes on from first_sigma, which must be finite and above .*; got"
        ):
            grids.get(name)(schedule, 12, first_sigma=bad)


def test_a_range_that_ends_without_noise():
    schedule = Symbolic("1 - t", "t", sampling_range=(1.0, 0.0))
    assert grids.uniform_time(schedule, 4, final="none").tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(ValueError, match="ends at sigma = 0 itself"):
        grids.uniform_time(schedule, 4)
    with pytest.raises(ValueError, match="needs a data end with sigma > 0"):
        grids.karras(schedule, 4)


def test_edm_table():
    """Table 1 of EDM: VP with β_d = 19.9, β_min = 0.1 from t = 1 to 1e-3; VE geometric; iDDPM
    through its own table.
    """
    vp = VP()
    torch.testing.assert_close(
        grids.edm_vp(vp, 9), grids.uniform_time(vp, 9), rtol=1e-9, atol=1e-12
    )
    edm = EDM(sigma_min=0.02, sigma_max=100.0)
    i = torch.arange(8, dtype=torch.float64)
    torch.testing.assert_close(
        grids.edm_ve(edm, 8)[:-1], 100 * (0.02 / 100) ** (i / 7), rtol=1e-12, atol=0
    )
    table = IDDPM()
    entries = grids.edm_iddpm(table, 10)[:-1]
    torch.testing.assert_close(entries, entries.round(), rtol=0, atol=1e-8)
    expected = 999 - np.floor(999 / 9 * np.arange(10) + 0.5)
    np.testing.assert_allclose(entries, expected, atol=1e-8)


def test_spread_grids_as_published():
    vp, flow = VP(), Flow(t_min=0.02)
    root = torch.sqrt(grids.quadratic(vp, 9, final="none"))
    torch.testing.assert_close(root.diff(), root.diff()[0].expand(9), rtol=1e-9, atol=0)
    angle = torch.atan(vp.sigma(grids.cosine(vp, 9, final="none")))
    torch.testing.assert_close(angle.diff(), angle.diff()[0].expand(9), rtol=1e-8, atol=1e-13)
    torch.testing.assert_close(
        grids.shifted(flow, 9, shift=1.0), grids.uniform_time(flow, 9), rtol=1e-12, atol=1e-14
    )
    u = torch.linspace(1.0, 0.02, 10, dtype=torch.float64)
    # Shift 3 of Flow is uniform time of Flow(shift=3), up to where the data end lies.
    end = float(3 * u[-1] / (1 + 2 * u[-1]))
    torch.testing.assert_close(
        grids.shifted(Flow(t_min=end), 9, final="none"), 3 * u / (1 + 2 * u), rtol=1e-12, atol=0
    )
    times = grids.sigmoid(vp, 8, final="none")
    assert times[4] == pytest.approx(0.5 * (1 + 1e-3)) and times[0] - times[1] < times[3] - times[4]
    assert torch.equal(grids.exponential(vp, 7), grids.uniform_lambda(vp, 7))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_beta_grid_as_in_diffusers():
    scheduler = diffusers.EulerDiscreteScheduler(
        use_beta_sigmas=True, beta_schedule="scaled_linear"
    )
    scheduler.set_timesteps(12)
    sigma = scheduler.sigmas.double()[:-1]
    edm = EDM(sigma_min=sigma[-1].item(), sigma_max=sigma[0].item())
    torch.testing.assert_close(grids.beta(edm, 12, over="sigma")[:-1], sigma, rtol=1e-5, atol=0)
    uniform = grids.beta(VP(), 12, a=1.0, b=1.0)
    torch.testing.assert_close(uniform, grids.uniform_time(VP(), 12), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spacing", grids.SPACINGS)
@pytest.mark.parametrize("steps", [2, 7, 30, 50, 999, 1000])
def test_spacings_are_those_of_diffusers(spacing: str, steps: int):
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=0)
    scheduler.set_timesteps(steps)
    assert grids.discrete(Discrete(), steps, spacing)[:-1].tolist() == scheduler.timesteps.tolist()


def test_leading_takes_an_offset():
    scheduler = diffusers.DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(20)
    assert (
        grids.discrete(Discrete(), 20, "leading", offset=1)[:-1].tolist()
        == scheduler.timesteps.tolist()
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: grids.discrete(Discrete(), 5, "even"),
            r"Unknown spacing='even': choose one of \('linspace'",
        ),
        (
            lambda: grids.discrete(Discrete(), 1000, "leading", offset=3),
            r"offset=3 moves entries out of the table",
        ),
        (lambda: grids.discrete(Discrete(), 5, offset=1), r"offset=1 belongs to spacing='leading'"),
        (lambda: grids.beta(VP(), 5, a=0.0), r"'beta' needs a > 0, got 0\.0"),
        (
            lambda: grids.beta(VP(), 5, over="lambda"),
            r"laid over 'time' or 'sigma', got over='lambda'",
        ),
        (lambda: grids.shifted(VP(), 5, shift=-1.0), r"'shifted' needs shift > 0, got -1\.0"),
        (lambda: grids.sigmoid(VP(), 5, width=INF), r"'sigmoid' needs width > 0, got inf"),
        (lambda: grids.edm_vp(VP(), 5, epsilon=1.0), r"0 < epsilon < 1, got 1\.0"),
        (
            lambda: grids.edm_iddpm(VP(), 50, M=20),
            r"'edm_iddpm' needs 50 noise levels, but its table of 20 has",
        ),
        (
            lambda: grids.check(Symbolic("1 - t", "t", domain=(0, 0.9)), [0.95, 0.5]),
            r"0\.95 is outside the domain \[0\.0, 0\.9",
        ),
    ],
)
def test_grids_that_are_refused(build: object, message: str):
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


def variance_error(
    schedule: Schedule, solver: str, ell: float, grid: torch.Tensor
) -> tuple[float, float]:
    """Errors of the law at the end of a grid that starts at σ = ∞: (mean, relative variance)."""
    target = expint.targets.Gaussian([1.0, -0.5], [0.25, 1.0], schedule)
    plan = expint.compile_plan(expint.reverse_sde(schedule, "data", ell), solver, grid)
    mean, variance = gaussian_moments(plan, target)
    exact_mean, exact_variance = target.moments(grid[-1])
    return (mean - exact_mean).abs().max().item(), (
        variance / exact_variance - 1
    ).abs().max().item()


@pytest.mark.parametrize("schedule", [Flow(), ZERO_SNR], ids=["flow", "zero SNR"])
@pytest.mark.parametrize(
    ("solver", "ell", "order"),
    [
        ("seeds-1", 0.0, 1),
        ("seeds-2", 0.0, 2),
        ("seeds-3", 0.0, 3),
        ("seeds-1", 1.0, 1),
        ("seeds-2", 1.0, 2),
        ("seeds-3", 1.0, 2),
    ],
)
def test_the_law_from_infinite_noise_has_the_order_of_the_solver(
    schedule: Schedule, solver: str, ell: float, order: int
):
    """With the first finite σ far out, the first step costs nothing, and what is seen is the
    solver's own (weak) order.
    """
    steps = [193, 385]
    pairs = [
        variance_error(
            schedule, solver, ell, grids.uniform_lambda(schedule, n, first_sigma=2e4, final="none")
        )
        for n in steps
    ]
    assert max(mean for mean, _ in pairs) < 1e-12
    # Two terms of opposite sign are still in balance for SEEDS-3 with noise: its slope is 1.82
    # here, and tends to 2 from below.
    band = 0.2 if (solver, ell) == ("seeds-3", 1.0) else 0.1
    assert fitted_order(steps, [v for _, v in pairs]) == pytest.approx(order, abs=band)


@pytest.mark.parametrize("schedule", [Flow(), ZERO_SNR], ids=["flow", "zero SNR"])
def test_the_cost_of_the_first_step(schedule: Schedule):
    """ODE: var(data)/σ₁² whatever the solver, so 1/80² by default, and order 2 at most where σ₁
    grows with the steps.
    """
    (_, floor) = variance_error(
        schedule, "seeds-3", 0.0, grids.uniform_lambda(schedule, 192, final="none")
    )
    assert floor == pytest.approx(1 / 80**2, rel=0.1)
    steps = [96, 192]
    growing = [
        variance_error(schedule, "seeds-3", 0.0, grids.cosine(schedule, n, final="none"))[1]
        for n in steps
    ]
    assert fitted_order(steps, growing) == pytest.approx(2.0, abs=0.1)
    # With noise the error of the start is forgotten.
    near = grids.uniform_lambda(schedule, 96, first_sigma=10.0, final="none")
    assert variance_error(schedule, "seeds-3", 0.0, near)[1] == pytest.approx(1 / 10**2, rel=0.1)
    assert variance_error(schedule, "seeds-3", 1.0, near)[1] < 1e-3


@pytest.mark.parametrize("which", CUSTOM)
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_samples_are_finite_with_every_form(which: str, ell: float):
    target = expint.targets.Gaussian([1.0, -0.5], [0.25, 1.0], CUSTOM[which])
    for form in ("data", "noise"):
        for grid in ("uniform_time", "uniform_lambda"):
            x = expint.sample(
                target, (3, 2), "seeds-3", steps=12, grid=grid, form=form, ell=ell, progress=False
            )
            assert torch.isfinite(x).all()


# Tables.


@pytest.mark.parametrize(
    ("betas", "name"),
    [
        (schedules.linear_betas, "linear"),
        (schedules.scaled_linear_betas, "scaled_linear"),
        (schedules.cosine_betas, "squaredcos_cap_v2"),
    ],
)
def test_tables_are_those_of_diffusers(betas: Callable[[], Tensor], name: str):
    first, last = (0.00085, 0.012) if name == "scaled_linear" else (1e-4, 0.02)
    theirs = diffusers.DDIMScheduler(
        beta_schedule=name, beta_start=first, beta_end=last
    ).alphas_cumprod.double()
    torch.testing.assert_close(
        torch.cumprod(1 - betas(), 0), theirs, rtol=2e-4, atol=1e-9
    )  # theirs are float32


def test_rescaling_to_zero_terminal_snr():
    plain = torch.cumprod(1 - schedules.scaled_linear_betas(), 0)
    table = schedules.rescale_zero_terminal_snr(plain)
    assert table[-1] == 0.0 and table[0] == plain[0]
    theirs = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        rescale_betas_zero_snr=True,
    ).alphas_cumprod.double()
    torch.testing.assert_close(table, theirs, rtol=1e-3, atol=1e-7)
    with pytest.raises(ValueError, match="at least 3 values, got shape"):
        schedules.rescale_zero_terminal_snr([0.5, 0.4])


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_zero_terminal_table(interpolation: str):
    table = schedules.rescale_zero_terminal_snr(
        torch.cumprod(1 - schedules.scaled_linear_betas(), 0)
    )
    schedule = Discrete(table, interpolation)
    assert (
        schedule.lam(999.0) == -INF
        and schedule.t_of_lam(-INF) == 999.0
        and schedule.std(999.0) == 1.0
    )
    # α is linear in the last cell, and the inverse follows it.
    assert schedule.alpha(998.25) == pytest.approx(0.75 * schedule.alpha(998.0), rel=1e-13)
    t = torch.linspace(-0.99, 998.9999, 3001, dtype=torch.float64)
    torch.testing.assert_close(schedule.t_of_lam(schedule.lam(t)), t, rtol=1e-11, atol=1e-11)
    assert Discrete.from_betas([0.1, 0.2, 1.0]).alphas_cumprod == pytest.approx((0.9, 0.72, 0.0))


def test_cubic_table_is_smooth_and_passes_through_the_entries():
    linear, cubic = Discrete(), Discrete(None, "cubic")
    entries = torch.arange(1000, dtype=torch.float64)
    torch.testing.assert_close(cubic.lam(entries), linear.lam(entries), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(
        cubic.lam(entries[1:-1] - 1e-9), cubic.lam(entries[1:-1] + 1e-9), rtol=0, atol=1e-8
    )
    at = torch.arange(1, 999, dtype=torch.float64)
    torch.testing.assert_close(
        cubic.diffusion_squared(at - 1e-7), cubic.diffusion_squared(at + 1e-7), rtol=1e-4, atol=0
    )
    # the table samples β(t) of VP at t = (i + 1)/1000, approximately; the cubic is the closer curve
    # between entries
    vp = VP()
    between = Discrete(np.asarray(vp.alpha(np.linspace(0.01, 1.0, 60))) ** 2, "cubic")
    coarse = Discrete(np.asarray(vp.alpha(np.linspace(0.01, 1.0, 60))) ** 2)
    t = np.linspace(10.1, 55.3, 400)
    exact = vp.lam(0.01 + 0.99 * t / 59)
    assert abs(between.lam(t) - exact).max() < 0.05 * abs(coarse.lam(t) - exact).max()
    lam = torch.tensor([0.2, 1.1], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cubic.lam(cubic.t_of_lam(lam)).sum(), lam)
    torch.testing.assert_close(slope, torch.ones_like(slope), rtol=1e-9, atol=0)


def test_tables_that_are_refused():
    with pytest.raises(ValueError, match=r"alphas_cumprod\[2\] = nan"):
        Discrete([0.9, 0.5, float("nan"), 0.1])
    with pytest.raises(ValueError, match=r"entry 2 \(0\.6\) is not below entry 1 \(0\.5\)"):
        Discrete([0.9, 0.5, 0.6])
    with pytest.raises(ValueError, match=r"alphas_cumprod\[1\] = 0\.0"):
        Discrete([0.9, 0.0, 0.0])
    with pytest.raises(
        ValueError, match=r"Unknown interpolation='spline': choose one of \('linear', 'cubic'\)"
    ):
        Discrete(None, "spline")
