"""The compiled plan: one row of float64 coefficients per network evaluation, with no network and no randomness in it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from expint.sde import SemiLinearSDE

__all__ = ["Plan", "Row"]

Coefficient = float | Tensor
"""A float, or a float64 tensor that broadcasts against the event (a diagonal linear part)."""


class Row(NamedTuple):
    """Evaluate F at (x, time), then form the next state x ← scale · x_s + Σ_j weight_j F_j + noise · [W(τ_node) − W(τ_s)].

    Attributes:
        step: index of the step; x_s is the state at its start.
        time: time at which the network is called.
        prediction: what F is in this row.
        target: time of the state that the row produces.
        scale: coefficient of x_s.
        weights: (evaluation, weight) pairs; evaluations are numbered through the whole plan, this row's is its own index.
        noise: coefficient of the path increment in the noise clock, or None.
        local_noise: the same when the step uses a noise clock of its own, which runs from 0 to 1.
        area, local_area: likewise, coefficients of the step's space-time integral U, or None.
        node: which of the step's noise nodes the state lies at (1 is the first after the start), or 0 without noise.
        ends_step: whether the state produced is the step's result.
    """

    step: int
    time: float
    prediction: str
    target: float
    scale: Coefficient
    weights: tuple[tuple[int, Coefficient], ...]
    noise: Coefficient | None
    local_noise: Coefficient | None
    node: int
    ends_step: bool
    area: Coefficient | None = None
    local_area: Coefficient | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a run needs but the network and the noise.

    Attributes:
        sde: the equation (its schedule and form tell how to turn a model's output into F).
        solver: name of the tableau.
        grid: float64 times, shape (steps + 1,), from noise to data.
        rows: one per network evaluation.
        taus: per step the values of the noise clock at its start and at its noise nodes, or None without noise.
        local_taus: the same in the step's own clock.
    """

    sde: SemiLinearSDE
    solver: str
    grid: Tensor
    rows: tuple[Row, ...]
    taus: tuple[Tensor | None, ...]
    local_taus: tuple[Tensor | None, ...]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.grid) - 1

    @property
    def nfe(self) -> int:
        """Number of network evaluations."""
        return len(self.rows)

    @cached_property
    def integral_steps(self) -> frozenset[int]:
        """Indices of the steps that use the space-time integral of the path."""
        return frozenset(row.step for row in self.rows if row.area is not None)

    @property
    def needs_integral(self) -> bool:
        """Whether the noise source must give the space-time integral of the path."""
        return bool(self.integral_steps)

    @property
    def gaussians(self) -> int:
        """Standard Gaussians used per sample and component: one per interval, and one more per interval of a step that uses U."""
        return sum((1 + integral) * (len(taus) - 1) for taus, integral in self.clocks(local=True))

    def clocks(self, *, local: bool = False) -> list[tuple[Tensor, bool]]:
        """What the run asks of its noise: for each step with noise its values of τ, and whether its integral U is used."""
        clocks = self.local_taus if local else self.taus
        return [(taus, step in self.integral_steps) for step, taus in enumerate(clocks) if taus is not None]

    def noise_covariance(self, step: int) -> Tensor:
        """Covariance of the noise of the step's rows, float64, shape (rows, rows), given the state at its start.

        From Cov(W_i, W_j) = τ_{i∧j}, Cov(W_i, U) = τ_i Δ − τ_i²/2 and Var U = Δ³/3, with τ counted from the start of the step.
        For a scalar noise clock. Rows without noise give zeros.
        """
        rows = [row for row in self.rows if row.step == step]
        taus = self.local_taus[step]
        if taus is None:
            return torch.zeros(len(rows), len(rows), dtype=torch.float64)
        r, u = (
            torch.stack([torch.as_tensor(value or 0.0, dtype=torch.float64) for value in values])
            for values in ([row.local_noise for row in rows], [row.local_area for row in rows])
        )
        at, whole = torch.stack([taus[row.node] - taus[0] for row in rows]), taus[-1] - taus[0]
        cross = r[:, None] * u[None, :] * (at * whole - 0.5 * at**2)[:, None]
        own = r[:, None] * r[None, :] * torch.minimum(at[:, None], at[None, :])
        return own + cross + cross.T + u[:, None] * u[None, :] * whole**3 / 3

    def noise_std(self, row: Row) -> Coefficient:
        """Standard deviation of the noise in the state that `row` produces, given the state at the start of its step."""
        taus = self.local_taus[row.step]
        if taus is None:
            return 0.0
        r, u = (0.0 if value is None else value for value in (row.local_noise, row.local_area))
        at, whole = taus[row.node] - taus[0], taus[-1] - taus[0]
        return torch.sqrt(r**2 * at + 2 * r * u * (at * whole - 0.5 * at**2) + u**2 * whole**3 / 3)

    def table(self) -> str:
        """The plan as text: per evaluation its step, time, σ, and the coefficients of the state that follows it."""
        lines = [f"{self.solver} on {self.sde}: {self.steps} steps, {self.nfe} evaluations, {self.gaussians} Gaussians"]
        header = ("row", "step", "time", "sigma", "-> time", "scale", "noise std")
        lines.append(" ".join(f"{name:>{width}}" for name, width in zip(header, _WIDTHS, strict=True)) + "  weights")
        for i, row in enumerate(self.rows):
            sigma = self.sde.schedule.sigma(row.time) if self.sde.schedule else ""
            cells = (i, row.step, row.time, sigma, row.target, row.scale, self.noise_std(row))
            numbers = " ".join(f"{_cell(value):>{width}}" for value, width in zip(cells, _WIDTHS, strict=True))
            letter = row.prediction[0].upper()
            lines.append(numbers + "  " + "  ".join(f"{letter}[{j}]*{_cell(w)}" for j, w in row.weights))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The plan's numbers as JSON-able lists and floats (infinite ends become the strings that `float` reads back)."""
        return {
            "sde": self.sde.name,
            "solver": self.solver,
            "grid": [_jsonable(t) for t in self.grid.tolist()],
            "rows": [{name: _jsonable(value) for name, value in row._asdict().items()} for row in self.rows],
            "taus": [_jsonable(taus) for taus in self.local_taus],
        }

    def __str__(self) -> str:
        return self.table()


_WIDTHS = (4, 4, 12, 11, 12, 12, 11)


def _cell(value: Any) -> str:
    if isinstance(value, (int, str)):
        return str(value)
    tensor = torch.as_tensor(value)
    return f"{tensor.item():.6g}" if tensor.numel() == 1 else f"<{'x'.join(map(str, tensor.shape))}>"


def _jsonable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return str(value)
    return value
