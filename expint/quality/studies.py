"""What a comparison of samplers found: distances by network evaluations that print as a table, draw
themselves, save as JSON.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from expint.results import MARKERS, Result, Rows, new_figure

NAMED = 8
"""Curves that a picture names."""
_MOST = 30.0  # times the median
_COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C9")  # without the grey one


@dataclass(frozen=True)
class QualityPoint:
    """One run of one solver.

    Attributes:
        nfe: network evaluations that were allowed.
        used: those that the plan takes, at most `nfe`; None if there is no plan.
        steps: of the grid, None likewise.
        distance: of the output from the data; None for a gap.
        reason: why there is a gap, else None.
    """

    nfe: int
    used: int | None = None
    steps: int | None = None
    distance: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class QualityCurve:
    """One solver at all numbers of evaluations.

    Attributes:
        name: of the solver, or the label that it was given.
        solver: name of its tableau.
        setting: form and stochasticity, in words.
        points: one per number of evaluations.
        reached: the least number of evaluations allowed whose distance is at most the study's
            threshold, or None.
    """

    name: str
    solver: str
    setting: str
    points: tuple[QualityPoint, ...]
    reached: int | None = None

    @property
    def title(self) -> str:
        """Name and setting."""
        return f"{self.name} ({self.setting})"

    def drawn(self) -> tuple[list[int], list[float]]:
        """Evaluations used and distances, without gaps and, as the axes are logarithmic, zeros."""
        pairs = [(p.used, p.distance) for p in self.points if p.used and p.distance]
        return [used for used, _ in pairs], [distance for _, distance in pairs]

    def at(self, nfe: int) -> QualityPoint:
        """The point for `nfe` allowed evaluations; a KeyError if that was not studied."""
        for point in self.points:
            if point.nfe == nfe:
                return point
        raise KeyError(nfe)


@dataclass(frozen=True)
class QualityStudy(Result):
    """Solvers side by side.

    Attributes:
        target: what was sampled, in words.
        measure: what the distances are, in words.
        nfe: numbers of evaluations, increasing.
        curves: one per solver.
        floor: what exact samples reach: 0 for exact distances, None if nothing is known.
        threshold: the distance that counts as the floor, or None.
        settings: n, repeats, grid, final, seed and the like, as JSON can hold them.
    """

    target: str
    measure: str
    nfe: tuple[int, ...]
    curves: tuple[QualityCurve, ...]
    floor: float | None
    threshold: float | None
    settings: Mapping[str, Any]

    def curve(self, name: str) -> QualityCurve:
        """The curve called `name`; a KeyError if there is none."""
        for curve in self.curves:
            if curve.name == name:
                return curve
        raise KeyError(name)

    def best(self, nfe: int) -> QualityCurve | None:
        """The curve of the least distance at `nfe` allowed evaluations; None if all have a gap
        there.
        """
        found = [curve for curve in self.curves if curve.at(nfe).distance is not None]
        return min(found, key=lambda curve: curve.at(nfe).distance or 0.0, default=None)

    def blocks(self) -> Iterator[str | Rows]:
        """Distances by solver and evaluations allowed; `@` gives the evaluations used where they
        are fewer, `-` is a gap.
        """
        rows = [("solver", "setting", *(f"NFE {n}" for n in self.nfe), "to floor")]
        for curve in self.curves:
            reached = f"NFE {curve.reached}" if curve.reached else "not reached"
            end = "" if self.threshold is None else reached
            rows.append((curve.name, curve.setting, *map(_cell, curve.points), end))
        given = {name: value for name, value in self.settings.items() if value is not None}
        yield f"{self.target}: {self.measure}"
        yield ", ".join(f"{name}={value}" for name, value in given.items())
        yield ""
        yield rows
        below = [f"floor {self.floor:.4g} (samples of the data)"] if self.floor else []
        if self.threshold is not None:
            below.append(f"reached at a distance of at most {self.threshold:.4g}")
        if below:
            yield ""
            yield ", ".join(below)

    def leading(self, most: int = NAMED) -> list[QualityCurve]:
        """The curves that a picture names: the best at each number of evaluations, then the second
        best, and so on; in the order of their distance at the most evaluations.
        """
        ranked = self._ranked()
        found = {
            curve.name: curve
            for place in range(len(self.curves))
            for order in ranked
            for curve, _ in order[place : place + 1]
        }
        chosen = list(found.values())[:most]
        last = [curve for curve, _ in ranked[-1]]
        return sorted(chosen, key=lambda c: last.index(c) if c in last else len(last))

    def _ranked(self) -> list[list[tuple[QualityCurve, QualityPoint]]]:
        """For each number of evaluations the curves with a distance there, the least first."""
        pairs = [(curve, p) for curve in self.curves for p in curve.points if p.distance]
        return [
            sorted(
                (pair for pair in pairs if pair[1].nfe == n),
                key=lambda pair: pair[1].distance or 0.0,
            )
            for n in self.nfe
        ]

    def figure(self) -> Any:
        """Distance against evaluations used. The curves that lead at some number of evaluations are
        coloured and named, the others are grey; below all of them lies the frontier, the least
        distance at each number, and the floor is a dashed line.
        """
        figure = new_figure(9.5, 5.0)
        axes, leading = figure.subplots(), self.leading()
        others = [curve for curve in self.curves if curve not in leading]
        for i, curve in enumerate(leading):
            # Narrower one by one: some of them lie on each other.
            style = {"marker": MARKERS[i % len(MARKERS)], "markersize": 8 - i / 2}
            style |= {"linewidth": 3.0 - 0.25 * i, "zorder": 3}
            axes.plot(*curve.drawn(), color=_COLOURS[i % len(_COLOURS)], label=curve.title, **style)
        grey: dict[str, Any] = {"color": "0.8", "linewidth": 0.8, "zorder": 1}
        for i, curve in enumerate(others):
            label = f"{len(others)} other{'s' if len(others) > 1 else ''}"
            axes.plot(*curve.drawn(), **grey, label=label if i == 0 else None)
        frontier = [order[0][1] for order in self._ranked() if order]
        if len(self.curves) > 1 and frontier:
            band = {"color": "gold", "alpha": 0.6, "linewidth": 8.0, "solid_capstyle": "round"}
            places = [p.used for p in frontier], [p.distance for p in frontier]
            axes.plot(*places, **band, zorder=2, label="frontier")
        line: dict[str, Any] = {"color": "0.3", "linewidth": 1.0}
        if self.floor:
            axes.axhline(self.floor, linestyle="--", label="floor (samples of the data)", **line)
        elif self.threshold is not None:
            axes.axhline(self.threshold, linestyle=":", label="tolerance", **line)
        axes.set(xscale="log", yscale="log", axisbelow=True)
        first = [distances[0] for curve in self.curves if (distances := curve.drawn()[1])]
        if first and max(first) > (top := _MOST * median(first)):
            # A solver that diverges at first leaves the picture, so that the others can be
            # distinguished.
            axes.set_ylim(top=top)
        used = [n for curve in leading for n in curve.drawn()[0]]
        if used:
            axes.set_xlim(0.85 * min(used), 1.15 * max(used))
        axes.set_xticks(self.nfe, [str(n) for n in self.nfe])
        axes.set_xticks([], minor=True)
        axes.grid(visible=True, color="0.9")
        axes.set(xlabel="network evaluations", ylabel=self.measure)
        schedule = self.settings.get("schedule")
        axes.set_title(f"{self.target}, {schedule}" if schedule else self.target, fontsize=11)
        # Beside the axes: over them it would cover the lines.
        beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        axes.legend(fontsize=8, frameon=False, **beside)
        return figure


def _cell(point: QualityPoint) -> str:
    if point.distance is None:
        return "-"
    return f"{point.distance:.3g}" + ("" if point.used == point.nfe else f" @{point.used}")
