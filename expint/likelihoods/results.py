"""What `likelihood` finds: nats and bits per dimension that print, draw and save themselves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from expint.results import Result, Rows, new_figure

_LISTED = 10


@dataclass(frozen=True)
class Likelihood(Result):
    """Log-likelihoods of samples under a model.

    Attributes:
        model, setting: in words.
        nats: log p of each sample, mean over its draws: of its density, or with `levels` of the
            sample itself. Of the bound, a lower bound.
        errors: standard errors over the draws of each sample; NaN for one draw.
        dimension: components of a sample.
        levels: distance of the levels that the samples take, or None for a density.
        nfe: evaluations of the model for each sample and draw, and of its derivative for each.
    """

    model: str
    setting: str
    nats: tuple[float, ...]
    errors: tuple[float, ...]
    dimension: int
    levels: float | None
    nfe: int
    derived: ClassVar[tuple[str, ...]] = ("bits_per_dim", "mean", "mean_error")

    @property
    def bits_per_dim(self) -> tuple[float, ...]:
        """−log₂ p over the dimension, of each sample."""
        return tuple(-nats * self._bits for nats in self.nats)

    @property
    def mean(self) -> float:
        """Mean bits per dimension."""
        return math.fsum(self.bits_per_dim) / len(self.nats)

    @property
    def mean_error(self) -> float:
        """Standard error of the mean over the samples, that of their draws included; NaN for one
        sample."""
        n, mean = len(self.nats), self.mean
        squares = math.fsum((bits - mean) ** 2 for bits in self.bits_per_dim)
        return math.sqrt(squares / (n - 1) / n) if n > 1 else math.nan

    @property
    def _bits(self) -> float:
        return 1.0 / (self.dimension * math.log(2.0))

    def blocks(self) -> Iterator[str | Rows]:
        """The mean, then the first samples."""
        of = "density" if self.levels is None else f"levels {self.levels:.6g} apart"
        yield f"{self.model}: {self.setting}, {self.nfe} evaluations, {of}"
        mean = f"{self.mean:.4f} +- {self.mean_error:.4f} bits per dimension"
        yield f"{mean}, {len(self.nats)} samples"
        yield ""
        cells = zip(self.nats, self.errors, self.bits_per_dim, strict=True)
        rows = [
            (str(i), f"{nats:.6g}", f"{error:.2g}", f"{bits:.4f}", f"{error * self._bits:.2g}")
            for i, (nats, error, bits) in enumerate(cells)
        ]
        yield [("sample", "nats", "error", "bits per dim", "error"), *rows[:_LISTED]]
        if len(rows) > _LISTED:
            yield f"and {len(rows) - _LISTED} more"

    def figure(self) -> Any:
        """The bits per dimension of the samples in order, and their mean."""
        figure = new_figure(6.0, 4.0)
        axes = figure.subplots()
        bits = sorted(self.bits_per_dim)
        axes.plot(range(1, len(bits) + 1), bits, "o", markersize=3)
        axes.axhline(self.mean, color="C1", label=f"mean {self.mean:.3f}")
        axes.set(xlabel="samples, in order", ylabel="bits per dimension")
        axes.legend()
        return figure
