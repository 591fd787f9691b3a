"""The compiled plan: one row of float64 coefficients per network evaluation, with no network and no randomness in it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.sde import SemiLinearSDE

__all__ = ["Plan", "Row"]

Coefficient = float | Tensor
"""A float, or a float64 tensor that broadcasts against the event (a diagonal linear part)."""


@dataclass(frozen=True, eq=False)
class Row:
    """Evaluate F at (x, time), then form the next state x ← scale · x_s + Σ_j weight_j F_j + noise · [W(τ_node) − W(τ_s)].

    Attributes:
        step: index of the step; x_s is the state at its start.
        time: time at which the network is called.
        prediction: what F is in this row.
        target: time of the state that the row produces.
        scale: coefficient of x_s.
        weights: (evaluation, weight) pairs; evaluations are numbered through the whole plan, this row's is its own index.
        noise: coefficient of the path increment in the noise clock, or None.
        local_noise: the same when the step uses a noise clock of its own, in which the variance is measured in units of x_s.
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

    @property
    def gaussians(self) -> int:
        """Standard Gaussians used per sample and component."""
        return sum(len(taus) - 1 for taus in self.local_taus if taus is not None)

    def noise_covariance(self, step: int) -> Tensor:
        """Covariance of the noise of the step's rows, float64, shape (rows, rows): noise_i noise_j (τ_{i∧j} − τ_s).

        For a scalar noise clock. Rows without noise give zeros.
        """
        rows = [row for row in self.rows if row.step == step]
        taus = self.local_taus[step]
        if taus is None:
            return torch.zeros(len(rows), len(rows), dtype=torch.float64)
        r = torch.stack([torch.as_tensor(row.local_noise or 0.0, dtype=torch.float64) for row in rows])
        at = torch.stack([taus[row.node] - taus[0] for row in rows])
        return r[:, None] * r[None, :] * torch.minimum(at[:, None], at[None, :])

    def noise_std(self, row: Row) -> Coefficient:
        """Standard deviation of the noise in the state that `row` produces, given the state at the start of its step."""
        taus = self.local_taus[row.step]
        if taus is None or row.local_noise is None:
            return 0.0
        return row.local_noise * torch.sqrt(taus[row.node] - taus[0])

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
            "rows": [{name: _jsonable(value) for name, value in vars(row).items()} for row in self.rows],
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
