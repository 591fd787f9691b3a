"""Times of a path that are far apart, nearly equal, or several in one query."""

import itertools
import math

import pytest
import torch

from expint.noise import BrownianPath, FromTorchsde, UnionPath


def clock(*taus: float) -> torch.Tensor:
    return torch.tensor(taus, dtype=torch.float64)


def test_values_many_e_folds_apart_have_their_small_correlations():
    """n = 2**18: the correlation of W(τ) and W(e^d τ) is e^(−d/2), .018 at d = 8: 9 standard errors
    for values that are drawn independently there."""
    n, folds = 2**18, 4.0 * torch.arange(-6, 7, dtype=torch.float64)
    taus = torch.cat([clock(0.0), torch.exp(folds)])
    opened = BrownianPath([3], resolution=1).open(torch.empty(1, n))
    values = opened.increments(taus)[:, 0].double().cumsum(0)
    scaled = values * torch.exp(-0.5 * folds)[:, None]
    exact = torch.exp(-0.5 * (folds[:, None] - folds).abs())
    score = (scaled @ scaled.T / n - exact) * torch.sqrt(n / (1.0 + exact**2))
    assert float(score.abs().max()) < 5.5


@pytest.mark.parametrize("event", [1, 16, 64, 256])
@pytest.mark.parametrize("resolution", [1, 6])
def test_increments_at_all_scales_share_no_numbers(event: int, resolution: int):
    """n = 4096 numbers of small events over 81 neighbouring times: increments are independent. A
    normal that two scales share is a correlation of some .5, 30 standard errors."""
    n = 4096
    taus = torch.exp(torch.arange(-40, 41, dtype=torch.float64) / resolution)
    opened = BrownianPath(range(n // event), resolution).open(torch.empty(n // event, event))
    steps = opened.increments(taus).flatten(1).double() / taus.diff().sqrt()[:, None]
    score = (steps @ steps.T / n - torch.eye(80, dtype=torch.float64)) * math.sqrt(n)
    score /= 1.0 + (math.sqrt(2.0) - 1.0) * torch.eye(80, dtype=torch.float64)
    assert float(score.abs().max()) < 6.0


@pytest.mark.parametrize("tau", [-3.0, 1e-7, 2.0, 5e8])
def test_near_times_are_two_and_equal_ones_are_one(tau: float):
    """Rounding of two grids, some 1e-15, is one time; 1e-7 of a time apart are two, in the path
    and in what it is asked."""
    near, same = tau * (1.0 + 1e-7), tau * (1.0 + 4e-15)
    path = UnionPath([0], [tau, near, same, 10.0 * abs(tau)])
    assert len(path.taus) == 3
    opened = path.open(torch.empty(1, 64, dtype=torch.float64))
    between = opened.increments(clock(*sorted((tau, near))))
    assert 0.1 < float(between.square().mean()) / abs(near - tau) < 10.0
    assert not opened.increments(clock(*sorted((tau, same)))).any()
    alone = UnionPath([0], [tau, 10.0 * abs(tau)]).open(torch.empty(1, 1))
    with pytest.raises(ValueError, match="is not one of them"):
        alone.increments(clock(*sorted((near, 10.0 * abs(tau)))))


def test_the_integral_of_a_torchsde_motion_is_over_the_whole_query():
    """Of a query of several intervals, by Chen's relation from those of each."""
    torchsde = pytest.importorskip("torchsde")
    motion = torchsde.BrownianInterval(
        0.01, 10.0, (2, 3), torch.float64, entropy=5, levy_area_approximation="space-time"
    )
    taus = clock(0.1, 0.4, 1.5, 6.0)
    opened = FromTorchsde(motion).open(torch.empty(2, 3, dtype=torch.float64))
    steps, integral = (part.clone() for part in opened.increments(taus, space_time=True))
    expected, reached = torch.zeros_like(integral), torch.zeros_like(integral)
    for (a, b), step in zip(itertools.pairwise(taus), steps, strict=True):
        (one,), own = opened.increments(torch.stack([a, b]), space_time=True)
        torch.testing.assert_close(one, step, rtol=1e-12, atol=1e-12)
        expected += own + reached * (b - a)
        reached += one
    torch.testing.assert_close(integral, expected, rtol=1e-10, atol=1e-10)
