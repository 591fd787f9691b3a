"""Where a search begins: solvers on grids, bounds, and samples to compare with."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import torch
from torch import Tensor

from expint import grids
from expint.numerics.float64 import are_numbers
from expint.runs.model import Description
from expint.sampling import plan_sampling
from expint.solvers import get
from expint.tuning.optimized_times import dmn_grid
from expint.tuning.parameters import Numbers, Tunable

STOCHASTIC = ("seeds-ab2", "seeds-ab3", "sa-solver", "seeds-3")
DETERMINISTIC = ("unipc-2", "unipc-3", "seeds-ab2", "seeds-ab3")
STOPS = (0.1, 0.03)
AS_THEY_ARE = ("default", "dmn", "ays_sd15", "gits", "oss")  # grids of all solvers, in law
FREE = (0.0, 2.0)
Entry = tuple[str, Tunable, Numbers]
_optimized = lru_cache(dmn_grid)  # the same for several solvers


def starts_of(
    about: Description, nfe: int, solver: Any, bounds: tuple[float, float]
) -> Iterator[tuple[str, Tunable]]:
    """By name, solvers on grids.

    Raises:
        ValueError: for a solver of another form, or too few evaluations for all of them.
    """
    named = [solver]
    if solver == "auto":
        named = [*DETERMINISTIC] if bounds[1] == 0.0 else [*STOCHASTIC]
        if 0.0 == bounds[0] < bounds[1]:
            named += [name for name in DETERMINISTIC if name not in named]
    refused = []
    for one in named:
        method = get(one)
        if method.form != "data" or method.noise_scale is not None or method.tableau.slopes:
            raise ValueError(
                f"{method.name!r} is not for the data form without derivatives, in which plans are "
                f"tuned: choose another solver, for example {STOCHASTIC[0]!r}, or 'auto'."
            )
        try:
            own = plan_sampling(about.schedule, method, nfe=nfe, ell=bounds[1]).grid
        except ValueError as error:
            refused.append(error)
            continue
        for name, times in _grids(about, len(own) - 1, own):
            yield (
                f"{method.name}, {name}",
                Tunable(about.schedule, method, times, bounds, about.round_time),
            )
    if len(refused) == len(named):
        raise refused[0]


def _grids(about: Description, steps: int, own: Tensor) -> Iterator[tuple[str, Tensor]]:
    schedule = about.schedule
    yield "default", own
    ends = product(("uniform_lambda", "karras", "ays_sd15"), STOPS)
    for name, stop in (("dmn", 0.0), ("ays_sd15", 0.0), *ends):
        if schedule.sigma(schedule.sampling_range[1]) < (stop or math.inf):
            make = _optimized if name == "dmn" else grids.get(name)
            end = {"stop": float(schedule.t_of_sigma(stop))} if stop else {}
            try:
                yield name + f" to {stop:g}" * bool(stop), make(schedule, steps, **end)
            except ValueError:  # too few steps for this grid
                continue


def bounds_of(ell: Any) -> tuple[float, float]:
    """Of ℓ, as a user gives them."""
    pair = FREE if ell == "free" else (ell, ell) if are_numbers(ell) else ell
    fits = isinstance(pair, (tuple, list)) and len(pair) == 2 and are_numbers(*pair)
    if not fits or not 0.0 <= pair[0] <= pair[1] < math.inf:
        raise ValueError(
            f"ell is a number >= 0, a pair (low, high) of such, or 'free', got {ell!r}."
        )
    return float(pair[0]), float(pair[1])


def shape_of(
    about: Description, reference: Tensor | None, shape: Sequence[int] | None
) -> tuple[int, ...]:
    """Of one sample.

    Raises:
        ValueError: if it is not known, or for a reference that does not fit.
    """
    if shape is None and reference is None and about.shape is None:
        raise ValueError("The model does not say of what shape its samples are: give shape=....")
    size = tuple(shape or (about.shape if reference is None else reference.shape[1:]) or ())
    if reference is not None:
        kind, finite = reference.dtype.is_floating_point, bool(torch.isfinite(reference).all())
        varied = len(reference) >= 4 and not bool((reference == reference[0]).all())
        if tuple(reference.shape[1:]) != size or not (kind and finite and varied):
            raise ValueError(
                f"The reference holds at least 4 samples of shape {size}, floating, finite and not "
                f"all the same, got {tuple(reference.shape)}, {reference.dtype}."
            )
    return size


def nearest_of(entries: list[Entry], values: list[float]) -> list[Entry]:
    """In the order of their values."""
    return [entries[i] for i in sorted(range(len(entries)), key=values.__getitem__)]


def best_of(solvers: int, entries: list[Entry], values: list[float]) -> list[Entry]:
    """The best entry of each of the best solvers."""
    best: dict[str, Entry] = {}
    for entry in nearest_of(entries, values):
        best.setdefault(entry[1].method.name, entry)
    return list(best.values())[:solvers]
