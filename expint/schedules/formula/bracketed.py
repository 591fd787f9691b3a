"""What a schedule given by its functions of time alone needs: its ends, checks that say where they
fail, the inverse of λ.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64
from expint.numerics.roots import DecreasingInverse, RealFunction, TimeLine
from expint.schedules.base import Schedule

_INF = math.inf
_FAR = 1e150
_LEAST = math.log(1e-15)
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
"""Noise levels at which the default sampling range ends where the domain has none of its own (those
of EDM).
"""


@dataclass(frozen=True, init=False, repr=False)
class BracketedSchedule(Schedule):
    """A schedule given by log α and log σ̄ inside its domain; t_of_lam is found by bracketing.

    Subclasses call `_settle` at the end of their construction.
    """

    _domain: tuple[float, float]
    _given_range: tuple[float, float] | None
    _inner: tuple[RealFunction, RealFunction] = field(compare=False)

    def _settle(
        self,
        log_alpha: RealFunction,
        log_std: RealFunction,
        domain: tuple[float, float],
        sampling_range: Any,
        **fields: Any,
    ) -> None:
        """Keep the functions, the domain and what else the subclass has, and check α, σ̄, the order
        of λ and the sampling range.
        """
        fields |= {"_inner": (log_alpha, log_std), "_domain": domain}
        fields["_given_range"] = None
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._validate()
        if sampling_range is not None:
            object.__setattr__(self, "_given_range", self._checked_range(sampling_range))

    @property
    def domain(self) -> tuple[float, float]:
        return self._domain

    @property
    def sampling_range(self) -> tuple[float, float]:
        return self._given_range or self._default_range

    def _log_alpha(self, t: Tensor) -> Tensor:
        return self._with_ends(0, t)

    def _log_std(self, t: Tensor) -> Tensor:
        return self._with_ends(1, t)

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return self._inverse(lam)

    def _inner_lam(self, t: Tensor) -> Tensor:
        log_alpha, log_std = self._inner
        return log_alpha(t) - log_std(t)

    def _with_ends(self, which: int, t: Tensor) -> Tensor:
        """A logarithm, with its limit at an end where its own value is another."""
        limits = [
            (t == at, limit)
            for at, (own, limit) in zip(self._domain, self._ends[which], strict=True)
            if own != limit
        ]
        for there, _ in limits:
            t = torch.where(there, self._middle, t)
        value = self._inner[which](t)
        for there, limit in limits:
            value = torch.where(there, limit, value)
        return value

    @cached_property
    def _middle(self) -> float:
        return TimeLine(*self._domain)(as_float64(0.0)).item()

    @cached_property
    def _ends(self) -> tuple[list[tuple[float, float]], ...]:
        """log α and log σ̄, each at both ends of the domain: own value, limit.

        α may miss its zero by the rounding of the end itself, as cos(1.5707963267948966) does.
        """
        return tuple(
            [self._end(function, t, least) for t in self._domain]
            for function, least in zip(self._inner, (_LEAST, -_INF), strict=True)
        )

    def _end(self, function: RealFunction, t: float, least: float) -> tuple[float, float]:
        """A logarithm at the end `t` by its own formula, and its limit there, −∞ below `least`."""
        low, high = self._domain
        width = (1.0 if t == low else -1.0) * (high - low if self._is_finite else 1.0)
        far = math.copysign(_FAR, t)
        near = [t + 1e-10 * width, t + 1e-14 * width] if math.isfinite(t) else [far, far]
        with torch.no_grad():
            own, before, limit = function(as_float64([t, *near])).tolist()
        if not math.isfinite(t):  # far out, what is negligible or immense counts as 0 or ∞
            return own, -_INF if limit < _LEAST else _INF if limit > 100.0 else limit
        if not math.isnan(own):
            return own, -_INF if own < least else own
        change = limit - before  # of a power over four decades, or of a formula that is 0/0 there
        if abs(change) > 1.0:
            return own, math.copysign(_INF, change)
        return own, limit if abs(change) < 1e-6 else math.nan

    @cached_property
    def _is_finite(self) -> bool:
        return all(math.isfinite(end) for end in self._domain)

    @cached_property
    def _end_lams(self) -> tuple[float, float]:
        (low_alpha, high_alpha), (low_std, high_std) = self._ends
        return low_alpha[1] - low_std[1], high_alpha[1] - high_std[1]

    @cached_property
    def _inverse(self) -> DecreasingInverse:
        return DecreasingInverse(self._inner_lam, *self._domain, self._end_lams)

    @cached_property
    def _default_range(self) -> tuple[float, float]:
        low, high = self._domain
        clean = self._end_lams[0] >= -math.log(SIGMA_MIN)
        noise = high if math.isfinite(high) else self._time_of(SIGMA_MAX)
        return noise, self._time_of(SIGMA_MIN) if clean or not math.isfinite(low) else low

    def _time_of(self, sigma: float) -> float:
        # Rounded: a default should read 80 where it means 80.
        return float(f"{self._inverse(as_float64(-math.log(sigma))).item():.12g}")

    def _checked_range(self, value: Any) -> tuple[float, float]:
        noise, data = _two_numbers("sampling_range", value)
        low, high = self._domain
        if not low <= data < noise <= high:
            raise ValueError(
                f"sampling_range must be (noise end, data end) with {low:.9g} <= data end < noise "
                f"end <= {high:.9g}, got {value!r}."
            )
        return noise, data

    def _validate(self) -> None:
        """Check α, σ̄ and the order of λ at times spread over the whole domain, densely towards its
        ends, and at these.

        Raises:
            ValueError: naming the function, the time or interval, and what was seen there.
        """
        line = TimeLine(*self._domain)
        times = line(line.nodes(20.0, 161))
        if self._is_finite:
            even = torch.linspace(*self._domain, 2003, dtype=torch.float64)[1:-1]
            times = torch.cat([times, even]).unique()
        with torch.no_grad():
            log_alpha, log_std = (function(times) for function in self._inner)
        self._check_at(times, log_alpha, log_std)
        for end, (_, alpha), (_, std) in zip(self._domain, *self._ends, strict=True):
            if math.isnan(alpha - std):
                raise ValueError(
                    f"{self}: at the end t = {end:.9g} of the domain alpha = {math.exp(alpha):.6g} "
                    f"and std = {math.exp(std):.6g} (nan: negative or not a number) give no noise "
                    "level. Choose a smaller domain."
                )


def check_domain(value: Any) -> tuple[float, float]:
    """The domain (low, high) as two floats.

    Raises:
        ValueError: if they are not two numbers in that order.
    """
    low, high = _two_numbers("domain", value)
    if not low < high:
        raise ValueError(f"domain must be (low, high) with low < high, got {value!r}.")
    return low, high


def _two_numbers(name: str, value: Any) -> tuple[float, float]:
    try:
        first, second = (float(x) for x in value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, got {value!r}.") from None
    return first, second
