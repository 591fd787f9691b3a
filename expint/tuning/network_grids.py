"""GITS and OSS as grids that a search begins with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from expint.numerics.float64 import as_float64
from expint.runs import describe
from expint.tuning.from_paths import gits_grid, oss_grid
from expint.tuning.objective import SEARCH, Drawn
from expint.tuning.parameters import Tunable

GRIDS = {"gits": gits_grid, "oss": oss_grid}
_POINTS, _LEAST, _MOST = 61, 4, 16  # noise levels, and paths


def times_from_paths(name: str, steps: int, evaluations: float, drawn: Drawn) -> list[float]:
    """Times of a grid that takes at most so many evaluations, which the objective counts; none
    where they are too few, on a table that is too coarse, and where the paths are not finite."""
    each = _POINTS - 1 + (name == "oss") * (1 + (steps - 1) * (_POINTS - steps))
    batch = min(_MOST, int(evaluations / each))
    if batch < _LEAST or not 1 < steps < _POINTS:
        return []
    schedule, shape = describe(drawn.model).schedule, (batch, *drawn.shape)
    how = {"points": _POINTS, "seed": 3 * drawn.seed + SEARCH}
    drawn.cost += batch * each
    try:
        return GRIDS[name](schedule, steps, drawn.model, shape, **how).tolist()
    except (ValueError, FloatingPointError):
        return []


def network_starts(
    starts: Sequence[tuple[str, Tunable]], times: Callable[[str, int], list[float]]
) -> Iterator[tuple[str, Tunable]]:
    """By name, the solvers of the most steps on these grids."""
    most = max(tunable.steps for _, tunable in starts)
    solvers = {each.method.name: each for _, each in starts if each.steps == most}
    for name in GRIDS:
        if found := times(name, most):
            for solver, each in solvers.items():
                yield f"{solver}, {name}", replace(each, grid=as_float64(found))
