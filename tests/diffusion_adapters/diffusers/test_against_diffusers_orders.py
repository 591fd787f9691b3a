"""The order that updates of the installed diffusers schedulers have, measured, and the order of the
same scheme here.

A scheduler is given the noise levels of a grid that is uniform in λ and the exact model at the
states it produces; the table it was built with plays no part. Multistep updates start from exact
earlier evaluations, so that the start does not hide their order. With ℓ = 1 all noise is zero: what
is left is the equation for the drift, with a smooth solution. The faults are those of diffusers
0.42; a test of a fault fails once it is mended.
"""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers.schedulers import scheduling_dpmsolver_sde
from test_against_diffusers import DPM_M, DPM_S, MEANS, THEIRS, feed, random_numbers, widen
from torch import Tensor

from expint import compile_plan, convergence, reverse_sde, sample
from expint.noise import Replay
from expint.schedules import VP, Discrete
from expint.solvers import Method, dpmpp_3m_sde, seeds_ab
from expint.targets import Gaussian, GaussianMixture

torch.set_num_threads(1)
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have:UserWarning:torchsde"),
]

SCHEDULE = VP()
TARGET = GaussianMixture(MEANS, 0.7, None, SCHEDULE)
SILENCE = torch.zeros(1000, 4, 3, dtype=torch.float64)
SDE = {"algorithm_type": "sde-dpmsolver++"}
FINE = "etd-rk4-ho"
STEPS = (36, 72)


def grid(steps: int, before: int = 0) -> list[float]:
    """Times from λ = −1 to 1, and `before` of them earlier."""
    return [SCHEDULE.t_of_lam(-1.0 + 2.0 * (k - before) / steps) for k in range(steps + before + 1)]


def solve(solver: str | Method, times: list[float], x: Tensor, ell: float) -> Tensor:
    return sample(
        TARGET, x, solver, grid=times, form="data", ell=ell, noise=Replay(SILENCE), progress=False
    )


def noise_prediction(target: Any, x: Tensor, t: float) -> Tensor:
    return (x - SCHEDULE.alpha(t) * target(x, t)) / SCHEDULE.std(t)


def on_times(kind: Any, config: dict[str, Any], times: list[float], begin: int = 0) -> Any:
    """A scheduler, in double precision, whose noise levels are those of `times`, about to step from
    times[begin].
    """
    scheduler = kind(**config, final_sigmas_type="sigma_min", lower_order_final=False)
    scheduler.set_timesteps(len(times) - 1)
    scheduler.sigmas = torch.tensor([SCHEDULE.sigma(t) for t in times], dtype=torch.float64)
    scheduler.set_begin_index(begin)
    return scheduler


def theirs(kind: Any, config: dict[str, Any], ell: float, steps: int) -> tuple[Tensor, Tensor]:
    """The exact state at λ = −1, and the scheduler's at λ = 1."""
    history = config["solver_order"] - 1 if kind is DPM_M else 0
    times = grid(steps, history)
    x, outputs = random_numbers()[0], []
    for s, t in pairwise(times[: history + 1]):
        outputs.append(TARGET(x, s))
        x = solve(FINE, [s + (t - s) * k / 8 for k in range(8)] + [t], x, ell)
    scheduler, start = on_times(kind, config, times, history), x
    if history:
        scheduler.model_outputs, scheduler.lower_order_nums = [None, *outputs], history
    for k in range(history, len(times) - 1):
        x = scheduler.step(
            noise_prediction(TARGET, x, times[k]), scheduler.timesteps[k], x
        ).prev_sample
    return start, x


def order(error: Callable[[int], float], refined: int = 1) -> float:
    """From one halving of the steps."""
    coarse, fine = (error(refined * steps) for steps in STEPS)
    return math.log2(coarse / fine)


def their_order(kind: Any, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> float:
    widen(kind, monkeypatch)
    ell = float("algorithm_type" in config)

    def error(steps: int) -> float:
        feed(kind, SILENCE, monkeypatch)
        start, x = theirs(kind, config, ell, steps)
        return (x - solve(FINE, grid(72), start, ell)).abs().max().item()

    return order(error)


@cache
def fine_result(ell: float) -> Tensor:
    return solve(FINE, grid(144), random_numbers()[0], ell)


def our_order(solver: str | Method, ell: float) -> float:
    x = random_numbers()[0]
    exact = fine_result(ell)
    return order(lambda steps: (solve(solver, grid(steps), x, ell) - exact).abs().max().item())


@pytest.mark.parametrize(
    "kind, config, expected",
    [
        (DPM_M, {"solver_order": 2}, 2),
        (DPM_M, {"solver_order": 2, "solver_type": "heun"}, 2),
        (DPM_M, {"solver_order": 2, **SDE}, 2),
        (DPM_M, {"solver_order": 2, "solver_type": "heun", **SDE}, 2),
        (DPM_S, {"solver_order": 2}, 2),
        (DPM_S, {"solver_order": 3}, 3),
        (DPM_S, {"solver_order": 3, "solver_type": "heun"}, 3),
        (DPM_S, {"solver_order": 3, **SDE}, 3),
    ],
    ids=lambda value: (
        " ".join(map(str, value.values()))
        if isinstance(value, dict)
        else getattr(value, "__name__", str(value))
    ),
)
def test_updates_that_have_their_order(
    kind: Any, config: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
):
    """The measurement gives the nominal order where the formula is right: all of second order, and
    third in nodes 1/3 and 2/3.
    """
    assert their_order(kind, config, monkeypatch) == pytest.approx(expected, abs=0.2)


def test_third_order_multistep_lacks_a_factor_two(monkeypatch: pytest.MonkeyPatch):
    """solver_order=3 is of order 2: the second divided difference is used as the second derivative,
    which is twice as much.

    It is `dpmpp_3m_sde(published=True)` at ℓ = 0 (test_against_diffusers.py: "DPM++ 3M"), and so is
    that of the EDM scheduler.
    """
    assert their_order(DPM_M, {"solver_order": 3}, monkeypatch) == pytest.approx(2, abs=0.2)
    assert our_order(dpmpp_3m_sde(start="one-step", published=True), 0.0) == pytest.approx(
        2, abs=0.2
    )
    assert our_order(dpmpp_3m_sde(start="one-step"), 0.0) == pytest.approx(3, abs=0.15)


def test_third_order_sde_multistep_has_a_wrong_sign(monkeypatch: pytest.MonkeyPatch):
    """solver_order=3 with sde-dpmsolver++ is of order 1. With z = 2h the weight of the second
    difference should be

        1/2 − 1/z + (1 − e^{−z})/z²,        about z/6;        the half is subtracted, which leaves
        about −1.

    One step with the other fault kept, but this sign right, differs from theirs by α_t times the
    second difference.
    """
    config = {"solver_order": 3, "solver_type": "heun", **SDE}
    assert their_order(DPM_M, config, monkeypatch) == pytest.approx(1, abs=0.15)
    assert our_order(dpmpp_3m_sde(start="one-step"), 1.0) == pytest.approx(3, abs=0.15)

    times, x, outputs = grid(3), random_numbers()[0], []
    feed(DPM_M, SILENCE, monkeypatch)
    scheduler, state = on_times(DPM_M, config, times), x
    for k, t in enumerate(times[:-1]):  # of orders 1, 2 and 3, on both sides
        outputs.append(TARGET(state, t))
        state = scheduler.step(
            noise_prediction(TARGET, state, t), scheduler.timesteps[k], state
        ).prev_sample
    second_difference = (outputs[2] - 2.0 * outputs[1] + outputs[0]) / 2.0
    expected = (
        solve(dpmpp_3m_sde(published=True), times, x, 1.0)
        - SCHEDULE.alpha(times[-1]) * second_difference
    )
    torch.testing.assert_close(state, expected, rtol=1e-10, atol=1e-10)


def test_third_order_sde_singlestep_heun_has_a_wrong_sign(monkeypatch: pytest.MonkeyPatch):
    """solver_order=3, solver_type="heun" with sde-dpmsolver++ is of order 1: the same half is
    subtracted from the same weight.
    """
    config = {"solver_order": 3, "solver_type": "heun", **SDE}
    assert their_order(DPM_S, config, monkeypatch) == pytest.approx(1, abs=0.2)
    assert our_order("seeds-3b", 1.0) == pytest.approx(3, abs=0.15)


def variance_error(
    kind: Any, config: dict[str, Any], steps: int, monkeypatch: pytest.MonkeyPatch
) -> float:
    """Error of the variance of the scheduler's output on Gaussian data, without Monte Carlo.

    The output is linear in the initial state and in each Gaussian: a batch carries one of these
    coefficients in each entry.
    """
    target, times = Gaussian([0.0], 0.5, SCHEDULE), grid(steps)
    feed(kind, torch.eye(steps + 1, dtype=torch.float64)[1:, :, None], monkeypatch)
    scheduler = on_times(kind, config, times)
    state = torch.zeros(steps + 1, 1, dtype=torch.float64)
    state[0] = target.moments(times[0])[1].sqrt()
    for k, t in enumerate(times[:-1]):
        state = scheduler.step(
            noise_prediction(target, state, t), scheduler.timesteps[k], state
        ).prev_sample
    return ((state**2).sum() - target.moments(times[-1])[1]).abs().item()


def our_variance_error(solver: str | Method, steps: int) -> float:
    target, times = Gaussian([0.0], 0.5, SCHEDULE), grid(steps)
    variance = convergence.gaussian_moments(
        compile_plan(reverse_sde(SCHEDULE), solver, times), target
    )[1]
    return (variance - target.moments(times[-1])[1]).abs().item()


@pytest.mark.parametrize("solver_order, ours", [(2, "seeds-2"), (3, "seeds-3")])
def test_singlestep_sde_stages_do_not_see_the_path(
    solver_order: int, ours: str, monkeypatch: pytest.MonkeyPatch
):
    """The singlestep SDE schemes have weak order 1: the noise of an inner stage and that of the
    whole step are independent draws, though the stage lies on the path of the step. The variance is
    no better than that of the one-stage scheme with as many steps.

    With the increments of one path (here) the weak order is 2. The multistep scheme has one stage:
    nothing to get wrong.
    """
    widen(DPM_S, monkeypatch)
    widen(DPM_M, monkeypatch)
    config = {"solver_order": solver_order, **SDE}
    assert order(
        lambda steps: variance_error(DPM_S, config, steps, monkeypatch), 3
    ) == pytest.approx(1, abs=0.1)
    assert variance_error(DPM_S, config, 48, monkeypatch) > 0.9 * our_variance_error("seeds-1", 48)
    assert order(lambda steps: our_variance_error(ours, steps), 3) == pytest.approx(2, abs=0.15)
    config = {"solver_order": 2, **SDE}
    assert order(
        lambda steps: variance_error(DPM_M, config, steps, monkeypatch), 3
    ) == pytest.approx(2, abs=0.15)


def test_dpmpp_sde_is_seeds_2_but_for_the_clock_of_its_noise(monkeypatch: pytest.MonkeyPatch):
    """DPMSolverSDEScheduler, given increments of a Brownian motion in the noise clock τ = σ^(−2),
    is SEEDS-2 at ℓ = 1.
    """
    kind: Any = THEIRS.DPMSolverSDEScheduler
    widen(kind, monkeypatch)
    x, normals = random_numbers()
    scheduler = kind(timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    schedule = Discrete(scheduler.alphas_cumprod)
    target = GaussianMixture(MEANS, 0.3, None, schedule)
    stream, drawn = iter(normals), []

    def path(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Standardised increments: of the first half of a step, then of the whole of it."""
        if not drawn:
            drawn.append((next(stream), sigma_next**-2 - sigma**-2))
            return drawn[0][0]
        first, length = drawn.pop()
        share = length / (sigma_next**-2 - sigma**-2)
        return share.sqrt() * first + (1.0 - share).sqrt() * next(stream)

    scheduler.noise_sampler = path
    times = [float(t) for t in scheduler.timesteps]
    state = x / schedule.alpha(times[0])
    for t in scheduler.timesteps:
        scaled, time = scheduler.scale_model_input(state, t), float(t)
        output = (scaled - schedule.alpha(time) * target(scaled, time)) / schedule.std(time)
        state = scheduler.step(output, t, state).prev_sample
    ours = {
        solver: sample(
            target, x, solver, grid=[*times[::2], -1.0], noise=Replay(normals), progress=False
        )
        for solver in ("seeds-2", "seeds-1")
    }
    torch.testing.assert_close(ours["seeds-2"], state, rtol=1e-10, atol=1e-10)
    assert (ours["seeds-1"] - state).abs().max() > 1e-3


def test_dpmpp_sde_takes_its_noise_in_the_clock_sigma():
    """Its own noise is that of a Brownian motion in σ. For h = 1 the noise of the stage and that of
    the step are then correlated by 0.789; it should be 0.519, as in the clock σ^(−2), in which the
    stochastic integral is a Brownian motion.
    """
    start, middle, end = (math.exp(-c) for c in (0.0, 0.5, 1.0))
    sampler = scheduling_dpmsolver_sde.BrownianTreeNoiseSampler(
        torch.zeros(1, 200_000), end, start, seed=0
    )
    stage, step = sampler(start, middle)[0], sampler(start, end)[0]
    measured = torch.corrcoef(torch.stack([stage, step]))[0, 1].item()
    in_sigma = math.sqrt((start - middle) / (start - end))
    in_tau = math.sqrt((middle**-2 - start**-2) / (end**-2 - start**-2))
    assert (in_sigma, in_tau) == pytest.approx((0.789, 0.519), abs=1e-3)
    assert measured == pytest.approx(in_sigma, abs=5e-3)


def test_unipc_bh1_has_no_step_to_zero():
    """UniPC with solver_type="bh1" and its default end at σ = 0 returns NaN: h = ∞, and B(h) = h
    multiplies an empty sum.
    """
    scheduler: Any = THEIRS.UniPCMultistepScheduler(solver_type="bh1")
    scheduler.set_timesteps(5)
    state = random_numbers()[0]
    for t in scheduler.timesteps:
        state = scheduler.step(0.1 * state, t, state).prev_sample
    assert state.isnan().all()


def test_second_order_multistep_here():
    """The schemes that diffusers has right are of their order here too."""
    for ell in (0.0, 1.0):
        assert our_order(seeds_ab(2), ell) == pytest.approx(2, abs=0.15)
