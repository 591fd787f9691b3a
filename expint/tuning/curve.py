"""The error of a network's denoiser as a function of the noise level."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from expint.grids import uniform_lambda
from expint.numerics.float64 import as_float64, is_whole
from expint.runs import describe
from expint.second_moments import SecondMoment, second_moment


@dataclass(frozen=True)
class MmseCurve:
    """mmse(σ) = E‖D − x_0‖²/d, callable with σ.

    With x_t = α x_0 + σ̄ z, D − x_0 = σ (z − ε), so that the second moment of the network's noise,
    estimated by the residual as Γ = 1 − E‖z − ε‖²/d, holds the curve: mmse = σ² (1 − Γ). Files of
    the two are the same. Where the network's error is above that of D = x, which is σ², the curve
    is σ². Between the noise levels it is interpolated as Γ is, exactly for isotropic Gaussian data.

    Args:
        moment: Γ, an `expint.SecondMoment` of the estimator "residual", or of a formula; the
            estimator "moment" gives the curve for the perfect network only, and less precisely.

    Raises:
        TypeError: for another `moment`.

    Example:
        >>> import math
        >>> from expint import SecondMoment
        >>> lams = (-4.0, 0.0, 4.0)  # Gaussian data of variance 1: mmse = σ²/(1 + σ²)
        >>> gamma = tuple(1 / (1 + math.exp(2 * lam)) for lam in lams)
        >>> curve = MmseCurve(SecondMoment(lams, lams, gamma, (0.0,) * 3, 1, "EDM", "exact"))
        >>> round(float(curve(0.5)), 12), round(float(curve(10.0)), 6)
        (0.2, 0.990099)
    """

    moment: SecondMoment

    def __post_init__(self) -> None:
        if not isinstance(self.moment, SecondMoment):
            raise TypeError(
                f"MmseCurve.moment must be an expint.SecondMoment, got {self.moment!r}: measure "
                "the curve with expint.mmse_curve(model, data)."
            )

    def __call__(self, sigma: Any) -> Tensor:
        """mmse at σ, float64, of the shape of `sigma`.

        Raises:
            ValueError: for σ outside the range that was measured.
        """
        at = as_float64(sigma)
        return at.square() * (1.0 - self.moment(-torch.log(at)))

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise levels at which it was measured, decreasing."""
        return tuple(torch.exp(-as_float64(self.moment.lams)).tolist())

    @property
    def errors(self) -> tuple[float, ...]:
        """Standard errors of the curve there."""
        pairs = zip(self.sigmas, self.moment.errors, strict=True)
        return tuple(sigma**2 * error for sigma, error in pairs)

    def save(self, file: str | Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            OSError: if that is not possible; an older file is then still there.
        """
        self.moment.save(file)

    @classmethod
    def load(cls, file: str | Path) -> "MmseCurve":
        """Read what `save`, or `expint second-moment --estimator residual`, wrote.

        Raises:
            ValueError: if the file cannot be read or is not such a file, with what is wrong.
        """
        return cls(SecondMoment.load(file))


def mmse_curve(
    model: Any,
    data: Any,
    times: int | Sequence[float] | Tensor = 50,
    *,
    draws: int | None = None,
    seed: int = 0,
    batch: int = 256,
    conditioned: Callable[[Sequence[int]], Any] | None = None,
    progress: bool = False,
) -> MmseCurve:
    """Measure mmse(σ) = E‖D − x_0‖²/d of a model: one evaluation per draw and time.

    Args:
        model: model(x, t) with attributes `schedule` and `prediction`.
        data: samples x_0 as the network knows them, floating, shape (n, *event); without data, the
            network's own: `expint.sample(model, (n, *event), nfe=100)`.
        times, draws, seed, batch, conditioned, progress: as for `expint.second_moment`. Where the
            schedule starts at σ = ∞, a number of times begins at σ = `expint.grids.FIRST_SIGMA`.

    Raises:
        TypeError, ValueError: before the first evaluation, for anything that does not fit.
        FloatingPointError: if the network's output is not finite.

    Example:
        >>> from expint import targets
        >>> from expint.schedules import EDM
        >>> target = targets.Gaussian([0.0] * 4, 1.0, EDM())
        >>> curve = mmse_curve(target, target.sample(500), 20)
        >>> abs(float(curve(1.0)) - 0.5) < 0.05
        True
    """
    schedule = describe(model).schedule
    if schedule.lam(schedule.sampling_range[0]) == -math.inf and is_whole(times):
        count = cast(int, times)
        times = uniform_lambda(schedule, max(count, 2), final="none")[1 : count + 1]
    moment = second_moment(
        model, data, times, draws=draws, seed=seed, batch=batch, estimator="residual",
        conditioned=conditioned, progress=progress,
    )  # fmt: skip
    return MmseCurve(moment)
