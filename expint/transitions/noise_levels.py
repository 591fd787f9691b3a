"""Flow-GRPO's noise level as ℓ."""

import math

from expint.equations.step_scales import MOST_ELL

_PER_ELL = math.sqrt(2.0)


def ell_from_noise_level(noise_level: float) -> float:
    """ℓ of Flow-GRPO's `noise_level` a: ℓ = a/√2 at every time.

    With α = 1 − t and σ = t/(1 − t) the forward process has g² = α² dσ²/dt = 2t/(1 − t), and the
    SDE of stochasticity ℓ has noise ℓ g; Flow-GRPO's has a √(t/(1 − t)).

    Args:
        noise_level: a ≥ 0, at most 10⁴ √2.

    Raises:
        ValueError: for anything else.

    Source: Flow-GRPO, arXiv 2505.05470, with σ_t = a √(t/(1 − t)).

    Example:
        >>> round(ell_from_noise_level(0.7), 3)
        0.495
    """
    return _checked("noise_level", noise_level, MOST_ELL * _PER_ELL) / _PER_ELL


def noise_level_from_ell(ell: float) -> float:
    """Flow-GRPO's `noise_level` of ℓ, the inverse of `ell_from_noise_level`.

    Args:
        ell: ℓ ≥ 0, at most 10⁴.

    Raises:
        ValueError: for anything else.
    """
    return _checked("ell", ell, MOST_ELL) * _PER_ELL


def _checked(name: str, value: float, most: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= most:
        raise ValueError(f"{name} is a number from 0 to {most:g}, got {value!r}.")
    return float(value)
