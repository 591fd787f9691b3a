"""Find the plan for a model and a number of evaluations."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from scipy.optimize import minimize
from torch import Tensor
from tqdm.auto import tqdm

from expint import defaults
from expint.noise.source import check_seed
from expint.numerics.float64 import is_whole
from expint.plans import Plan
from expint.runs import describe
from expint.runs.model import Description
from expint.sampling import plan_sampling
from expint.solvers.registry import Solver
from expint.tuning.gradients import descended
from expint.tuning.journal import Journal
from expint.tuning.objective import HELD_OUT, SEARCH, Features, Objective, SampleObjective
from expint.tuning.parameters import FEW, Numbers, Tunable
from expint.tuning.pathwise import FINE, Paths
from expint.tuning.starts import Entry, best_of_two, bounds_of, fine_samples, shape_of, starts_of

ALONG = "along paths"
LEVELS = (0.0, 0.3, 0.5, 0.7, 1.0)  # of ℓ, that the guide's plans are tried with
_SHARES = {
    "reference": 0.15, "screening": 0.1, "guide": 0.4, "few": 0.15, "held out": 0.15,
    "gradients": 0.1,
}  # fmt: skip
_FEW_TRIALS, _TRIED, _ROUNDS, _GRADIENTS = 45, 4, 10, 40
_ENOUGH = 500  # samples for each gradient: with fewer the search fits their accidents
_LEAST = 2000
_STEP = torch.tensor([0.4, 0.4, 0.5, -0.25, -0.15], dtype=torch.float64)


def tune(
    model: Any,
    nfe: int,
    *,
    solver: Solver | str = "auto",
    ell: float | tuple[float, float] | str = 1.0,
    loss: Features | Objective | None = None,
    reference: Tensor | None = None,
    shape: Sequence[int] | None = None,
    budget: int = 350_000,
    seed: int = 0,
    journal: str | Path | None = None,
    progress: bool = True,
) -> Plan:
    """The best plan with at most `nfe` evaluations that a search finds for this model.

    Several solvers on several grids are tried on a few samples. From the best of them a guide moves
    every number of every step (grid, trust in extrapolation) so that the plan for the ODE comes
    near fine solutions from the same initial states; it serves ℓ > 0 as well, at several levels of
    which it is tried. The best of all these is moved by five numbers (shape of the grid, ℓ, trust)
    without gradients. Where the budget allows for enough samples, and where distances cost
    nothing, gradients move all numbers in the end. All trials see the same noise; what is nearest
    on samples that the search has not seen is kept, the default plan among them.

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
        journal: a file that keeps every value that was measured. A search that was stopped, and is
            begun again with the same arguments and the same file, goes on where it was, with the
            same result; the model, reference and loss must be the same, and are not compared.
        progress: show a progress bar with the distance reached.

    Returns:
        The plan; its `about` has the distance on held-out samples and that of the default plan,
        how many samples these are, what the search cost in evaluations, and which trials failed.

    Raises:
        TypeError, ValueError: before the first evaluation for anything that does not fit, such as
            fewer evaluations than the solver needs, or the journal of another search.
        FloatingPointError: if no plan gives a finite distance, with the step and time of the first.
        KeyboardInterrupt: with the best distance so far, and how to go on.

    Example:
        >>> import expint
        >>> data = expint.targets.Gaussian([0.0], [0.25], expint.schedules.EDM())
        >>> exact = expint.tuning.GaussianObjective(data)
        >>> plan = expint.tune(data, 5, ell=0.0, loss=exact, progress=False)
        >>> plan.nfe, plan.about["distance"] < 1e-6
        (5, True)
    """
    about = describe(model)
    bounds = bounds_of(ell)
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
    starts = list(starts_of(about, nfe, solver, bounds))
    size = None if isinstance(loss, Objective) else shape_of(about, reference, shape)
    arguments = {
        "nfe": nfe, "solver": str(solver), "ell": list(bounds), "shape": None if size is None
        else list(size), "reference": None if reference is None else float(reference.sum()),
        "loss": type(loss).__name__, "budget": budget, "seed": seed,
    }  # fmt: skip
    kept = Journal(journal, arguments)

    def objective() -> tuple[Objective, int]:
        """And what it cost to draw the reference."""
        if size is None:
            return cast(Objective, loss), 0
        samples, spent = reference, 0
        if samples is None:
            count = max(64, min(2000, int(_SHARES["reference"] * budget / FINE)))
            samples, spent = fine_samples(model, size, count, seed), count * FINE
        made = SampleObjective(model, size, samples, cast(Features | None, loss), seed)
        return made, spent + made.cost

    kind = type(loss).__name__ if isinstance(loss, Objective) else SampleObjective.__name__
    guided = (size is not None or isinstance(loss, SampleObjective)) and about.round_time is None
    with tqdm(total=budget, disable=not progress, unit="evaluations", desc="reference") as bar:
        search = _Search(objective, about, nfe, budget, bar, kept, kind)
        try:
            return search.best(starts, bounds, guided)
        except KeyboardInterrupt:
            way = f"journal={str(journal)!r}" if journal else "a journal from the beginning"
            text = (
                f"Stopped; the best distance so far is {search.least:.4g}. To go on where a search "
                f"stopped, give the same arguments and {way}."
            )
            bar.write(text, file=sys.stderr)  # click has its own word for the exception
            raise KeyboardInterrupt(text) from None


class _Search:
    """The stages of the search, each within its share of the budget."""

    def __init__(
        self, objective: Callable[[], tuple[Objective, int]], about: Description, nfe: int,
        budget: int, bar: Any, journal: Journal, kind: str,
    ) -> None:  # fmt: skip
        self.kind = kind
        self._make, self._made = objective, cast(Objective | None, None)
        self.about, self.nfe, self.budget, self.bar = about, nfe, budget, bar
        self.journal, self.cost, self.least = journal, 0, math.inf
        self.failures: list[str] = []

    @property
    def objective(self) -> Objective:
        """Made when something has to be measured."""
        if self._made is None:
            self._made, spent = self._make()
            self.cost = self.cost or spent
        return self._made

    def best(
        self, starts: list[tuple[str, Tunable]], bounds: tuple[float, float], guided: bool
    ) -> Plan:
        first = {0.0: 0.0}.get(bounds[1], min(max(1.0, bounds[0]), bounds[1]))
        entries = [(name, tunable, tunable.start(first)) for name, tunable in starts]
        ranked = self._screened(entries)
        self._check(self.least, entries)
        if guided:
            try:
                ranked = ranked + self._guided(entries, bounds)
            except FloatingPointError as error:  # of the fine solutions
                self.failures.append(f"{ALONG}: {error}")
            ranked = self._ranked(ranked, self._count("few", 12))
        still = [entry for entry in ranked[:2] if ALONG not in entry[0]]
        moved = [self._few(*entry) for entry in (still[:1] if guided else still)]
        count = self._count("held out", 8)
        tried = ranked[:3] + moved + self._defaults(starts, bounds, first)
        values = [self._value(entry, count, HELD_OUT) for entry in tried]
        value, entry = min(zip(values, tried, strict=True), key=lambda pair: pair[0])
        self._check(value, tried)
        name, tunable, numbers = entry
        about: dict[str, Any] = {}
        batch = self._count("gradients", 4 * _GRADIENTS)
        if self.about.round_time is None and (batch >= _ENOUGH or not self.cost):
            self.bar.set_description(f"{tunable.method.name}, every step")
            refined, reason = descended(
                lambda: self.objective, tunable, numbers, batch,
                _GRADIENTS if self.cost else 4 * _GRADIENTS, self._measured,
            )  # fmt: skip
            found = self._value((name, tunable, refined), count, HELD_OUT)
            if found < value:
                value, numbers = found, refined
            if reason:
                about["gradients"] = f"left out: {reason}"
        plan = tunable.plan(numbers)
        about |= {
            "begun with": name, "distance": value, "samples": count, "NFE": plan.nfe,
            "distance of the default plan": self._default(count), "evaluations": self.cost,
            "objective": self.kind,
        }  # fmt: skip
        if self.failures:
            about["failed"] = f"{len(self.failures)} trials, the first: {self.failures[0]}"
        return replace(plan, about=about)

    def _check(self, value: float, entries: list[Entry]) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"No plan of {entries[0][1].method.name!r} with {self.nfe} evaluations gives a "
                f"finite distance: look at the model's output. The first: {self.failures[0]}"
            )

    def _count(self, stage: str, trials: int, most: int = 2000) -> int:
        """Samples for each of some trials."""
        return int(min(most, max(32, _SHARES[stage] * self.budget / (trials * self.nfe))))

    def _measured(self, compute: Callable[[], list[Any]]) -> list[Any]:
        """What a function finds, or has found."""
        before = self.cost

        def now() -> tuple[list[Any], int]:
            cost = self.objective.cost
            return compute(), self.cost + self.objective.cost - cost

        values, self.cost = self.journal.take(now)
        self.bar.update(self.cost - before)
        return values

    def _distance(self, plan: Callable[[], Plan], what: str, count: int, part: int) -> float:
        """Infinite where there is no plan, or its samples are not finite."""

        def compute() -> list[Any]:
            try:
                with torch.no_grad():
                    value = float(self.objective.of(plan(), count, part))
            except (ValueError, FloatingPointError) as error:
                return [math.inf, str(error)]
            return [value, ""] if math.isfinite(value) else [math.inf, f"a distance of {value}"]

        value, error = self._measured(compute)
        if error:
            self.failures.append(f"{what}: {error}")
            self.bar.set_postfix_str(f"{len(self.failures)} failed, {what}: {error[:60]}")
        elif value < self.least:
            self.least = value
            self.bar.set_postfix(distance=f"{value:.4g}")
        return value

    def _value(self, entry: Entry, count: int, part: int = SEARCH) -> float:
        name, tunable, numbers = entry
        values = (f"{k} {[round(v, 3) for v in part.tolist()]}" for k, part in
                  zip(Numbers._fields, numbers, strict=True))  # fmt: skip
        what = f"{name}, {', '.join(values)}"
        return self._distance(partial(tunable.plan, numbers), what, count, part)

    def _default(self, count: int) -> float:
        """The held-out distance of what is run without tuning."""
        about = self.about
        make = partial(
            plan_sampling, about.schedule, nfe=self.nfe, sigma_data=about.sigma_data,
            round_time=about.round_time,
        )  # fmt: skip
        return self._distance(make, "the default plan", count, HELD_OUT)

    def _defaults(
        self, starts: list[tuple[str, Tunable]], bounds: tuple[float, float], first: float
    ) -> list[Entry]:
        """That plan, and the one with noise, as far as the bounds of ℓ allow."""
        found = []
        for stochastic, ell in ((None, None), (True, first), (False, 0.0)):
            solver = defaults.solver(self.nfe, shared=True, stochastic=stochastic)
            if ell is None:
                ell = 0.0 if solver == defaults.FEW_SOLVER else 1.0
            if bounds[0] <= ell <= bounds[1]:
                found += [(n, t, t.start(ell)) for n, t in starts if n == f"{solver}, default"]
        return found[:2]

    def _ranked(self, entries: list[Entry], count: int) -> list[Entry]:
        values = [self._value(entry, count) for entry in entries]
        order = sorted(range(len(entries)), key=values.__getitem__)
        return [entries[i] for i in order]

    def _screened(self, starts: list[Entry]) -> list[Entry]:
        """The best starts of the two best solvers: of the better half on more samples."""
        self.bar.set_description(f"{len(starts)} starts")
        count = self._count("screening", 3 * len(starts), 500)
        better = self._ranked(starts, count)[: max(2, len(starts) // 2)]
        values = [self._value(entry, 4 * count) for entry in better]
        return best_of_two(better, values)

    def _guided(self, starts: list[Entry], bounds: tuple[float, float]) -> list[Entry]:
        """Plans with the most numbers, so near to the paths of the ODE as they come, with several
        ℓ."""
        most = max(tunable.steps for _, tunable, _ in starts)
        count = self._count("guide", 2 * (_ROUNDS + _TRIED) * (2 * most + 3) // 3, 200)
        objective = cast(Callable[[], SampleObjective], lambda: self.objective)
        limit = self.cost + _SHARES["guide"] * self.budget
        few, paths = (Paths(objective, self.about, n, self._measured) for n in (count // 2, count))
        starts = [entry for entry in starts if entry[1].steps == most]
        errors = [few.error(tunable, numbers) for _, tunable, numbers in starts]
        self.bar.set_description(ALONG)

        def in_budget() -> bool:
            return self.cost < limit

        tried = [
            (name, tunable, few.nearer(tunable, numbers, _TRIED, in_budget))
            for name, tunable, numbers in best_of_two(starts, errors)
        ]
        errors = [few.error(tunable, numbers) for _, tunable, numbers in tried]
        name, tunable, numbers = best_of_two(tried, errors)[0]
        numbers = paths.nearer(tunable, numbers, _ROUNDS, in_budget)
        levels = {min(max(level, bounds[0]), bounds[1]) for level in LEVELS}
        return [
            (f"{name}, {ALONG}", tunable, numbers._replace(ells=torch.full_like(numbers.ells, ell)))
            for ell in sorted(levels)
        ]

    def _few(self, name: str, tunable: Tunable, start: Numbers) -> Entry:
        """Moved by few numbers, by Nelder and Mead's simplex on one set of samples."""
        count = self._count("few", 60)
        free = tunable.free
        self.bar.set_description(f"{tunable.method.name}, {len(free)} numbers")
        best: tuple[float, Tensor] = (math.inf, torch.zeros(FEW, dtype=torch.float64))

        def value(x: Any) -> float:
            nonlocal best
            by = torch.zeros(FEW, dtype=torch.float64)
            by[free] = torch.as_tensor(x)
            found = self._value((name, tunable, tunable.moved(start, by)), count)
            best = min(best, (found, by), key=lambda pair: pair[0])
            return min(found, 1e30)

        corners = torch.cat([torch.zeros(1, len(free)), torch.diag(_STEP[free])])
        size = {"maxfev": _FEW_TRIALS, "fatol": 0.0, "xatol": 1e-3}
        options = {"initial_simplex": corners.numpy(), **size}
        minimize(value, corners[0].numpy(), method="Nelder-Mead", options=options)
        return name, tunable, tunable.moved(start, best[1])
