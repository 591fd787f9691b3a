"""What a schedule given by its functions of time alone needs: its ends, checks that say where they
fail, the inverse of λ.
"""

import math
from abc import abstractmethod
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


class BracketedSchedule(Schedule):
    """A schedule given by log α and log σ̄ inside its domain; t_of_lam is found by bracketing.

    Subclasses provide `_domain`, `_given_range` (or None), `_inner_log_alpha`, `_inner_log_std` and
    `_closed_form`, and call `_validate` at the end of their construction.
    """

    _domain: tuple[float, float]
    _given_range: tuple[float, float] | None

    @abstractmethod
    def _inner_log_alpha(self, t: Tensor) -> Tensor:
        """log α at times inside the domain."""

    @abstractmethod
    def _inner_log_std(self, t: Tensor) -> Tensor:
        """log σ̄ at times inside the domain."""

    @property
    @abstractmethod
    def _closed_form(self) -> RealFunction | None:
        """t as a function of λ, if there is one that needs no search."""

    @property
    def domain(self) -> tuple[float, float]:
        return self._domain

    @property
    def sampling_range(self) -> tuple[float, float]:
        return self._range

    def _log_alpha(self, t: Tensor) -> Tensor:
        return self._with_ends(self._inner_log_alpha, t, 0)

    def _log_std(self, t: Tensor) -> Tensor:
        return self._with_ends(self._inner_log_std, t, 1)

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return self._inverse(lam)

    def _inner_lam(self, t: Tensor) -> Tensor:
        return self._inner_log_alpha(t) - self._inner_log_std(t)

    def _with_ends(self, function: RealFunction, t: Tensor, which: int) -> Tensor:
        """`function`, and its limit at an end where it has not this value itself."""
        limits = [
            (t == at, limit)
            for at, (own, limit) in zip(self._domain, self._ends[which], strict=True)
            if own != limit
        ]
        for there, _ in limits:
            t = torch.where(there, self._middle, t)
        value = function(t)
        for there, limit in limits:
            value = torch.where(there, limit, value)
        return value

    @cached_property
    def _middle(self) -> float:
        return TimeLine(*self._domain)(torch.zeros((), dtype=torch.float64)).item()

    @cached_property
    def _ends(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """log α and log σ̄, each at both ends of the domain: own value, limit.

        α may miss its zero by the rounding of the end itself, as cos(1.5707963267948966) does.
        """
        functions = ((self._inner_log_alpha, _LEAST), (self._inner_log_std, -_INF))
        return tuple(
            tuple(self._end(function, t, least) for t in self._domain)
            for function, least in functions
        )

    def _end(self, function: RealFunction, t: float, least: float) -> tuple[float, float]:
        """A logarithm at the end `t` by its own formula, and its limit there, −∞ below `least`."""
        low, high = self._domain
        width = (1.0 if t == low else -1.0) * (high - low if _finite(self) else 1.0)
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
    def _end_lams(self) -> tuple[float, float]:
        (low_alpha, high_alpha), (low_std, high_std) = self._ends
        return low_alpha[1] - low_std[1], high_alpha[1] - high_std[1]

    @cached_property
    def _inverse(self) -> DecreasingInverse:
        return DecreasingInverse(self._inner_lam, *self._domain, self._end_lams, self._closed_form)

    @cached_property
    def _range(self) -> tuple[float, float]:
        if self._given_range is not None:
            return self._given_range
        low, high = self._domain
        clean = self._end_lams[0] >= -math.log(SIGMA_MIN)
        noise = high if math.isfinite(high) else self._time_of(SIGMA_MAX)
        return noise, self._time_of(SIGMA_MIN) if clean or not math.isfinite(low) else low

    def _time_of(self, sigma: float) -> float:
        # Rounded: a default should read 80 where it means 80.
        return float(f"{self._inverse(as_float64(-math.log(sigma))).item():.12g}")

    def _validate(self) -> None:
        """Check α, σ̄ and the order of λ at times spread over the whole domain, densely towards its
        ends, and at these.

        Raises:
            ValueError: naming the function, the time or interval, and what was seen there.
        """
        line = TimeLine(*self._domain)
        times = line(line.nodes(20.0, 161))
        if _finite(self):
            even = torch.linspace(*self._domain, 1003, dtype=torch.float64)[1:-1]
            times = torch.cat([times, even]).unique()
        times = self._refined(times)
        with torch.no_grad():
            log_alpha, log_std = self._inner_log_alpha(times), self._inner_log_std(times)
        for name, values in (("alpha", log_alpha), ("std", log_std)):
            bad = ~torch.isfinite(values)
            if bad.any():
                first, stop = _first_run(bad)
                place = f"between t = {times[first].item():.6g} and t = {times[stop].item():.6g}"
                raise ValueError(
                    f"{self}: {name} must be positive and finite inside the domain, but is not "
                    f"{place if stop > first else f'at t = {times[first].item():.6g}'}."
                )
        for end, (_, alpha), (_, std) in zip(self._domain, *self._ends, strict=True):
            if math.isnan(alpha - std):
                raise ValueError(
                    f"{self}: at the end t = {end:.9g} of the domain alpha = {math.exp(alpha):.6g} "
                    f"and std = {math.exp(std):.6g} (nan: negative or not a number) give no noise "
                    "level. Choose a smaller domain."
                )
        self._check_order(times, log_alpha - log_std)
        if self._given_range is not None:
            given = check_interval("sampling_range", self._given_range, self)
            object.__setattr__(self, "_given_range", given)

    def _refined(self, times: Tensor) -> Tensor:
        """`times`, with more of them where λ falls least (a short rise between two of them would
        show there).
        """
        with torch.no_grad():
            fall = -self._inner_lam(times).diff() / times.diff()
        least = (fall[1:-1] <= fall[:-2]) & (fall[1:-1] <= fall[2:])
        cells = torch.nonzero(least)[:, 0] + 1
        cells = cells[torch.argsort(fall[cells])[:8]]
        share = torch.linspace(0, 1, 97, dtype=torch.float64)[1:-1]
        inner = torch.lerp(times[cells - 1, None], times[cells + 2, None], share)
        return torch.cat([times, inner.flatten()]).unique()

    def _check_order(self, times: Tensor, lam: Tensor) -> None:
        # λ of neighbouring times may coincide or cross by rounding; anything more is a rise, or a
        # flat stretch where the times are far apart.
        low, high = self._domain
        noise = 1e-13 * (1.0 + lam.abs().maximum(lam.abs().roll(-1)))[:-1]
        wide = times.diff() > 1e-5 * (1.0 + times.abs()[:-1]).clamp(max=high - low)
        rising = (lam.diff() > 16 * noise) | ((lam.diff() >= 0) & wide & (lam.diff() > -noise))
        if not rising.any():
            return
        way_out = "sigma = std/alpha must grow with t: restrict the domain."
        if rising.double().mean() > 0.9:
            mirrored = f"{low + high:.6g} - t" if _finite(self) else "-t"
            way_out = f"Time seems to run from noise to data here: replace t by {mirrored}."
        first, stop = _first_run(rising)
        raise ValueError(
            f"{self}: lambda = log(alpha/std) must decrease strictly with t, but between t = "
            f"{times[first].item():.6g} and t = {times[stop + 1].item():.6g} it goes from "
            f"{lam[first].item():.6g} to {lam[stop + 1].item():.6g}. {way_out}"
        )


def check_interval(name: str, value: Any, schedule: Schedule | None = None) -> tuple[float, float]:
    """The domain (low, high), or the sampling range (noise end, data end) of `schedule`, as two
    floats.

    Raises:
        ValueError: if they are not two numbers in that order, or a range leaves the domain.
    """
    try:
        first, second = (float(x) for x in value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, got {value!r}.") from None
    if schedule is None:
        if not first < second:
            raise ValueError(f"{name} must be (low, high) with low < high, got {value!r}.")
        return first, second
    low, high = schedule.domain
    if not low <= second < first <= high:
        raise ValueError(
            f"{name} must be (noise end, data end) with {low:.9g} <= data end < noise end <= "
            f"{high:.9g}, got {value!r}."
        )
    return first, second


def _finite(schedule: Schedule) -> bool:
    return all(math.isfinite(end) for end in schedule.domain)


def _first_run(bad: Tensor) -> tuple[int, int]:
    """The first and last index of the first run of `bad`."""
    first = int(torch.nonzero(bad)[0])
    after = torch.nonzero(~bad[first:])
    return first, first + int(after[0]) - 1 if len(after) else len(bad) - 1
