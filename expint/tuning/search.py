"""Find the plan for a model and a number of evaluations."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from scipy.optimize import minimize
from torch import Tensor
from tqdm.auto import tqdm

from expint import grids
from expint.noise.source import check_seed
from expint.numerics.float64 import are_numbers, is_whole
from expint.plans import Plan
from expint.runs import describe
from expint.runs.model import Description
from expint.sampling import plan_sampling, sample
from expint.solvers import get
from expint.solvers.registry import Solver
from expint.tuning.objective import (
    HELD_OUT,
    REFERENCE,
    SEARCH,
    Features,
    Objective,
    SampleObjective,
)
from expint.tuning.parameters import FEW, Numbers, Tunable

STOCHASTIC = ("seeds-ab2", "seeds-ab3", "sa-solver", "seeds-3")
DETERMINISTIC = ("unipc-2", "unipc-3", "seeds-ab2", "seeds-ab3")
STOPS = (0.1, 0.03)
FREE = (0.0, 2.0)
_FINE = 50  # evaluations of a reference that is drawn
_SHARES = {"reference": 0.2, "screening": 0.1, "few": 0.4, "refining": 0.2}
_FEW_TRIALS = 45
_LEAST = 2000
_STEP = torch.tensor([0.4, 0.4, 0.5, -0.25, -0.15], dtype=torch.float64)
_RATE, _ROUNDS = 0.03, 400


def tune(
    model: Any,
    nfe: int,
    *,
    solver: Solver | str = "auto",
    ell: float | tuple[float, float] | str = 1.0,
    loss: Features | Objective | None = None,
    reference: Tensor | None = None,
    shape: Sequence[int] | None = None,
    budget: int = 500_000,
    seed: int = 0,
    progress: bool = True,
) -> Plan:
    """The best plan with at most `nfe` evaluations that a search finds for this model.

    Several solvers on several grids are tried on a few samples, the best of them moved by five
    numbers (shape of the grid, ℓ, trust in extrapolation) without gradients, and the result by
    every number of every step with gradients through the network, as long as that lowers the
    distance on samples that the search has not seen. All trials see the same noise.

    Args:
        model: model(x, t) with `schedule` and `prediction`, as for `expint.sample`.
        nfe: network evaluations of the plan.
        solver: "auto", or the solver to be tuned.
        ell: ℓ of every step: a number; a pair, between which each step has its own; "free", the
            same as (0, 2).
        loss: what is minimised: None, the energy distance of samples and of what is finer in them
            (`SampleObjective`); a function that makes (n, d) features of samples, in the place of
            the network's own; or an `Objective`.
        reference: samples of the law that is aimed at, (n, *event); default: the network's own
            from 50 evaluations.
        shape: of one sample; default: the model's attribute.
        budget: evaluations of the network on one sample that the search may take.
        seed: of all samples; another seed, another search.
        progress: show a progress bar with the distance reached.

    Returns:
        The plan; its `about` says what was measured, and what it cost.

    Raises:
        TypeError, ValueError: before the first evaluation for anything that does not fit, such as
            fewer evaluations than the solver needs.
        FloatingPointError: if no plan gives a finite distance.

    Example:
        >>> import expint
        >>> data = expint.targets.Gaussian([0.0], [0.25], expint.schedules.EDM())
        >>> exact = expint.tuning.GaussianObjective(data)
        >>> plan = expint.tune(data, 5, ell=0.0, loss=exact, progress=False)
        >>> plan.nfe, plan.about["distance"] < 1e-6
        (5, True)
    """
    about = describe(model)
    bounds = _bounds(ell)
    reference = None if reference is None else torch.as_tensor(reference)
    if not is_whole(nfe) or nfe < 1:
        raise ValueError(f"nfe is a positive number of evaluations, got {nfe!r}.")
    if not is_whole(budget) or budget < _LEAST * nfe:
        raise ValueError(
            f"budget is at least {_LEAST} samples of {nfe} evaluations, {_LEAST * nfe}, got "
            f"{budget!r}."
        )
    if loss is not None and not isinstance(loss, Objective) and not callable(loss):
        raise TypeError(f"loss is a function that makes features, or an Objective, got {loss!r}.")
    check_seed(seed)
    starts = list(_starts(about, nfe, solver, bounds))
    size = None if isinstance(loss, Objective) else _shape(about, reference, shape)
    with tqdm(total=budget, disable=not progress, unit="evaluations", desc="reference") as bar:
        spent = 0
        if size is not None and reference is None:
            count = max(64, min(2000, int(_SHARES["reference"] * budget / _FINE)))
            reference, spent = _fine(model, size, count, seed), count * _FINE
            bar.update(spent)
        if size is not None and reference is not None:
            loss = SampleObjective(model, size, reference, cast(Features | None, loss), seed)
        return _Search(cast(Objective, loss), nfe, budget, bar, spent).best(starts, bounds)


def _bounds(ell: Any) -> tuple[float, float]:
    pair = FREE if ell == "free" else (ell, ell) if are_numbers(ell) else ell
    fits = isinstance(pair, (tuple, list)) and len(pair) == 2 and are_numbers(*pair)
    if not fits or not 0.0 <= pair[0] <= pair[1] < math.inf:
        raise ValueError(
            f"ell is a number >= 0, a pair (low, high) of such, or 'free', got {ell!r}."
        )
    return float(pair[0]), float(pair[1])


def _shape(
    about: Description, reference: Tensor | None, shape: Sequence[int] | None
) -> tuple[int, ...]:
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


def _fine(model: Any, shape: tuple[int, ...], count: int, seed: int) -> Tensor:
    """Samples of the network's own from many evaluations."""
    parts = [
        sample(
            model, (min(500, count - begin), *shape), "seeds-3", nfe=_FINE,
            seed=3 * seed + REFERENCE, start=begin, progress=False,
        )
        for begin in range(0, count, 500)
    ]  # fmt: skip
    return torch.cat(parts)


def _starts(
    about: Description, nfe: int, solver: Any, bounds: tuple[float, float]
) -> Iterator[tuple[str, Tunable]]:
    """Where the search begins, by name: solvers on grids."""
    named = [solver]
    if solver == "auto":
        named = [*DETERMINISTIC] if bounds[1] == 0.0 else [*STOCHASTIC]
        if 0.0 == bounds[0] < bounds[1]:
            named += [name for name in DETERMINISTIC if name not in named]
    refused: ValueError | None = None
    found = False
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
            refused = error
            continue
        found = True
        for name, times in _grids(about, len(own) - 1, own):
            yield (
                f"{method.name}, {name}",
                Tunable(about.schedule, method, times, bounds, about.round_time),
            )
    if not found and refused is not None:
        raise refused


def _grids(about: Description, steps: int, own: Tensor) -> Iterator[tuple[str, Tensor]]:
    schedule = about.schedule
    yield "default", own
    for name in ("uniform_lambda", "karras"):
        for stop in STOPS:
            if schedule.sigma(schedule.sampling_range[1]) < stop:
                end = float(schedule.t_of_sigma(stop))
                try:
                    yield f"{name} to {stop:g}", grids.get(name)(schedule, steps, stop=end)
                except ValueError:  # too few steps for this grid
                    continue


_Entry = tuple[str, Tunable, Numbers]


class _Search:
    """The stages of the search, each within its share of the budget."""

    def __init__(
        self, objective: Objective, nfe: int, budget: int, bar: Any, spent_before: int
    ) -> None:
        self.objective, self.nfe, self.budget, self.bar = objective, nfe, budget, bar
        self.spent_before = spent_before

    def best(self, starts: list[tuple[str, Tunable]], bounds: tuple[float, float]) -> Plan:
        first = {0.0: 0.0}.get(bounds[1], min(max(1.0, bounds[0]), bounds[1]))
        ranked = self._screened([(name, tunable, tunable.start(first)) for name, tunable in starts])
        moved = [(name, tunable, self._few(tunable, begin)) for name, tunable, begin in ranked]
        count = self._count("refining", 8)
        found = [
            (self._value(tunable, numbers, count, HELD_OUT), name, tunable, numbers)
            for name, tunable, numbers in ranked + moved
        ]
        value, name, tunable, numbers = min(found, key=lambda entry: entry[0])
        value, numbers = self._refined(tunable, numbers, value, count)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"No plan of {tunable.method.name!r} with {self.nfe} evaluations gives a finite "
                "distance: look at the model's output, or take more evaluations."
            )
        plan = tunable.plan(numbers)
        about = {
            "distance": value, "samples": count, "begun with": name, "NFE": plan.nfe,
            "evaluations": self.spent_before + self.objective.cost,
            "objective": type(self.objective).__name__,
        }  # fmt: skip
        return replace(plan, about=about)

    def _count(self, stage: str, trials: int, most: int = 2000) -> int:
        """Samples for each of some trials."""
        return int(min(most, max(32, _SHARES[stage] * self.budget / (trials * self.nfe))))

    def _value(self, tunable: Tunable, numbers: Numbers, count: int, part: int = SEARCH) -> float:
        """The distance; infinite where there is no plan, or its samples are not finite."""
        before = self.objective.cost
        try:
            with torch.no_grad():
                value = float(self.objective.of(tunable.plan(numbers), count, part))
        except (ValueError, FloatingPointError):
            return math.inf
        finally:
            self.bar.update(self.objective.cost - before)
        return value if math.isfinite(value) else math.inf

    def _screened(self, starts: list[_Entry]) -> list[_Entry]:
        """The best starts of the two best solvers: of the better half on more samples."""
        self.bar.set_description(f"{len(starts)} starts")
        count = self._count("screening", 3 * len(starts), 500)
        ranked = sorted(starts, key=lambda entry: self._value(entry[1], entry[2], count))
        better = ranked[: max(2, len(ranked) // 2)]
        ranked = sorted(better, key=lambda entry: self._value(entry[1], entry[2], 4 * count))
        best: dict[str, _Entry] = {}
        for entry in ranked:
            best.setdefault(entry[1].method.name, entry)
        return list(best.values())[:2]

    def _few(self, tunable: Tunable, start: Numbers) -> Numbers:
        """Moved by few numbers, by Nelder and Mead's simplex on one set of samples."""
        count = self._count("few", 2 * _FEW_TRIALS)
        free = tunable.free
        self.bar.set_description(f"{tunable.method.name}, {len(free)} numbers")
        best: tuple[float, Tensor] = (math.inf, torch.zeros(FEW, dtype=torch.float64))

        def value(x: Any) -> float:
            nonlocal best
            by = torch.zeros(FEW, dtype=torch.float64)
            by[free] = torch.as_tensor(x)
            found = self._value(tunable, tunable.moved(start, by), count)
            if found < best[0]:
                best = found, by
                self.bar.set_postfix(distance=f"{found:.4g}")
            return min(found, 1e30)

        corners = torch.cat([torch.zeros(1, len(free)), torch.diag(_STEP[free])])
        options = {
            "maxfev": _FEW_TRIALS,
            "initial_simplex": corners.numpy(),
            "fatol": 0.0,
            "xatol": 1e-3,
        }
        minimize(value, corners[0].numpy(), method="Nelder-Mead", options=options)
        return tunable.moved(start, best[1])

    def _refined(
        self, tunable: Tunable, start: Numbers, value: float, count: int
    ) -> tuple[float, Numbers]:
        """Every number by gradients, while the held-out distance falls; the best there was."""
        best, since = (value, start), 0
        if tunable.round_time is not None:  # times on a table have no gradient
            return best
        batch = self._count("refining", 100, 512)
        leaves = Numbers(*(part.clone().requires_grad_(True) for part in start))
        low, high = tunable.bounds
        free = [leaves.gaps, leaves.factors, *([leaves.ells] if low < high else [])]
        optimizer = torch.optim.Adam(free, _RATE)
        limit = self.objective.cost + _SHARES["refining"] * self.budget
        self.bar.set_description(f"{tunable.method.name}, every step")
        for step in range(_ROUNDS):
            before = self.objective.cost
            try:
                distance = self.objective.of(tunable.plan(leaves), batch, start=step * batch)
                optimizer.zero_grad()
                distance.backward()
            except (ValueError, FloatingPointError, RuntimeError):
                break
            finally:
                self.bar.update(self.objective.cost - before)
            gradients = [part.grad for part in free if part.grad is not None]
            if not gradients or not all(bool(torch.isfinite(g).all()) for g in gradients):
                break
            optimizer.step()
            if step % 5 == 4:
                now = Numbers(*(part.detach().clone() for part in leaves))
                found = self._value(tunable, now, count, HELD_OUT)
                since = 0 if found < best[0] else since + 1
                best = min(best, (found, now), key=lambda entry: entry[0])
                self.bar.set_postfix(distance=f"{best[0]:.4g}")
            if since == 4 or self.objective.cost > limit:
                break
        return best
