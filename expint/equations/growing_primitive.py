"""A positive primitive of a weight that may leave the floating-point numbers, by its logarithm."""

import math

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64
from expint.numerics.quadrature import Primitive, RealFunction

_BLOCK, _MOST_BLOCKS = 150.0, 4096


class GrowingPrimitive:
    """A positive primitive of the weight (|factor|/a)^power, C = base + |∫ from `small` to t|,
    summed from the end of the span where the weight is small so that no digits cancel.

    It increases along the integration (sign +1) if that is the start, and decreases otherwise.
    Blocks of the span between which log a changes by `_BLOCK` have a factor of their own, so that
    only log C need be a floating-point number.
    """

    def __init__(
        self,
        factor: RealFunction,
        log_a: RealFunction,
        power: int,
        start: float,
        end: float,
        name: str,
    ) -> None:
        self.edges, shifts = _blocks(log_a, min(start, end), max(start, end))

        def weight(shift: Tensor) -> RealFunction:
            return lambda t: (factor(t).abs() * torch.exp(shift - log_a(t))) ** power

        self.log_of_a = lambda t: -power * log_a(t)
        self.log_weight = lambda t: power * factor(t).abs().log() + self.log_of_a(t)
        ends = zip(self.edges[:-1].tolist(), self.edges[1:].tolist(), shifts, strict=True)
        self.primitives = [Primitive(weight(m), low, high, name=name) for low, high, m in ends]
        self.log_factors = -power * shifts
        wholes = as_float64([p.to_high(as_float64(p.low)).item() for p in self.primitives])
        wholes = wholes.log() + self.log_factors
        none = torch.full((1,), -math.inf, dtype=torch.float64)
        self._before = torch.cat([none, wholes.logcumsumexp(0)])  # at the edges, from either end
        self._after = torch.cat([wholes.flip(0).logcumsumexp(0).flip(0)[1:], none])
        first, last = self.log_weight(as_float64([start, end])).tolist()
        self.start, self.small, self.log_base = start, start if last >= first else end, -math.inf

    @property
    def sign(self) -> int:
        return 1 if self.small == self.start else -1

    def log_between(self, end: float, t: Tensor) -> Tensor:
        """log ∫ of the weight between an end of the span and t."""
        rises = end == self.edges[0].item()
        before = self._before if rises else self._after
        flat = t.reshape(-1)
        k = (torch.searchsorted(self.edges, flat.detach(), right=True) - 1).clamp(
            0, len(self.primitives) - 1
        )
        places, values = [], []
        for block in k.unique().tolist():
            places.append(torch.nonzero(k == block).flatten())
            primitive, own = self.primitives[block], flat[places[-1]]
            inside = primitive(own) if rises else primitive.to_high(own)
            # Rounding may put an empty integral below 0.
            inside = torch.log(inside.clamp(min=0.0)) + self.log_factors[block]
            known = before[block]
            values.append(torch.logaddexp(known, inside) if known > -math.inf else inside)
        if not places:
            return t
        return torch.cat(values)[torch.cat(places).argsort()].reshape(t.shape)

    def log(self, t: Tensor) -> Tensor:
        """log C."""
        return torch.logaddexp(as_float64(self.log_base), self.log_between(self.small, t))

    def continued(self) -> float | None:
        """The logarithm of the integral of the weight beyond its small end if it went on
        exponentially there; None where it hardly grows, so that this would be huge and log C would
        lose its digits.
        """
        low, high = self.edges[0].item(), self.edges[-1].item()
        step = 1e-6 * (high - low)
        inside = self.small + (step if self.small == low else -step)
        at, beside = self.log_weight(as_float64([self.small, inside])).tolist()
        if not (math.isfinite(at) and math.isfinite(beside)):
            return None
        rate = (beside - at) / step
        if rate * (high - low) > 1e-2:
            return at - math.log(rate)
        if len(self.primitives) == 1:
            return None
        # The first times at which the weight has grown e-fold: in several blocks it does.
        times = torch.linspace(low, high, _MOST_BLOCKS + 1, dtype=torch.float64)
        times = times if self.small == low else times.flip(0)
        grown = times[self.log_weight(times) > at + 1.0]
        return self.log_between(self.small, grown[0]).item() if len(grown) else None

    def check(self) -> None:
        """Refuse a primitive over several blocks that hardly grows where the weight would still
        matter: there its differences are rounding.

        Raises:
            ValueError: with the time.
        """
        if len(self.primitives) == 1:
            return
        low, high = self.edges[0].item(), self.edges[-1].item()
        times = torch.linspace(low, high, _MOST_BLOCKS + 1, dtype=torch.float64)
        largest = self.log_weight(times) - self.log_of_a(times)
        least = self.log(times) + math.log(1e-9 / (high - low))
        flat = self.log_of_a(times) + largest.max() < least
        if flat.any():
            raise ValueError(
                f"The exponential of the integral of A varies by more than floating-point numbers "
                f"hold, and not monotonically: near t = {times[flat][0].item():.6g} noise and F "
                "would be lost in rounding. Integrate over shorter spans one after the other."
            )


def _blocks(log_a: RealFunction, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Edges of blocks in each of which log a changes by less than `_BLOCK`, and its value in each;
    one block of factor 1 where it is small throughout."""
    times = torch.linspace(low, high, _MOST_BLOCKS + 1, dtype=torch.float64)
    values = log_a(times)
    if values.abs().max() < _BLOCK:
        return times[[0, -1]], torch.zeros(1, dtype=torch.float64)
    if values.diff().abs().max() > _BLOCK:
        raise ValueError(
            f"The integral of A reaches {values.abs().max().item():.6g} on the span, and grows by "
            f"more than {_BLOCK:g} in a part of {1 / _MOST_BLOCKS:.2g} of it: its exponential "
            "cannot be resolved. Integrate over shorter spans one after the other."
        )
    starts = [0]
    for i, value in enumerate(values.tolist()):
        if abs(value - values[starts[-1]].item()) > _BLOCK:
            starts.append(i - 1)
    return times[[*starts, len(times) - 1]], values[starts]
