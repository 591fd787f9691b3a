"""Find the plan for a model and a number of evaluations."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from math import prod
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
from expint.tuning import starts as begin
from expint.tuning.gradients import descended
from expint.tuning.journal import Journal
from expint.tuning.objective import HELD_OUT, SEARCH, Features, Objective, SampleObjective
from expint.tuning.parameters import FEW, Numbers, Tunable
from expint.tuning.pathwise import FINE, MODES, Paths, fine_samples

ALONG = "along paths"
LEVELS = (0.0, 0.3, 0.5, 0.7, 1.0)  # of ℓ, that the guide's plans are tried with
_SHARES = {
    "reference": 0.12, "paths": 0.13, "along": 0.4, "few": 0.15, "choice": 0.06, "held out": 0.12,
    "screening": 0.1,
}  # fmt: skip
_TRIALS, _FEW_TRIALS, _GRADIENTS = 4, 40, 160
_MOST = 3000  # samples of a distance
_LEAST = 2000
_STEP = torch.tensor([0.2, 0.2, 0.3, -0.1, -0.1], dtype=torch.float64)


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

    First along paths: several solvers on several grids are compared, sample by sample, with fine
    solutions of the ODE from the same initial states, and every number of every step (grid, trust
    in extrapolation) of the best is moved by least squares. Then in law: five numbers (shape of the
    grid, trust) are moved by the energy distance from the same solutions, without gradients. What
    comes out serves ℓ > 0 as well, at several levels of which it is tried. All trials see the same
    noise; what is nearest on samples that the search has not seen is kept, solvers on the default
    grid among them. Where distances cost nothing, gradients move all numbers in the end.

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
    bounds = begin.bounds_of(ell)
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
    starts = list(begin.starts_of(about, nfe, solver, bounds))
    size = None if isinstance(loss, Objective) else begin.shape_of(about, reference, shape)
    arguments = {
        "nfe": nfe, "solver": str(solver), "ell": list(bounds), "shape": None if size is None
        else list(size), "reference": None if reference is None else float(reference.sum()),
        "loss": type(loss).__name__, "budget": budget, "seed": seed,
    }  # fmt: skip
    kept = Journal(journal, arguments)

    features = None if isinstance(loss, Objective) else loss
    event = loss.shape if isinstance(loss, SampleObjective) else size

    own = size is not None and reference is None and bounds[1] == 0.0

    @cache
    def paths() -> Paths:
        count = max(16, int(_SHARES["paths"] * budget / (2 * FINE)))
        return Paths(model, event or (), min(_MOST, count), features, seed)

    @cache
    def objective() -> Objective:
        if size is None:
            return cast(Objective, loss)
        if own:
            return paths().objective
        samples, spent = reference, 0
        if samples is None:
            count = max(64, min(2 * _MOST, int(_SHARES["reference"] * budget / FINE)))
            samples, spent = fine_samples(model, size, count, seed), count * FINE
        made = SampleObjective(model, size, samples, features, seed)
        made.cost += spent
        return made

    kind = type(loss).__name__ if isinstance(loss, Objective) else SampleObjective.__name__
    with tqdm(total=budget, disable=not progress, unit="evaluations", desc="reference") as bar:
        many = prod(event) if event else 0
        search = _Search(objective, paths, many, own, about, nfe, budget, bar, kept, kind)
        try:
            return search.best(starts, bounds)
        except KeyboardInterrupt:
            way = f"journal={str(journal)!r}" if journal else "a journal from the beginning"
            least = f"; the best distance so far is {search.least:.4g}"
            text = (
                f"Stopped{least if math.isfinite(search.least) else ''}. To go on where a search "
                f"stopped, give the same arguments and {way}."
            )
            bar.write(text, file=sys.stderr)  # click has its own word for the exception
            raise KeyboardInterrupt(text) from None


class _Search:
    """The stages of the search, each within its share of the budget."""

    def __init__(
        self, objective: Callable[[], Objective], paths: Callable[[], Paths], size: int, own: bool,
        about: Description, nfe: int, budget: int, bar: Any, journal: Journal, kind: str,
    ) -> None:  # fmt: skip
        self.objective, self.paths, self.size, self.kind = objective, paths, size, kind
        self.own, self.about, self.nfe, self.budget, self.bar = own, about, nfe, budget, bar
        self.journal, self.cost, self.least = journal, 0, math.inf
        self.failures: list[str] = []

    def best(self, starts: list[tuple[str, Tunable]], bounds: tuple[float, float]) -> Plan:
        first = {0.0: 0.0}.get(bounds[1], min(max(1.0, bounds[0]), bounds[1]))
        entries = [(name, tunable, tunable.start(first)) for name, tunable in starts]
        found, trouble = [], []
        try:
            found = self._along(entries, bounds) if self.size else []
        except FloatingPointError as error:  # of the fine solutions
            trouble = [f"{ALONG}: {error}"]
        if not self.own:
            self._made(self.objective)
        if found:
            ranked = self._ranked(found, self._count("choice", len(found)))[:4]
        else:
            self.bar.set_description(f"{len(entries)} starts")
            ranked = self._ranked(entries, self._count("screening", len(entries)))[:2]
            self._check(self.least, entries)
            ranked += [
                (name, tunable, self._few(name, tunable, numbers, self.objective))
                for name, tunable, numbers in ranked
            ]
        self.failures += trouble
        tried = ranked + self._defaults(starts, bounds, first)
        count = self._count("held out", len(tried) + 1)
        values = [self._value(entry, count, HELD_OUT) for entry in tried]
        value, entry = min(zip(values, tried, strict=True), key=lambda pair: pair[0])
        self._check(value, tried)
        name, tunable, numbers = entry
        about: dict[str, Any] = {}
        if not self.cost:  # sampled laws have too much noise for as many numbers
            self.bar.set_description(f"{tunable.method.name}, every step")
            try:
                refined = descended(self.objective(), tunable, numbers, count, _GRADIENTS)
            except (RuntimeError, TypeError, AttributeError) as error:
                about["gradients"] = f"left out: {str(error).splitlines()[0]}"
            else:
                found = self._value((name, tunable, refined), count, HELD_OUT)
                if found < value:
                    value, numbers = found, refined
        plan = tunable.plan(numbers)
        about |= {
            "begun with": name, "distance": value, "samples": count, "NFE": plan.nfe,
            "distance of the default plan": self._default(count), "evaluations": self.cost,
            "objective": self.kind,
        }  # fmt: skip
        if self.failures:
            about["failed"] = f"{len(self.failures)} trials, the first: {self.failures[0]}"
        return replace(plan, about=about)

    def _check(self, value: float, entries: list[begin.Entry]) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"No plan of {entries[0][1].method.name!r} with {self.nfe} evaluations gives a "
                f"finite distance: look at the model's output. The first: {self.failures[0]}"
            )

    def _count(self, stage: str, trials: int, most: int = _MOST) -> int:
        """Samples for each of some trials."""
        return int(min(most, max(16, _SHARES[stage] * self.budget / (trials * self.nfe))))

    def _made(self, of: Callable[[], Any]) -> None:
        """Made now, so that it is paid for; when a search goes on, only when it is needed."""
        self._take(lambda: ([], self.cost + cast(Objective, of()).cost))

    def _take(self, now: Callable[[], tuple[list[Any], int]]) -> list[Any]:
        before = self.cost
        values, self.cost = self.journal.take(now)
        self.bar.update(self.cost - before)
        return values

    def _measured(self, compute: Callable[[], list[Any]], of: Callable[[], Objective]) -> list[Any]:
        """What a function finds, or has found, by an objective."""

        def now() -> tuple[list[Any], int]:
            before = of().cost
            return compute(), self.cost + of().cost - before

        return self._take(now)

    def _distance(
        self, plan: Callable[[], Plan], what: str, count: int, part: int,
        of: Callable[[], Objective] | None = None,
    ) -> float:  # fmt: skip
        """Infinite where there is no plan, or its samples are not finite."""
        by = of or self.objective

        def compute() -> list[Any]:
            try:
                with torch.no_grad():
                    value = float(by().of(plan(), count, part))
            except (ValueError, FloatingPointError) as error:
                return [math.inf, str(error)]
            return [value, ""] if math.isfinite(value) else [math.inf, f"a distance of {value}"]

        value, error = self._measured(compute, by)
        if error:
            self.failures.append(f"{what}: {error}")
            self.bar.set_postfix_str(f"{len(self.failures)} failed, {what}: {error[:60]}")
        elif by is self.objective and value < self.least:
            self.least = value
            self.bar.set_postfix(distance=f"{value:.4g}")
        return value

    def _value(
        self, entry: begin.Entry, count: int, part: int = SEARCH,
        of: Callable[[], Objective] | None = None,
    ) -> float:  # fmt: skip
        name, tunable, numbers = entry
        values = (f"{k} {[round(v, 3) for v in part.tolist()]}" for k, part in
                  zip(Numbers._fields, numbers, strict=True))  # fmt: skip
        what = f"{name}, {', '.join(values)}"
        return self._distance(partial(tunable.plan, numbers), what, count, part, of)

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
    ) -> list[begin.Entry]:
        """What is run without tuning, and all solvers on its grid."""
        solver = defaults.solver(self.nfe, shared=True)
        own = 0.0 if solver == defaults.FEW_SOLVER else 1.0
        default = [(own, name) for name in [f"{solver}, default"] if bounds[0] <= own <= bounds[1]]
        every = [(first, f"{name}, default") for name in (*begin.STOCHASTIC, *begin.DETERMINISTIC)]
        wanted = dict.fromkeys(default + every)
        return [(n, t, t.start(ell)) for ell, name in wanted for n, t in starts if n == name]

    def _ranked(self, entries: list[begin.Entry], count: int) -> list[begin.Entry]:
        values = [self._value(entry, count) for entry in entries]
        order = sorted(range(len(entries)), key=values.__getitem__)
        return [entries[i] for i in order]

    def _along(self, starts: list[begin.Entry], bounds: tuple[float, float]) -> list[begin.Entry]:
        """Plans near the paths of the ODE, by all numbers and then by few in law, with several
        ℓ."""
        self._made(self._coupled)
        most = max(tunable.steps for _, tunable, _ in starts)
        starts = [entry for entry in starts if entry[1].steps == most]  # the most numbers
        size = 2 * min(most, MODES)
        share = (_SHARES["along"] + self.own * _SHARES["reference"]) * self.budget
        chunks = share / (_TRIALS * (size + 1) * self.nfe)
        least = max(12, 3 * size // self.size)
        count = int(min(200, max(least, chunks / 10)))
        rounds = max(1, min(5, int(chunks / (8 * count))))
        starts = begin.best_of(4, starts, [self._error(entry, count) for entry in starts])
        self.bar.set_description(ALONG)
        limit = self.cost + share
        fitted: list[tuple[float, begin.Entry]] = []
        for left in (2, 1):
            for _ in range(rounds):
                fitted = [self._nearer(entry, count) for entry in starts]
                starts = [entry for _, entry in fitted]
            starts = begin.best_of(left, starts, [error for error, _ in fitted])
        (entry,), error = starts, math.inf
        while self.cost < limit:
            before = error
            error, entry = self._nearer(entry, count)
            if error > 0.98 * before:
                break
        name, tunable, numbers = entry
        ode = replace(tunable, bounds=(0.0, 0.0))
        few = self._few(name, ode, numbers, self._coupled)
        levels = sorted({min(max(level, bounds[0]), bounds[1]) for level in LEVELS})
        return [
            (f"{name}, {how}", tunable, each._replace(ells=torch.full_like(each.ells, ell)))
            for how, each in ((ALONG, numbers), (f"{ALONG} and in law", few))
            for ell in levels
        ]

    def _coupled(self) -> Objective:
        return self.paths().objective

    def _error(self, entry: begin.Entry, count: int) -> float:
        _, tunable, numbers = entry
        (error,) = self._measured(
            lambda: [self.paths().error(tunable, numbers, count)], self._coupled
        )
        return error

    def _nearer(self, entry: begin.Entry, count: int) -> tuple[float, begin.Entry]:
        name, tunable, numbers = entry
        sizes = [len(part) for part in numbers]

        def compute() -> list[Any]:
            error, found = self.paths().nearer(tunable, numbers, count, _TRIALS)
            return [error, *torch.cat(list(found)).tolist()]

        error, *found = self._measured(compute, self._coupled)
        parts = torch.tensor(found, dtype=torch.float64).split(sizes)
        return error, (name, tunable, Numbers(*parts))

    def _few(
        self, name: str, tunable: Tunable, start: Numbers, of: Callable[[], Objective]
    ) -> Numbers:
        """Moved by few numbers, by Nelder and Mead's simplex on one set of samples."""
        count = self._count("few", _FEW_TRIALS)
        free = tunable.free
        self.bar.set_description(f"{tunable.method.name}, {len(free)} numbers")
        best: tuple[float, Tensor] = (math.inf, torch.zeros(FEW, dtype=torch.float64))

        def value(x: Any) -> float:
            nonlocal best
            by = torch.zeros(FEW, dtype=torch.float64)
            by[free] = torch.as_tensor(x)
            found = self._value((name, tunable, tunable.moved(start, by)), count, SEARCH, of)
            best = min(best, (found, by), key=lambda pair: pair[0])
            return min(found, 1e30)

        corners = torch.cat([torch.zeros(1, len(free)), torch.diag(_STEP[free])])
        size = {"maxfev": _FEW_TRIALS, "fatol": 0.0, "xatol": 1e-3}
        options = {"initial_simplex": corners.numpy(), **size}
        minimize(value, corners[0].numpy(), method="Nelder-Mead", options=options)
        return tunable.moved(start, best[1])
