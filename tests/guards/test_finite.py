"""What the check of a state after a step lets pass."""

import math

import pytest
import torch

from expint import SemiLinearSDE, integrate

ZERO = SemiLinearSDE.from_coefficients(0.0, span=(0.0, 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_samples_whose_sum_overflows_are_finite(dtype: torch.dtype):
    x = torch.full((3, 1), 2e38, dtype=dtype)
    assert torch.equal(integrate(ZERO, lambda x, t: 0 * x, x, [0.0, 1.0], "seeds-1").x, x)


def test_infinities_of_both_signs_are_seen():
    signs = torch.tensor([[math.inf], [-math.inf], [0.0]])
    with pytest.raises(FloatingPointError, match=r"in sample 0, 1 of 3"):
        integrate(ZERO, lambda x, t: signs, torch.ones(3, 1), [0.0, 1.0], "seeds-1")
