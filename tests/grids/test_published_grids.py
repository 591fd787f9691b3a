"""Grids that others have published, against their numbers and formulas."""

import math

import numpy as np
import pytest
import torch

from expint import grids
from expint.schedules import EDM, VP, Discrete, Flow, scaled_linear_betas

SD = Discrete.from_betas(scaled_linear_betas())
"""Stable Diffusion's table, σ from 14.615 to 0.0292."""


def divergence(schedule: EDM, times: torch.Tensor, std: float) -> float:
    """Of N(0, std² + σ_min²) from the end of Euler steps of dx/dσ = σ x/(std² + σ²), which start
    with the right variance."""
    ends = std**2 + schedule.sigma(times[[0, -1]]) ** 2
    factor = 1 + times.diff() * times[:-1] / (std**2 + times[:-1] ** 2)
    ratio = float(ends[0] * factor.prod() ** 2 / ends[1])
    return 0.5 * (1 / ratio - 1 + math.log(ratio))


# The paper's σ, and the timesteps of the authors' quick guide, whose noise levels are those of
# entries of the table (`AysSchedules` of diffusers has both).
PUBLISHED = {
    "sd15": (
        [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152],
        [999, 850, 736, 645, 545, 455, 343, 233, 124, 24],
    ),
    "sdxl": (
        [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113],
        [999, 845, 730, 587, 443, 310, 193, 116, 53, 13],
    ),
}


@pytest.mark.parametrize("table", PUBLISHED)
def test_ten_steps_of_ays_are_the_published_ones(table: str):
    sigma, timesteps = PUBLISHED[table]
    times = grids.get(f"ays_{table}")(SD, 10)
    np.testing.assert_allclose(SD.sigma(times[:-1]).numpy(), sigma, rtol=1e-3, atol=1.6e-3)
    assert SD.sigma(times[-1].item()) == 0.0
    np.testing.assert_allclose(times[:-1].numpy(), timesteps, atol=1e-4)
    whole = grids.ays(SD, 10, table, final="none")
    assert torch.equal(whole[:-1], times[:-1])
    assert SD.sigma(whole[-1].item()) == pytest.approx(0.029, abs=5e-4)


@pytest.mark.parametrize(
    ("table", "first", "last"), [("svd", 700.0, 0.002), ("deepfloyd", 160.41, 0.006)]
)
def test_tables_of_other_ranges(table: str, first: float, last: float):
    schedule = EDM(sigma_min=last, sigma_max=first)
    times = grids.ays(schedule, 10, table, final="none")
    np.testing.assert_allclose(times.numpy(), grids.AYS_TABLES[table], rtol=1e-12)


def test_other_numbers_of_steps_are_interpolated_in_log_sigma():
    """20 steps hold the 10, with geometric means between; and 7 against numpy, as in the authors'
    quick guide."""
    table = grids.AYS_TABLES["sdxl"]
    schedule = EDM(sigma_min=table[-1], sigma_max=table[0])
    fine = grids.ays(schedule, 20, "sdxl", final="none").numpy()
    np.testing.assert_allclose(fine[::2], table, rtol=1e-12)
    np.testing.assert_allclose(fine[1::2], np.sqrt(fine[:-1:2] * fine[2::2]), rtol=1e-12)
    at = np.interp(np.linspace(0, 1, 8), np.linspace(0, 1, 11), np.log(table[::-1]))[::-1]
    found = grids.ays(schedule, 7, "sdxl", final="none").numpy()
    np.testing.assert_allclose(found, np.exp(at), rtol=1e-12)


def test_unknown_table():
    with pytest.raises(ValueError, match=r"must be one of \['sd15', .*\], got 'flux'"):
        grids.ays(EDM(), 10, "flux")


@pytest.mark.parametrize("std", [0.5, 1.0, 3.0])
def test_kl_optimal_is_the_formula_of_its_theorem(std: float):
    """Align Your Steps, theorem 3.1: t_i = c tan((1 − i/n) arctan(t_min/c) + (i/n)
    arctan(t_max/c))."""
    i = np.arange(13)[::-1] / 12
    angle = (1 - i) * math.atan(0.002 / std) + i * math.atan(80 / std)
    times = grids.kl_optimal(EDM(), 12, std, final="none")
    np.testing.assert_allclose(times.numpy(), std * np.tan(angle), rtol=1e-9)
    if std == 1.0:
        assert torch.equal(times, grids.get("kl_optimal")(EDM(), 12, final="none"))


def test_kl_optimal_gives_gaussian_data_the_least_divergence():
    """Each interior noise level moved either way makes the divergence larger; at another std it is
    larger, too."""
    std, schedule = 0.5, EDM(sigma_min=0.01, sigma_max=20.0)
    best = grids.kl_optimal(schedule, 6, std, final="none")
    least = divergence(schedule, best, std)
    for i in range(1, 6):
        for factor in (0.97, 1.03):
            moved = best.clone()
            moved[i] *= factor
            assert divergence(schedule, moved, std) > least
    assert divergence(schedule, grids.kl_optimal(schedule, 6, 1.0, final="none"), std) > 1.5 * least


@pytest.mark.parametrize("rho", [0.5, 1.0, 2.0])
def test_polyexponential_is_that_of_k_diffusion(rho: float):
    """σ = exp(r^ρ (log σ_max − log σ_min) + log σ_min), r = 1, …, 0, and a last 0."""
    ramp = np.linspace(1, 0, 9) ** rho
    sigma = np.exp(ramp * (math.log(80) - math.log(0.002)) + math.log(0.002))
    times = grids.polyexponential(EDM(), 9, rho)
    np.testing.assert_allclose(times.numpy(), [*sigma, 0.0], rtol=1e-12)
    if rho == 1.0:
        assert torch.allclose(times, grids.exponential(EDM(), 9), rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "bad"), [("polyexponential", {"rho": 0.0}), ("cosine", {"std": -1.0})]
)
def test_parameters_must_be_positive(name: str, bad: dict[str, float]):
    ((key, value),) = bad.items()
    for wrong in (value, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"The grid '{name}' needs {key} > 0, got {wrong}"):
            grids.get(name)(VP(), 5, **{key: wrong})


@pytest.mark.parametrize("shift", [3.0, math.exp(1.15)])
def test_shifted_is_the_shift_of_stable_diffusion_3_and_of_flux(shift: float):
    """σ' = s σ/(1 + (s − 1) σ); Flux writes it e^μ/(e^μ + 1/σ − 1), with μ = log s from the size of
    the image."""
    sigma = np.linspace(1.0, 1e-3, 11)
    mu = math.log(shift)
    stop = shift * sigma[-1] / (1 + (shift - 1) * sigma[-1])
    times = grids.shifted(Flow(), 10, shift, stop=stop, final="none").numpy()
    np.testing.assert_allclose(times, shift * sigma / (1 + (shift - 1) * sigma), rtol=1e-12)
    np.testing.assert_allclose(times, math.exp(mu) / (math.exp(mu) + 1 / sigma - 1), rtol=1e-12)
