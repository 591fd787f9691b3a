"""The clock of equations whose transformed time is the time itself."""

from typing import Any

from torch import Tensor

from expint.equations.sde import Clock


def time_clock(start: float, end: float, rho: Any = 0.0, kappa: Any = 1.0) -> Clock:
    """|t − t_0|, which refuses times outside the span, rounding of a single precision grid
    aside.
    """
    low, high = min(start, end), max(start, end)
    room = 1e-6 * max(abs(low), abs(high))
    sign = 1.0 if end > start else -1.0

    def mu(t: Tensor) -> Tensor:
        outside = t[(t < low - room) | (t > high + room)]
        if outside.numel():
            raise ValueError(
                f"t = {outside[0].item():.9g} is outside the span from {low:.9g} to {high:.9g} of "
                "the coefficients."
            )
        return sign * (t - start)

    return Clock(mu, lambda mu: start + sign * mu, rho, kappa)
