"""Schedules through a table: the published recursions and products, and what happens between and
below the entries.
"""

import math

import numpy as np
import pytest
import torch

from expint.schedules import IDDPM, Discrete
from expint.schedules.discrete import linear_betas


def edm_recursion(M: int, C_1: float = 0.001, C_2: float = 0.008) -> list[float]:
    """u_0 … u_{M−1} of EDM's table 1: u_M = 0, u_{j−1} = √((u_j² + 1)/max(ᾱ_{j−1}/ᾱ_j, C_1) − 1),
    ᾱ_j = sin²(π j/(2M(C_2+1))).
    """
    bar = [math.sin(0.5 * math.pi * j / (M * (C_2 + 1))) ** 2 for j in range(M + 1)]
    u, levels = 0.0, []
    for j in range(M, 0, -1):
        u = math.sqrt((u * u + 1) / max(bar[j - 1] / bar[j], C_1) - 1)
        levels.append(u)
    return levels  # from data (u_{M−1}) to noise (u_0)


def iddpm_betas(M: int) -> np.ndarray:
    """β_i = min(1 − ᾱ((i+1)/M)/ᾱ(i/M), 0.999), ᾱ(t) = cos²((t + 0.008)/1.008 · π/2): Nichol &
    Dhariwal's definition.
    """

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - bar((i + 1) / M) / bar(i / M), 0.999) for i in range(M)])


@pytest.mark.parametrize("M", [1000, 4000])
def test_iddpm_is_edms_recursion(M: int):
    t = np.arange(M, dtype=np.float64)
    np.testing.assert_allclose(IDDPM(M).sigma(t), edm_recursion(M), rtol=1e-8)


@pytest.mark.parametrize("M", [1000, 4000])
def test_iddpm_is_the_product_of_its_betas(M: int):
    bar = np.exp(np.cumsum(np.log1p(-iddpm_betas(M))))
    schedule = IDDPM(M)
    t = np.arange(M, dtype=np.float64)
    np.testing.assert_allclose(schedule.alpha(t) ** 2, bar, rtol=1e-9)
    np.testing.assert_allclose(schedule.std(t) ** 2, 1 - bar, rtol=1e-9)
    # The clip is what keeps the last entry finite.
    assert schedule.sigma(float(M - 1)) / schedule.sigma(float(M - 2)) == pytest.approx(
        math.sqrt(1000), rel=1e-3
    )


def test_linear_table_as_published():
    """The table of Ho et al.: β from 1e-4 to 0.02 in 1000 equal steps."""
    bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    schedule = Discrete()
    assert schedule.steps == 1000 and schedule.sampling_range == (999.0, 0.0)
    t = np.arange(1000, dtype=np.float64)
    np.testing.assert_allclose(schedule.alpha(t) ** 2, bar, rtol=1e-12)
    np.testing.assert_allclose(schedule.sigma(t) ** 2, (1 - bar) / bar, rtol=1e-11)


@pytest.mark.parametrize("kind", [list, np.asarray, torch.as_tensor, tuple])
def test_betas_and_products_give_one_schedule(kind: object):
    betas = linear_betas(50, 1e-3, 0.3)
    by_betas = Discrete.from_betas(kind(betas.numpy()))  # type: ignore[operator]
    by_products = Discrete(kind(torch.cumprod(1 - betas, 0).numpy()))  # type: ignore[operator]
    t = torch.linspace(0, 49, 99, dtype=torch.float64)
    torch.testing.assert_close(by_betas.lam(t), by_products.lam(t), rtol=1e-12, atol=1e-12)


def test_lambda_is_linear_between_entries():
    schedule = Discrete.from_betas(linear_betas(20, 0.01, 0.4))
    for left in (0, 7, 18):
        a, b = schedule.lam(float(left)), schedule.lam(float(left + 1))
        assert schedule.lam(left + 0.25) == pytest.approx(0.75 * a + 0.25 * b, rel=1e-14)


@pytest.mark.parametrize("schedule", [Discrete(), IDDPM(40)], ids=["linear", "iddpm"])
def test_below_the_table_the_noise_goes_linearly_to_zero(schedule: Discrete | IDDPM):
    for t in (-0.999, -0.5, -0.1, 0.0):
        assert schedule.sigma(t) == pytest.approx(schedule.sigma(0.0) * (1 + t), rel=1e-12)
    assert (
        schedule.domain[0] == -1.0
        and schedule.sigma(-1.0) == 0.0
        and schedule.t_of_lam(float("inf")) == -1.0
    )
    t = torch.linspace(-0.99, 0, 12, dtype=torch.float64)
    torch.testing.assert_close(schedule.t_of_lam(schedule.lam(t)), t, rtol=1e-9, atol=1e-12)


def test_round_gives_entries():
    schedule = Discrete()
    assert (
        schedule.round(3.4) == 3.0
        and schedule.round(-0.7) == 0.0
        and schedule.round(2000.0) == 999.0
    )
    assert torch.equal(schedule.round(torch.tensor([1.6, 998.9])), torch.tensor([2.0, 999.0]))


def test_gradients_flow_through_time_and_its_inverse():
    schedule = IDDPM(100)
    t = torch.tensor([3.5, 40.2, 98.7], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.t_of_lam(schedule.lam(t)).sum(), t)
    torch.testing.assert_close(slope, torch.ones_like(slope), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            [0.9, 0.5, 0.6, 0.1],
            r"must decrease, but entry 2 \(0\.6\) is not below entry 1 \(0\.5\)",
        ),
        ([0.9, 0.9], r"entry 1 \(0\.9\) is not below entry 0"),
        (
            [0.9, float("nan"), 0.1],
            r"alphas_cumprod\[1\] = nan is not strictly between 0\.0 and 1\.0",
        ),
        ([1.0, 0.5], r"alphas_cumprod\[0\] = 1\.0"),
        ([0.5, 0.0], r"alphas_cumprod\[1\] = 0\.0"),
        ([0.5], r"1-D table of at least 2 values, got shape \(1,\)"),
        ([[0.5, 0.4]], r"got shape \(1, 2\)"),
    ],
)
def test_tables_that_are_refused(table: object, message: str):
    with pytest.raises(ValueError, match=message):
        Discrete(table)


def test_betas_that_are_refused():
    with pytest.raises(ValueError, match=r"betas\[1\] = 1\.0 is not strictly between"):
        Discrete.from_betas([0.1, 1.0])


@pytest.mark.parametrize("parameters", [{"M": 1}, {"C_1": 0.0}, {"C_1": 1.0}, {"C_2": 0.0}])
def test_iddpm_parameters_that_are_refused(parameters: dict[str, float]):
    with pytest.raises(ValueError, match="IDDPM needs M >= 2, 0 < C_1 < 1 and C_2 > 0"):
        IDDPM(**parameters)  # type: ignore[arg-type]
