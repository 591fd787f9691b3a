"""Analytic-DPM: the reverse variance that is optimal for the data, from a measured moment of the
network.

Given x_s, the state x_t of the reverse process of DDPM and DDIM (arXiv 2010.02502) is

    x_t = α_t x_0 + √(σ̄_t² − λ²) (x_s − α_s x_0)/σ̄_s + λ z,

and with the denoiser D in the place of x_0 it lacks the variance that x_0 still has given x_s. The
mean of that, over states and components, is E|x_0 − D|²/d = σ_s² (1 − Γ_s), Γ = E|ε|²/d, so that
the best isotropic variance is

    σ*² = λ² + (α_t σ̄_s/α_s − √(σ̄_t² − λ²))² (1 − Γ_s)                       (arXiv 2201.06503,
    theorem 1)

(there β̄ = σ̄², α_n = α_s²/α_t², and Γ_n is the second moment of the score, so that β̄_n Γ_n is Γ_s
here). In the data form with stochasticity ℓ, λ² = σ̄_t² (1 − e^{−2ℓ²h}), h = λ_t − λ_s, and the
factor on the standard deviation of the noise is

    σ*/λ = √(1 + [e^{−ℓ²h} (e^{(1+ℓ²)h} − 1)]² (1 − Γ_s)/(1 − e^{−2ℓ²h})).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from expint.schedules import Schedule
from expint.solvers.method import Method
from expint.solvers.operations import Operation
from expint.solvers.seeds import seeds1

Statistic = Callable[[Tensor], Tensor]
"""Γ = E|ε(x_t, t)|²/d as a function of λ_t, float64 tensors of one shape: an `expint.SecondMoment`,
or a formula."""

_WAY = (
    "measure it with expint.second_moment(model, data, times) or `expint second-moment`, or read "
    "it with expint.SecondMoment.load(file)"
)


def optimal_variance(
    statistic: Statistic, ell: float = 1.0, data_range: tuple[float, float] | None = None
) -> Operation:
    """Gives the noise of each step the variance that is optimal for the data, between those of the
    bounds below.

    Whatever the statistic, σ*² stays within λ² ≤ σ*² ≤ λ² + (α_t σ̄_s/α_s − √(σ̄_t² − λ²))² (arXiv
    2201.06503, theorem 2), and for data with all components in [a, b] below
    λ² + (α_t − α_s √(σ̄_t² − λ²)/σ̄_s)² ((b − a)/2)² (the same).

    Args:
        statistic: Γ as a function of λ: an `expint.SecondMoment`, or any function of a float64
            tensor.
        ell: stochasticity ℓ > 0 of the data form that it is used with; the factor is wrong for
            another.
        data_range: (a, b) with all data between them, or None if there are no such bounds.

    It goes with solvers of one stage in the data form with the same ell > 0 (at 1 DDPM). DDIM (ell
    = 0) has no noise that could be scaled: take a small ell, such as 1e-3, for which the variance
    is the optimal one of the paper's Analytic-DDIM.

    Raises:
        TypeError, ValueError: for a statistic that is not callable (with the way to get one), ell
            that is not a positive number, or bounds that are not in order; when a plan is compiled,
            for noise levels that the statistic does not cover.

    Source: Bao et al., Analytic-DPM, arXiv 2201.06503, theorem 1.
    """
    if not callable(statistic):
        raise TypeError(
            "optimal_variance needs the second moment of the predicted noise, got "
            f"{statistic!r}: {_WAY}."
        )
    if isinstance(ell, (bool, str)) or not 0 < ell < math.inf:
        raise ValueError(
            f"optimal_variance: ell must be a positive number, got {ell!r}: without noise there is "
            "no variance to choose (for DDIM's mean take a small ell, such as 1e-3)."
        )
    if data_range is not None and not -math.inf < data_range[0] < data_range[1] < math.inf:
        raise ValueError(
            f"optimal_variance: data_range is (a, b) with finite a < b, got {data_range!r}."
        )

    def factor(schedule: Schedule, start: Tensor, end: Tensor) -> Tensor:  # σ*/λ
        lam, squared = schedule.lam(start), ell**2
        h = schedule.lam(end) - lam
        unexplained = 1.0 - statistic(lam).clamp(0.0, 1.0)  # E|x_0 − D|²/(d σ²)
        if data_range is not None:
            low, high = data_range
            unexplained = torch.minimum(unexplained, (0.5 * (high - low) * torch.exp(lam)) ** 2)
        reach = torch.exp(-squared * h) * torch.expm1((1.0 + squared) * h)
        return torch.sqrt(1.0 + reach**2 * unexplained / -torch.expm1(-2.0 * squared * h))

    name = f"optimal-variance(ell={ell:g}, data_range={data_range})"
    return Operation(name, factor=factor, own_variance=True, ell=ell)


def analytic_dpm(
    statistic: Statistic | None = None,
    *,
    ell: float = 1.0,
    data_range: tuple[float, float] | None = None,
) -> Method:
    """Analytic-DPM: SEEDS-1 in the data form with the optimal variance in every step.

    Args:
        statistic: Γ as a function of λ: an `expint.SecondMoment`, or any function of a float64
            tensor.
        ell: stochasticity, > 0: 1 for Analytic-DDPM; near 0, such as 1e-3, for Analytic-DDIM. Leave
            `ell` out in `sample`.
        data_range: (a, b) with all data between them, for the upper bound of the variance; images
            are in (-1, 1).

    Raises:
        TypeError: without a statistic; the message says how to make one.
        ValueError: for ell or data_range out of range.

    Source: Bao et al., Analytic-DPM, arXiv 2201.06503, theorem 1.

    Example:
        >>> import torch
        >>> from expint import sample, targets
        >>> from expint.schedules import VP
        >>> target = targets.Gaussian([0.0, 0.0], 0.25, VP())
        >>> solver = analytic_dpm(lambda lam: 1.0 / (1.0 + 0.25 * torch.exp(2.0 * lam)))
        >>> sample(target, (3, 2), solver, steps=5, progress=False).shape
        torch.Size([3, 2])
    """
    if statistic is None:
        raise TypeError(
            "analytic-dpm needs statistic=..., the second moment of the predicted noise on the "
            f"data: {_WAY}."
        )
    around = (optimal_variance(statistic, ell, data_range),)
    source = "Analytic-DPM, arXiv 2201.06503, theorem 1"
    return Method(seeds1(), "analytic-dpm", source, ell=float(ell), operations=around)
