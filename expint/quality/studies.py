"""What a comparison of samplers found: distances by network evaluations that print as a table, draw
themselves, save as JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

from expint.convergence.studies import save_figure, table_text

__all__ = ["QualityCurve", "QualityPoint", "QualityStudy"]

_MARKERS = "os^Dv<>p*h"
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
class QualityStudy:
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
        found = [
            (point.distance, i)
            for i, curve in enumerate(self.curves)
            if (point := curve.at(nfe)).distance is not None
        ]
        return self.curves[min(found)[1]] if found else None

    def table(self, *, markdown: bool = False) -> str:
        """Distances by solver and evaluations allowed; `@` tells the evaluations used where they
        are fewer, `-` is a gap.
        """
        rows = [("solver", "setting", *(f"NFE {n}" for n in self.nfe), "to floor")]
        for curve in self.curves:
            end = (
                ""
                if self.threshold is None
                else f"NFE {curve.reached}"
                if curve.reached
                else "not reached"
            )
            rows.append((curve.name, curve.setting, *map(_cell, curve.points), end))
        settings = ", ".join(
            f"{name}={value}" for name, value in self.settings.items() if value is not None
        )
        lines = [
            f"{self.target}: {self.measure}",
            settings,
            "",
            table_text(rows, markdown=markdown),
        ]
        if (below := self._below()) is not None:
            lines += ["", below]
        return "\n".join(lines)

    def _below(self) -> str | None:
        floor = None if not self.floor else f"floor {self.floor:.4g} (samples of the data)"
        threshold = (
            None
            if self.threshold is None
            else f"reached at a distance of at most {self.threshold:.4g}"
        )
        return ", ".join(filter(None, (floor, threshold))) or None

    def plot(self, path: str | Path | IO[bytes], kind: str | None = None) -> None:
        """Draw distance against evaluations used, one line per solver, the floor as a dashed line,
        into a picture.

        Args:
            path: of the picture, or an open file.
            kind: "png", "svg" or "pdf"; default: the suffix of the path, else PNG.

        Raises:
            ImportError: if matplotlib is not there.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("Pictures need matplotlib: pip install 'expint[plot]'.") from error
        # A Figure by itself draws with Agg: no window and no global state.
        figure = Figure(
            figsize=(6.0 + 3.0 * self._columns, 4.0 + self._columns), layout="constrained"
        )
        self._draw(figure.subplots())
        save_figure(figure, path, kind)

    @property
    def _columns(self) -> int:
        """Columns of the legend."""
        return 1 + len(self.curves) // _LEGEND_LINES

    def _draw(self, axes: Any) -> None:
        for i, curve in enumerate(self.curves):
            # On logarithmic axes there is no zero.
            pairs = [(point.used, point.distance) for point in curve.points if point.distance]
            style = {
                "marker": _MARKERS[(i + i // 10) % len(_MARKERS)],
                "color": f"C{i % 10}",
                "linestyle": _LINES[i // 10 % len(_LINES)],
            }
            label = f"{curve.name} ({curve.setting})"
            axes.loglog(
                *(zip(*pairs, strict=True) if pairs else ([], [])),
                markersize=4,
                linewidth=1.2,
                label=label,
                **style,
            )
        first = [
            distance
            for curve in self.curves
            if (distance := next((p.distance for p in curve.points if p.distance), None))
        ]
        if first and max(first) > (top := _MOST * median(first)):
            axes.set_ylim(
                top=top
                # a solver that diverges at first leaves the picture, so that the others can be told
                # apart
            )
        if self.floor:
            axes.axhline(
                self.floor,
                color="0.3",
                linestyle="--",
                linewidth=1.0,
                label="floor (samples of the data)",
            )
        elif self.threshold is not None:
            axes.axhline(
                self.threshold, color="0.3", linestyle=":", linewidth=1.0, label="tolerance"
            )
        axes.set_xticks(self.nfe, [str(n) for n in self.nfe])
        axes.set_xticks([], minor=True)
        axes.grid(visible=True, color="0.9")
        axes.set_axisbelow(True)
        axes.set_xlabel("network evaluations")
        axes.set_ylabel(self.measure)
        axes.set_title(self.target, fontsize=11)
        # Beside the axes: with all solvers it would cover the lines.
        axes.legend(
            fontsize=8,
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            frameon=False,
            ncols=self._columns,
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values."""
        curves = [
            {**vars(curve), "points": [dict(vars(point)) for point in curve.points]}
            for curve in self.curves
        ]
        return {
            **vars(self),
            "nfe": list(self.nfe),
            "settings": dict(self.settings),
            "curves": curves,
        }

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def _cell(point: QualityPoint) -> str:
    if point.distance is None:
        return "-"
    return f"{point.distance:.3g}" + ("" if point.used == point.nfe else f" @{point.used}")
