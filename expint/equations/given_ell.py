"""ℓ as its user gives it: a number, one for each step, or a function of σ."""

import math
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any

import torch
from torch import Tensor

from expint.equations.noise_scales import NoiseScale
from expint.equations.step_scales import MOST_ELL, noise_scale_per_step
from expint.numerics.float64 import are_numbers, as_float64
from expint.numerics.quadrature import integrate
from expint.schedules.base import Schedule
from expint.schedules.formula.callables import on_tensors

Ell = float | Sequence[float] | Tensor | Callable[[Any], Any]
"""A number, one for each step between finite noise levels, or a function ℓ(σ); `math.inf` is a
number too."""

ALWAYS_FRESH = NoiseScale("ell=inf", lambda u: u, True, ((-math.inf, math.inf, math.inf),))
"""ℓ = ∞ throughout: each row is x = α D + σ̄ z. The limit is taken where steps are compiled
(`expint.plans.fresh_steps`); elsewhere, as at σ = ∞, it is as for ℓ = 1."""

_POINTS, _PANELS = 16, 4


def varying_ell(schedule: Schedule, grid: Any, ell: Any) -> NoiseScale | None:
    """The noise scale of an ℓ that varies from step to step; None for a number, or for none.

    A function of σ = σ̄/α is replaced in each step by the constant that adds as much noise: ℓ² is
    its mean over the step in λ, by Gauss–Legendre quadrature.

    Args:
        schedule: the noise schedule.
        grid: times from noise to data, shape (steps + 1,).
        ell: as in `expint.sample`. A function may be written for torch tensors, numpy arrays or one
            float at a time.

    Raises:
        TypeError: for values that are not numbers, and for a function that gives none.
        ValueError: for another number of values than steps, and for one that is negative, NaN, or
            finite and above 10⁴.
    """
    if callable(ell):
        ell = _means(schedule, grid, ell)
    if isinstance(ell, list):
        ell = [_number(value) for value in ell]
    listed = isinstance(ell, Sized) and not isinstance(ell, str) and as_float64(ell).ndim > 0
    return ell_per_step(schedule, grid, ell) if listed else None


def ell_per_step(schedule: Schedule, grid: Any, ell: Any) -> NoiseScale:
    """`noise_scale_per_step`, which with ℓ = ∞ in every step is `ALWAYS_FRESH`."""
    made = noise_scale_per_step(schedule, grid, ell)
    endless = made.pieces and all(square == math.inf for *_, square in made.pieces)
    return ALWAYS_FRESH if endless else made


def one_ell(ell: Any, form: str, noise_scale: Any) -> tuple[float, Any]:
    """The ℓ of an equation, and its noise scale, which is `ALWAYS_FRESH` for ℓ = ∞.

    Args:
        ell, form, noise_scale: of `expint.reverse_sde`, whose errors these are.
    """
    ell = _number(ell)
    if form == "data" and noise_scale is None and are_numbers(ell) and ell == math.inf:
        return 1.0, ALWAYS_FRESH
    if not are_numbers(ell) or not 0 <= ell <= MOST_ELL:
        raise ValueError(
            f"ell (the stochasticity) must be a finite number >= 0, got {ell!r}: 0 is the ODE, 1 "
            f"the SDE, and {MOST_ELL:g} the largest. For form='data' it may be inf, or with "
            "plan_sampling and sample a number for each step or a function of sigma."
        )
    if isinstance(ell, Tensor) and ell.requires_grad:
        raise TypeError(
            "ell carries a gradient, which would be lost: give its value, ell.item(). Gradients "
            "go through the schedule, the grid, eta and constant coefficients."
        )
    return float(ell), noise_scale


def asked_noise(given: Iterable[Any]) -> bool | None:
    """Whether those of ℓ, η and a noise scale that are given ask for noise, as all but zeros do;
    None where nothing is given."""
    values = [value for value in given if value is not None]
    zeros = (
        v == 0 if are_numbers(v) or isinstance(v, str) or callable(v) else not as_float64(v).any()
        for v in values
    )
    return not any(zeros) if values else None


def check_for_adaptive(ell: Any) -> None:
    """Refuse an ℓ for adaptive steps that is not one finite number, or None.

    Raises:
        ValueError: saying why.
    """
    if ell is not None and (callable(ell) or not are_numbers(ell) or math.isinf(ell)):
        raise ValueError(
            "Adaptive steps choose the grid on one Brownian path, so that ell is one finite number "
            f"for all of them, got {ell!r}: give a number of steps for an ell that varies, or inf."
        )


def root_of(eta: Any) -> Any:
    """ℓ of an η that is ℓ², as k-diffusion's, in the kind in which it is given.

    Raises:
        ValueError: if η is negative or NaN, with its value.
    """
    if callable(eta):
        return lambda sigma: root_of(eta(sigma))
    if eta is None:
        return None
    values = as_float64(eta)
    if not bool((values >= 0.0).all()):
        raise ValueError(f"eta (ell squared) is a number >= 0, or one for each step, got {eta!r}.")
    return values.sqrt() if values.ndim else math.sqrt(values)


def _number(ell: Any) -> Any:
    """The text "inf", as JSON has it, as a number."""
    return math.inf if isinstance(ell, str) and ell == "inf" else ell


def _means(schedule: Schedule, grid: Any, ell: Callable[[Any], Any]) -> Tensor:
    lam = schedule.lam(as_float64(grid))
    lam = lam[torch.isfinite(lam)].detach()
    value = on_tensors("ell(sigma)", ell, math.exp(-lam.mean().item()))

    def square(at: Tensor) -> Tensor:
        sigma = torch.exp(-at)
        found = value(sigma)
        if not bool((found >= 0.0).all()):
            wrong = ~(found >= 0.0)
            raise ValueError(
                f"ell(sigma) must be a number >= 0, got {found[wrong][0].item():.6g} at sigma = "
                f"{sigma[wrong][0].item():.6g}."
            )
        return found**2

    means = integrate(square, lam[:-1], lam[1:], _POINTS, _PANELS) / lam.diff()
    return means.sqrt()
