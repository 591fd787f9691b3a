"""Runs that cannot begin as asked: unknown laws, states of the wrong size, times that do not
exist."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from expint import SemiLinearSDE, compile_plan, grids, phi, reverse_sde, sample, schedules
from expint.convergence import gaussian_moments
from expint.sampling import plan_sampling
from expint.schedules import EDM, VP, Discrete, FromCallables
from expint.targets import Gaussian

TARGET = Gaussian([1.0], [0.25], EDM())
QUIET: dict[str, Any] = {"progress": False}


@pytest.mark.parametrize("grid", [[0.3, 0.1, 0.0], [9.0, 1.0, 0.0]])
def test_a_shape_at_a_time_whose_law_is_not_known(grid: list[float]):
    """Started from N(0, 0.3²), samples of N(1, 0.25) would have the mean 0.27."""
    with pytest.raises(ValueError, match=r"sigma = .*: there a state is not pure noise.*Give the"):
        sample(TARGET, (4, 1), grid=grid, **QUIET)
    assert sample(TARGET, torch.ones(4, 1), grid=grid, **QUIET).isfinite().all()


@pytest.mark.parametrize("grid", [[80.0, 1.0, 0.0], [14.6, 1.0, 0.0]])
def test_a_shape_at_pure_noise(grid: list[float]):
    assert sample(TARGET, (4, 1), grid=grid, **QUIET).isfinite().all()


def test_noise_levels_in_the_place_of_table_entries():
    target = Gaussian([1.0], [0.25], Discrete())
    with pytest.raises(ValueError, match=r"times by schedule\.t_of_sigma\(levels\)"):
        sample(target, (4, 1), grid=[80, 40, 10, 1, 0], **QUIET)


@pytest.mark.parametrize("factor", [1.0 / 80.0, 30.0])
def test_states_of_another_size(factor: float):
    x = 80.0 * factor * torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match=r"root mean square of .* the noise alone has 80"):
        sample(TARGET, x, steps=3, **QUIET)
    sample(TARGET, x / factor, steps=3, **QUIET)


@pytest.mark.parametrize("name", ["alpha", "std", "sigma", "lam", "log_alpha", "drift"])
@pytest.mark.parametrize(
    ("schedule", "time"),
    [(VP(), -1.0), (VP(), 1.001), (VP(), math.nan), (Discrete(), 1000.0), (EDM(), -0.1)],
)
def test_times_outside_the_domain(schedule: schedules.Schedule, time: float, name: str):
    """vp.sigma(-1) was 137.7."""
    with pytest.raises(ValueError, match=r"t = .* is outside the domain \["):
        getattr(schedule, name)(time)
    low, high = schedule.domain
    if math.isfinite(high):
        assert math.isfinite(schedule.sigma(0.5 * (low + high)))


def test_an_empty_form():
    with pytest.raises(ValueError, match="Unknown form ''"):
        sample(TARGET, (4, 1), form="", **QUIET)


def test_random_functions_of_time():
    draw = np.random.default_rng(0)
    with pytest.raises(ValueError, match="std gives other values for the same times"):
        FromCallables(1.0, lambda t: t * (1.0 + 0.01 * draw.standard_normal()), (0.1, 1.0))


def test_a_network_in_single_precision_as_a_schedule():
    network = torch.nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(2.0)

    def std(t: torch.Tensor) -> torch.Tensor:
        return torch.exp(network(t[:, None])[:, 0])

    with pytest.raises(TypeError, match=r"times are float64, so use a network in float64"):
        FromCallables(1.0, std, (0.1, 1.0))


def test_learned_functions_as_coefficients():
    rate = torch.tensor(-1.0, requires_grad=True)
    with pytest.raises(TypeError, match="A carries gradients of its own parameters"):
        SemiLinearSDE.from_coefficients(lambda t: rate * t, span=(0.0, 1.0))


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "seeds-ab2", "seeds-sra", "etd-rk4"])
def test_learned_constants_as_coefficients(solver: str):
    """Gradients with respect to A, b and g, against central differences."""
    from expint import execute, noise

    def loss(*values: torch.Tensor) -> torch.Tensor:
        sde = SemiLinearSDE.from_coefficients(*values, span=(0.0, 1.0))
        plan = compile_plan(sde, solver, [0.0, 0.3, 0.7, 1.0])
        x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
        end = execute(plan, lambda x, t: torch.sin(x) + t, x, noise.Gaussian([1]))
        return end.square().sum()

    values = [torch.tensor(v, dtype=torch.float64) for v in ([-1.0, -2.0, -0.5], 1.0, 0.5)]
    found = torch.autograd.grad(loss(*(v.requires_grad_(True) for v in values)), values)
    for i, slope in enumerate(found):
        sides = [[v.detach().clone() for v in values] for _ in range(2)]
        sides[0][i] += 1e-6
        sides[1][i] -= 1e-6
        difference = float(loss(*sides[0]) - loss(*sides[1])) / 2e-6
        assert float(slope.sum()) == pytest.approx(difference, rel=1e-6)


def test_a_matrix_as_a_diagonal():
    with pytest.warns(UserWarning, match="no matrix that mixes components"):
        SemiLinearSDE.from_coefficients(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), span=(0.0, 1.0))


def test_what_leaves_the_floating_point_numbers():
    with pytest.raises(ValueError, match="leave the floating-point numbers"):
        compile_plan(reverse_sde(EDM(), "noise", 8.0), "seeds-1", [1e307, 1e-3])
    for rate in ("5000*cos(9*t)", "5e3 - 1e4*t"):  # a state that shrinks by e^1000 and grows again
        with pytest.raises(ValueError, match="varies by more than floating-point numbers hold"):
            SemiLinearSDE.from_coefficients(rate, g=0.3, span=(0.0, 1.0))
    with pytest.raises(ValueError, match=r"The integral of A reaches 5e\+07 .* cannot be resolved"):
        SemiLinearSDE.from_coefficients("-1e8*t", span=(0.0, 1.0))


@pytest.mark.parametrize("ell", [0.5, 1.0, 2.0])
def test_noise_of_the_preconditioned_form_far_below_sigma_data(ell: float):
    """One step at σ = 1e-9 σd: the noise is that of the data form, where differences of the noise
    clock itself would be rounding."""
    schedule = EDM()
    grid = torch.tensor([2e-9, 1e-9], dtype=torch.float64)
    stds = [
        float(compile_plan(reverse_sde(schedule, form, ell, sigma_data=1.0), "seeds-1", grid)
              .noise_covariance(0)[0, 0]) ** 0.5
        for form in ("precond", "noise")
    ]  # fmt: skip
    assert stds[0] == pytest.approx(stds[1], rel=1e-9)


@pytest.mark.parametrize("shift", [1.0, 0.25, 0.1])
def test_the_default_grid_does_not_depend_on_where_a_shift_puts_time(shift: float):
    """Cosine with its log-SNR shifted (simple diffusion, arXiv 2301.11093): uniform time left a
    variance of 0.197 and 0.13 for 0.25."""

    def log_sigma(t: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.tan(0.5 * math.pi * t) / shift)

    schedule = FromCallables(
        lambda t: torch.sqrt(torch.sigmoid(-2.0 * log_sigma(t))),
        lambda t: torch.sqrt(torch.sigmoid(2.0 * log_sigma(t))),
        (0.0, 1.0),
    )
    plan = plan_sampling(schedule, nfe=60)
    assert plan.solver == "seeds-3"
    _, variance = gaussian_moments(plan, Gaussian([0.7], [0.25], schedule))
    assert float(variance) == pytest.approx(0.25, rel=0.01)


def test_what_would_never_end():
    with pytest.raises(ValueError, match="at most 100000 steps, got 10000000"):
        grids.uniform_lambda(EDM(), 10**7)
    with pytest.raises(ValueError, match="at most 100"):
        phi(10**6, 1.0)


def test_the_initial_state_is_that_of_the_first_sigma():
    """Not of the noise end of the sampling range."""
    seen: list[torch.Tensor] = []

    class Watched:
        schedule, prediction = TARGET.schedule, TARGET.prediction

        def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            seen.append(x.clone())
            return TARGET(x, t)

    for first in (80.0, 20.0):
        sample(Watched(), (4, 1), "seeds-1", grid=[first, 1.0, 0.0], seed=5, **QUIET)
    torch.testing.assert_close(seen[0] / 80.0, seen[2] / 20.0)
