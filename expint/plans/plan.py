"""The compiled plan: rows of float64 coefficients, one per evaluation or update, with no network
and no randomness in it.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from expint.equations.sde import SemiLinearSDE

__all__ = ["Plan", "Row"]

Coefficient = float | Tensor
"""A float, or a float64 tensor that broadcasts against the event (a diagonal linear part)."""


class Row(NamedTuple):
    """Evaluate F at (x, time), then form the next state x ← scale · x_s + Σ_j weight_j F_j + noise
    · [W(τ_node) − W(τ_s)].

    Attributes:
        step: index of the step of the grid.
        time: time of the state, at which the network is called.
        prediction: what F is in this row.
        target: time of the state that the row produces.
        scale: coefficient of x_s, the state at the start of the leg.
        weights: (evaluation, weight) pairs; an evaluation has the index of the row that makes it.
        noise: coefficient of the path increment in the noise clock, or None.
        local_noise: the same when the step uses a noise clock of its own, which runs from 0 to 1.
        area, local_area: likewise, coefficients of the step's space-time integral U, or None.
        node: which of the step's noise nodes the state lies at (1 is the first after the start), or
            0 without noise.
        ends_step: whether the state produced is the step's result.
        evaluates: whether the network is called; a predictor that uses the evaluation before it, or
            added noise, needs no call.
        leg: index of the leg: rows that start from one state x_s and share one path. Most steps are
            one leg; where noise is added before or after a step, that is a leg of its own.
        ends_leg: whether the state produced is x_s of the next leg.
        share: which part of the step's increment the noise takes; None for the ordinary noise of
            its node (see `Stage`).
        tangent: (A, b) where the time derivative of this row's F along the ODE dx/dt = A x + b F is
            used too; it has the index ~i in weights, with i that of the row.
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
    evaluates: bool = True
    leg: int = 0
    ends_leg: bool = True
    share: Fraction | None = None
    tangent: tuple[Coefficient, Coefficient] | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a run needs but the network and the noise.

    Attributes:
        sde: the equation (its schedule and form tell how to turn a model's output into F).
        solver: name of the tableau.
        grid: float64 times, shape (steps + 1,), from noise to data.
        rows: in order of execution.
        taus: per leg the values of the noise clock at its start and at its noise nodes, or None
            without noise of the SDE.
        local_taus: the same in the leg's own clock, or None without noise.
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
        """Number of network evaluations; a derivative along the ODE, a Jacobian-vector product,
        counts as one.
        """
        return sum(row.evaluates + (row.tangent is not None) for row in self.rows)

    @cached_property
    def has_tangents(self) -> bool:
        """Whether derivatives along the ODE are used."""
        return any(row.tangent is not None for row in self.rows)

    @cached_property
    def integral_legs(self) -> frozenset[int]:
        """Indices of the legs that use the space-time integral of the path."""
        return frozenset(row.leg for row in self.rows if row.area is not None)

    @property
    def adds_fresh_noise(self) -> bool:
        """Whether noise is added that is not part of the path of the SDE, such as churn: no path
        can serve it.
        """
        return any(
            local is not None and taus is None
            for taus, local in zip(self.taus, self.local_taus, strict=True)
        )

    @property
    def needs_integral(self) -> bool:
        """Whether the noise source must give the space-time integral of the path."""
        return bool(self.integral_legs)

    @property
    def gaussians(self) -> int:
        """Standard Gaussians used per sample and component: one per interval, and one more per
        interval of a step that uses U.
        """
        return sum((1 + integral) * (len(taus) - 1) for taus, integral in self.clocks(local=True))

    def clocks(self, *, local: bool = False) -> list[tuple[Tensor, bool]]:
        """What the run asks of its noise: for each leg with noise its values of τ, and whether its
        integral U is used.
        """
        clocks = self.local_taus if local else self.taus
        return [
            (taus, leg in self.integral_legs) for leg, taus in enumerate(clocks) if taus is not None
        ]

    def noise_covariance(self, leg: int) -> Tensor:
        """Covariance of the noise of the leg's rows, float64, shape (rows, rows), given the state
        at its start.

        From Cov(W_i, W_j) = τ_{i∧j}, Cov(W_i, U) = τ_i Δ − τ_i²/2 and Var U = Δ³/3, with τ counted
        from the start of the step. For a scalar noise clock. Rows without noise give zeros.
        """
        rows = [row for row in self.rows if row.leg == leg]
        taus = self.local_taus[leg]
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
        """Standard deviation of the noise in the state that `row` produces, given the state at the
        start of its step.
        """
        taus = self.local_taus[row.leg]
        if taus is None:
            return 0.0
        r, u = (0.0 if value is None else value for value in (row.local_noise, row.local_area))
        at, whole = taus[row.node] - taus[0], taus[-1] - taus[0]
        return torch.sqrt(r**2 * at + 2 * r * u * (at * whole - 0.5 * at**2) + u**2 * whole**3 / 3)

    def table(self) -> str:
        """The plan as text: per row its step, time, σ, and the coefficients of the state that
        follows it; an update without a call of the network is marked by a dash."""
        lines = [
            f"{self.solver} on {self.sde}: {self.steps} steps, {self.nfe} evaluations, "
            f"{self.gaussians} Gaussians"
        ]
        header = ("row", "step", "time", "sigma", "-> time", "scale", "noise std")
        lines.append(
            " ".join(f"{name:>{width}}" for name, width in zip(header, _WIDTHS, strict=True))
            + "  weights"
        )
        for i, row in enumerate(self.rows):
            sigma = self.sde.schedule.sigma(row.time) if self.sde.schedule else ""
            cells = (
                i if row.evaluates else f"{i}-",
                row.step,
                row.time,
                sigma,
                row.target,
                row.scale,
                self.noise_std(row),
            )
            numbers = " ".join(
                f"{_cell(value):>{width}}" for value, width in zip(cells, _WIDTHS, strict=True)
            )
            letter = row.prediction[0].upper()
            lines.append(numbers + "  " + "  ".join(_product(letter, j, w) for j, w in row.weights))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The plan's numbers as JSON-able lists and floats (infinite ends become the strings that
        `float` reads back).
        """
        return {
            "sde": self.sde.name,
            "solver": self.solver,
            "grid": [_jsonable(t) for t in self.grid.tolist()],
            "rows": [
                {name: _jsonable(value) for name, value in row._asdict().items()}
                for row in self.rows
            ],
            "taus": [_jsonable(taus) for taus in self.local_taus],
        }

    def __str__(self) -> str:
        return self.table()


_WIDTHS = (4, 4, 12, 11, 12, 12, 11)


def _product(letter: str, j: int, weight: Coefficient) -> str:
    """An evaluation, or d/dt of one, with its weight."""
    return (f"{letter}[{j}]" if j >= 0 else f"{letter}'[{~j}]") + f"*{_cell(weight)}"


def _cell(value: Any) -> str:
    if isinstance(value, (int, str)):
        return str(value)
    tensor = torch.as_tensor(value)
    return (
        f"{tensor.item():.6g}" if tensor.numel() == 1 else f"<{'x'.join(map(str, tensor.shape))}>"
    )


def _jsonable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return str(value)
    return value
