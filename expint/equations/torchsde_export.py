"""The same SDE as an object that torchsde can integrate, for independent solutions."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from expint.equations.sde import SemiLinearSDE
from expint.numerics.roots import invert_monotone

__all__ = ["TorchSDE", "to_torchsde"]


class TorchSDE(torch.nn.Module):
    """dy = f(s, y) ds + g(s, y) dW_s in increasing time s, with the attributes that
    `torchsde.sdeint` asks for.

    Args:
        sde: the semi-linear SDE.
        F: its nonlinear part, F(x, t).
        event_shape: shape of one sample, for F; torchsde's states are flat, (batch, size). None: F
            takes the flat state.
        span: first and last time of the SDE.
        clock: "time": s = |t − span[0]|. "noise": s = τ, so that torchsde's Brownian motion is the
            W of the exact solution (1).
    """

    noise_type = "diagonal"
    sde_type = "ito"

    def __init__(
        self,
        sde: SemiLinearSDE,
        F: Callable[[Tensor, Tensor], Tensor],
        event_shape: tuple[int, ...] | None,
        span: tuple[float, float],
        clock: str,
    ) -> None:
        super().__init__()
        self.sde, self.F, self.event_shape, self.span, self.clock = sde, F, event_shape, span, clock
        self.sign = 1.0 if span[1] > span[0] else -1.0
        # A stochastic Runge–Kutta method asks for f and g many times at few times, and to invert a
        # clock costs more than they do.
        self._at = lru_cache(maxsize=64)(self._coefficients)

    def t_of(self, s: Any) -> Tensor:
        """The SDE's time at torchsde's time `s`."""
        value = torch.as_tensor(s, dtype=torch.float64)
        if self.clock == "time":
            return self.span[0] + self.sign * value
        return invert_monotone(self.sde.noise_clock, value, min(self.span), max(self.span))

    def s_of(self, t: Any) -> Tensor:
        """torchsde's time at the SDE's time `t`."""
        if self.clock == "noise":
            return self.sde.noise_clock(t)
        return self.sign * (torch.as_tensor(t, dtype=torch.float64) - self.span[0])

    def _coefficients(self, s: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        t = self.t_of(s)
        A, b, g = self.sde.coefficients_at(t)
        if self.clock == "time":
            return t, self.sign * A, self.sign * b, g
        a = self.sde.propagator(t)
        speed = self.sign * a**2 / g**2  # dt/ds, as ds = (g/a)² |dt|
        return t, speed * A, speed * b, a

    def _terms(self, s: Any, y: Tensor) -> tuple[Tensor, ...]:
        """t, A and b of the drift and the diffusion with respect to s, at torchsde's time `s`."""
        t, *values = self._at(float(s))
        return t, *(value.to(y) for value in values)

    def f(self, s: Any, y: Tensor) -> Tensor:
        """Drift, shape (batch, size)."""
        t, A, b, _ = self._terms(s, y)
        x = self._shaped(y)
        return (A * x + b * self.F(x, t)).reshape(y.shape)

    def g(self, s: Any, y: Tensor) -> Tensor:
        """Diagonal diffusion, shape (batch, size)."""
        return self._terms(s, y)[-1].expand(self._shaped(y).shape).reshape(y.shape)

    def _shaped(self, y: Tensor) -> Tensor:
        return y if self.event_shape is None else y.reshape(y.shape[0], *self.event_shape)


def to_torchsde(
    sde: SemiLinearSDE,
    F: Callable[[Tensor, Tensor], Tensor],
    *,
    event_shape: tuple[int, ...] | None = None,
    span: tuple[float, float] | None = None,
    clock: str = "time",
) -> TorchSDE:
    """The SDE as a torchsde object (noise_type "diagonal", sde_type "ito"), in increasing time.

    Args:
        sde: the semi-linear SDE; for a diffusion model, `reverse_sde(...)`.
        F: F(x, t), what the SDE's form asks for; `expint.Reparametrized`
            gives a model another prediction.
        event_shape: shape of one sample; torchsde's state is (batch, product of event_shape).
            Default: the state as it is.
        span: first and last time; torchsde then runs over s_of(span[0]) … s_of(span[1]). Default:
            the SDE's own span.
        clock: "time" or "noise" (see `TorchSDE`).

    Raises:
        ValueError: for an equation with matrices, an unknown clock, a span that is neither given
            nor the SDE's, or the noise clock of an SDE without noise or with diagonal coefficients.
    """
    if clock not in ("time", "noise"):
        raise ValueError(f"Unknown clock {clock!r}: choose 'time' or 'noise'.")
    if clock == "noise" and (not sde.is_stochastic or sde.event_ndim):
        raise ValueError(
            f"The noise clock of {sde} cannot serve as time: it needs one scalar noise clock. Use "
            "clock='time'."
        )
    if sde.blocks:
        raise ValueError(
            f"{sde} has matrices, which torchsde's diagonal noise cannot express: integrate it "
            "with expint.integrate, or write it for torchsde with noise_type='general'."
        )
    first_last = span or sde.span
    if first_last is None:
        raise ValueError(
            f"{sde} does not say between which times it runs: give span=(first, last)."
        )
    first, last = (float(t) for t in first_last)
    return TorchSDE(
        sde, F, None if event_shape is None else tuple(event_shape), (first, last), clock
    )
