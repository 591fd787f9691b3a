"""What a sampler does to the noise level around its steps: it composes with any solver.

An operation may move the level from which a step starts (noise is added up to it), the level at
which it ends (noise is added up to the grid's level afterwards), scale the noise of the step
itself, or make the state anew at the end of the step.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import are_numbers, is_whole
from expint.registry import Registry, unknown
from expint.schedules import Schedule


@dataclass(frozen=True)
class Operation:
    """What is done around each step, as plain numbers and optional functions of float64 tensors
    with one entry per step.

    Args:
        name: with its arguments, for print-outs; operations of one name are equal.
        raised: raised(σ, steps) → the noise level σ̂ ≥ σ from which the step starts, after noise
            has been added; `steps` counts all steps of the grid.
        lowered: lowered(σ, target) → the noise level ≤ target at which the step from σ ends, before
            noise is added up to the target.
        s_noise: factor of the noise that is added.
        factor: factor(schedule, start, end) → factor of the noise of the step itself.
        own_variance: whether `factor` gives that noise another variance than the SDE's, which only
            a one-stage solver with noise can have.
        ell: the stochasticity of the data form that `factor` is for, or None for any equation.
        langevin: signal-to-noise ratios of the Langevin steps that follow the step.
        preserves_law: whether exact steps would still give the exact law of the state; otherwise
            there is a bias at any number of steps.
    """

    name: str
    raised: Callable[[Tensor, int], Tensor] | None = field(default=None, compare=False)
    lowered: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, compare=False)
    s_noise: float = 1.0
    factor: Callable[[Schedule, Tensor, Tensor], Tensor] | None = field(default=None, compare=False)
    own_variance: bool = False
    ell: float | None = None
    langevin: tuple[float, ...] = ()
    preserves_law: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def between_steps(self) -> bool:
        """Whether the state changes between two steps."""
        return self.factor is None


def check_number(name: str, value: float, low: float = 0.0, *, infinite: bool = False) -> None:
    """Refuse an argument that is not a number from `low` on.

    Raises:
        ValueError: naming it.
    """
    if not (are_numbers(value) and value >= low and (infinite or value < math.inf)):
        raise ValueError(f"{name} must be a number >= {low:g}, got {value!r}.")


BUILDERS = Registry[Callable[..., Operation]]("operation")


@BUILDERS.register("churn")
def churn(
    s_churn: float, s_min: float = 0.0, s_max: float = math.inf, s_noise: float = 1.0
) -> Operation:
    """Stochastic EDM: before a step, noise is added from σ to σ̂ = (1 + γ) σ, γ =
    min(s_churn/steps, √2 − 1).

    Args:
        s_churn: ≥ 0.
        s_min, s_max: noise levels between which noise is added.
        s_noise: factor of the noise that is added.

    Source: EDM, arXiv 2206.00364, algorithm 2.
    """
    for name, value in (("s_churn", s_churn), ("s_min", s_min), ("s_noise", s_noise)):
        check_number(f"churn: {name}", value)
    check_number("churn: s_max", s_max, s_min, infinite=True)

    raised = partial(_churned, s_churn, s_min, s_max)
    name = f"churn(s_churn={s_churn:g}, s_min={s_min:g}, s_max={s_max:g}, s_noise={s_noise:g})"
    return Operation(name, raised=raised, s_noise=s_noise, preserves_law=s_noise == 1.0)


def _churned(s_churn: float, low: float, high: float, sigma: Tensor, steps: int) -> Tensor:
    gamma = min(s_churn / steps, math.sqrt(2.0) - 1.0)
    return torch.where((sigma >= low) & (sigma <= high), sigma * (1.0 + gamma), sigma)


@BUILDERS.register("ancestral")
def ancestral(eta: float = 1.0, s_noise: float = 1.0) -> Operation:
    """A step further down and noise up after it, as k-diffusion's ancestral samplers do:

        σ_up = min(σ_t, η √(σ_t² (σ_s² − σ_t²)/σ_s²)),    σ_down² = σ_t² − σ_up².

    Args:
        eta: η ≥ 0; at 1 a deterministic first-order step becomes ancestral (DDPM) sampling.
        s_noise: factor of the noise that is added.

    Source: DDIM, arXiv 2010.02502, eq. (16), in the σ of EDM, arXiv 2206.00364.
    """
    check_number("ancestral: eta", eta)
    check_number("ancestral: s_noise", s_noise)

    name, lowered = f"ancestral(eta={eta:g}, s_noise={s_noise:g})", partial(_lowered, eta)
    return Operation(name, lowered=lowered, s_noise=s_noise, preserves_law=s_noise == 1.0)


def _lowered(eta: float, sigma: Tensor, target: Tensor) -> Tensor:
    up = torch.minimum(target, eta * target * torch.sqrt(1.0 - (target / sigma) ** 2))
    # Held above a small part of the target, where the solver still has a finite λ to go to.
    return torch.sqrt(target**2 - up**2).clamp(min=1e-6 * target)


@BUILDERS.register("noise-factor")
def noise_factor(s_noise: float) -> Operation:
    """Noise scale factor of all noise of the solver: the `s_noise` of k-diffusion's SDE samplers.

    Args:
        s_noise: the factor.
    """
    check_number("noise-factor: s_noise", s_noise)
    return Operation(
        f"noise-factor(s_noise={s_noise:g})",
        factor=partial(_constant_factor, s_noise),
        preserves_law=s_noise == 1.0,
    )


def _constant_factor(s_noise: float, schedule: Schedule, start: Tensor, end: Tensor) -> Tensor:
    return torch.full_like(start, s_noise)


@BUILDERS.register("large-variance")
def large_variance() -> Operation:
    """The “large” variance of DDPM: that of the forward transition, α_s² (σ_s² − σ_t²),
    (σ̄_s/σ̄_t)² times the posterior's.

    Source: DDPM, arXiv 2006.11239, section 3.2.
    """
    return Operation("large-variance", factor=_large, own_variance=True)


def _large(schedule: Schedule, start: Tensor, end: Tensor) -> Tensor:
    return schedule.std(start) / schedule.std(end)


@BUILDERS.register("langevin")
def langevin(snr: float = 0.16, count: int = 1) -> Operation:
    """Langevin corrector: after each step, x ← x + ε s + √(2ε) z with ε = 2 (snr · σ̄)², s the
    score.

    Song et al. take ε = 2 (snr ‖z‖/‖s‖)² with norms averaged over the batch; here the ratio of the
    norms is replaced by its value σ̄ for a perfect score, so that a sample does not depend on its
    batch. A Langevin step of finite length does not preserve the law exactly.

    Args:
        snr: signal-to-noise ratio, > 0.
        count: corrector steps per step, one network evaluation each.

    Source: Song et al., arXiv 2011.13456, algorithms 4 and 5.
    """
    if not (are_numbers(snr) and 0 < snr < 2**-0.5):
        raise ValueError(
            f"langevin: snr must lie in (0, 0.707), got {snr!r}: beyond, the corrector is unstable."
        )
    if not (is_whole(count) and 0 < count <= 10**4):
        raise ValueError(f"langevin: count must be a positive integer, got {count!r}.")
    name = f"langevin(snr={snr:g}, count={count})"
    return Operation(name, langevin=(snr,) * count, preserves_law=False)


def operation(text: str) -> Operation:
    """The operation written as name(argument=number, …), for example "churn(s_churn=40, s_max=50)"
    or "large-variance".

    Raises:
        ValueError: for an unknown name or argument, saying which there are.
    """
    if not isinstance(text, str):
        raise TypeError(f"An operation is written as churn(s_churn=40), got {text!r}.")
    name, _, inside = text.strip().removesuffix(")").partition("(")
    build = BUILDERS.get(name)
    known = inspect.signature(build).parameters
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in inside.split(","))):
        key, _, value = (piece.strip() for piece in part.partition("="))
        try:
            values[key] = int(value) if value.lstrip("+-").isdigit() else float(value)
        except ValueError as error:
            raise ValueError(
                f"{text!r}: write {name} as {name}({', '.join(f'{k}=…' for k in known)}), with "
                "numbers."
            ) from error
        if key not in known:
            raise unknown(f"argument of {name}", key, list(known))
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in values:
            raise ValueError(f"{text!r}: {name} needs a value for {key}.")
    return build(**values)


def levels(
    operations: Sequence[Operation], sigma: Tensor, steps: int, limit: float
) -> tuple[Tensor, Tensor]:
    """Noise levels from which the solver steps, shape (n + 1,), and to which, shape (n,), given
    those of the grid, shape (n + 1,); none above `limit`."""
    raised, lowered = sigma, sigma[1:]
    for operation in operations:
        raised = operation.raised(raised, steps) if operation.raised else raised
    # Not minimum and maximum, which halve the gradient where both are equal.
    raised = torch.where(raised > limit, torch.full_like(raised, limit), raised)
    raised = torch.where(raised < sigma, sigma, raised)
    for operation in operations:
        lowered = operation.lowered(raised[:-1], lowered) if operation.lowered else lowered
    return raised, lowered
