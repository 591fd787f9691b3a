"""What a convergence study found: numbers that print as a table, draw themselves and save as
JSON.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from expint.convergence.order_fitting import fitted_order
from expint.solvers import Tableau

__all__ = ["Comparison", "OrderStudy", "order_study", "save_figure", "table_text"]

_NAMES = {
    "strong": "strong order",
    "weak": "weak order",
    "deterministic": "order without noise (ell = 0)",
}


@dataclass(frozen=True)
class OrderStudy:
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
        other_orders: their orders over the same range.
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

    def table(self, *, markdown: bool = False) -> str:
        """Errors by step count, with the fitted order below."""
        rows: list[Sequence[str]] = [
            (
                "steps",
                "evaluations",
                self.measure,
                *(["95 %"] if self.intervals else []),
                *self.others,
            )
        ]
        for i, steps in enumerate(self.steps):
            mark = "" if self.fitted[0] <= i <= self.fitted[1] else " *"
            interval = (
                [f"{self.intervals[i][0]:.3e} to {self.intervals[i][1]:.3e}"]
                if self.intervals
                else []
            )
            others = [f"{values[i]:.3e}" for values in self.others.values()]
            rows.append(
                (
                    str(steps),
                    str(self.evaluations[i]),
                    f"{self.errors[i]:.3e}{mark}",
                    *interval,
                    *others,
                )
            )
        lines = [f"{self.name}, {self.setting}", f"reference: {self.reference}", ""]
        return "\n".join([*lines, table_text(rows, markdown=markdown), "", self.summary()])

    def summary(self) -> str:
        """One line: the fitted order, its interval and range, and what the tableau declares."""
        first, last = self.fitted
        sure = (
            f" ({self.order_interval[0]:.2f} to {self.order_interval[1]:.2f})"
            if self.order_interval
            else ""
        )
        also = "".join(f", {name} {order:.2f}" for name, order in self.other_orders.items())
        left_out = (
            "; errors marked * are not fitted" if (first, last) != (0, len(self.steps) - 1) else ""
        )
        return (
            f"order {self.order:.2f}{sure} between {self.steps[first]} and {self.steps[last]} "
            f"steps{also}; declared {self.declared:g}{left_out}"
        )

    def plot(self, path: str | Path | IO[bytes]) -> None:
        """Draw the errors over the steps into a picture (PNG, SVG or PDF by the suffix of `path`;
        PNG for an open file).
        """
        Comparison((self,)).plot(path)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values; NaN becomes null."""
        return {name: _jsonable(value) for name, value in vars(self).items()}

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


@dataclass(frozen=True)
class Comparison:
    """Studies side by side."""

    studies: tuple[OrderStudy, ...]

    def table(self, *, markdown: bool = False) -> str:
        """One table per kind: an error per solver and step count, and the orders."""
        return "\n\n".join(self._kind_table(kind, markdown) for kind in self.kinds)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the studies, in order of appearance."""
        return tuple(dict.fromkeys(study.kind for study in self.studies))

    def _kind_table(self, kind: str, markdown: bool) -> str:
        chosen = [study for study in self.studies if study.kind == kind]
        steps = sorted({n for study in chosen for n in study.steps})
        rows: list[Sequence[str]] = [
            ("solver", "declared", "order", "95 %", *(f"{n} steps" for n in steps))
        ]
        for study in chosen:
            sure = (
                f"{study.order_interval[0]:.2f} to {study.order_interval[1]:.2f}"
                if study.order_interval
                else "exact"
            )
            errors = dict(zip(study.steps, study.errors, strict=True))
            cells = [f"{errors[n]:.3e}" if n in errors else "" for n in steps]
            rows.append((study.solver, f"{study.declared:g}", f"{study.order:.2f}", sure, *cells))
        head = f"{_NAMES[kind]}: {chosen[0].measure}, {chosen[0].setting}"
        return "\n".join(
            [head, f"reference: {chosen[0].reference}", "", table_text(rows, markdown=markdown)]
        )

    def plot(self, path: str | Path | IO[bytes], kind: str | None = None) -> None:
        """Draw the errors over the steps, one panel per kind of study, into a picture.

        Args:
            path: of the picture, or an open file.
            kind: "png", "svg" or "pdf"; default: the suffix of the path, else PNG.
        """
        figure = _figure(len(self.kinds))
        for axes, panel in zip(figure.axes, self.kinds, strict=True):
            _draw(axes, panel, [study for study in self.studies if study.kind == panel])
        save_figure(figure, path, kind)

    def to_dict(self) -> dict[str, Any]:
        """The studies as JSON-able values."""
        return {"studies": [study.to_dict() for study in self.studies]}

    def to_json(self) -> str:
        """The studies as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def order_study(
    kind: str,
    tableau: Tableau,
    errors: Sequence[float],
    fitted: tuple[int, int],
    *,
    steps: Sequence[int],
    others: Mapping[str, tuple[float, ...]] | None = None,
    sure: tuple[Any, Any] = (None, None),
    **described: Any,
) -> OrderStudy:
    """The study that these errors make: fits the orders; `sure` is what `order_fitting.bootstrap`
    gives.
    """
    part = slice(fitted[0], fitted[1] + 1)
    return OrderStudy(
        kind=kind,
        solver=tableau.name,
        steps=tuple(steps),
        evaluations=tuple(tableau.evaluations_in(n) for n in steps),
        errors=tuple(errors),
        fitted=fitted,
        order=fitted_order(steps[part], errors[part]),
        intervals=sure[0],
        order_interval=sure[1],
        others=others or {},
        other_orders={
            name: fitted_order(steps[part], values[part]) for name, values in (others or {}).items()
        },
        **described,
    )


def table_text(rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Rows of cells as aligned text, or as a Markdown table; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    if not markdown:
        return "\n".join("  ".join(row).rstrip() for row in aligned)
    lines = ["| " + " | ".join(row) + " |" for row in aligned]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )


def _figure(panels: int) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'expint[plot]'.") from error
    # A Figure by itself draws with Agg: no window and no global state.
    figure = Figure(figsize=(5.2 * panels + 0.6, 4.4), layout="constrained")
    figure.subplots(1, panels, squeeze=False)
    return figure


def save_figure(figure: Any, path: str | Path | IO[bytes], kind: str | None = None) -> None:
    """Write a figure, as what `kind` says or the suffix of a path, else as PNG."""
    if kind is None:
        kind = Path(path).suffix.lstrip(".").lower() if isinstance(path, (str, Path)) else ""
    figure.savefig(path, format=kind or "png", dpi=120)


_MARKERS = "os^Dv<>p*h"


def _draw(axes: Any, kind: str, studies: Sequence[OrderStudy]) -> None:
    for i, study in enumerate(studies):
        first, last = study.fitted
        label = f"{study.solver}: {study.order:.2f}"
        color = f"C{i % 10}"
        axes.loglog(
            study.steps,
            study.errors,
            _MARKERS[i % len(_MARKERS)],
            markersize=5,
            color=color,
            label=label,
        )
        if study.intervals:
            axes.fill_between(
                study.steps,
                *zip(*study.intervals, strict=True),
                color=color,
                alpha=0.2,
                linewidth=0,
            )
        ends = (study.steps[first], study.steps[last])
        fitted = range(first, last + 1)
        constant = sum(
            math.log(study.errors[j]) + study.order * math.log(study.steps[j]) for j in fitted
        ) / len(fitted)
        fit = [math.exp(constant - study.order * math.log(n)) for n in ends]
        axes.loglog(ends, fit, "-", color=color, linewidth=1.2)
    steps = sorted({n for study in studies for n in study.steps})
    axes.set_xticks(steps, [str(n) for n in steps])
    axes.minorticks_off()
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlabel("steps")
    axes.set_ylabel(studies[0].measure)
    axes.set_title(_NAMES[kind], fontsize=11)
    axes.legend(title="solver: fitted order", fontsize=9, title_fontsize=9)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _jsonable(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
