"""The stages of the search for a plan."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from scipy.optimize import minimize

from expint import defaults
from expint.plans import Plan
from expint.runs.model import Description
from expint.sampling import plan_sampling
from expint.tuning import starts as begin
from expint.tuning.gradients import descended
from expint.tuning.journal import Journal
from expint.tuning.objective import HELD_OUT, SEARCH, Objective
from expint.tuning.parameters import FEW, Numbers, Tunable
from expint.tuning.pathwise import MODES, Paths

ALONG = "along paths"
LEVELS = (0.0, 0.3, 0.5, 0.7, 1.0)  # of ℓ, that the guide's plans are tried with
SHARES = {
    "reference": 0.12, "paths": 0.13, "along": 0.4, "few": 0.15, "choice": 0.06, "held out": 0.12,
    "screening": 0.1,
}  # fmt: skip
NOISE = 1.0  # of the difference of two distances, in floors, at most
Made = Callable[[], Objective]
_TRIALS, _FEW_TRIALS, _GRADIENTS = 4, 40, 160
MOST, MOST_LAST = 3000, 12_000  # samples of a distance in the search, and for a choice
_STEP = torch.tensor([0.4, 0.4, 0.5, -0.25, -0.15], dtype=torch.float64)


class Search:
    """The stages of the search, each within its share of the budget."""

    def __init__(
        self, objective: Made, paths: Callable[[], Paths], size: int, own: bool,
        about: Description, nfe: int, budget: int, bar: Any, journal: Journal, kind: str,
    ) -> None:  # fmt: skip
        self.objective, self.paths, self.size, self.kind = objective, paths, size, kind
        self.own, self.about, self.nfe, self.budget, self.bar = own, about, nfe, budget, bar
        self.journal, self.cost, self.least = journal, 0, math.inf
        self.failures: list[str] = []

    def best(self, starts: list[tuple[str, Tunable]], bounds: tuple[float, float]) -> Plan:
        first = min(max(1.0, bounds[0]), bounds[1])
        entries = [(name, tunable, tunable.start(first)) for name, tunable in starts]
        found, trouble = [], []
        try:
            found = self._along(entries, bounds) if self.size else []
        except FloatingPointError as error:  # of the fine solutions
            trouble = [f"{ALONG}: {error}"]
        if not self.own:
            self._made(self.objective)
        if found:
            ranked = self._ranked(found, self._count("choice", len(found), MOST_LAST))[:4]
        else:
            few = self._count("screening", len(entries))
            ranked = begin.best_of(2, entries, [self._value(entry, few) for entry in entries])
            self._check(self.least, entries)
            ranked += [
                (name, tunable, self._few(name, tunable, numbers, self.objective))
                for name, tunable, numbers in ranked
            ]
        self.failures += trouble
        tried = ranked + self._defaults(starts, bounds, first)
        count = self._count("held out", len(tried) + 1, MOST_LAST)
        values = [self._value(entry, count, HELD_OUT) for entry in tried]
        # What followed the paths is overruled by the law of samples only beyond its noise.
        best = min(range(len(tried)), key=lambda k: values[k] - NOISE * (k < len(found[:4])))
        value, (name, tunable, numbers) = values[best], tried[best]
        self._check(value, tried)
        about: dict[str, Any] = {}
        if not self.cost:  # sampled laws have too much noise for as many numbers
            try:
                refined = descended(self.objective(), tunable, numbers, count, _GRADIENTS)
            except (RuntimeError, TypeError, AttributeError) as error:
                about["gradients"] = f"left out: {str(error).splitlines()[0]}"
            else:
                nearer = self._value((name, tunable, refined), count, HELD_OUT)
                if nearer < value:
                    value, numbers = nearer, refined
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

    def _count(self, stage: str, trials: int, most: int = MOST) -> int:
        """Samples for each of some trials."""
        return int(min(most, max(16, SHARES[stage] * self.budget / (trials * self.nfe))))

    def _made(self, of: Made) -> None:
        """Made now, so that it is paid for; when a search goes on, only when it is needed."""
        self._take(lambda: ([], self.cost + of().cost))

    def _take(self, now: Callable[[], tuple[list[Any], int]]) -> list[Any]:
        before = self.cost
        values, self.cost = self.journal.take(now)
        self.bar.update(self.cost - before)
        return values

    def _measured(self, compute: Callable[[], list[Any]], of: Made) -> list[Any]:
        """What a function finds, or has found, by an objective."""

        def now() -> tuple[list[Any], int]:
            before = of().cost
            return compute(), self.cost + of().cost - before

        return self._take(now)

    def _distance(
        self, plan: Callable[[], Plan], what: str, count: int, part: int,
        of: Made | None = None,
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
        of: Made | None = None,
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
        order = sorted((self._value(entry, count), k) for k, entry in enumerate(entries))
        return [entries[k] for _, k in order]

    def _along(self, starts: list[begin.Entry], bounds: tuple[float, float]) -> list[begin.Entry]:
        """Plans near the paths of the ODE, by all numbers and then by few in law, with several
        ℓ."""
        self._made(self._coupled)
        most = max(entry[1].steps for entry in starts)
        starts = [entry for entry in starts if entry[1].steps == most]  # the most numbers
        size = 2 * min(most, MODES)
        share = (SHARES["along"] + self.own * SHARES["reference"]) * self.budget
        chunks = share / (_TRIALS * (size + 1) * self.nfe)
        least = max(12, 3 * size // self.size)
        count = int(min(200, max(least, chunks / 10)))
        rounds = max(1, min(5, int(chunks / (8 * count))))
        many = min(4, int(chunks / (1.5 * count)))  # solvers that the budget is enough for
        errors = self._measured(
            lambda: [self.paths().error(*entry[1:], count) for entry in starts], self._coupled
        )
        starts = begin.best_of(max(1, many), starts, errors)
        self.bar.set_description(ALONG)
        limit = self.cost + share
        fitted: list[tuple[float, begin.Entry]] = []
        for left in (2, 1) if many else ():
            for _ in range(rounds):
                fitted = [self._nearer(entry, count) for entry in starts]
                starts = [entry for _, entry in fitted]
            starts = begin.best_of(left, starts, [error for error, _ in fitted])
        (entry,), error = starts, math.inf
        while many and self.cost < limit:
            before = error
            error, entry = self._nearer(entry, count)
            if error > 0.98 * before:
                break
        name, tunable, numbers = entry
        few = self._few(name, replace(tunable, bounds=(0.0, 0.0)), numbers, self._coupled)
        levels = sorted({min(max(level, bounds[0]), bounds[1]) for level in LEVELS})
        return [
            (f"{name}, {how}", tunable, each._replace(ells=torch.full_like(each.ells, ell)))
            for how, each in ((ALONG, numbers), (f"{ALONG} and in law", few))
            for ell in levels
        ]

    def _coupled(self) -> Objective:
        return self.paths().objective

    def _nearer(self, entry: begin.Entry, count: int) -> tuple[float, begin.Entry]:
        name, tunable, numbers = entry

        def compute() -> list[Any]:
            error, found = self.paths().nearer(tunable, numbers, count, _TRIALS)
            return [error, *torch.cat(list(found)).tolist()]

        error, *found = self._measured(compute, self._coupled)
        parts = torch.tensor(found, dtype=torch.float64).split([len(part) for part in numbers])
        return error, (name, tunable, Numbers(*parts))

    def _few(self, name: str, tunable: Tunable, start: Numbers, of: Made) -> Numbers:
        """Moved by few numbers, by Nelder and Mead's simplex on one set of samples."""
        count = self._count("few", _FEW_TRIALS)
        free = tunable.free
        self.bar.set_description(f"{tunable.method.name}, {len(free)} numbers")

        def moved(x: Any) -> Numbers:
            by = torch.zeros(FEW, dtype=torch.float64)
            by[free] = torch.as_tensor(x)
            return tunable.moved(start, by)

        def value(x: Any) -> float:
            return min(self._value((name, tunable, moved(x)), count, SEARCH, of), 1e30)

        step = _STEP[free] / (2 if self.size else 1)  # along paths they are nearly right
        corners = torch.cat([torch.zeros(1, len(free)), torch.diag(step)])
        options: Any = {"maxfev": _FEW_TRIALS, "fatol": 0.0, "xatol": 1e-3}
        options["initial_simplex"] = corners.numpy()
        return moved(minimize(value, corners[0].numpy(), method="Nelder-Mead", options=options).x)
