"""Phase space Langevin diffusion: critical damping with noise on the position too."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from expint.numerics.float64 import are_numbers
from expint.schedules.formula.critical_damping import CriticalDamping


@dataclass(frozen=True)
class PSLD(CriticalDamping):
    """The forward process of u = (x, v), state (batch, 2, *event),

        dx = β/2 (v/M − Γ x) dt + √(Γβ) dω_x,    dv = −β/2 (x + ν v) dt + √(Mνβ) dω_v,

    with critical damping, 1/M = (ν − Γ)²/4, from data x_0 and v_0 ~ N(0, γM). Its limit is N(0, 1)
    for x and N(0, M) for v. With Γ = 0 it is `CLD` of β/2.

    Args:
        beta: β, a positive number, or a function of time on tensors.
        Gamma: Γ, friction of the position, ≥ 0.
        nu: ν, friction of the velocity, > Γ: with less the mean of x would change its sign.
        gamma: γ, the variance of v_0 in units of M.
        stop: last time of the forward process; sampling begins there.

    Source: Pandey & Mandt, arXiv 2303.01748, section 3 (there β = 8, ν − Γ = 4, so that M = 1/4,
    and γ = 0.04).

    Example:
        >>> from expint.schedules import CLD, PSLD
        >>> PSLD().M, PSLD().diffusion(0.5).shape
        (0.25, torch.Size([2, 2]))
        >>> PSLD(8.0, 0.0, 4.0).kernel(0.3)[0] - CLD(4.0).kernel(0.3)[0]
        tensor([0., 0.], dtype=torch.float64)
    """

    beta: float | Callable[[Tensor], Tensor] = 8.0
    Gamma: float = 0.01
    nu: float = 4.01
    gamma: float = 0.04
    stop: float = 1.0
    M: float = field(init=False)
    pace = 0.5

    def __post_init__(self) -> None:
        self._check("nu", "gamma", "stop")
        if not are_numbers(self.Gamma) or not 0 <= self.Gamma < self.nu:
            raise ValueError(
                f"PSLD needs 0 <= Gamma < nu, got {self.Gamma!r} and {self.nu!r}; Gamma = 0 is CLD."
            )
        object.__setattr__(self, "M", 4.0 / (self.nu - self.Gamma) ** 2)

    @property
    def frictions(self) -> tuple[float, float]:
        """Γ and ν."""
        return self.Gamma, self.nu
