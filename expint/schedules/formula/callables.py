"""A schedule from two functions of time, written with torch, numpy or plain Python."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.schedules.formula.bracketed import BracketedSchedule, check_interval

__all__ = ["FromCallables", "on_arrays"]

_ZERO = 1e-15
_TimeFunction = Callable[[Any], Any]


@dataclass(frozen=True, init=False, repr=False)
class FromCallables(BracketedSchedule):
    """A schedule from two Python functions alpha(t) and std(t).

    Each function may be written for torch tensors (then the schedule is differentiable, also in the
    functions' own parameters), for numpy arrays, or for one float at a time (math.exp); which one
    is found out by calling it. Derivatives of functions that torch cannot follow are taken by
    differences, good to about 1e-9 of their scale. Near σ = 0 the noise level is as accurate as
    `std` makes it: write √(1 − α²) as sqrt(-expm1(2 log α)).

    Args:
        alpha: α_t > 0; may be zero at the end of the domain (σ = ∞). A number stands for a
            constant.
        std: σ̄_t > 0; may be zero at the start of the domain (σ = 0).
        domain: times (low, high) between which the functions are called; either may be infinite.
        sampling_range: times (noise end, data end). Default: the ends of the domain, with σ = 80
            and σ = 0.002 in place of an infinite end and of an end without noise.

    Raises:
        TypeError: if a function gives no real numbers.
        ValueError: if α or σ̄ is not positive or λ does not decrease, with the times where that is
            so.

    Example:
        >>> import math
        >>> from expint import schedules
        >>> schedule = schedules.FromCallables(
        ...     lambda t: math.cos(t), lambda t: math.sin(t), domain=(0.0, math.pi / 2)
        ... )
        >>> round(schedule.t_of_sigma(1.0), 12) == round(math.pi / 4, 12)
        True
    """

    functions: tuple[_TimeFunction | float, _TimeFunction | float]
    _domain: tuple[float, float]
    _given_range: tuple[float, float] | None
    _alpha: Callable[[Tensor], Tensor] = field(compare=False)
    _std: Callable[[Tensor], Tensor] = field(compare=False)

    def __init__(
        self,
        alpha: _TimeFunction | float,
        std: _TimeFunction | float,
        domain: tuple[float, float],
        sampling_range: tuple[float, float] | None = None,
    ) -> None:
        interval = check_interval("domain", domain)
        object.__setattr__(self, "functions", (alpha, std))
        object.__setattr__(self, "_domain", interval)
        object.__setattr__(self, "_given_range", sampling_range)
        probe = self._middle
        object.__setattr__(self, "_alpha", _lifted("alpha", alpha, probe, interval))
        object.__setattr__(self, "_std", _lifted("std", std, probe, interval))
        self._validate()

    def __repr__(self) -> str:
        alpha, std = (getattr(f, "__name__", repr(f)) for f in self.functions)
        return f"FromCallables({alpha}, {std}, domain=({self._domain[0]:g}, {self._domain[1]:g}))"

    def _inner_log_alpha(self, t: Tensor) -> Tensor:
        return torch.log(self._alpha(t))

    def _inner_log_std(self, t: Tensor) -> Tensor:
        return torch.log(self._std(t))

    @property
    def _closed_form(self) -> None:
        return None

    def _end(self, t: float) -> tuple[float, float]:
        # At an infinite end the functions are called far out, and what is negligible or immense
        # there counts as 0 or ∞.
        far = not math.isfinite(t)
        time = torch.tensor([math.copysign(1e150, t) if far else t], dtype=torch.float64)
        with torch.no_grad():
            alpha, std = self._alpha(time).item(), self._std(time).item()
        return _log(alpha, _ZERO), math.inf if std > 1e100 else _log(std, _ZERO if far else 0.0)


def _log(value: float, negligible: float) -> float:
    # At an end of the domain a zero comes out as cos(π/2) = 6e-17 or, from the other side, as
    # −1e-16.
    return (
        -math.inf if -_ZERO <= value <= negligible else math.log(value) if value > 0 else math.nan
    )


class _Differences(torch.autograd.Function):
    """A function of numpy arrays, elementwise; its derivative by sixth-order central
    differences.
    """

    @staticmethod
    def forward(
        ctx: Any, t: Tensor, function: Callable[[np.ndarray], np.ndarray], low: float, high: float
    ) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(t)
        ctx.function, ctx.ends = function, (low, high)
        return torch.as_tensor(function(t.detach().numpy()), dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (t,) = ctx.saved_tensors
        low, high = ctx.ends
        room = (
            torch.minimum(t - low, high - t).clamp(max=1.0 if math.isinf(low) else math.inf).numpy()
        )
        x, h = t.detach().numpy(), 1e-3 * room
        slope = sum(
            w * (ctx.function(x + k * h) - ctx.function(x - k * h))
            for k, w in ((1, 0.75), (2, -0.15), (3, 1 / 60))
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return grad * torch.as_tensor(slope / h, dtype=torch.float64), None, None, None


def _lifted(
    name: str, given: Any, probe: float, interval: tuple[float, float]
) -> Callable[[Tensor], Tensor]:
    """`given` as a function of float64 tensors, however it was written."""
    if not callable(given):
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise TypeError(f"{name} must be a function of t or a number, got {given!r}.")
        value = float(given)
        return lambda t: torch.where(torch.isfinite(t), 0.0 * t, 0.0) + value
    function: Callable[[Any], Any] = given
    leaf = torch.full((2,), probe, dtype=torch.float64, requires_grad=True)
    result = _attempt(function, leaf)
    if isinstance(result, Tensor) and result.shape == leaf.shape and result.requires_grad:
        return lambda t: function(t).to(torch.float64)
    whole = on_arrays(name, function, probe)
    return lambda t: torch.as_tensor(_Differences.apply(t, whole, *interval))


def on_arrays(
    name: str, function: Callable[[Any], Any], probe: float
) -> Callable[[np.ndarray], np.ndarray]:
    """`function` as one of float64 arrays, whether it was written for numpy, for torch or for one
    float at a time.

    Which one it is, is found out by calling it at the time `probe`.

    Raises:
        TypeError: if it is none of them, with what it gave or said; `name` is for this message.
    """
    plain = np.array([probe, probe])
    # A constant written as a function has the shape of nothing.
    if _real_array(_attempt(function, plain), plain.shape):
        whole = lambda x: np.broadcast_to(_float64(function(x)), x.shape).copy()  # noqa: E731
    elif _real_array(_attempt(function, torch.as_tensor(plain)), plain.shape):
        whole = lambda x: np.broadcast_to(_float64(function(torch.as_tensor(x))), x.shape).copy()  # noqa: E731
    elif _real_array(_attempt(function, probe), ()):
        whole = lambda x: np.array([float(function(v)) for v in x.ravel().tolist()]).reshape(
            x.shape
        )
    else:
        raise _not_real(name, function, probe)

    def quiet(x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return whole(x)

    return quiet


def _not_real(name: str, function: Callable[[Any], Any], probe: float) -> TypeError:
    expected = f"{name} must be a real function of t, written for numpy arrays, torch tensors or one float at a time"
    try:
        value = function(probe)
    except Exception as error:  # whatever the user's function does
        return TypeError(
            f"{expected}, but {name}({probe:.6g}) fails with {type(error).__name__}: {error}"
        )
    return TypeError(f"{name}({probe:.6g}) must be a real number, got {value!r}; {expected}.")


def _float64(result: Any) -> np.ndarray:
    return np.asarray(result.detach() if isinstance(result, Tensor) else result, dtype=np.float64)


def _attempt(function: Any, argument: Any) -> Any:
    """What the function gives, or None if it does not take such an argument."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(argument)
    except Exception:  # whatever the user's function does with what it was not written for
        return None


def _real_array(result: Any, shape: tuple[int, ...]) -> bool:
    if result is None or isinstance(result, (bool, str)):
        return False
    array = result.detach().numpy() if isinstance(result, Tensor) else np.asarray(result)
    return array.dtype.kind in "fiu" and array.shape in (shape, ())
