"""What a run does where its user names no grid or no solver: one rule for `sample`, the command
line, all adapters and the interfaces for other libraries.

Equal steps of the angle arctan σ, from the noise end to the first part of that angle in as many as
there are evaluations, and from there to σ = 0. So no evaluation is spent where the sample hardly
changes any more, and the more there are, the finer is the end. With few evaluations the equation is
the ODE, whose trajectories are smoother; with more the noise of the SDE makes good for errors.

`benchmarks/defaults.py` measures the rule against other grids, solvers and ℓ on networks and
mixtures, and other libraries' defaults; docs/defaults.md shows the figures.
"""

import math

import torch
from torch import Tensor

from expint.grids import cosine
from expint.grids.layout import count_points, ends_of, finish
from expint.schedules import Schedule
from expint.schedules.discrete import TabulatedVP
from expint.solvers import Method

STEPS = 20
FEW = 8
"""Up to so many evaluations the default solver is one for the ODE."""
MANY = 30
"""From so many on, where a step may take several, it has several stages, whose law is then the
nearest to the exact one on Gaussian data."""
FEW_SOLVER, SOLVER, MANY_SOLVER = "unipc-2", "seeds-ab2", "seeds-3"
ADAPTIVE = "seeds-3"


def solver(evaluations: int, *, shared: bool = False, stochastic: bool | None = None) -> str:
    """Name of the solver for a number of evaluations.

    Args:
        evaluations: network evaluations, or steps where these are known.
        shared: whether a step may take several of them.
        stochastic: whether the caller asked for noise (ℓ > 0 or a noise scale) or for none; None
            leaves it to the solver.
    """
    few = evaluations <= FEW if stochastic is None else not stochastic
    many = MANY_SOLVER if shared and evaluations >= MANY else SOLVER
    return FEW_SOLVER if few else many


def grid(
    schedule: Schedule,
    steps: int,
    method: Method | None = None,
    *,
    table: bool = False,
    start: float | None = None,
    stop: float | None = None,
    final: str = "denoise",
) -> Tensor:
    """Times for a number of steps of a method, float64, shape (steps + 1,).

    Args:
        schedule: the noise schedule.
        steps, start, final: as for every grid (`expint.grids`).
        stop: the last time above σ = 0 is not below.
        method: of the run; None stands for one evaluation a step.
        table: whether the network is called at the entries of its table only: then these are taken.

    Raises:
        ValueError: as every grid does.
    """
    first, last = ends_of(schedule, start, stop)
    if final == "denoise":
        count_points(steps, final)
        infinite = schedule.lam(first) == -math.inf
        evaluations = steps
        if method is not None:
            evaluations = method.evaluations_in(steps, from_infinity=infinite, to_zero=True)
        angle = math.atan(schedule.sigma(first)) / evaluations
        last = max(last, float(schedule.t_of_sigma(math.tan(angle))))
    times = cosine(schedule, steps, start=start, stop=last, final=final)
    if not (table and isinstance(schedule, TabulatedVP)):
        return times
    count = steps + (final == "none")
    # The nearest entries, at least one apart and inside the table.
    places = torch.arange(count, dtype=torch.float64)
    entries = times[:count].round().flip(0) - places
    entries = entries.cummax(0).values.clamp(max=round(first) + 1.0 - count) + places
    if entries[0] < round(ends_of(schedule, start, stop)[1]):
        raise ValueError(
            f"A grid of {count} entries does not fit into {schedule} from {first:.9g} on: take "
            "fewer steps."
        )
    return finish(schedule, entries.flip(0), final)
