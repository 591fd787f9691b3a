"""Analytic targets: denoisers against the definition of a posterior mean."""

import pytest
import torch
from scipy import integrate, stats

from expint import schedules
from expint.schedules import VP
from expint.targets import Gaussian, GaussianMixture


def posterior_mean(density: object, alpha: float, std: float, x: float) -> float:
    """E[x_0 | x] = ∫ x_0 p(x_0) N(x; αx_0, σ̄²) dx_0 / ∫ p(x_0) N(x; αx_0, σ̄²) dx_0."""

    def joint(x0: float) -> float:
        return density(x0) * stats.norm.pdf(x, alpha * x0, std)  # type: ignore[operator]

    settings = {"limit": 400, "epsabs": 0, "epsrel": 1e-9, "points": [-1.0, 0.0, 0.8, x]}
    return (
        integrate.quad(lambda u: u * joint(u), -8, 8, **settings)[0]
        / integrate.quad(joint, -8, 8, **settings)[0]
    )


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_mixture_is_the_posterior_mean(t: float):
    target = GaussianMixture([[-1.0], [0.8]], 0.3, [3.0, 1.0], VP())
    xs = torch.tensor([[-1.7], [0.1], [1.4]], dtype=torch.float64)

    def density(u: float) -> float:
        return 0.75 * stats.norm.pdf(u, -1.0, 0.3) + 0.25 * stats.norm.pdf(u, 0.8, 0.3)

    expected = [posterior_mean(density, VP().alpha(t), VP().std(t), float(x)) for x in xs]
    assert target(xs, t)[:, 0].tolist() == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_gaussian_is_the_posterior_mean():
    target = Gaussian([0.4], [0.5], VP())
    x = torch.tensor([[1.3]], dtype=torch.float64)
    expected = posterior_mean(
        lambda u: stats.norm.pdf(u, 0.4, 0.5**0.5), VP().alpha(0.3), VP().std(0.3), 1.3
    )
    assert float(target(x, 0.3)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", schedules.names())
def test_one_component_of_a_mixture_is_a_gaussian(name: str):
    schedule = schedules.get(name)
    x = torch.tensor([[0.3, -2.0], [1.0, 5.0]], dtype=torch.float64)
    for sigma in (0.05, 1.0, 20.0):
        t = schedule.t_of_sigma(sigma)
        mixture = GaussianMixture([[0.4, -1.0]], 0.6, None, schedule)
        torch.testing.assert_close(
            mixture(x, t), Gaussian([0.4, -1.0], 0.36, schedule)(x, t), rtol=1e-12, atol=1e-12
        )


def test_dtype_follows_the_state():
    assert GaussianMixture([[0.0]], 1.0, None, VP())(torch.ones(2, 1), 0.5).dtype == torch.float32
    assert Gaussian([0.0], 1.0, VP())(torch.ones(2, 1), 0.5).dtype == torch.float32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Gaussian([0.0], [-1.0], VP()),
            r"variances must be finite and >= 0, got \[-1\.0\]",
        ),
        (lambda: Gaussian([0.0], 1.0, VP(), prediction="noise"), "Reparametrized"),
        (lambda: GaussianMixture([0.0], 1.0, None, VP()), r"means must be \(K, d\)"),
        (lambda: GaussianMixture([[0.0]], 1.0, [1.0, 1.0], VP()), r"got \(1, 1\) and \(2,\)"),
        (lambda: GaussianMixture([[0.0]], 0.0, None, VP()), "must be positive"),
        (lambda: GaussianMixture([[0.0]], 1.0, [0.0], VP()), "must be positive"),
    ],
)
def test_targets_that_are_refused(build: object, message: str):
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]
