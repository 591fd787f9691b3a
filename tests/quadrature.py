"""References for forms and plans by quadrature, from the reverse SDE alone: no propagator, clock or
noise clock enters here.

    dx = [f x − ½ (1 + ℓ²) g² score] dt + ℓ g dω (time runs down),    score = (αD − x)/σ̄²,    D =
    on_x x + on_F F

is dx = [A x + b F] dt + ℓ g dω with A = f − ½ (1+ℓ²) g² (α on_x − 1)/σ̄² and b = −½ (1+ℓ²) g² α
on_F/σ̄².
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy import special
from torch import Tensor

from expint.schedules import Schedule
from expint.schedules.discrete import TabulatedVP

PANELS = 6
_NODES, _WEIGHTS = (torch.as_tensor(v, dtype=torch.float64) for v in special.roots_legendre(20))
_EDGES = torch.linspace(0, 1, PANELS + 1, dtype=torch.float64)[:-1, None]
POINTS, WEIGHTS = (
    (_EDGES + 0.5 * (_NODES + 1) / PANELS).reshape(-1),
    (0.5 * _WEIGHTS / PANELS).repeat(PANELS),
)


def integrate(function: Callable[[Tensor], Tensor], s: Any, t: Any) -> Tensor:
    """∫_s^t over positive times, by composite Gauss–Legendre in log t; s and t may be tensors, and
    so is the result.
    """
    low, high = (torch.log(torch.as_tensor(v, dtype=torch.float64))[..., None] for v in (s, t))
    times = torch.exp(low + (high - low) * POINTS)
    return (function(times) * times * (high - low) * WEIGHTS).sum(-1)


def on_x_and_output(
    prediction: str, alpha: Tensor, std: Tensor, sigma_data: float
) -> tuple[Any, Any]:
    """D = on_x · x + on_output · F, written down from the definitions of the predictions."""
    sigma = std / alpha
    if prediction == "data":
        return 0.0, 1.0
    if prediction == "noise":
        return 1 / alpha, -sigma
    if prediction == "precond":  # D = c_skip z + c_out F at z = x/α
        c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
        return c_skip / alpha, sigma * sigma_data / torch.sqrt(sigma**2 + sigma_data**2)
    raise NotImplementedError(f"Write down D for the prediction {prediction!r}.")


@dataclass(frozen=True)
class ReverseSDE:
    """The reverse SDE of `schedule` in terms of F = `prediction`, as its coefficients."""

    schedule: Schedule
    prediction: str
    ell: float
    sigma_data: float = 0.5

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """A and b."""
        alpha, std, g2 = (
            self.schedule.alpha(t),
            self.schedule.std(t),
            self.schedule.diffusion_squared(t),
        )
        on_x, on_output = on_x_and_output(self.prediction, alpha, std, self.sigma_data)
        pull = 0.5 * (1 + self.ell**2) * g2 / std**2
        return self.schedule.drift(t) - pull * (alpha * on_x - 1), -pull * alpha * on_output

    def transition(self, s: Any, t: Any) -> Tensor:
        """Φ(t, s) = exp ∫_s^t A."""
        return torch.exp(integrate(lambda u: self.coefficients(u)[0], s, t))

    def response(self, s: float, t: float, F: Callable[[Tensor], Tensor]) -> Tensor:
        """∫_s^t Φ(t, u) b(u) F(u) du."""
        return integrate(lambda u: self.transition(u, t) * self.coefficients(u)[1] * F(u), s, t)

    def covariance(self, s: float, t1: float, t2: float) -> Tensor:
        """Covariance of the noise at t1 and t2 given x_s: Φ(t1, m) Φ(t2, m) ∫_m^s Φ(m, u)² ℓ² g²
        du, m the earlier stop.
        """
        m = max(t1, t2)
        variance = integrate(
            lambda u: self.transition(u, m) ** 2 * self.ell**2 * self.schedule.diffusion_squared(u),
            m,
            s,
        )
        return self.transition(m, t1) * self.transition(m, t2) * variance


def interval(schedule: Schedule) -> tuple[float, float]:
    """Times s > t inside which the schedule is smooth: within one cell of a table, else from σ = 3
    to σ = 0.4.
    """
    return (
        (1.95, 1.05)
        if isinstance(schedule, TabulatedVP)
        else (schedule.t_of_sigma(3.0), schedule.t_of_sigma(0.4))
    )
