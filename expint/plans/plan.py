"""The compiled plan: rows of float64 coefficients, with no network and no randomness in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from expint.blocks import Block
from expint.equations import SemiLinearSDE
from expint.noise import SubstepNoise
from expint.schedules import Schedule
from expint.solvers import Method

Coefficient = float | Tensor
"""A float, or a float64 tensor that broadcasts against the event (a diagonal linear part) or is a
`Block`, a matrix (a linear part with matrices); it may carry gradients."""


def each(values: Tensor) -> Sequence[Coefficient]:
    """The entries of a 1-D tensor: floats, or tensors where they carry gradients."""
    return values.unbind(0) if values.requires_grad else values.tolist()


class Row(NamedTuple):
    """Evaluate F at (x, time), then form the next state, a linear combination

        x ← scale · x_s + Σ_j weight_j F_j + Σ_k noise_k z_k

    of the state x_s at the start of the substep, of evaluations of F, of this step or earlier ones,
    and of the substep's independent standard normals z_k.

    Attributes:
        step: index of the step of the grid.
        time: time of the state, at which the network is called.
        target: time of the state that the row produces.
        prediction: what F is in this row.
        scale: coefficient of x_s.
        weights: (evaluation, weight) pairs; an evaluation has the index of the row that makes it,
            and ~i is the time derivative of that of row i.
        noise: coefficients of the first normals of the substep; () without noise.
        substep: index of the substep: rows that start from one state x_s and share normals. Most
            steps are one substep; noise that is added before or after a step is one of its own.
        evaluates: whether the network is called; a predictor that uses the evaluation before it, or
            added noise, needs no call.
        tangent: (A, b) where the time derivative of this row's F along the ODE dx/dt = A x + b F is
            used too.
    """

    step: int
    time: Coefficient
    target: Coefficient
    prediction: str
    scale: Coefficient
    weights: tuple[tuple[int, Coefficient], ...]
    noise: tuple[Coefficient, ...] = ()
    substep: int = 0
    evaluates: bool = True
    tangent: tuple[Coefficient, Coefficient] | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a run needs but the network and the noise.

    Attributes:
        sde: the equation, which also says how to turn a model's output into F.
        method: what was compiled.
        grid: float64 times, shape (steps + 1,), from noise to data.
        rows: in order of execution.
        noises: what each substep asks of the noise, None for one without noise.
        factors: of each step's extrapolation, if there are any.
        about: what a tuned plan was measured with.
    """

    sde: SemiLinearSDE
    method: Method
    grid: Tensor
    rows: tuple[Row, ...]
    noises: tuple[SubstepNoise | None, ...]
    factors: tuple[float, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def solver(self) -> str:
        """Name of the method."""
        return self.method.name

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.grid) - 1

    @property
    def nfe(self) -> int:
        """Number of network evaluations; a derivative along the ODE, a Jacobian-vector product,
        counts as one."""
        return sum(row.evaluates + (row.tangent is not None) for row in self.rows)

    @cached_property
    def times(self) -> Tensor:
        """Times of the rows' evaluations, float64, shape (rows,); with gradients if they have
        any."""
        return torch.stack([torch.as_tensor(row.time, dtype=torch.float64) for row in self.rows])

    @cached_property
    def has_tangents(self) -> bool:
        """Whether derivatives along the ODE are used."""
        return any(row.tangent is not None for row in self.rows)

    @cached_property
    def ends_step(self) -> tuple[bool, ...]:
        """For each row whether the state that it produces is the result of its step."""
        steps = [*(row.step for row in self.rows), None]
        return tuple(step != after for step, after in pairwise(steps))

    @cached_property
    def ends_substep(self) -> tuple[bool, ...]:
        """For each row whether the state that it produces is x_s of the next substep."""
        places = [*(row.substep for row in self.rows), None]
        return tuple(place != after for place, after in pairwise(places))

    @property
    def run(self) -> list[SubstepNoise]:
        """What a run asks of its noise, in order."""
        return [noise for noise in self.noises if noise is not None]

    @property
    def normals(self) -> int:
        """Standard normals used per sample and component."""
        return sum(noise.normals for noise in self.run)

    def noise_covariance(self, substep: int) -> Tensor:
        """Covariance of the noise of a substep's rows given the state at its start, N Nᵀ, float64.

        Args:
            substep: its index.

        Returns:
            Shape (rows, rows) for scalar coefficients. For diagonal ones that of each component,
            which have independent noise: (*event, rows, rows), the event as far as the coefficients
            have it. With matrices (rows · k, rows · k), the components of a row together.
        """
        rows = [row.noise for row in self.rows if row.substep == substep]
        size = self.sde.blocks.sizes[:1] * 2 if self.sde.blocks else ()
        count, zero = max(1, *map(len, rows)), torch.zeros(size, dtype=torch.float64)
        padded = [(*values, *[zero] * (count - len(values))) for values in rows]
        numbers = [torch.as_tensor(v, dtype=torch.float64) for values in padded for v in values]
        matrix = torch.stack(torch.broadcast_tensors(*numbers)).detach().unflatten(0, (-1, count))
        if self.sde.blocks:
            matrix = matrix.transpose(1, 2).flatten(0, 1).flatten(1)
        else:
            matrix = matrix.movedim((0, 1), (-2, -1))
        return matrix @ matrix.mT

    def noise_std(self, row: Row) -> Coefficient:
        """Standard deviation of the noise in the state that `row` produces, given the state at the
        start of its substep; with matrices that of each component."""
        squares = (v.square().sum(-1) if isinstance(v, Block) else v**2 for v in row.noise)
        return sum(squares, 0.0) ** 0.5

    def table(self) -> str:
        """The plan as text: per row its step, time, σ, and the coefficients of the state that
        follows it; an update without a call of the network is marked by a dash."""
        lines = [
            f"{self.solver} on {self.sde}: {self.steps} steps, {self.nfe} evaluations, "
            f"{self.normals} Gaussians"
        ]
        header = ("row", "step", "time", "sigma", "-> time", "scale", "noise std")
        titles = " ".join(f"{name:>{width}}" for name, width in zip(header, _WIDTHS, strict=True))
        lines.append(titles + "  weights")
        for i, row in enumerate(self.rows):
            sigma = self.sde.diffusion.schedule.sigma(row.time) if self.sde.diffusion else ""
            name, std = i if row.evaluates else f"{i}-", self.noise_std(row)
            cells = (name, row.step, row.time, sigma, row.target, row.scale, std)
            numbers = " ".join(
                f"{_cell(value):>{width}}" for value, width in zip(cells, _WIDTHS, strict=True)
            )
            letter = row.prediction[0].upper()
            lines.append(numbers + "  " + "  ".join(_product(letter, j, w) for j, w in row.weights))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The plan's numbers as JSON-able lists and floats (infinite ends become the strings that
        `float` reads back)."""
        from expint.plans.plan_files import row_numbers

        return row_numbers(self)

    def save(self, path: str | Path, **about: Any) -> None:
        """Write the plan to a JSON file, from which `Plan.load` compiles it again: solver,
        equation, ℓ of each step, grid, factors, operations and schedule. Gradients are left out.

        Args:
            path: of the file.
            about: what is to be known of the plan, finite JSON values: the network's name or hash,
                what was measured, on how many samples, with which seed.

        Raises:
            ValueError: for a plan that could not be made again: of a solver that is not the
                registered one of its name, a noise scale that is a function, or another equation
                than a diffusion model's.
            OSError: if the file cannot be written; then none is left half-written.
        """
        from expint.plans.plan_files import save_plan

        save_plan(self, path, about)

    @staticmethod
    def load(path: str | Path, schedule: Schedule | None = None) -> "Plan":
        """The plan of a file that `Plan.save` wrote, its rows equal to 1e-14.

        Args:
            path: of the file.
            schedule: of the model; it may be left out where the file says it by name and numbers.
                Otherwise it is that of the plan, and its λ and log α are compared with the file's
                at the times of the grid, to 1e-6.

        Raises:
            ValueError: for a file that is no plan, cut, edited or of another version, an unknown
                solver, another schedule, or a number of evaluations that does not come out.
        """
        from expint.plans.plan_files import load_plan

        return load_plan(path, schedule)

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
    shape = "x".join(map(str, tensor.shape))
    return f"{tensor.item():.6g}" if tensor.numel() == 1 else f"<{shape}>"
