"""What a schedule given by its functions of time alone needs: exact ends, checks that say where
they fail, the inverse of λ.
"""

import math
from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64
from expint.numerics.inversion import DecreasingInverse, TimeFunction, TimeLine
from expint.schedules.base import Schedule

__all__ = ["BracketedSchedule", "check_interval"]

_INF = float("inf")
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
"""Noise levels at which the default sampling range ends where the domain has none of its own (those
of EDM).
"""


class BracketedSchedule(Schedule):
    """A schedule given by log α and log σ̄ inside its domain; t_of_lam is found by bracketing.

    Subclasses provide `_domain`, `_given_range` (or None), `_inner_log_alpha`, `_inner_log_std`,
    `_end` and `_closed_form`, and call `_validate` at the end of their construction.
    """

    _domain: tuple[float, float]
    _given_range: tuple[float, float] | None

    @abstractmethod
    def _inner_log_alpha(self, t: Tensor) -> Tensor:
        """log α at times inside the domain."""

    @abstractmethod
    def _inner_log_std(self, t: Tensor) -> Tensor:
        """log σ̄ at times inside the domain."""

    @abstractmethod
    def _end(self, t: float) -> tuple[float, float]:
        """(log α, log σ̄) at the end `t` of the domain, exact zeros of α and σ̄ as −inf."""

    @property
    @abstractmethod
    def _closed_form(self) -> TimeFunction | None:
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

    def _with_ends(self, function: TimeFunction, t: Tensor, which: int) -> Tensor:
        for at, value in self._fixed_ends[which]:
            if bool((t == at).any()):
                inner = torch.where(t == at, self._middle, t)
                return torch.where(t == at, value, self._with_ends(function, inner, which))
        return function(t)

    @cached_property
    def _fixed_ends(self) -> tuple[list[tuple[float, float]], ...]:
        """(end, value) of log α and of log σ̄ where the functions themselves do not give it."""
        fixed = []
        for which, function in enumerate((self._inner_log_alpha, self._inner_log_std)):
            with torch.no_grad():
                own = function(as_float64(self._domain)).tolist()
            ends = [(t, logs[which]) for t, logs in zip(self._domain, self._end_logs, strict=True)]
            fixed.append(
                [(t, value) for (t, value), x in zip(ends, own, strict=True) if value != x]
            )
        return tuple(fixed)

    @cached_property
    def _middle(self) -> float:
        return TimeLine(*self._domain)(torch.zeros((), dtype=torch.float64)).item()

    @cached_property
    def _end_logs(self) -> tuple[tuple[float, float], tuple[float, float]]:
        low, high = self._domain
        return self._end(low), self._end(high)

    @cached_property
    def _end_lams(self) -> tuple[float, float]:
        (a, b), (c, d) = self._end_logs
        return a - b, c - d

    @cached_property
    def _inverse(self) -> DecreasingInverse:
        return DecreasingInverse(self._inner_lam, *self._domain, self._end_lams, self._closed_form)

    @cached_property
    def _range(self) -> tuple[float, float]:
        if self._given_range is not None:
            return self._given_range
        low, high = self._domain
        first, _ = self._end_lams
        noise = high if math.isfinite(high) else self._time_of(SIGMA_MAX)
        data = (
            low if math.isfinite(low) and first < -math.log(SIGMA_MIN) else self._time_of(SIGMA_MIN)
        )
        return noise, data

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
        spread = line(line.nodes(20.0, 161))
        low, high = self._domain
        if math.isfinite(low) and math.isfinite(high):
            spread = torch.cat(
                [spread, torch.linspace(low, high, 1003, dtype=torch.float64)[1:-1]]
            ).unique()
        times = self._refined(spread)
        with torch.no_grad():
            log_alpha, log_std = self._inner_log_alpha(times), self._inner_log_std(times)
        for name, values in (("alpha", log_alpha), ("std", log_std)):
            bad = ~torch.isfinite(values)
            if bad.any():
                raise ValueError(
                    f"{self}: {name} must be positive and finite inside the domain, but is not "
                    f"{_where(times, bad)}."
                )
        for end, (end_alpha, end_std) in zip(self._domain, self._end_logs, strict=True):
            if math.isnan(end_alpha - end_std):
                raise ValueError(
                    f"{self}: at the end t = {end:.9g} of the domain alpha = "
                    f"{math.exp(end_alpha):.6g} and std = {math.exp(end_std):.6g} (nan: negative "
                    "or no number) give no noise level. Choose a smaller domain."
                )
        self._check_order(times, log_alpha - log_std)
        if self._given_range is not None:
            object.__setattr__(
                self, "_given_range", check_interval("sampling_range", self._given_range, self)
            )

    def _refined(self, times: Tensor) -> Tensor:
        """`times`, with more of them where λ falls least (a short rise between two of them would
        show there).
        """
        with torch.no_grad():
            fall = -self._inner_lam(times).diff() / times.diff()
        least = (fall[1:-1] <= fall[:-2]) & (fall[1:-1] <= fall[2:])
        cells = torch.nonzero(least)[:, 0] + 1
        cells = cells[torch.argsort(fall[cells])[:8]]
        inner = [
            torch.lerp(times[max(i - 1, 0)], times[i + 2], torch.linspace(0, 1, 97).double()[1:-1])
            for i in cells.tolist()
        ]
        return torch.cat([times, *inner]).unique()

    def _check_order(self, times: Tensor, lam: Tensor) -> None:
        # λ of neighbouring times may coincide or cross by rounding; anything more is a rise or a
        # flat stretch.
        noise = 1e-13 * (1.0 + lam.abs().maximum(lam.abs().roll(-1)))[:-1]
        wide = times.diff() > 1e-9 * (1.0 + times.abs()[:-1])
        rising = (lam.diff() > 16 * noise) | ((lam.diff() >= 0) & wide & (lam.diff() > -noise))
        if not rising.any():
            return
        if rising.double().mean() > 0.9:
            way_out = (
                f"Time seems to run from noise to data here: replace t by {sum(self._domain):.6g} "
                "- t."
                if _finite(self)
                else ("Time seems to run from noise to data here: replace t by -t.")
            )
        else:
            way_out = "sigma = std/alpha must grow with t: restrict the domain."
        first = int(torch.nonzero(rising)[0])
        stop = first
        while stop + 1 < len(rising) and rising[stop + 1]:
            stop += 1
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


def _where(times: Tensor, bad: Tensor) -> str:
    """The first interval of times over which `bad` holds, in words."""
    first = int(torch.nonzero(bad)[0])
    stop = first
    while stop + 1 < len(bad) and bad[stop + 1]:
        stop += 1
    if stop == first:
        return f"at t = {times[first].item():.6g}"
    return f"between t = {times[first].item():.6g} and t = {times[stop].item():.6g}"
