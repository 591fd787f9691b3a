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

import torch
from torch import Tensor

from expint.equations.diffusion import Diffusion
from expint.equations.given_ell import one_ell
from expint.equations.noise_scales import NoiseScale
from expint.equations.noise_scales import noise_scale as as_noise_scale
from expint.equations.sde import Clock, NoiseClock, SemiLinearSDE, value_and_rate
from expint.numerics.float64 import are_numbers
from expint.numerics.quadrature import RealFunction, integrate
from expint.registry import Registry
from expint.schedules.base import Schedule, check_schedule

EXPONENTIAL = ("data", "noise", "precond")
"""The forms in which the paper states its solvers; in the others the weight of F is not an
exponential (ρ = 0)."""


class _Row(NamedTuple):
    """A row of the table for one schedule; `rate` as in `Diffusion`."""

    prediction: str
    log_propagator: RealFunction
    clock: Clock
    noise: NoiseClock
    rate: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None


# Each makes its row from (schedule, ell, sigma_data).
_FORMS = Registry[Callable[[Schedule, float, float | None], _Row]]("form")


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
        ell: stochasticity ℓ ≥ 0; 0 is the probability-flow ODE, 1 the reverse SDE, and for the
            data form `math.inf` the limit in which each row is x = α D + σ̄ z.
        noise_scale: a noise-scale function in place of `ell`, for the data form: a name
            (`expint.equations.noise_scales`), a function φ(σ) of a float64 tensor, or a
            `NoiseScale`. It is checked over the schedule's sampling range.
        sigma_data: the network's, for the preconditioned form only.

    Raises:
        ValueError: for an unknown form, ell < 0 or finite and > 10⁴, ell = ∞ in another form than
            data, a sigma_data that is missing or not positive, or a noise scale that is not
            admissible (with the σ at which it fails).

    Example:
        >>> from expint import reverse_sde, schedules
        >>> reverse_sde(schedules.VP(), form="noise", ell=0.0).is_stochastic
        False
    """
    check_schedule(schedule)
    make = _FORMS.get(form)
    ell, noise_scale = one_ell(ell, form, noise_scale)
    if noise_scale is None:
        try:
            row = make(schedule, float(ell), sigma_data)
        except OverflowError as error:
            hint = "use form='data', or a smaller ell, such as 10."
            raise ValueError(f"ell={ell!r} is too large for the form {form!r}: {hint}") from error
        own = sigma_data if form == "precond" else None
        diffusion = Diffusion(
            schedule, row.prediction, form, float(ell), sigma_data=own, rate=row.rate
        )
        return _sde(diffusion, row, noisy=ell > 0)
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
    return _sde(diffusion, _extended(schedule, scale), noisy=scale.has_noise)


def form_names() -> list[str]:
    """Names of the forms."""
    return list(_FORMS)


def _sde(diffusion: Diffusion, row: _Row, noisy: bool) -> SemiLinearSDE:
    schedule = diffusion.schedule
    return SemiLinearSDE(
        row.log_propagator,
        row.clock,
        row.noise if noisy else None,
        diffusion,
        span=schedule.sampling_range,
        name=f"{diffusion.setting}, {schedule}",
    )


@_FORMS.register("data")
def _data(schedule: Schedule, ell: float, sigma_data: float | None) -> _Row:
    power = 1.0 + ell**2
    return _Row(
        "data",
        lambda t: schedule.log_alpha(t) - power * schedule.lam(t),
        Clock(schedule.lam, schedule.t_of_lam, power, power),
        NoiseClock(lambda t: 2.0 * ell**2 * schedule.lam(t)),
    )


@_FORMS.register("noise")
def _noise(schedule: Schedule, ell: float, sigma_data: float | None) -> _Row:
    return _Row(
        "noise",
        schedule.log_alpha,
        Clock(schedule.lam, schedule.t_of_lam, -1.0, -(1.0 + ell**2)),
        NoiseClock(lambda t: 2.0 * (math.log(ell) - schedule.lam(t)), -1),
    )


@_FORMS.register("precond")
def _precond(schedule: Schedule, ell: float, sigma_data: float | None) -> _Row:
    if sigma_data is None or not are_numbers(sigma_data) or not 0 < sigma_data < math.inf:
        raise ValueError(
            "The preconditioned form needs sigma_data > 0, the network's own, got "
            f"{sigma_data!r}: pass sigma_data=..., or use form='data'."
        )

    log_data = 2.0 * math.log(sigma_data)

    def log_hypotenuse(t: Tensor) -> Tensor:  # log √(σ² + σd²)
        at = torch.full_like(t, log_data)
        return 0.5 * torch.logaddexp(-2.0 * schedule.lam(t), at)

    def log_step(s: Tensor, t: Tensor) -> Tensor:
        """Where σ ≪ σd the noise clock hardly moves, and a difference of its values would be
        rounding: a_t² (τ_t − τ_s) = a_t² τ_t (1 − (1 − q)^ℓ²), q = (σ_s² − σ_t²)/(σ_s² +
        σd²)."""
        before, after = schedule.lam(s), schedule.lam(t)
        share = torch.sigmoid(-2.0 * before - log_data)  # σ_s²/(σ_s² + σd²)
        fall = ell**2 * torch.log1p(share * torch.expm1(2.0 * (before - after)))
        return 2.0 * (schedule.log_alpha(t) + log_hypotenuse(t)) + torch.log(-torch.expm1(fall))

    # scipy.special takes longer to import than this package.
    from expint.equations.cosine_power import cosine_power_clock

    forward, inverse, limit = cosine_power_clock(ell**2, sigma_data)
    mu, time = lambda t: -forward(-schedule.lam(t)), lambda mu: schedule.t_of_lam(-inverse(-mu))
    return _Row(
        "precond",
        lambda t: schedule.log_alpha(t) + (1.0 + ell**2) * log_hypotenuse(t),
        Clock(mu, time, -1.0, (1.0 + ell**2) * limit),
        NoiseClock(lambda t: -2.0 * ell**2 * log_hypotenuse(t), log_step=log_step),
    )


def _extended(schedule: Schedule, scale: NoiseScale) -> _Row:
    log_phi = lambda t: scale.log_phi(-schedule.lam(t))  # noqa: E731
    return _Row(
        "data",
        lambda t: schedule.log_alpha(t) + log_phi(t),
        Clock(lambda t: -log_phi(t), lambda mu: schedule.t_of_lam(-scale.log_sigma(-mu))),
        NoiseClock(lambda t: -2.0 * scale.log_excess(-schedule.lam(t))),
    )


def _power_clock(schedule: Schedule, power: float, kappa: float = 1.0) -> Clock:
    """μ = −σ^power."""
    mu = lambda t: -torch.exp(-power * schedule.lam(t))  # noqa: E731
    return Clock(mu, lambda mu: schedule.t_of_lam(-torch.log(-mu) / power), 0.0, kappa)


@_FORMS.register("sigma")
def _sigma(schedule: Schedule, ell: float, sigma_data: float | None) -> _Row:
    clock = _power_clock(schedule, 1.0, -(1.0 + ell**2))
    return _noise(schedule, ell, sigma_data)._replace(clock=clock)


@_FORMS.register("time")
def _time(schedule: Schedule, ell: float, sigma_data: float | None) -> _Row:
    return _explicit(schedule, ell, Clock(torch.neg, torch.neg, 0.0))


@_FORMS.register("variance")
def _variance(schedule: Schedule, ell: float, sigma_data: float | None) -> _Row:
    return _explicit(schedule, ell, _power_clock(schedule, 2.0))


@_FORMS.register("log-sigma")
def _log_sigma(schedule: Schedule, ell: float, sigma_data: float | None) -> _Row:
    return _explicit(schedule, ell, Clock(schedule.lam, schedule.t_of_lam, 0.0))


def _explicit(schedule: Schedule, ell: float, clock: Clock) -> _Row:
    """F = dx/dμ, the whole drift [x d log α − (1+ℓ²) (x − αD) dλ]/dμ."""

    def rate(t: Tensor) -> tuple[Tensor, Tensor]:
        functions = schedule.lam, schedule.log_alpha, clock
        fall, drift, speed = (value_and_rate(f, t, schedule)[1] for f in functions)
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

    return _Row("rate", lambda t: 0.0 * t, clock, NoiseClock(log_noise, -1, log_step), rate)
