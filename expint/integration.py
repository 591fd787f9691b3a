"""Integrate any semi-linear SDE."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.equations import SemiLinearSDE
from expint.execution import execute
from expint.noise import NoiseSource
from expint.plans import Plan, compile_plan
from expint.solvers import Method, Tableau


@dataclass(frozen=True, eq=False)
class Solution:
    """What `integrate` returns.

    Attributes:
        times: the grid, float64, shape (steps + 1,).
        x: the state at the end, shape (batch, *event).
        states: the states at all times, shape (steps + 1, batch, *event), or None if they were not
            asked for.
        plan: the plan that was run.
    """

    times: Tensor
    x: Tensor
    states: Tensor | None
    plan: Plan


def integrate(
    sde: SemiLinearSDE,
    F: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    grid: Sequence[float] | Tensor,
    solver: str | Method | Tableau = "seeds-2",
    noise: NoiseSource | None = None,
    *,
    save: bool = False,
    progress: bool = False,
) -> Solution:
    """Integrate dx = [A x + b F(x, t)] dt + g dω along a grid.

    Args:
        sde: for example `SemiLinearSDE.from_coefficients(A, b, g, span=...)`.
        F: the nonlinear part, F(x, t) → tensor of the shape of x; t is a 0-dimensional float64
            tensor.
        x: initial state, shape (batch, *event).
        grid: times, shape (steps + 1,), in the direction of the SDE's span.
        solver: registered name, a method or a tableau.
        noise: a noise source; needed if the SDE has noise.
        save: keep the states at all grid points.
        progress: show a progress bar.

    Returns:
        The solution.

    Raises:
        ValueError, TypeError: before the first evaluation of F, for anything that does not fit.
        FloatingPointError: if the state became NaN or infinite, with step and time.

    Example:
        >>> import torch
        >>> from expint import SemiLinearSDE, integrate
        >>> decay = SemiLinearSDE.from_coefficients(-1.0, span=(0.0, 2.0))
        >>> x = torch.ones(1, 1, dtype=torch.float64)
        >>> grid = torch.linspace(0, 2, 5, dtype=torch.float64)
        >>> round(integrate(decay, lambda x, t: torch.zeros_like(x), x, grid).x.item(), 6)
        0.135335
    """
    plan = compile_plan(sde, solver, grid)
    states = [x]
    with tqdm(total=plan.steps, disable=not progress, unit="step", desc=plan.solver) as bar:

        def record(step: int, count: int, t: float, state: Tensor, value: Tensor) -> None:
            bar.update(1)
            if save:
                states.append(state)

        end = execute(plan, F, x, noise, record if save or progress else None)
    return Solution(plan.grid, end, torch.stack(states) if save else None, plan)
