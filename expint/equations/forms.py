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
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from expint.equations.diffusion import Diffusion
from expint.equations.noise_scales import NoiseScale
from expint.equations.noise_scales import noise_scale as as_noise_scale
from expint.equations.sde import Clock, NoiseClock, SemiLinearSDE, TimeFunction
from expint.numerics.quadrature import integrate
from expint.registry import Registry
from expint.schedules.base import Schedule

EXPONENTIAL = ("data", "noise", "precond")
"""The forms in which the paper states its solvers; in the others the weight of F is not an
exponential (ρ = 0)."""

# Each makes the SDE from (schedule, ell, sigma_data).
_FORMS = Registry[Callable[[Schedule, float, float | None], SemiLinearSDE]]("form")


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
    make = _FORMS.get(form)
    if isinstance(ell, (str, bool)) or np.ndim(ell) or not 0 <= ell < float("inf"):
        raise ValueError(
            f"ell (the stochasticity) must be a finite number >= 0, got {ell!r}: 0 is the ODE, "
            "1 the SDE."
        )
    if noise_scale is None:
        return make(schedule, float(ell), sigma_data)
    if form != "data":
        raise ValueError(
            f"A noise scale goes with form='data' (its F is the denoiser), got form={form!r}."
        )
    if ell != 1.0:
        raise ValueError(
            f"A noise scale takes the place of ell: leave out ell={ell!r}, or the noise scale."
        )
    return _extended(schedule, as_noise_scale(noise_scale))


def form_names() -> list[str]:
    """Names of the forms."""
    return list(_FORMS)


def _sde(
    diffusion: Diffusion, log_propagator: TimeFunction, clock: Clock, noise: NoiseClock | None
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


@_FORMS.register("data")
def _data(schedule: Schedule, ell: float, sigma_data: float | None) -> SemiLinearSDE:
    power = 1.0 + ell**2
    return _sde(
        Diffusion(schedule, "data", "data", ell),
        lambda t: schedule.log_alpha(t) - power * schedule.lam(t),
        Clock(schedule.lam, schedule.t_of_lam, power, power),
        NoiseClock(lambda t: 2.0 * ell**2 * schedule.lam(t)) if ell > 0 else None,
    )


def _noise_of_epsilon(schedule: Schedule, ell: float) -> NoiseClock | None:
    """τ = −ℓ² σ²."""
    return NoiseClock(lambda t: 2.0 * (math.log(ell) - schedule.lam(t)), -1) if ell > 0 else None


@_FORMS.register("noise")
def _noise(schedule: Schedule, ell: float, sigma_data: float | None) -> SemiLinearSDE:
    return _sde(
        Diffusion(schedule, "noise", "noise", ell),
        schedule.log_alpha,
        Clock(schedule.lam, schedule.t_of_lam, -1.0, -(1.0 + ell**2)),
        _noise_of_epsilon(schedule, ell),
    )


@_FORMS.register("precond")
def _precond(schedule: Schedule, ell: float, sigma_data: float | None) -> SemiLinearSDE:
    if sigma_data is None or not sigma_data > 0:
        raise ValueError(
            "The preconditioned form needs sigma_data > 0, the network's own, got "
            f"{sigma_data!r}: pass sigma_data=..., or use form='data'."
        )
    sd = float(sigma_data)

    def log_hypotenuse(t: Tensor) -> Tensor:  # log √(σ² + σd²)
        at = torch.full_like(t, 2.0 * math.log(sd))
        return 0.5 * torch.logaddexp(-2.0 * schedule.lam(t), at)

    forward, inverse, limit = _cosine_power_clock(ell**2, sd)
    return _sde(
        Diffusion(schedule, "precond", "precond", ell, sigma_data=sd),
        lambda t: schedule.log_alpha(t) + (1.0 + ell**2) * log_hypotenuse(t),
        Clock(
            lambda t: -forward(-schedule.lam(t)),
            lambda mu: schedule.t_of_lam(-inverse(-mu)),
            -1.0,
            (1.0 + ell**2) * limit,
        ),
        NoiseClock(lambda t: -2.0 * ell**2 * log_hypotenuse(t)) if ell > 0 else None,
    )


@_FORMS.register("sigma")
def _sigma(schedule: Schedule, ell: float, sigma_data: float | None) -> SemiLinearSDE:
    clock = Clock(
        lambda t: -torch.exp(-schedule.lam(t)),
        lambda mu: schedule.t_of_lam(-torch.log(-mu)),
        0.0,
        -(1.0 + ell**2),
    )
    diffusion = Diffusion(schedule, "noise", "sigma", ell)
    return _sde(diffusion, schedule.log_alpha, clock, _noise_of_epsilon(schedule, ell))


# What the drift is taken with respect to: the clock μ, its inverse, and d log σ/dμ as a function of
# (λ, d log σ/dt).
_EXPLICIT: dict[str, tuple[Any, Any, Any]] = {
    "time": (lambda schedule, t: -t, lambda schedule, mu: -mu, lambda lam, speed: -speed),
    "variance": (
        lambda schedule, t: -torch.exp(-2.0 * schedule.lam(t)),
        lambda schedule, mu: schedule.t_of_lam(-0.5 * torch.log(-mu)),
        lambda lam, speed: -0.5 * torch.exp(2.0 * lam),
    ),
    "log-sigma": (
        lambda schedule, t: schedule.lam(t),
        lambda schedule, mu: schedule.t_of_lam(mu),
        lambda lam, speed: -torch.ones_like(lam),
    ),
}


def _explicit(form: str) -> Callable[[Schedule, float, float | None], SemiLinearSDE]:
    """F = dx/dμ, the whole drift [x d log α + (1+ℓ²) (x − αD) d log σ]/dμ, with the clock μ = −t,
    −σ² or λ."""
    clock, inverse, rate_of_sigma = _EXPLICIT[form]

    def build(schedule: Schedule, ell: float, sigma_data: float | None) -> SemiLinearSDE:
        def rate(t: Tensor) -> tuple[Tensor, Tensor]:
            with torch.inference_mode(False), torch.enable_grad():
                leaf = t.detach().clone().requires_grad_(True)
                lam, log_alpha = schedule.lam(leaf), schedule.log_alpha(leaf)
                (fall,) = torch.autograd.grad(lam.sum(), leaf, retain_graph=True)
                (drift,) = torch.autograd.grad(log_alpha.sum(), leaf)
            speed = -fall
            per_clock = rate_of_sigma(lam.detach(), speed)
            on_data = -(1.0 + ell**2) * per_clock
            return per_clock * drift / speed - on_data, on_data * schedule.alpha(t)

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
            last = torch.full_like(lam, float(schedule.lam(schedule.domain[0])))
            return noise_between(lam, torch.minimum(lam + 20.0, last))

        def log_step(s: Tensor, t: Tensor) -> Tensor:
            return noise_between(schedule.lam(s), schedule.lam(t))

        return _sde(
            Diffusion(schedule, "rate", form, ell, rate=rate),
            torch.zeros_like,
            Clock(lambda t: clock(schedule, t), lambda mu: inverse(schedule, mu), 0.0, 1.0),
            NoiseClock(log_noise, -1, log_step) if ell > 0 else None,
        )

    return build


for _form in _EXPLICIT:
    _FORMS.add(_form, _explicit(_form))


def _extended(schedule: Schedule, scale: NoiseScale) -> SemiLinearSDE:
    noise_end, data_end = (schedule.lam(t) for t in schedule.sampling_range)
    scale.check(-data_end, min(-noise_end, 25.0))

    def log_phi(t: Tensor) -> Tensor:
        return scale.log_phi(-schedule.lam(t))

    noise = NoiseClock(lambda t: -2.0 * scale.log_excess(-schedule.lam(t)))
    return _sde(
        Diffusion(schedule, "data", "data", noise_scale=scale),
        lambda t: schedule.log_alpha(t) + log_phi(t),
        Clock(lambda t: -log_phi(t), lambda mu: schedule.t_of_lam(-scale.log_sigma(-mu))),
        noise if scale.has_noise else None,
    )


def _cosine_power_clock(
    m: float, sd: float
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float]:
    """log(C/C∞) as a function of log σ, its inverse, and C∞, for C(σ) = σd^(−m) ∫_0^{arctan(σ/σd)}
    cos^m θ dθ, C∞ = C(∞).

    Relative to C∞ the clock tends to 0 as σ → ∞ and keeps its digits there. Closed forms for m = 0
    (arctan) and m = 1 (sine); for other m the integral is an incomplete beta function, C/C∞ =
    I_u(½, (m+1)/2) with u = σ²/(σ² + σd²), taken from scipy at whichever tail is small; C∞ =
    σd^(−m) ½ B(½, (m+1)/2) for every m.
    """
    log_sd = math.log(sd)
    p, q = 0.5, 0.5 * (m + 1.0)
    limit = 0.5 * float(special.beta(p, q)) * sd**-m
    if m == 0.0:

        def angle(log_sigma: Tensor) -> Tensor:
            ratio = torch.exp(log_sigma - log_sd)
            near, far = (torch.atan(r) / (0.5 * math.pi) for r in (ratio, 1.0 / ratio))
            return torch.where(ratio < 1.0, torch.log(near), torch.log1p(-far))

        def tangent(log_c: Tensor) -> Tensor:
            near = torch.log(torch.tan(0.5 * math.pi * torch.exp(log_c)))
            far = -torch.log(torch.tan(-0.5 * math.pi * torch.expm1(log_c)))
            return torch.where(log_c < -math.log(2.0), near, far) + log_sd

        return angle, tangent, limit
    if m == 1.0:
        # C/C∞ = sin(arctan(σ/σd)); the inverse from tan = sin/√(1 − sin²).
        return (
            lambda log_sigma: -0.5 * torch.log1p(torch.exp(-2.0 * (log_sigma - log_sd))),
            lambda log_c: log_sd + log_c - 0.5 * torch.log(-torch.expm1(2.0 * log_c)),
            limit,
        )

    def forward(log_sigma: Tensor) -> Tensor:
        return _LogBetaRatio.apply(log_sigma - log_sd, q)  # pyright: ignore[reportReturnType]

    def inverse(log_c: Tensor) -> Tensor:
        value = np.minimum(log_c.detach().numpy(), 0.0)
        u = special.betaincinv(p, q, np.exp(value))
        v = special.betaincinv(q, p, -np.expm1(value))  # v = 1 − u
        with np.errstate(divide="ignore"):
            log_odds = np.where(u < 0.5, np.log(u) - np.log1p(-u), np.log1p(-v) - np.log(v))
        return torch.as_tensor(0.5 * log_odds + log_sd)

    return forward, inverse, limit


class _LogBetaRatio(torch.autograd.Function):
    """log I_u(½, q) as a function of log r, u = r²/(1 + r²), with d log I/d log r = 2 u^½ (1−u)^q /
    (B(½, q) I).
    """

    @staticmethod
    def forward(ctx: Any, log_ratio: Tensor, q: float) -> Tensor:
        log_odds = 2.0 * log_ratio.detach().numpy()  # log(u/(1−u))
        with np.errstate(divide="ignore"):
            near = np.log(special.betainc(0.5, q, special.expit(log_odds)))
            far = np.log1p(-special.betainc(q, 0.5, special.expit(-log_odds)))
        value = np.where(log_odds < 0, near, far)
        log_density = (
            0.5 * special.log_expit(log_odds)
            + q * special.log_expit(-log_odds)
            - special.betaln(0.5, q)
        )
        ctx.save_for_backward(torch.as_tensor(2.0 * np.exp(log_density - value)))
        return torch.as_tensor(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None
