"""The numeric boundary: functions of a real variable that take floats, arrays or tensors and
compute in float64.
"""

from collections.abc import Callable
from functools import wraps
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_float64(value: Any) -> Tensor:
    """Return `value` (number, sequence, array or real tensor) as a float64 tensor; a float64 tensor
    passes unchanged.
    """
    if isinstance(value, Tensor):
        if value.is_complex():
            raise TypeError(
                f"Cannot use a complex tensor (dtype {value.dtype}) here: a real number or tensor "
                "is expected."
            )
        return value.to(torch.float64)
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"Cannot use {value!r} as real numbers: expected a float, an array or a tensor of "
            "reals."
        )
    return torch.as_tensor(array.astype(np.float64))


def are_numbers(*values: Any) -> bool:
    """Whether each is one real number, a 0-dimensional array or tensor included: no bool, no
    NaN."""

    def fine(value: Any) -> bool:
        kind = isinstance(value, (Real, np.ndarray, Tensor)) and not isinstance(value, bool)
        return kind and getattr(value, "ndim", 0) == 0 and bool(value == value)

    return all(map(fine, values))


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer, of Python or numpy; a bool is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def like(result: Tensor, original: Any) -> Any:
    """Give `result` back in the kind of `original`: float for a number, array for an array, tensor
    in its own dtype.
    """
    if isinstance(original, Tensor):
        return result.to(original.dtype) if original.is_floating_point() else result
    if isinstance(original, np.ndarray):
        return result.detach().numpy()
    if isinstance(original, (list, tuple)):
        return result
    return result.item()


def real_method(function: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Any], Any]:
    """Lift a method of one float64 tensor to floats (giving floats), arrays (arrays) and tensors
    (tensors).
    """

    @wraps(function)
    def lifted(self: Any, value: Any) -> Any:
        return like(function(self, as_float64(value)), value)

    return lifted
