"""What a convergence study found: errors by step count and the order that they show."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import geometric_mean
from textwrap import fill
from typing import Any

from torch import Tensor

from expint.convergence.order_fitting import asymptotic_range, bootstrap, fitted_order
from expint.convergence.problem import Problem, SemiLinearProblem
from expint.numerics.float64 import as_float64
from expint.results import MARKERS, Result, Rows, new_figure
from expint.solvers import Method

SPREADS = {"deterministic": 0.1, "weak": 0.05, "strong": 0.15}
"""By how much local orders may differ in the range that is fitted, by kind of study. Weak ones are
those on Gaussian data, where nothing is sampled.
"""
_NAMES = {
    "strong": "strong order",
    "weak": "weak order",
    "deterministic": "order without noise (ell = 0)",
}


@dataclass(frozen=True)
class OrderStudy(Result):
    """Errors of one solver at several step counts, and the order that they show.

    Attributes:
        kind: "strong", "weak" or "deterministic".
        solver: its name.
        declared: the order that the tableau has by the algebraic conditions.
        setting: equation, target and grid, in words.
        measure: what the errors are, in words.
        reference: what they are measured against, in words.
        steps, evaluations: steps, and network evaluations, of each run.
        errors: one per step count.
        fitted: (first, last) index of the errors that the order is fitted to: the asymptotic range
            that the study found.
        order: fitted order.
        intervals, order_interval: 95 % bootstrap intervals over the paths; None where nothing is
            random.
        floors: what the reference and the number of paths resolve; errors below are not fitted.
        others: further errors by name, for example the supremum over the grid.
        other_orders: orders over the same range of those of them that have one.
    """

    kind: str
    solver: str
    declared: float
    setting: str
    measure: str
    reference: str
    steps: tuple[int, ...]
    evaluations: tuple[int, ...]
    errors: tuple[float, ...]
    fitted: tuple[int, int]
    order: float
    intervals: tuple[tuple[float, float], ...] | None = None
    order_interval: tuple[float, float] | None = None
    floors: tuple[float, ...] | None = None
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    other_orders: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Kind and solver."""
        return f"{_NAMES[self.kind]} of {self.solver}"

    @property
    def fitted_steps(self) -> tuple[int, int]:
        """Least and largest step count that the order is fitted to."""
        return self.steps[self.fitted[0]], self.steps[self.fitted[1]]

    def blocks(self) -> Iterator[str | Rows]:
        """Errors by step count, with the fitted order below."""
        first, last = self.fitted
        marks = ("" if first <= i <= last else " *" for i in range(len(self.steps)))
        columns: dict[str, Sequence[str]] = {
            "steps": [str(n) for n in self.steps],
            "evaluations": [str(n) for n in self.evaluations],
            self.measure: [f"{e:.3e}{m}" for e, m in zip(self.errors, marks, strict=True)],
        }
        if self.intervals:
            columns["95 %"] = [_between(interval, ".3e") for interval in self.intervals]
        for name, values in self.others.items():
            columns[name] = [f"{value:.3e}" for value in values]
        yield f"{self.name}, {self.setting}"
        yield f"reference: {self.reference}"
        yield ""
        yield [tuple(columns), *zip(*columns.values(), strict=True)]
        yield ""
        yield self.summary()

    def summary(self) -> str:
        """One line: the fitted order, its interval and range, and what the tableau declares."""
        interval = f" ({_between(self.order_interval)})" if self.order_interval else ""
        also = "".join(f", {name} {order:.2f}" for name, order in self.other_orders.items())
        whole = self.fitted == (0, len(self.steps) - 1)
        first, last = self.fitted_steps
        return (
            f"order {self.order:.2f}{interval} between {first} and {last} steps{also}; declared "
            f"{self.declared:g}{'' if whole else '; errors marked * are not fitted'}"
        )

    def figure(self) -> Any:
        """Errors over the steps."""
        return Comparison((self,)).figure()


@dataclass(frozen=True)
class Comparison(Result):
    """Studies side by side."""

    studies: tuple[OrderStudy, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the studies, in order of appearance."""
        return tuple(dict.fromkeys(study.kind for study in self.studies))

    def of_kind(self, kind: str) -> tuple[list[OrderStudy], list[int]]:
        """The studies of one kind, and their step counts."""
        chosen = [study for study in self.studies if study.kind == kind]
        return chosen, sorted({n for study in chosen for n in study.steps})

    def blocks(self) -> Iterator[str | Rows]:
        """One table per kind: an error per solver and step count, and the orders."""
        for kind in self.kinds:
            if kind != self.kinds[0]:
                yield ""
            chosen, steps = self.of_kind(kind)
            sampled = any("median" in study.other_orders for study in chosen)
            names = ("solver", "declared", "order", "95 %", *(("median",) if sampled else ()))
            rows: list[tuple[str, ...]] = [(*names, *(f"{n} steps" for n in steps))]
            for study in chosen:
                interval = _between(study.order_interval) if study.order_interval else "exact"
                errors = dict(zip(study.steps, study.errors, strict=True))
                cells = [f"{errors[n]:.3e}" if n in errors else "" for n in steps]
                orders = (f"{study.declared:g}", f"{study.order:.2f}", interval)
                orders += (f"{study.other_orders['median']:.2f}",) if sampled else ()
                rows.append((study.solver, *orders, *cells))
            yield f"{_NAMES[kind]}: {chosen[0].measure}, {chosen[0].setting}"
            yield f"reference: {chosen[0].reference}"
            yield ""
            yield rows

    def figure(self) -> Any:
        """Errors over the steps, one panel per kind of study."""
        figure = new_figure(5.2 * len(self.kinds) + 0.6, 4.4)
        panels = figure.subplots(1, len(self.kinds), squeeze=False)[0]
        for axes, kind in zip(panels, self.kinds, strict=True):
            chosen, steps = self.of_kind(kind)
            for i, study in enumerate(chosen):
                _draw(axes, study, f"C{i % 10}", MARKERS[i % len(MARKERS)])
            axes.set_xticks(steps, [str(n) for n in steps])
            axes.minorticks_off()
            axes.grid(visible=True, color="0.9")
            axes.set(axisbelow=True, xlabel="steps", ylabel=chosen[0].measure)
            title = (_NAMES[kind], fill(chosen[0].setting, 80))
            axes.set_title("\n".join(filter(None, title)), fontsize=9)
            for order in sorted({study.declared for study in chosen}):  # slopes below their studies
                least = min(study.errors[0] for study in chosen if study.declared == order)
                line = [0.6 * least * (steps[0] / n) ** order for n in steps]
                axes.plot(steps, line, color="0.7", linestyle="--", zorder=0)
                axes.annotate(f"{order:g}", (steps[-1], line[-1]), color="0.5", fontsize=8)
            axes.legend(title="solver: fitted order", fontsize=9, title_fontsize=9)
        return figure


def order_study(
    kind: str,
    method: Method,
    problem: Problem | SemiLinearProblem,
    steps: Sequence[int],
    values: Tensor,
    statistic: Callable[[Tensor], Tensor],
    floors: Tensor | float,
    *,
    declared: Any,
    measure: str,
    reference: str,
    spread: float | None = None,
    seed: int | None = None,
    others: Mapping[str, Tensor] | None = None,
    fit_others: bool = True,
) -> OrderStudy:
    """The study that these errors make: finds the asymptotic range and fits the orders.

    Args:
        values, statistic: values per path, shape (steps, paths, ...), and what makes the errors of
            them, shape (steps,).
        floors: shape (steps,), or one for all.
        seed: of the resampling of the paths; None where nothing is random.
        others, fit_others: further errors, and whether they have an order.
    """
    errors, more = statistic(values), others or {}
    listed = errors.tolist()
    limits = as_float64(floors).expand(len(listed)).tolist()
    fitted = asymptotic_range(steps, listed, limits, spread or SPREADS[kind])
    part = slice(fitted[0], fitted[1] + 1)
    intervals, interval = None, None
    if seed is not None:
        intervals, interval = bootstrap(statistic, values, steps, fitted, seed)
    return OrderStudy(
        kind,
        method.name,
        float(declared),
        str(problem),
        measure,
        reference,
        tuple(steps),
        tuple(method.evaluations_in(n) for n in steps),
        tuple(listed),
        fitted,
        fitted_order(steps[part], errors[part]),
        intervals,
        interval,
        tuple(limits),
        {name: tuple(values.tolist()) for name, values in more.items()},
        {name: fitted_order(steps[part], more[name][part]) for name in more if fit_others},
    )


def _between(interval: tuple[float, float], form: str = ".2f") -> str:
    low, high = interval
    return f"{low:{form}} to {high:{form}}"


def _draw(axes: Any, study: OrderStudy, color: str, marker: str) -> None:
    """Markers for the errors, a band for their intervals, and the fitted power law."""
    label = f"{study.solver}: {study.order:.2f}"
    axes.loglog(study.steps, study.errors, marker, markersize=5, color=color, label=label)
    if study.intervals:
        band = zip(*study.intervals, strict=True)
        axes.fill_between(study.steps, *band, color=color, alpha=0.2, linewidth=0)
    part = slice(study.fitted[0], study.fitted[1] + 1)
    n, error = geometric_mean(study.steps[part]), geometric_mean(study.errors[part])
    fit = [error * (end / n) ** -study.order for end in study.fitted_steps]
    axes.loglog(study.fitted_steps, fit, "-", color=color, linewidth=1.2)
