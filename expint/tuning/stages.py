"""The stages of the search for a plan."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from scipy.optimize import minimize

from expint.plans import Plan
from expint.runs.model import Description
from expint.sampling import plan_sampling
from expint.tuning import starts as begin
from expint.tuning.gradients import descended
from expint.tuning.journal import Journal
from expint.tuning.network_grids import network_starts, times_from_paths
from expint.tuning.objective import HELD_OUT, SEARCH, Objective
from expint.tuning.pairs import LEAST, MOST, MOST_LAST, SCREENS, SHARES, ell_of, levels_of, price
from expint.tuning.parameters import FEW, Numbers, Tunable
from expint.tuning.pathwise import MODES, Paths
from expint.tuning.starts import Entry

ALONG, LAW = "along paths", " and in law"
NOISE = 1.0  # of the difference of two distances, in floors, at most
Made = Callable[[], Objective]
_TRIALS, _FEW_TRIALS, _GRADIENTS = 4, 40, 160
_STEP = torch.tensor([0.4, 0.4, 0.5, -0.25, -0.15], dtype=torch.float64)


class Search:
    """The stages of the search, each within its share of the budget."""

    def __init__(
        self, objective: Made, paths: Callable[[], Paths], counts: dict[int, int], size: int,
        own: bool, about: Description, nfe: int, budget: int, bar: Any, journal: Journal,
        kind: type[Objective],
    ) -> None:  # fmt: skip
        self.objective, self.paths, self.counts, self.size = objective, paths, counts, size
        self.own, self.about, self.nfe, self.budget, self.bar = own, about, nfe, budget, bar
        self.journal, self.kind, self.cost, self.least = journal, kind, 0, math.inf
        self.failures: list[str] = []

    def best(self, starts: list[tuple[str, Tunable]], bounds: tuple[float, float]) -> Plan:
        first = min(max(1.0, bounds[0]), bounds[1])
        if self.size:
            starts = [*starts, *network_starts(starts, self._times)]
        entries = [(name, tunable, tunable.start(first)) for name, tunable in starts]
        fixed = [_at(first, entry) for entry in entries if entry[0].endswith(begin.AS_THEY_ARE)]
        own = self._default_plan()
        ell, name = ell_of(own), f"{own.solver}, {begin.AS_THEY_ARE[0]}"
        default = [_at(ell, e) for e in fixed if e[0] == name and bounds[0] <= ell <= bounds[1]]
        by, trouble, paired = self.objective, [], False
        if self.size:
            try:
                entries = self._along(entries, bounds) + fixed
                by, paired = self.paths, True
            except FloatingPointError as error:  # of the fine solutions
                trouble = [f"{ALONG}: {error}"]
        if not self.own:  # made now, so that it is paid for; in a replay only when it is needed
            self._take(lambda: ([], self.cost + self.objective().cost))
        if paired:
            for share, kept in SCREENS:
                values = self._values(entries, self.counts[SEARCH] // share, SEARCH, by)
                priced = [v + price(e, first) for v, e in zip(values, entries, strict=True)]
                entries = begin.nearest_of(entries, priced)[:kept]
            other = [entry for entry in entries if entry[1].bounds != entries[0][1].bounds]
            two = [entries[0], *other[:1]]
            ranked = [*map(self._in_law, two), *two, *(e for e in entries[1:3] if e not in two)]
        else:
            values = self._values(entries, self._count("screening", len(entries)), SEARCH, by)
            few = self._count("few", 2 * _FEW_TRIALS)
            ranked = begin.best_of(2, entries, values)
            ranked += [(n, t, self._few(n, t, numbers, by, few)) for n, t, numbers in ranked]
        self.failures += trouble
        tried = ranked + default
        count = self._count("held out", len(tried) + 1, MOST_LAST)
        if self.own:
            count = self.counts[HELD_OUT]
            ells = {ell, *(tunable.bounds[0] for _, tunable, _ in tried)}
            self._take(lambda: ([], self.cost + self.paths().prepare(ells, HELD_OUT)))
        values = self._values(tried, count, HELD_OUT)
        # What was found by pairs is overruled by the law of samples only beyond its noise.
        rule = NOISE * (paired and not self.own)
        each = zip(values, tried, strict=True)
        led = [v + price(e, first) * self.own - rule * (ALONG in e[0]) for v, e in each]
        best = min(range(len(tried)), key=led.__getitem__)
        value, (name, tunable, numbers) = values[best], tried[best]
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
        plan, usual = tunable.plan(numbers), (self._default_plan, "the default plan")
        about |= {
            "begun with": name, "distance": value, "samples": count, "NFE": plan.nfe,
            "distance of the default plan": self._distance(*usual, count, HELD_OUT, None),
            "evaluations": self.cost, "objective": self.kind.__name__,
        }  # fmt: skip
        if self.failures:
            about["failed"] = f"{len(self.failures)} trials, the first: {self.failures[0]}"
        return replace(plan, about=about)

    def _values(self, entries: list[Entry], count: int, *how: Any) -> list[float]:
        values = [self._value(entry, count, *how) for entry in entries]
        if not math.isfinite(min(values)):
            raise FloatingPointError(
                f"No plan of {entries[0][1].method.name!r} with {self.nfe} evaluations gives a "
                f"finite distance: look at the model's output. The first: {self.failures[0]}"
            )
        return values

    def _count(self, stage: str, trials: int, most: int = MOST) -> int:
        """Samples for each of some trials."""
        return int(min(most, max(LEAST, SHARES[stage] * self.budget / (trials * self.nfe))))

    def _times(self, grid: str, steps: int) -> list[float]:
        made = partial(times_from_paths, grid, steps, SHARES["grids"] * self.budget)
        return self._measured(lambda: made(self.paths()), self.paths)

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

    def _distance(self, plan: Any, what: str, count: int, part: int, of: Made | None) -> float:
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
        elif value < self.least:
            self.least = value
            self.bar.set_postfix(distance=f"{value:.4g}")
        return value

    def _value(self, entry: Entry, count: int, part: int, of: Made | None = None) -> float:
        name, tunable, numbers = entry
        values = (f"{k} {[round(v, 3) for v in part.tolist()]}" for k, part in
                  zip(Numbers._fields, numbers, strict=True))  # fmt: skip
        what = f"{name}, {', '.join(values)}"
        return self._distance(partial(tunable.plan, numbers), what, count, part, of)

    def _default_plan(self) -> Plan:
        """What is run without tuning."""
        about = self.about
        how: Any = {"sigma_data": about.sigma_data, "round_time": about.round_time}
        return plan_sampling(about.schedule, nfe=self.nfe, **how)

    def _along(self, starts: list[Entry], bounds: tuple[float, float]) -> list[Entry]:
        """Plans near the paths of the ODE, by all numbers, with several ℓ."""
        levels = levels_of(bounds)
        self._take(lambda: ([], self.cost + self.paths().prepare({0.0, *levels}, SEARCH)))
        most = max(entry[1].steps for entry in starts)
        starts = [_at(0.0, entry) for entry in starts if entry[1].steps == most]
        size = 2 * min(most, MODES)
        share = SHARES["along"] * self.budget
        chunks = share / (_TRIALS * (size + 1) * self.nfe)
        least = max(12, 3 * size // self.size)
        count = int(min(200, self.counts[SEARCH], max(least, chunks / 10)))
        rounds = max(1, min(5, int(chunks / (8 * count))))
        many = min(4, int(chunks / (1.5 * count)))  # solvers that the budget is enough for
        limit, fits = self.cost + share, self.paths
        far = self._measured(lambda: [fits().error(*e[1:], count) for e in starts], fits)
        starts = begin.best_of(max(1, many), starts, far)
        self.bar.set_description(ALONG)
        fitted: list[tuple[float, Entry]] = []
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
        return [_at(ell, (f"{entry[0]}, {ALONG}", *entry[1:])) for ell in levels]

    def _in_law(self, entry: Entry) -> Entry:
        """An entry moved by few numbers, with its ℓ, beside solutions."""
        name, tunable, numbers = entry
        count = int(SHARES["few"] * self.budget / (2 * _FEW_TRIALS * self.nfe))
        if count < LEAST:
            return entry
        moved = self._few(name, tunable, numbers, self.paths, min(count, self.counts[SEARCH]))
        return f"{name.removesuffix(LAW)}{LAW}", tunable, moved

    def _nearer(self, entry: Entry, count: int) -> tuple[float, Entry]:
        name, tunable, numbers = entry

        def compute() -> list[Any]:
            error, found = self.paths().nearer(tunable, numbers, count, _TRIALS)
            return [error, *torch.cat(list(found)).tolist()]

        error, *found = self._measured(compute, self.paths)
        parts = torch.tensor(found, dtype=torch.float64).split([len(part) for part in numbers])
        return error, (name, tunable, Numbers(*parts))

    def _few(self, name: str, tunable: Tunable, start: Numbers, of: Made, count: int) -> Numbers:
        """Moved by few numbers, by Nelder and Mead's simplex on one set of samples."""
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


def _at(ell: float, entry: Entry) -> Entry:
    name, tunable, numbers = entry
    held = replace(tunable, bounds=(ell, ell))
    return name, held, numbers._replace(ells=torch.full_like(numbers.ells, ell))
