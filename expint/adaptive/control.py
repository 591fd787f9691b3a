"""How an adaptive solver measures its error and chooses the next step: arithmetic only, no solver
and no network.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_LEAST_MEMORY = 1e-4  # an error that happens to vanish must not hold back the step after next
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "rtol": (lambda v: 0 <= v < math.inf, "a finite number >= 0"),
    "atol": (lambda v: 0 < v < math.inf, "a finite number > 0, for components near 0"),
    "first_step": (lambda v: 0 < v < math.inf, "a finite number > 0, in the clock of the form"),
    "safety": (lambda v: 0 < v < 1, "a number with 0 < safety < 1"),
    "norm": (lambda v: v in (2.0, math.inf), "2 (root mean square) or infinity (maximum)"),
    "limits": (
        lambda v: len(v) == 2 and 0 <= v[0] < 1 < v[1],
        "two factors (least, greatest) with 0 <= least < 1 < greatest",
    ),
}


@dataclass(frozen=True)
class StepControl:
    """Error measure and step control. In each component the tolerance is δ = max(atol, rtol ·
    max(|x_low|, |x_before|)), and

        E_i = ‖(x_high − x_low)/δ‖ over sample i,    E = max_i E_i,    the step is accepted if E ≤
        1, h ← h · clip(safety · E^(−r (integral + proportional)) · E_before^(r · proportional)),
        h ← min(remaining, h),

    with ‖·‖ the root mean square (norm=2) or the maximum (norm=∞), x_before the low solution of the
    last accepted step and E_before its error. After a rejected step it is h · clip(safety ·
    E^(−r)). With integral = 1, proportional = 0 that is h ← safety · h · E^(−r) in both cases; the
    values 0.3 and 0.4 are a PI control, which damps the sequence of steps.

    Args:
        rtol, atol: tolerances relative to the state and absolute, rtol ≥ 0 and atol > 0.
        first_step: first trial step, in the clock of the form (λ in the data and noise forms, t in
            the form "time").
        safety: 0 < safety < 1.
        limits: least and greatest factor by which the step changes at once, 0 ≤ least < 1 <
            greatest.
        norm: 2 or infinity.
        exponent: r; None for 1/k where the error estimate is O(h^k).
        integral, proportional: gains of the control.

    Raises:
        ValueError: for a value outside its range.

    Source: E and δ: Jolicoeur-Martineau et al., arXiv 2105.14080, section 3; PI control:
    Gustafsson, ACM TOMS 17 (1991); Hairer & Wanner, Solving Ordinary Differential Equations II,
    section IV.2.
    """

    rtol: float = 0.05
    atol: float = 0.0078
    first_step: float = 0.05
    safety: float = 0.9
    limits: tuple[float, float] = (0.0, math.inf)
    norm: float = 2.0
    exponent: float | None = None
    integral: float = 1.0
    proportional: float = 0.0

    def __post_init__(self) -> None:
        for name, (holds, allowed) in _RANGES.items():
            value = getattr(self, name)
            try:
                fine = not isinstance(value, (bool, str)) and holds(value)
            except (TypeError, ValueError, RuntimeError):
                fine = False
            if not fine:
                raise ValueError(f"{name} of the step control must be {allowed}, got {value!r}.")

    def error(self, difference: Tensor, low: Tensor, before: Tensor) -> Tensor:
        """E, a 0-dimensional tensor: the greatest error of a sample in units of its tolerance.

        Args:
            difference: x_high − x_low, shape (batch, *event).
            low, before: x_low and x_before, shape (batch, *event).
        """
        kind = torch.promote_types(low.real.dtype, torch.float32)  # squares of half types overflow
        size = torch.maximum(low.abs(), before.abs()).to(kind)
        delta = (size * self.rtol).clamp_(min=self.atol)
        ratio = (difference.abs().to(kind) / delta).reshape(len(low), -1)
        errors = ratio.amax(1) if self.norm == math.inf else ratio.square().mean(1).sqrt()
        return errors.amax()

    def factor(self, error: float, before: float, power: float) -> float:
        """What the next step is to this one.

        Args:
            error: E of this step.
            before: E of the accepted step before, or 1 if there is none.
            power: k, where the error estimate is O(h^k); it is used where `exponent` is None.
        """
        r = 1.0 / power if self.exponent is None else self.exponent
        if error == 0.0:
            return self.limits[1]
        gain, memory = self.integral + self.proportional, self.proportional
        if error > 1.0:
            gain, memory = 1.0, 0.0
        change = self.safety * error ** (-r * gain) * max(before, _LEAST_MEMORY) ** (r * memory)
        return min(max(change, self.limits[0]), self.limits[1])
