"""Tables and pictures of the figures that benchmarks/tuned.py measured."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mmse_grids
import torch
from torch import Tensor
from torch.nn import functional

import expint
from expint import grids
from expint.results import new_figure, save_figure, table_text

DOCS = Path(__file__).parent.parent / "docs"
PAGE, IMAGES = DOCS / "choose-a-plan.md", DOCS / "img"
BEGIN, END = "<!-- figures: python benchmarks/tuned.py --page -->\n\n", "\n<!-- end -->"
FINE = {"stochastic": "seeds-3", "deterministic": "unipc-3"}
GRIDS = ("KLUB", "GITS", "OSS", "DMN", "Align Your Steps")
QUALITY, SAMPLES, LEVELS = "tuned-quality.png", "tuned-samples.png", "tuned-grids.png"
PICTURES = {
    QUALITY: "Distance against evaluations: tuned, best fixed and default plans, and the floor",
    SAMPLES: "Samples of the same noise at 5 and 10 evaluations, default and tuned, and fine ones",
    LEVELS: "The mmse curve, and the noise levels of ten evaluations of fixed and tuned grids",
}
COLORS = {"stochastic": "C0", "deterministic": "C1"}


def read(file: Path) -> dict[str, Any]:
    """The figures that there are."""
    return json.loads(file.read_text()) if file.exists() else {}


def default_solver(kind: str, nfe: int | str) -> str:
    """That of a kind, by the one rule."""
    return expint.defaults.solver(int(nfe), shared=True, stochastic=kind == "stochastic")


def default_label(kind: str, nfe: int | str) -> str:
    """The name of the default plan of a kind."""
    return f"{default_solver(kind, nfe)}, default grid"


def noise(figures: Sequence[float]) -> float:
    """Standard error of the distance, from those of single runs; 0 where it is exact."""
    single = figures[1:]
    return statistics.stdev(single) / math.sqrt(len(single)) if len(single) > 1 else 0.0


def cell(found: dict[str, Any], label: str = "") -> str:
    """A figure with its noise, and what it is of."""
    values = found.get("figures")
    if not values:
        return "–"
    text = (
        "~" * ("quarter" in found)
        + f"{values[0]:.3g}"
        + (f" ± {noise(values):.1g}" if noise(values) else "")
    )
    if "weights" in found:
        text += f"; {found['weights']:.2g}; {found['width']:.3g}"
    return f"{text} ({label})" if label else text


def best(plans: dict[str, Any], grid: str) -> tuple[dict[str, Any], str]:
    """The best plan on a grid, and its solver."""
    own = [
        (found["figures"][0], label.removesuffix(f", {grid}"))
        for label, found in plans.items()
        if label.endswith(f", {grid}") and found.get("figures")
    ]
    if not own:
        return {}, ""
    solver = min(own)[1]
    return plans[f"{solver}, {grid}"], f"`{solver}`"


def best_labels(plans: dict[str, Any], count: int) -> list[str]:
    """The best plans that are not tuned, of those with equal samples one."""
    own = {
        tuple(found["figures"]): label
        for label, found in sorted(plans.items(), reverse=True)
        if label != "tuned" and found.get("figures")
    }
    return [own[figures] for figures in sorted(own)[:count]]


def best_fixed(plans: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The best plan that is not tuned, and its name."""
    for label in best_labels(plans, 1):
        return plans[label], "`{}`, {}".format(*label.split(", "))
    return {}, ""


def tables(file: Path) -> str:
    """All figures as Markdown."""
    blocks, content = [], read(file)
    for name, found in content.items():
        sizes = found["sizes"]
        of = f"{sizes['runs']} × {sizes['count']} samples, a reference of {sizes['reference']}; "
        three = "; distance, weights and width" if "weights" in found["floor"] else ""
        ode = f"; the ODE itself {cell(found['ode'])}" if "ode" in found else ""
        blocks.append(
            f"**{name}**: {of if sizes['count'] else ''}floor {cell(found['floor'])}{three}{ode}."
        )
        rows = [["NFE", "kind", "tuned", "best fixed plan", "default", *GRIDS]]
        for setting, plans in sorted(found.get("plans", {}).items(), key=_order):
            kind, nfe = setting.split()
            own = plans.get("tuned", {})
            usual = plans.get(default_label(kind, nfe), {})
            others = [cell(*best(plans, grid)) for grid in GRIDS]
            first = cell(own, f"`{own['solver']}`" if own else "")
            rows.append([nfe, kind, first, cell(*best_fixed(plans)), cell(usual), *others])
        blocks.append(table_text(rows, markdown=True))
    moved = [["network", "NFE", "kind", "tuned on other", "default", "tuned", "that one", "kept"]]
    for name, found in content.items():
        for setting, variants in sorted(found.get("transfer", {}).items(), key=_order):
            kind, nfe = setting.split()
            for variant, three in variants.items():
                figures = [cell(three[part]) for part in ("default", "tuned", "other")]
                what = {"seed": "samples", "classes": "classes"}[variant]
                share = "no gain" if math.isnan(kept(three)) else f"{100 * kept(three):.0f} %"
                moved.append([name, nfe, kind, what, *figures, share])
    if len(moved) > 1:
        blocks.append(table_text(moved, markdown=True))
    trained = [["trained again", "NFE", "kind", "tuned on the first", "best fixed plan", "default"]]
    for name, found in content.items():
        others = dict(found.get("again", {}))
        floor = cell(others.pop("floor", {}))
        for setting, plans in sorted(others.items(), key=_order):
            kind, nfe = setting.split()
            usual = plans.get(default_label(kind, nfe), {})
            figures = [cell(plans.get("tuned", {})), cell(*best_fixed(plans)), cell(usual)]
            trained.append([f"{name} (floor {floor})", nfe, kind, *figures])
    if len(trained) > 1:
        blocks.append(table_text(trained, markdown=True))
    return "\n\n".join(blocks) + "\n"


def kept(three: dict[str, Any]) -> float:
    """The share of a tuned plan's gain over the default that the one tuned elsewhere has too; NaN
    where there is no gain."""
    default, tuned, other = (three[part]["figures"][0] for part in ("default", "tuned", "other"))
    return (default - other) / (default - tuned) if tuned < default else math.nan


def _order(entry: tuple[str, Any]) -> tuple[str, int]:
    kind, nfe = entry[0].split()
    return kind, int(nfe)


def put_page(file: Path, page: Path = PAGE) -> None:
    """The tables, and the pictures that there are, between the markers of the page."""
    before, marker, rest = page.read_text().partition(BEGIN)
    if not marker or END not in rest:
        raise ValueError(f"{page} has no place for the figures: lines {BEGIN!r} and {END!r}.")
    drawn = [
        f"![{text}](img/{name})" for name, text in PICTURES.items() if (IMAGES / name).exists()
    ]
    text = "\n\n".join([tables(file).rstrip(), *drawn]) + "\n"
    page.write_text(before + BEGIN + text + END + rest.partition(END)[2])


# --- pictures


def draw(
    file: Path,
    problems: Sequence[Any],
    plan_of: Callable[[Any, str, int], expint.Plan],
    images: Path = IMAGES,
) -> None:
    """Three pictures: quality against evaluations, samples, and grids."""
    draw_quality(read(file), [problem.name for problem in problems], images / QUALITY)
    draw_samples(problems, plan_of, images / SAMPLES)
    problem = problems[0]
    made = {
        "default": expint.defaults.grid,
        **{name: grids.get(name) for name in ("karras", "uniform_lambda")},
        **{name: lambda _, nfe, name=name: problem.grid(name, "unipc-2", nfe) for name in GRIDS},
        **{f"tuned, {kind}": _grid_of(plan_of(problem, kind, 10)) for kind in COLORS},
    }
    path = images / LEVELS
    mmse_grids.draw(path, problem.name, problem.model, problem.curve, made, "tuned")


def _grid_of(plan: expint.Plan) -> Callable[..., Tensor]:
    return lambda *_: plan.grid


def draw_quality(content: dict[str, Any], names: Sequence[str], path: Path) -> None:
    """Tuned, default and best fixed plan of both kinds, a panel per problem; the floor as a
    band."""
    figure = new_figure(4.6 * len(names), 3.8)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        found = content.get(name)
        if found is None:
            raise ValueError(f"There are no figures of {name!r} yet: measure them first.")
        floor = found["floor"]["figures"]
        low, high = floor[0] - noise(floor), floor[0] + noise(floor)
        axis.axhspan(low, high, color="0.85", label="floor")
        counts = set()
        for kind, color in COLORS.items():
            lines: dict[str, list[tuple[int, float]]] = {
                "tuned": [],
                "best fixed": [],
                "default": [],
            }
            for setting, plans in sorted(found.get("plans", {}).items(), key=_order):
                own_kind, count = setting.split()
                if own_kind != kind:
                    continue
                usual = plans.get(default_label(kind, count), {}).get("figures")
                own = plans.get("tuned", {}).get("figures")
                fixed = best_fixed(plans)[0].get("figures")
                for label, values in zip(lines, (own, fixed, usual), strict=True):
                    if values:
                        lines[label].append((int(count), values[0]))
            for (label, points), style in zip(lines.items(), ("o-", "s--", "^:"), strict=True):
                if points:
                    axis.plot(*zip(*points, strict=True), style, color=color, ms=4,
                              label=f"{label}, {kind}")  # fmt: skip
                    counts |= {nfe for nfe, _ in points}
        axis.set(title=name, xscale="log", yscale="log", xlabel="network evaluations")
        axis.set_xticks(sorted(counts), map(str, sorted(counts)))
        low, high = axis.get_ylim()
        marks = [k * 10.0**e for e in range(-4, 2) for k in (1, 2, 5) if low < k * 10.0**e < high]
        axis.set_yticks(marks, [f"{mark:g}" for mark in marks])
        axis.minorticks_off()
    axes[0].set_ylabel("Fréchet distance")
    axes[-1].legend(frameon=False, fontsize=7)
    save_figure(figure, path)


def draw_samples(
    problems: Sequence[Any], plan_of: Callable[[Any, str, int], expint.Plan], path: Path
) -> None:
    """The same ten noises, by the default, by the tuned plan, and by a fine run."""
    figure = new_figure(5.0 * len(problems), 5.6)
    axes = figure.subplots(2, len(problems), squeeze=False)
    for column, problem in enumerate(problems):
        for axis, kind in zip(axes[:, column], COLORS, strict=True):
            ell = 1.0 if kind == "stochastic" else 0.0
            rows: dict[str, dict[str, Any]] = {}
            for nfe in (5, 10):
                rows[f"default, {nfe}"] = {
                    "solver": default_solver(kind, nfe),
                    "ell": ell,
                    "nfe": nfe,
                }
                rows[f"tuned, {nfe}"] = {"plan": plan_of(problem, kind, nfe)}
            rows["fine, 100"] = {"solver": FINE[kind], "ell": ell, "nfe": 100}
            shape = (10, *problem.model.shape)
            drawn = [
                expint.sample(problem.model, shape, seed=0, progress=False, **how)
                for how in rows.values()
            ]
            edged = [functional.pad(part[:, 0], (1, 1, 1, 1)) for part in drawn]
            strips = torch.stack([part.permute(1, 0, 2).flatten(1) for part in edged])
            axis.imshow(strips.flatten(0, 1), cmap="gray", vmin=-1, vmax=1)
            height = strips.shape[1]
            axis.set_yticks([height * (k + 0.5) for k in range(len(rows))], rows)
            axis.set_xticks([])
            axis.set_title(f"{problem.name}, {kind}", fontsize=9)
    save_figure(figure, path)
