"""The forms of the reverse diffusion SDE: each a choice of F, with its propagator, clock and noise
clock (✓ for constant ℓ ≥ 0).

    form      F    a                        clock μ (ρ, κ)                      noise clock τ
    data      D    α σ^(1+ℓ²)               λ           (1+ℓ², 1+ℓ²)            σ^(−2ℓ²)
    noise     ε    α                        λ           (−1, −(1+ℓ²))           −ℓ² σ²
    precond   F    α (σ²+σd²)^((1+ℓ²)/2)    −log C(σ)   (−1, 1+ℓ²)              (σ²+σd²)^(−ℓ²)
    extended  D    α φ(σ)                   −log φ(σ)   (1, 1)                  σ²/φ(σ)²
    sigma     ε    α                        −σ          (0, −(1+ℓ²))            −ℓ² σ²

In the form "sigma" every φ_k is 1/k!, so that a classical Runge–Kutta scheme is one in σ. The forms
"time", "variance" and "log-sigma" are not exponential: the propagator is 1 and F is the whole drift
with respect to t, σ² or log σ, whose clock they have (ρ = 0); their first-order step is
Euler–Maruyama.

    C(σ) = σd^(−ℓ²) ∫_0^{arctan(σ/σd)} cos^{ℓ²}θ dθ

(in the code μ = −log(C/C(∞)) and κ = (1+ℓ²) C(∞): the same weight).

ℓ = 0 is the probability-flow ODE, ℓ = 1 the reverse SDE; the extended form takes any admissible
noise-scale function φ(σ) in the place of σ^(1+ℓ²). Source: SEEDS, arXiv 2305.14267, sections 3 and
4 and appendix; ER-SDE-Solver, arXiv 2309.06169.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from expint.equations.diffusion import Diffusion
from expint.equations.noise_scales import NoiseScale
from expint.equations.noise_scales import noise_scale as as_noise_scale
from expint.equations.sde import Clock, NoiseClock, SemiLinearSDE
from expint.numerics.quadrature import RealFunction, integrate
from expint.registry import unknown
from expint.schedules.base import Schedule

EXPONENTIAL = ("data", "noise", "precond")
"""The forms in which the paper states its solvers; in the others the weight of F is not an
exponential (ρ = 0)."""


def reverse_sde(
    schedule: Schedule,
    form: str = "data",
    ell: float = 1.0,
    *,
    noise_scale: "str | NoiseScale | Callable[[Tensor], Tensor] | None" = None,
    sigma_data: float | None = None,
) -> SemiLinearSDE:
    """The reverse-time SDE (ℓ = `ell`) of a diffusion with noise schedule `schedule`, in one of its
    forms.

    Args:
        schedule: the noise schedule.
        form: "data", "noise", "precond", "sigma", "time", "variance" or "log-sigma".
        ell: stochasticity ℓ ≥ 0; 0 is the probability-flow ODE, 1 the reverse SDE.
        noise_scale: a noise-scale function in place of `ell`, for the data form: a name
            (`expint.equations.noise_scales`), a function φ(σ) of a float64 tensor, or a
            `NoiseScale`. It is checked over the schedule's sampling range.
        sigma_data: the network's, for the preconditioned form only.

    Raises:
        ValueError: for an unknown form, ell < 0 or not finite, a sigma_data that is missing or not
            positive, or a noise scale that is not admissible (with the σ at which it fails).

    Example:
        >>> from expint import reverse_sde, schedules
        >>> reverse_sde(schedules.VP(), form="noise", ell=0.0).is_stochastic
        False
    """
    if form not in form_names():
        raise unknown("form", form, sorted(form_names()))
    if isinstance(ell, (str, bool)) or np.ndim(ell) or not 0 <= ell < float("inf"):
        raise ValueError(
            f"ell (the stochasticity) must be a finite number >= 0, got {ell!r}: 0 is the ODE, "
            "1 the SDE."
        )
    if noise_scale is None:
        if form in _EXPLICIT:
            return _explicit(schedule, form, float(ell))
        sd = _checked(sigma_data) if form == "precond" else None
        formulas = _FORMS[form](float(ell), sd or 1.0)
        diffusion = Diffusion(schedule, formulas.prediction, form, float(ell), sigma_data=sd)
        return _closed(diffusion, formulas, noisy=ell > 0)
    if form != "data":
        raise ValueError(
            f"A noise scale goes with form='data' (its F is the denoiser), got form={form!r}."
        )
    if ell != 1.0:
        raise ValueError(
            f"A noise scale takes the place of ell: leave out ell={ell!r}, or the noise scale."
        )
    scale = as_noise_scale(noise_scale)
    noise_end, data_end = (schedule.lam(t) for t in schedule.sampling_range)
    scale.check(-data_end, min(-noise_end, 25.0))
    diffusion = Diffusion(schedule, "data", "data", noise_scale=scale)
    return _closed(diffusion, _extended(scale), noisy=scale.has_noise)


def form_names() -> list[str]:
    """Names of the forms."""
    return [*_FORMS, *_EXPLICIT]


class _Formulas(NamedTuple):
    """A row of the table: functions of λ, or of μ for the inverse of the clock."""

    prediction: str
    log_a: RealFunction  # log(a/α)
    mu: RealFunction
    lam: RealFunction
    rho: float
    kappa: float
    log_tau: RealFunction
    sign: int = 1


def _same(value: Tensor) -> Tensor:
    return value


def _minus_sigma_to(power: float) -> tuple[RealFunction, RealFunction]:
    """The clock −σ^power as a function of λ, and its inverse."""
    return lambda lam: -torch.exp(-power * lam), lambda mu: -torch.log(-mu) / power


def _data(ell: float, sd: float) -> _Formulas:
    power = 1.0 + ell**2
    log_tau = lambda lam: 2.0 * ell**2 * lam  # noqa: E731
    return _Formulas("data", lambda lam: -power * lam, _same, _same, power, power, log_tau)


def _noise(ell: float, sd: float) -> _Formulas:
    log_tau = lambda lam: 2.0 * (math.log(ell) - lam)  # noqa: E731
    kappa = -(1.0 + ell**2)
    return _Formulas("noise", torch.zeros_like, _same, _same, -1.0, kappa, log_tau, sign=-1)


def _sigma(ell: float, sd: float) -> _Formulas:
    mu, lam = _minus_sigma_to(1.0)
    return _noise(ell, sd)._replace(mu=mu, lam=lam, rho=0.0)


def _precond(ell: float, sd: float) -> _Formulas:
    # scipy.special takes longer to import than this package.
    from expint.equations.cosine_power import cosine_power_clock

    def log_hypotenuse(lam: Tensor) -> Tensor:  # log √(σ² + σd²)
        return 0.5 * torch.logaddexp(-2.0 * lam, torch.full_like(lam, 2.0 * math.log(sd)))

    forward, inverse, limit = cosine_power_clock(ell**2, sd)
    return _Formulas(
        "precond",
        lambda lam: (1.0 + ell**2) * log_hypotenuse(lam),
        lambda lam: -forward(-lam),
        lambda mu: -inverse(-mu),
        -1.0,
        (1.0 + ell**2) * limit,
        lambda lam: -2.0 * ell**2 * log_hypotenuse(lam),
    )


def _extended(scale: NoiseScale) -> _Formulas:
    return _Formulas(
        "data",
        lambda lam: scale.log_phi(-lam),
        lambda lam: -scale.log_phi(-lam),
        lambda mu: -scale.log_sigma(-mu),
        1.0,
        1.0,
        lambda lam: -2.0 * scale.log_excess(-lam),
    )


_FORMS = {"data": _data, "noise": _noise, "precond": _precond, "sigma": _sigma}
# The clocks of the explicit forms, as functions of λ, with their inverses; None for −t.
_EXPLICIT = {"time": None, "variance": _minus_sigma_to(2.0), "log-sigma": (_same, _same)}


def _checked(sigma_data: float | None) -> float:
    if sigma_data is None or not sigma_data > 0:
        raise ValueError(
            "The preconditioned form needs sigma_data > 0, the network's own, got "
            f"{sigma_data!r}: pass sigma_data=..., or use form='data'."
        )
    return float(sigma_data)


def _clock(
    schedule: Schedule, mu: RealFunction, lam: RealFunction, rho: float, kappa: float
) -> Clock:
    """The clock that is μ(λ)."""
    return Clock(
        lambda t: mu(schedule.lam(t)), lambda value: schedule.t_of_lam(lam(value)), rho, kappa
    )


def _sde(
    diffusion: Diffusion, log_propagator: RealFunction, clock: Clock, noise: NoiseClock | None
) -> SemiLinearSDE:
    schedule = diffusion.schedule
    return SemiLinearSDE(
        log_propagator,
        clock,
        noise,
        diffusion,
        span=schedule.sampling_range,
        name=f"{diffusion.setting}, {schedule}",
    )


def _closed(diffusion: Diffusion, row: _Formulas, noisy: bool) -> SemiLinearSDE:
    schedule = diffusion.schedule
    return _sde(
        diffusion,
        lambda t: schedule.log_alpha(t) + row.log_a(schedule.lam(t)),
        _clock(schedule, row.mu, row.lam, row.rho, row.kappa),
        NoiseClock(lambda t: row.log_tau(schedule.lam(t)), row.sign) if noisy else None,
    )


def _explicit(schedule: Schedule, form: str, ell: float) -> SemiLinearSDE:
    """F = dx/dμ, the whole drift [x d log α − (1+ℓ²) (x − αD) dλ]/dμ, with the clock μ = −t, −σ² or
    λ."""
    pair = _EXPLICIT[form]
    clock = (
        _clock(schedule, *pair, rho=0.0, kappa=1.0) if pair else Clock(torch.neg, torch.neg, 0.0)
    )

    def rate(t: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = t.detach().clone().requires_grad_(True)
            values = schedule.lam(leaf), schedule.log_alpha(leaf), clock(leaf)
            fall, drift, speed = (
                torch.autograd.grad(value.sum(), leaf, retain_graph=True)[0] for value in values
            )
        on_data = (1.0 + ell**2) * fall / speed
        return drift / speed - on_data, on_data * schedule.alpha(t)

    def noise_between(low: Tensor, high: Tensor) -> Tensor:
        # ∫ 2 ℓ² α² σ² dλ, in panels of one e-fold at most; from σ = ∞ as from e^30
        low = low.clamp(min=-30.0)

        def density(lam: Tensor) -> Tensor:
            alphas = schedule.alpha(schedule.t_of_lam(lam.flatten())).reshape(lam.shape)
            return 2.0 * ell**2 * alphas**2 * torch.exp(-2.0 * (lam - low[..., None]))

        panels = max(1, math.ceil((high - low).max().item()))
        return torch.log(integrate(density, low, high, 16, panels)) - 2.0 * low

    def log_noise(t: Tensor) -> Tensor:  # to where α² σ² is 1e-16 of what it is at t
        lam = schedule.lam(t)
        return noise_between(lam, (lam + 20.0).clamp(max=schedule.lam(schedule.domain[0])))

    def log_step(s: Tensor, t: Tensor) -> Tensor:
        return noise_between(schedule.lam(s), schedule.lam(t))

    return _sde(
        Diffusion(schedule, "rate", form, ell, rate=rate),
        torch.zeros_like,
        clock,
        NoiseClock(log_noise, -1, log_step) if ell > 0 else None,
    )
