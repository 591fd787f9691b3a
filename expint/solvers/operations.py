"""What a sampler does to the noise level around its steps: it composes with any solver.

An operation may move the level from which a step starts (noise is added up to it), the level at
which it ends (noise is added up to the grid's level afterwards), scale the noise of the step
itself, or make the state anew at the end of the step.
"""

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields

import torch
from torch import Tensor

from expint.registry import unknown
from expint.schedules import Schedule

__all__ = ["Ancestral", "Churn", "Langevin", "LargeVariance", "NoiseGain", "Operation", "operation"]


@dataclass(frozen=True)
class Operation:
    """Does nothing; a base for operations.

    All arguments and results are float64 tensors with one entry per step.
    """

    def raised(self, sigma: Tensor, steps: int) -> Tensor:
        """Noise level σ̂ ≥ σ from which the step starts, after noise has been added.

        `steps` counts all steps of the grid.
        """
        return sigma

    def lowered(self, sigma: Tensor, target: Tensor) -> Tensor:
        """Noise level ≤ `target` at which the step from σ ends, before noise is added up to
        `target`.
        """
        return target

    @property
    def added(self) -> float:
        """Factor of the noise that is added (s_noise)."""
        return 1.0

    def misfit(self, prediction: str, rho: float) -> str:
        """Why it cannot be used with an SDE of this F and ρ, or nothing if it can."""
        return ""

    def gain(self, schedule: Schedule, start: Tensor, end: Tensor) -> Tensor | None:
        """Factor of the noise of the step itself from time `start` to `end`; None for 1."""
        return None

    @property
    def between_steps(self) -> bool:
        """Whether the state changes between two steps."""
        return True

    @property
    def preserves_law(self) -> bool:
        """Whether exact steps would still give the exact law of the state; otherwise there is a
        bias at any number of steps.
        """
        return self.added == 1.0

    @property
    def changes_variance(self) -> bool:
        """Whether the noise of the step gets another variance than the SDE's, which only a
        one-stage solver can have.
        """
        return False

    @property
    def langevin(self) -> tuple[float, ...]:
        """Signal-to-noise ratios of the Langevin steps that follow the step."""
        return ()


def _check(name: str, value: float, low: float = 0.0, *, infinite: bool = False) -> None:
    if not (value >= low and (infinite or value < math.inf)):
        raise ValueError(f"{name} must be a number >= {low:g}, got {value!r}.")


@dataclass(frozen=True)
class Churn(Operation):
    """Stochastic EDM: before a step, noise is added from σ to σ̂ = (1 + γ) σ, γ =
    min(s_churn/steps, √2 − 1).

    Args:
        s_churn: ≥ 0.
        s_min, s_max: noise levels between which noise is added.
        s_noise: factor of the noise that is added.

    Source: EDM, arXiv 2206.00364, algorithm 2.
    """

    s_churn: float
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        for name in ("s_churn", "s_min", "s_noise"):
            _check(f"Churn.{name}", getattr(self, name))
        _check("Churn.s_max", self.s_max, self.s_min, infinite=True)

    def raised(self, sigma: Tensor, steps: int) -> Tensor:
        """(1 + γ) σ."""
        gamma = min(self.s_churn / steps, math.sqrt(2.0) - 1.0)
        inside = (sigma >= self.s_min) & (sigma <= self.s_max)
        return torch.where(inside, sigma * (1.0 + gamma), sigma)

    @property
    def added(self) -> float:
        """s_noise."""
        return self.s_noise


@dataclass(frozen=True)
class Ancestral(Operation):
    """A step further down and noise up after it, as k-diffusion's ancestral samplers do:

        σ_up = min(σ_t, η √(σ_t² (σ_s² − σ_t²)/σ_s²)),    σ_down² = σ_t² − σ_up².

    Args:
        eta: η ≥ 0; at 1 a deterministic first-order step becomes ancestral (DDPM) sampling.
        s_noise: factor of the noise that is added.

    Source: DDIM, arXiv 2010.02502, eq. (16), in the σ of EDM, arXiv 2206.00364.
    """

    eta: float = 1.0
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        _check("Ancestral.eta", self.eta)
        _check("Ancestral.s_noise", self.s_noise)

    def lowered(self, sigma: Tensor, target: Tensor) -> Tensor:
        """σ_down.

        Held above a small part of the target, where the solver still has a finite λ to go to.
        """
        up = torch.minimum(target, self.eta * target * torch.sqrt(1.0 - (target / sigma) ** 2))
        return torch.sqrt(target**2 - up**2).clamp(min=1e-6 * target)

    @property
    def added(self) -> float:
        """s_noise."""
        return self.s_noise


@dataclass(frozen=True)
class NoiseGain(Operation):
    """Scales all noise of the solver: the `s_noise` of k-diffusion's SDE samplers.

    Args:
        s_noise: the factor.
    """

    s_noise: float

    def __post_init__(self) -> None:
        _check("NoiseGain.s_noise", self.s_noise)

    @property
    def between_steps(self) -> bool:
        """It does not."""
        return False

    @property
    def preserves_law(self) -> bool:
        """Only where it changes nothing."""
        return self.s_noise == 1.0

    def gain(self, schedule: Schedule, start: Tensor, end: Tensor) -> Tensor | None:
        """s_noise in every step."""
        return torch.full_like(start, self.s_noise)


@dataclass(frozen=True)
class Variance(Operation):
    """A base for operations that give the noise of a step another variance."""

    @property
    def between_steps(self) -> bool:
        """It does not."""
        return False

    @property
    def changes_variance(self) -> bool:
        """It does."""
        return True


@dataclass(frozen=True)
class LargeVariance(Variance):
    """The “large” variance of DDPM: that of the forward transition, α_s² (σ_s² − σ_t²),
    (σ̄_s/σ̄_t)² times the posterior's.

    Source: DDPM, arXiv 2006.11239, section 3.2.
    """

    def gain(self, schedule: Schedule, start: Tensor, end: Tensor) -> Tensor | None:
        """σ̄_s/σ̄_t."""
        return schedule.std(start) / schedule.std(end)


@dataclass(frozen=True)
class Langevin(Operation):
    """Langevin corrector: after each step, x ← x + ε s + √(2ε) z with ε = 2 (snr · σ̄)², s the
    score.

    Song et al. take ε = 2 (snr ‖z‖/‖s‖)² with norms averaged over the batch; here the ratio of the
    norms is replaced by its value σ̄ for a perfect score, so that a sample does not depend on its
    batch.

    Args:
        snr: signal-to-noise ratio, > 0.
        count: corrector steps per step, one network evaluation each.

    Source: Song et al., arXiv 2011.13456, algorithms 4 and 5.
    """

    snr: float = 0.16
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.snr < 2**-0.5:
            raise ValueError(
                f"Langevin.snr must lie in (0, 0.707), got {self.snr!r}: beyond, the corrector is "
                "unstable."
            )
        if not (isinstance(self.count, int) and self.count > 0):
            raise ValueError(f"Langevin.count must be a positive integer, got {self.count!r}.")

    @property
    def preserves_law(self) -> bool:
        """A Langevin step of finite length does not."""
        return False

    @property
    def langevin(self) -> tuple[float, ...]:
        """snr, once per corrector step."""
        return (self.snr,) * self.count


_NAMED: dict[str, type[Operation]] = {
    "ancestral": Ancestral,
    "churn": Churn,
    "langevin": Langevin,
    "large-variance": LargeVariance,
    "noise-gain": NoiseGain,
}


def operation(text: str) -> Operation:
    """The operation written as name(argument=number, …), for example "churn(s_churn=40, s_max=50)"
    or "large-variance".

    Raises:
        ValueError: for an unknown name or argument, saying which there are.
    """
    name, _, inside = text.strip().removesuffix(")").partition("(")
    if name not in _NAMED:
        raise unknown("operation", name, sorted(_NAMED))
    known = [item.name for item in fields(_NAMED[name])]
    values: dict[str, int | float] = {}
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
            raise unknown(f"argument of {name}", key, known)
    missing = [
        item.name
        for item in fields(_NAMED[name])
        if item.default is MISSING and item.name not in values
    ]
    if missing:
        raise ValueError(f"{text!r}: {name} needs a value for {missing[0]}.")
    return _NAMED[name](**values)


def levels(
    operations: Sequence[Operation], sigma: Tensor, target: Tensor, steps: int, limit: float
) -> tuple[Tensor, Tensor]:
    """Noise levels between which the solver steps, given those of the grid; none above `limit`."""
    raised, lowered = sigma, target
    for operation in operations:
        raised = operation.raised(raised, steps)
    raised = torch.maximum(torch.minimum(raised, torch.full_like(raised, limit)), sigma)
    for operation in operations:
        lowered = operation.lowered(raised, lowered)
    return raised, lowered
