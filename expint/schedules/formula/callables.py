"""A schedule from two functions of time, written with torch, numpy or plain Python."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.numerics.quadrature import RealFunction
from expint.numerics.roots import TimeLine
from expint.schedules.formula.bracketed import BracketedSchedule, check_domain

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

    def __init__(
        self,
        alpha: _TimeFunction | float,
        std: _TimeFunction | float,
        domain: tuple[float, float],
        sampling_range: tuple[float, float] | None = None,
    ) -> None:
        interval = check_domain(domain)
        log_alpha = _log_of("alpha", _lifted("alpha", alpha, interval), interval)
        log_std = _log_of("std", _lifted("std", std, interval), interval)
        self._settle(log_alpha, log_std, interval, sampling_range, functions=(alpha, std))

    def __repr__(self) -> str:
        alpha, std = (getattr(f, "__name__", repr(f)) for f in self.functions)
        return f"FromCallables({alpha}, {std}, domain=({self._domain[0]:g}, {self._domain[1]:g}))"


def _log_of(name: str, function: RealFunction, domain: tuple[float, float]) -> RealFunction:
    times = TimeLine(*domain)(torch.linspace(-3.0, 3.0, 7, dtype=torch.float64))
    if not torch.equal(function(times).nan_to_num(), function(times).nan_to_num()):
        raise ValueError(
            f"{name} gives other values for the same times when it is called again: it must be a "
            "function of t alone (a network in .eval(), no random numbers)."
        )
    return lambda t: torch.log(function(t))


def _lifted(name: str, given: Any, domain: tuple[float, float]) -> RealFunction:
    """`given` as a differentiable function of float64 tensors, however it was written."""
    if not callable(given):
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise TypeError(f"{name} must be a function of t or a number, got {given!r}.")
        return lambda t: given + 0.0 * t
    function: Callable[[Any], Any] = given
    probe = TimeLine(*domain)(torch.zeros(2, dtype=torch.float64))
    result = _attempt(function, probe.clone().requires_grad_(True))
    if isinstance(result, Tensor) and result.shape == probe.shape and result.requires_grad:
        return lambda t: function(t).to(torch.float64)
    middle = probe[0].item()
    return _by_differences(on_tensors(name, function, middle), *domain, middle)


def _by_differences(function: RealFunction, low: float, high: float, middle: float) -> RealFunction:
    """An elementwise function that torch cannot follow, with its derivative by sixth-order central
    differences (those at an end of the domain around a point near it).
    """

    def differentiable(t: Tensor) -> Tensor:
        at = t.detach()
        if not (t.requires_grad and torch.is_grad_enabled()):
            return function(at)
        beside = torch.where((at == low) | (at == high), at + 1e-6 * (middle - at), at)
        room = torch.minimum(beside - low, high - beside)
        h = 1e-3 * room.clamp(max=1.0 if math.isinf(low) else math.inf)
        rise = sum(
            w * (function(beside + k * h) - function(beside - k * h))
            for k, w in ((1, 0.75), (2, -0.15), (3, 1 / 60))
        )
        return function(at) + (t - at) * (rise / h)

    return differentiable


def on_tensors(name: str, function: Callable[[Any], Any], probe: float) -> RealFunction:
    """`function` as one of float64 tensors without gradients, whether it was written for numpy
    arrays, torch tensors or one float at a time; a constant may come as one number.

    Which one it is, is found out by calling it at the time `probe`.

    Raises:
        TypeError: if it is none of them, with what it gave or raised; `name` is for this message.
    """

    def one_at_a_time(x: Tensor) -> np.ndarray:
        return np.array([_detached(function(v)) for v in x.flatten().tolist()]).reshape(x.shape)

    times = torch.full((2,), probe, dtype=torch.float64)
    for way in (lambda x: function(x.numpy()), function, one_at_a_time):
        result = _attempt(way, times)
        if _are_numbers(result, times.shape):
            break
    else:
        raise TypeError(_complaint(name, function, probe))
    if isinstance(result, Tensor) and result.requires_grad:
        raise TypeError(
            f"{name} carries gradients of its own parameters, which would be lost here: detach "
            "them, or give constants (tensors may be learned)."
        )

    def lifted(x: Tensor) -> Tensor:
        with np.errstate(all="ignore"):  # what is not finite is reported with its place
            values = _detached(way(x.detach()))
        return torch.as_tensor(values, dtype=torch.float64).expand(x.shape).clone()

    return lifted


def _complaint(name: str, function: Callable[[Any], Any], probe: float) -> str:
    expected = (
        f"{name} must be a real function of t, written for numpy arrays, torch tensors or one "
        "float at a time"
    )
    try:
        function(torch.full((2,), probe, dtype=torch.float64))
    except Exception as error:  # whatever the user's function does
        if isinstance(error, RuntimeError) and "dtype" in str(error):
            return (
                f"{expected}: times are float64, so use a network in float64, .double() ({error})"
            )
    try:
        value = function(probe)
    except Exception as error:  # whatever the user's function does
        kind = type(error).__name__
        return f"{expected}, but {name}({probe:.6g}) fails with {kind}: {error}"
    return f"{name}({probe:.6g}) must be a real number, got {value!r}; {expected}."


def _attempt(function: Any, argument: Any) -> Any:
    """What the function gives, or None if it does not take such an argument."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(argument)
    except Exception:  # whatever the user's function does with what it was not written for
        return None


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _are_numbers(result: Any, shape: tuple[int, ...]) -> bool:
    array = np.asarray(_detached(result))
    return array.dtype.kind in "fiu" and array.shape in (shape, ())
