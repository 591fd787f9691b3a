"""Gauss–Legendre sums and antiderivatives, against 40-digit values."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch

from expint.numerics.quadrature import Primitive, gauss_legendre, integrate


@pytest.mark.parametrize(("points", "panels"), [(2, 1), (16, 1), (32, 1), (5, 24)])
def test_gauss_legendre_is_exact_for_polynomials(points: int, panels: int):
    nodes, weights = gauss_legendre(points, panels)
    assert nodes.dtype == weights.dtype == torch.float64 and len(nodes) == points * panels
    for degree in range(2 * points):
        assert (weights * nodes**degree).sum().item() == pytest.approx(1 / (degree + 1), rel=1e-14)
    assert gauss_legendre(points, panels)[0] is nodes
    if panels == 1:
        error = (weights * nodes ** (2 * points)).sum().item() - 1 / (2 * points + 1)
        assert points > 10 or abs(error) > 1e-6


def test_integrals_over_many_intervals_are_differentiable_in_all_they_depend_on():
    low = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    high = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64)
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    found = integrate(lambda t: torch.exp(-rate * t), low, high)
    exact = (torch.exp(-rate * low) - torch.exp(-rate * high)) / rate
    torch.testing.assert_close(found, exact, rtol=1e-13, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(found.sum(), (low, rate), retain_graph=True),
        torch.autograd.grad(exact.sum(), (low, rate)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    rough = integrate(torch.sqrt, torch.zeros(1).double(), torch.ones(1).double(), 8, panels=64)
    assert rough.item() == pytest.approx(2 / 3, abs=1e-6)


# f, and its integrals from 0 to t and from t to 1.
INTEGRALS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exponential": (
        lambda t: torch.exp(-40 * t),
        lambda t: (1 - mpmath.exp(-40 * t)) / 40,
        lambda t: (mpmath.exp(-40 * t) - mpmath.exp(-40)) / 40,
    ),
    "root": (torch.sqrt, lambda t: t**1.5 * 2 / 3, lambda t: (1 - t**1.5) * 2 / 3),
    "inverse root": (torch.rsqrt, lambda t: 2 * mpmath.sqrt(t), lambda t: 2 - 2 * mpmath.sqrt(t)),
    "vanishing": (lambda t: t**2, lambda t: t**3 / 3, lambda t: (1 - t**3) / 3),
    "reflected": (
        lambda t: (1 - t) ** 2,
        lambda t: (1 - (1 - t) ** 3) / 3,
        lambda t: (1 - t) ** 3 / 3,
    ),
    "kink": (
        lambda t: (t - 0.25).abs(),
        lambda t: ((t - 0.25) * abs(t - 0.25) + mpmath.mpf(1) / 16) / 2,
        lambda t: (mpmath.mpf(9) / 16 - (t - 0.25) * abs(t - 0.25)) / 2,
    ),
    "oscillating": (
        lambda t: 1 + torch.cos(200 * t),
        lambda t: t + mpmath.sin(200 * t) / 200,
        lambda t: 1 - t + (mpmath.sin(200) - mpmath.sin(200 * t)) / 200,
    ),
}


@pytest.mark.parametrize("name", INTEGRALS)
def test_a_primitive_keeps_its_digits_at_both_ends(name: str):
    function, from_low, to_high = INTEGRALS[name]
    primitive = Primitive(function, 0.0, 1.0)
    times = [1e-15, 1e-9, 1e-3, 0.2, 0.25, 0.6, 0.999, 1 - 2**-20, 1.0]
    if name == "inverse root":  # the integral over the last panel, 1e-30 wide, is 1e-15
        times = times[2:]
    t = torch.tensor(times, dtype=torch.float64)
    with mpmath.workdps(40):
        low = torch.tensor([float(from_low(mpmath.mpf(x))) for x in times], dtype=torch.float64)
        high = torch.tensor([float(to_high(mpmath.mpf(x))) for x in times], dtype=torch.float64)
    torch.testing.assert_close(primitive(t), low, rtol=1e-13, atol=0)
    torch.testing.assert_close(primitive.to_high(t), high, rtol=1e-12, atol=1e-16)
    assert primitive(torch.zeros((), dtype=torch.float64)).item() == 0.0


def test_a_primitive_has_the_derivatives_of_its_integrand():
    primitive = Primitive(lambda t: torch.exp(-3 * t), 0.0, 2.0)
    t = torch.tensor([0.0, 0.4, 2.0], dtype=torch.float64, requires_grad=True)
    exact = torch.exp(-3 * t.detach())
    for value, sign in ((primitive(t), 1), (primitive.to_high(t), -1)):
        (first,) = torch.autograd.grad(value.sum(), t, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), t)
        torch.testing.assert_close(first.detach(), sign * exact, rtol=1e-14, atol=0)
        torch.testing.assert_close(second, -3 * sign * exact, rtol=1e-13, atol=0)
    assert not primitive(t.detach()).requires_grad


def test_a_jump_is_refused_unless_it_is_a_break():
    def jump(t: torch.Tensor) -> torch.Tensor:
        return torch.where(t < 0.3, 1.0, 2.0).double()

    with pytest.raises(
        ValueError, match=r"f over \(0\.0, 1\.0\) does not settle: f .* near t = 0\.3"
    ):
        Primitive(jump, 0.0, 1.0)
    whole = Primitive(jump, 0.0, 1.0, breaks=[0.3])(torch.ones(1, dtype=torch.float64))
    assert whole.item() == pytest.approx(1.7, rel=1e-14)


@pytest.mark.parametrize(
    ("function", "interval", "message"),
    [
        (lambda t: 1 / t, (0.0, 1.0), r"rate over \(0\.0, 1\.0\) does not settle.* near t = 0 "),
        (lambda t: 1 / (t - 0.3), (0.0, 1.0), r"rate is too rough near t = 0\.3"),
        (lambda t: torch.log(0.5 - t), (0.0, 1.0), r"rate is not finite at t = 0\.\d+; choose"),
        (torch.exp, (0.0, math.inf), r"its domain must then be finite, got \(0\.0, inf\)"),
    ],
)
def test_what_cannot_be_integrated(function: Any, interval: tuple[float, float], message: str):
    with pytest.raises(ValueError, match=message):
        Primitive(function, *interval, name="rate")


def test_times_outside_the_interval():
    primitive = Primitive(torch.exp, 0.0, 1.0, name="rate")
    with pytest.raises(ValueError, match=r"t = 1\.5 is outside the span from 0 to 1 of rate"):
        primitive(torch.tensor([0.5, 1.5], dtype=torch.float64))
