"""φ-functions against 60-digit arithmetic, on both branches and on both sides of the switch."""

import mpmath
import numpy as np
import pytest
import torch

from expint import phi
from expint.numerics.phi_functions import _RADIUS

ORDERS = range(6)
SIZES = [1e-300, 1e-16, 1e-8, 1e-4, 0.01, 0.3, 1.0, 2.5, 5.0, 7.3, 20.0, 100.0, 600.0]
SWITCHES = [
    radius * (1 + eps)
    for radius in (_RADIUS, 2.0 * 5)
    for eps in (-0.1, -1e-3, -1e-12, 0.0, 1e-12, 1e-3, 0.1)
]
ARGUMENTS = sorted(
    {sign * z for z in SIZES + SWITCHES for sign in (-1.0, 1.0)} | {0.0, -1e3, -1e4, 700.0}
)


def exact(k: int, z: float) -> mpmath.mpf:
    """φ_k(z) = 1/k! · 1F1(1; k+1; z), which needs no recurrence."""
    with mpmath.workdps(60):
        return (
            mpmath.exp(mpmath.mpf(z))
            if k == 0
            else mpmath.hyp1f1(1, k + 1, mpmath.mpf(z)) / mpmath.factorial(k)
        )


def relative_error(k: int, z: float, value: float) -> float:
    reference = exact(k, z)
    return float(abs((mpmath.mpf(value) - reference) / reference))


@pytest.mark.parametrize("k", ORDERS)
def test_against_high_precision(k: int):
    values = phi(k, torch.tensor(ARGUMENTS, dtype=torch.float64)).tolist()
    checked = [
        (z, v) for z, v in zip(ARGUMENTS, values, strict=True) if not (k == 0 and z < -700)
    ]  # e^-1000 underflows
    assert len(checked) >= len(ARGUMENTS) - 2
    for z, value in checked:
        assert relative_error(k, z, value) <= 1e-13, (k, z, value)


def test_exponential_underflows_to_zero():
    assert phi(0, -1e4) == 0.0


@pytest.mark.parametrize("k", ORDERS)
def test_dense_grid_has_no_bad_spot(k: int):
    z = np.concatenate([np.linspace(-30, 30, 241), np.random.default_rng(k).uniform(-11, 11, 60)])
    worst = max(zip(z, phi(k, z), strict=True), key=lambda pair: relative_error(k, *pair))
    assert relative_error(k, *worst) <= 1e-13, worst


@pytest.mark.parametrize("k", [8, 12])
def test_high_orders_stay_accurate(k: int):
    for z in (
        -50.0,
        -2.0 * k - 0.01,
        -2.0 * k + 0.01,
        -1.0,
        0.0,
        1.0,
        2.0 * k - 0.01,
        2.0 * k + 0.01,
        50.0,
    ):
        assert relative_error(k, z, phi(k, z)) <= 1e-12, (k, z)


@pytest.mark.parametrize("k", ORDERS)
def test_value_at_zero_is_exact(k: int):
    assert phi(k, 0.0) == 1.0 / float(mpmath.factorial(k))
    assert phi(k, -0.0) == phi(k, 0.0)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_small_steps_in_single_precision(k: int):
    """The recurrence in float32 would be off by 0.7 % at 0.01 and 40 % at 0.001 for k = 3."""
    z = torch.tensor([-0.01, -0.001, 0.001, 0.01], dtype=torch.float32)
    value = phi(k, z)
    assert value.dtype == torch.float32
    reference = torch.tensor([float(exact(k, float(v))) for v in z.double()])
    torch.testing.assert_close(value, reference, rtol=6e-8, atol=0)


@pytest.mark.parametrize("k", ORDERS)
def test_kind_of_the_result_is_that_of_the_argument(k: int):
    value = phi(k, 0.7)
    assert type(value) is float
    assert type(phi(k, 1)) is float
    array = phi(k, np.array([[0.7, -3.0]], dtype=np.float32).astype(np.float64))
    assert isinstance(array, np.ndarray) and array.shape == (1, 2) and array.dtype == np.float64
    tensor = phi(k, torch.tensor([[0.7], [-3.0]], dtype=torch.float64))
    assert (
        isinstance(tensor, torch.Tensor)
        and tensor.shape == (2, 1)
        and tensor.dtype == torch.float64
    )
    assert tensor[0, 0].item() == pytest.approx(value, rel=1e-15)
    assert phi(k, torch.tensor(0.7)).shape == ()
    assert phi(k, torch.zeros(0)).shape == (0,)


@pytest.mark.parametrize("k", ORDERS)
def test_gradient(k: int):
    """φ_k' = φ_k − k φ_{k+1}, on both branches, and no NaN from the branch that is not taken."""
    z = torch.tensor(
        [-300.0, -12.0, -7.9, -1.0, -1e-6, 0.0, 1e-6, 0.5, 3.0, 7.9, 12.0, 60.0],
        dtype=torch.float64,
    )
    leaf = z.clone().requires_grad_(True)
    phi(k, leaf).sum().backward()
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all()
    with mpmath.workdps(60):
        reference = [float(exact(k, v) - k * exact(k + 1, v)) for v in z.tolist()]
    torch.testing.assert_close(
        leaf.grad, torch.tensor(reference, dtype=torch.float64), rtol=1e-11, atol=1e-15
    )


@pytest.mark.parametrize("k", [-1, 1.0, "1", None, True])
def test_order_that_is_no_index(k: object):
    with pytest.raises(ValueError, match=r"k must be an integer >= 0") as caught:
        phi(k, 0.5)  # type: ignore[arg-type]
    assert repr(k) in str(caught.value)


@pytest.mark.parametrize("z", [1j, torch.tensor(1j), "one", np.array([1j]), None])
def test_argument_that_is_not_real(z: object):
    with pytest.raises(TypeError, match="real"):
        phi(1, z)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_under_vmap(k: int):
    z = torch.linspace(-3.0, 3.0, 7, dtype=torch.float64)
    torch.testing.assert_close(torch.vmap(lambda z: phi(k, z))(z), phi(k, z), rtol=1e-15, atol=0.0)
