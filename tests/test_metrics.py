"""Distances between distributions: against closed forms and scipy."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import linalg, stats

from expint.metrics import (
    energy_distance,
    frechet_distance,
    gaussian_wasserstein,
    sliced_wasserstein,
)
from expint.noise import initial_state


def samples(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return initial_state([seed], (n, d), torch.float64)[0]


def test_gaussian_wasserstein_in_one_dimension():
    """W² = (m_1 − m_2)² + (s_1 − s_2)²."""
    assert float(gaussian_wasserstein([1.0], [4.0], [-2.0], [36.0])) == pytest.approx(
        5.0, rel=1e-14
    )
    assert float(gaussian_wasserstein([1.0], [[4.0]], [-2.0], [[36.0]])) == pytest.approx(
        5.0, rel=1e-12
    )


def test_gaussian_wasserstein_with_full_covariances():
    a, b = samples(5, 3), samples(5, 3, seed=1)
    c_1, c_2 = a.T @ a, b.T @ b
    root = linalg.sqrtm(c_1.numpy())
    cross = linalg.sqrtm(root @ c_2.numpy() @ root).real.trace()
    expected = math.sqrt(0.25 + float(c_1.trace() + c_2.trace()) - 2 * cross)
    found = gaussian_wasserstein([0.0, 0.0, 0.5], c_1, [0.0, 0.0, 0.0], c_2)
    assert float(found) == pytest.approx(expected, rel=1e-7)
    assert float(gaussian_wasserstein([0.0] * 3, c_1, [0.0] * 3, c_1)) < 1e-6


def test_diagonal_and_full_covariances_agree():
    v, w = torch.tensor([0.3, 2.0, 0.0]), torch.tensor([1.0, 0.5, 0.7])
    mean = torch.tensor([0.1, 0.2, 0.3])
    full = gaussian_wasserstein(mean, torch.diag(v), -mean, torch.diag(w))
    assert float(full) == pytest.approx(float(gaussian_wasserstein(mean, v, -mean, w)), rel=1e-6)


def test_frechet_distance_of_shifted_samples():
    x = samples(500, 2)
    shift = torch.tensor([3.0, -4.0], dtype=torch.float64)
    assert float(frechet_distance(x, x + shift)) == pytest.approx(25.0, rel=1e-9)
    assert float(frechet_distance(x[:, :1], 2 * x[:, :1])) == pytest.approx(
        float(x[:, 0].mean() ** 2 + x[:, 0].var()), rel=1e-9
    )


@pytest.mark.parametrize(("n", "m"), [(400, 400), (300, 170)])
def test_energy_distance_is_scipys_squared(n: int, m: int):
    x, y = samples(n, 1), 1.3 * samples(m, 1, seed=1) + 0.4
    expected = stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    assert float(energy_distance(x, y)) == pytest.approx(expected, rel=1e-9)


def test_energy_distance_in_many_dimensions():
    x, y = samples(50, 4), samples(60, 4, seed=1)
    pairs = [
        torch.stack([(a - b).norm() for a in first for b in second]).mean()
        for first, second in ((x, y), (x, x), (y, y))
    ]
    assert float(energy_distance(x, y)) == pytest.approx(
        float(2 * pairs[0] - pairs[1] - pairs[2]), rel=1e-9
    )
    assert float(energy_distance(x, x)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(400, 400), (300, 170), (7, 5)])
def test_sliced_wasserstein_in_one_dimension(n: int, m: int):
    """The exact W_2 by an optimal coupling of the atoms: both sets are repeated until they are
    equally many.
    """
    x, y = samples(n, 1), 1.3 * samples(m, 1, seed=1) + 0.4
    k = math.lcm(n, m)
    first, second = (torch.sort(v[:, 0]).values.repeat_interleave(k // len(v)) for v in (x, y))
    exact = float(((first - second) ** 2).mean().sqrt())
    assert float(sliced_wasserstein(x, y, directions=3)) == pytest.approx(exact, rel=1e-9)


def test_sliced_wasserstein_of_a_shift():
    """W_2 of a projection on u is |u·shift|, and E (u·shift)² = |shift|²/d."""
    x = samples(64, 3)
    shift = torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64)
    found = float(sliced_wasserstein(x, x + shift, directions=20_000))
    assert found == pytest.approx(3.0 / math.sqrt(3), rel=0.02)
    assert float(sliced_wasserstein(x, x + shift, seed=1)) != float(
        sliced_wasserstein(x, x + shift, seed=2)
    )
    assert float(sliced_wasserstein(x, x.flip(0))) == 0.0


def test_two_halves_of_one_sample_are_close():
    x = samples(4000, 2)
    for distance in (frechet_distance, sliced_wasserstein, energy_distance):
        assert float(distance(x[:2000], x[2000:])) < 0.1 * float(distance(x[:2000], x[2000:] + 1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy_distance(torch.zeros(3), torch.zeros(3)), r"flatten events first"),
        (
            lambda: frechet_distance(torch.zeros(3, 2), torch.zeros(3, 4)),
            r"got \(3, 2\) and \(3, 4\)",
        ),
        (lambda: sliced_wasserstein(torch.zeros(1, 2), torch.zeros(3, 2)), "n, m >= 2"),
        (
            lambda: gaussian_wasserstein([0.0], [1.0], [0.0], [[1.0]]),
            r"covariances both \(d, d\) or both \(d,\)",
        ),
    ],
)
def test_what_is_refused(call: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        call()
