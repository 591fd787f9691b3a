"""Inverses of monotone functions and their gradients."""

import pytest
import torch

from expint.numerics.roots import DecreasingInverse, attached, bracketed_root, invert_monotone


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_inverse_of_a_monotone_function_and_values_beyond_its_ends(sign: float):
    value = torch.tensor([[-9.0, -8.0, 0.3], [1.0, 8.0, 50.0]], dtype=torch.float64)
    root = invert_monotone(lambda x: sign * x**3, sign * value, -2.0, 2.0)
    exact = torch.sign(value) * value.abs().clamp(max=8.0) ** (1 / 3)
    torch.testing.assert_close(root, exact, rtol=1e-14, atol=0)
    # The ends themselves, not their values in single precision.
    assert invert_monotone(torch.exp, torch.tensor([99.0]).double(), 0.1, 0.9).item() == 0.9


def test_gradients_in_the_value_and_in_the_function():
    rate = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    value = torch.tensor([2.0, 3.0, 99.0], dtype=torch.float64, requires_grad=True)
    root = invert_monotone(lambda x: torch.exp(rate * x), value, 0.0, 2.0)
    by_rate, by_value = torch.autograd.grad(root.sum(), (rate, value))
    inside = value.detach()[:2]
    assert by_rate.item() == pytest.approx(-(torch.log(inside).sum() / 1.5**2).item(), rel=1e-13)
    torch.testing.assert_close(
        by_value, torch.cat([1 / (1.5 * inside), torch.zeros(1)]), rtol=1e-13, atol=0
    )
    with torch.no_grad():
        assert not invert_monotone(lambda x: torch.exp(rate * x), value, 0.0, 2.0).requires_grad


def test_a_function_that_cannot_be_differentiated_gives_a_root_without_gradients():
    value = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    root = attached(torch.tensor([1.0]).double(), lambda x: 2.0 * x.detach(), value)
    assert root.item() == 1.0 and not root.requires_grad


def test_an_infinite_value_at_the_end_of_a_bracket():
    root = bracketed_root(torch.log, torch.zeros(1).double(), torch.full((1,), 5.0).double())
    assert root.item() == pytest.approx(1.0, rel=1e-15)


def test_the_decreasing_inverse_resolves_both_ends():
    inverse = DecreasingInverse(
        lambda t: torch.log1p(-t) - torch.log(t), 0.0, 1.0, (float("inf"), -float("inf"))
    )
    lam = torch.tensor([-30.0, -1.0, 0.0, 5.0, 300.0], dtype=torch.float64, requires_grad=True)
    t = inverse(lam)
    torch.testing.assert_close(t, torch.sigmoid(-lam), rtol=1e-13, atol=0)
    (slope,) = torch.autograd.grad(t[1:].sum(), lam)
    exact = -torch.sigmoid(lam) * torch.sigmoid(-lam)
    torch.testing.assert_close(slope[1:], exact[1:].detach(), rtol=1e-10, atol=0)
