"""What a comparison of samplers found: distances by network evaluations that print as a table, draw
themselves, save as JSON.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from expint.results import MARKERS, Result, Rows, new_figure

_LINES = ("-", "--", "-.", ":")
_MOST = 30.0  # times the median
_LEGEND_LINES = 25  # that find room beside the axes


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

    def figure(self) -> Any:
        """Distance against evaluations used, one line per solver, the floor as a dashed line."""
        columns = 1 + len(self.curves) // _LEGEND_LINES
        figure = new_figure(6.0 + 3.0 * columns, 4.0 + columns)
        axes, first = figure.subplots(), []
        for i, curve in enumerate(self.curves):
            # On logarithmic axes there is no zero.
            pairs = [(point.used, point.distance) for point in curve.points if point.distance]
            first += [distance for _, distance in pairs[:1]]
            axes.loglog(
                *(zip(*pairs, strict=True) if pairs else ([], [])),
                marker=MARKERS[(i + i // 10) % len(MARKERS)],
                color=f"C{i % 10}",
                linestyle=_LINES[i // 10 % len(_LINES)],
                markersize=4,
                linewidth=1.2,
                label=f"{curve.name} ({curve.setting})",
            )
        if first and max(first) > (top := _MOST * median(first)):
            # A solver that diverges at first leaves the picture, so that the others can be
            # distinguished.
            axes.set_ylim(top=top)
        line: dict[str, Any] = {"color": "0.3", "linewidth": 1.0}
        if self.floor:
            axes.axhline(self.floor, linestyle="--", label="floor (samples of the data)", **line)
        elif self.threshold is not None:
            axes.axhline(self.threshold, linestyle=":", label="tolerance", **line)
        axes.set_xticks(self.nfe, [str(n) for n in self.nfe])
        axes.set_xticks([], minor=True)
        axes.grid(visible=True, color="0.9")
        axes.set(axisbelow=True, xlabel="network evaluations", ylabel=self.measure)
        axes.set_title(self.target, fontsize=11)
        # Beside the axes: with all solvers it would cover the lines.
        beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        axes.legend(fontsize=8, frameon=False, ncols=columns, **beside)
        return figure


def _cell(point: QualityPoint) -> str:
    if point.distance is None:
        return "-"
    return f"{point.distance:.3g}" + ("" if point.used == point.nfe else f" @{point.used}")
