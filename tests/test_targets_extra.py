"""Targets beyond their denoisers: samples, densities, and data as they are."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from expint import sample
from expint.metrics import energy_distance
from expint.noise import initial_state, per_sample
from expint.schedules import EDM, VP
from expint.targets import Empirical, Gaussian, GaussianMixture

DATA = [[-1.0, 0.3], [0.5, 0.5], [2.0, -1.0]]
TARGETS: dict[str, Any] = {
    "gaussian": Gaussian([0.7, -1.0], [0.3, 2.0], VP()),
    "mixture": GaussianMixture(DATA, 0.4, [0.5, 0.2, 0.3], VP()),
    "empirical": Empirical(DATA, 0.3, VP()),
}
every_target = pytest.mark.parametrize("name", TARGETS)


@every_target
@pytest.mark.parametrize("t", [None, 0.2])
def test_samples_follow_the_density(name: str, t: float | None):
    """Each component of n = 4000 samples against the distribution function got by summing
    exp(log_density) on a lattice.
    """
    target = TARGETS[name]
    x = target.sample(4000, t, seed=5)
    assert x.shape == (4000, *target.shape) and x.dtype == torch.float64
    axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
    lattice = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = torch.exp(target.log_density(lattice, t)).reshape(361, 361)
    step = float(axis[1] - axis[0])
    assert float(density.sum()) * step**2 == pytest.approx(1.0, abs=1e-3)
    for k in range(2):
        marginal = density.sum(1 - k) * step
        cumulative = torch.cumsum(marginal, 0) * step - 0.5 * step * marginal

        def distribution(values: Any, cumulative: torch.Tensor = cumulative) -> Any:
            return np.interp(values, axis.numpy(), cumulative.numpy())

        assert stats.kstest(x[:, k].numpy(), distribution).pvalue > 1e-4


@every_target
def test_the_score_is_that_of_the_denoiser(name: str):
    """∇ log p(x, t) = (α D − x)/σ̄²."""
    target, t = TARGETS[name], 0.3
    x = initial_state([1], (6, 2), torch.float64)[0].requires_grad_(True)
    (score,) = torch.autograd.grad(target.log_density(x, t).sum(), x)
    alpha, std = target.schedule.alpha(t), target.schedule.std(t)
    torch.testing.assert_close(
        score, (alpha * target(x.detach(), t) - x.detach()) / std**2, rtol=1e-9, atol=1e-9
    )


@every_target
def test_a_sample_depends_on_its_own_seed(name: str):
    target = TARGETS[name]
    whole = target.sample(10, seed=3)
    torch.testing.assert_close(target.sample(4, seed=3, start=4), whole[4:8], rtol=0, atol=0)
    start = initial_state(per_sample(3, 10), target.shape, torch.float64)
    assert float(torch.corrcoef(torch.stack([whole.flatten(), start.flatten()]))[0, 1]) < 0.9


@every_target
def test_the_sampler_reaches_the_target(name: str):
    """Seeded samples of the solver against exact ones: no farther than two exact sets are, up to
    statistics.
    """
    target = TARGETS[name]
    drawn = sample(
        target,
        (1000, *target.shape),
        "seeds-3",
        steps=20,
        seed=50_000,
        progress=False,
        dtype=torch.float64,
    )
    exact, other = target.sample(1000), target.sample(1000, seed=1)
    assert float(energy_distance(drawn, exact)) < 3 * float(energy_distance(exact, other)) + 5e-3


def test_an_empirical_target_is_a_mixture_at_its_data():
    agree(GaussianMixture(DATA, 0.3, None, VP()), Empirical(DATA, 0.3, VP()))


def test_many_items_by_a_matrix_product():
    """101 items, of which all but two are one: a mixture of three with the weight 99 on that."""
    agree(
        GaussianMixture(DATA, 0.3, [99.0, 1.0, 1.0], VP()),
        Empirical([DATA[0]] * 99 + DATA[1:], 0.3, VP()),
    )


def agree(mixture: GaussianMixture, empirical: Empirical):
    x = initial_state([1], (8, 2), torch.float64)[0]
    for t in (0.01, 0.4, 1.0):
        torch.testing.assert_close(empirical(x, t), mixture(x, t), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            empirical.log_density(x, t), mixture.log_density(x, t), rtol=1e-10, atol=1e-10
        )
    torch.testing.assert_close(
        empirical.log_density(x), mixture.log_density(x), rtol=1e-10, atol=1e-10
    )


def test_an_empirical_target_gives_its_data_back():
    """With std = 0 the only samples are the data; events may have any shape."""
    data = initial_state([2], (5, 1, 3, 3), torch.float64)[0]
    target = Empirical(data, 0.0, EDM())
    assert target.shape == (1, 3, 3)
    drawn = sample(target, (20, 1, 3, 3), "seeds-2", steps=12, progress=False, dtype=torch.float64)
    nearest = torch.cdist(drawn.flatten(1), data.flatten(1)).min(1).values
    assert float(nearest.max()) < 1e-6
    picked = target.sample(200)
    assert float(torch.cdist(picked.flatten(1), data.flatten(1)).min(1).values.max()) < 1e-6


def test_the_denoiser_computes_in_the_dtype_of_the_state():
    single = Empirical(torch.tensor(DATA), 0.1, EDM())
    assert single.data.dtype == torch.float32
    x = torch.tensor([[0.4, 0.4]])
    assert single(x, 0.5).dtype == torch.float32
    torch.testing.assert_close(
        single(x, 0.5).double(), Empirical(DATA, 0.1, EDM())(x.double(), 0.5), rtol=1e-5, atol=1e-5
    )


def test_at_infinite_noise_the_denoiser_is_the_mean():
    target = Empirical(DATA, 0.0, EDM())
    found = target(torch.zeros(1, 2, dtype=torch.float64), 1e9)
    assert found[0].tolist() == pytest.approx(
        torch.tensor(DATA, dtype=torch.float64).mean(0).tolist(), abs=1e-6
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Empirical([1.0, 2.0], 0.0, VP()),
            r"shape \(N, \*event\) with N >= 1, got shape \(2,\)",
        ),
        (lambda: Empirical([[math.nan]], 0.0, VP()), "must be finite"),
        (lambda: Empirical(DATA, -1.0, VP()), r"std must be a finite number >= 0, got -1\.0"),
        (lambda: Empirical(DATA, 0.0, VP(), prediction="noise"), "Reparametrized"),
        (lambda: GaussianMixture(DATA, 1.0, None, VP(), prediction="noise"), "Reparametrized"),
        (lambda: Empirical(DATA, 0.0, VP()).log_density(torch.zeros(1, 2)), "have no density"),
    ],
)
def test_what_is_refused(build: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        build()
