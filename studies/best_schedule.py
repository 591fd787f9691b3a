"""Which schedule is best: what the tuned plans that come with the shipped networks say, an open
question of the SEEDS paper. The section "The best schedule" in docs/studies.md.

    python studies/best_schedule.py           what is missing in the JSON beside it
    python studies/best_schedule.py --page    the figures that are there into the page

A schedule and a scaling are a rule for levels of σ (see studies/trajectories.py), and those are
what a search moves. For each network its mmse curve, E|D − x₀|²/d on 300 samples of its own from 30
evaluations, at 24 levels; and for each plan its levels of σ: whether the search moved them from the
default grid, the last one, the one in the middle, and where the shortest step in λ is.
"""

import json
import math
from datetime import date
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from noise_decomposition import PAGE
from pages import filled
from tqdm import tqdm
from work_precision import cell

import expint
from diffusion_adapters.shipped.image_quality import EveryClass
from expint import tuning
from expint.results import new_figure, table_text, write_json

FILE = Path(__file__).with_suffix(".json")
PICTURE = PAGE.parent / "img" / "best-schedule.png"
SHIPPED = FILE.parents[1] / "diffusion_adapters" / "shipped" / "plans"
NETWORKS = ("digits-edm", "digits-vp", "digits-ve", "digits-iddpm", "mnist-edm")
SAMPLES, NFE, RULE_STEPS = 300, 30, 10
KINDS = {"stochastic": "C0", "deterministic": "C1"}
Levels = list[float]


def levels(schedule: Any, grid: Any) -> Levels:
    """σ > 0 of a grid."""
    found = torch.as_tensor(schedule.sigma(torch.as_tensor(grid, dtype=torch.float64))).tolist()
    return [float(f"{sigma:.5g}") for sigma in found if sigma > 0.0]


def measured(name: str) -> dict[str, Any]:
    """The curve of a network, the levels of its plans, and of two rules."""
    model: Any = EveryClass(name)
    schedule = model.schedule
    shape = (SAMPLES, *model.shape)
    data = expint.sample(model, shape, "seeds-ab2", nfe=NFE, seed=10**7, progress=False)
    curve = expint.mmse_curve(model, data, 24, draws=SAMPLES)
    sigma = torch.tensor(curve.sigmas, dtype=torch.float64)
    plans = {}
    for path in sorted(SHIPPED.glob(f"{name}-*.json")):
        plan, about = expint.Plan.load(path), json.loads(path.read_text(encoding="utf-8"))
        rule = expint.plan_sampling(
            schedule, plan.solver, nfe=about["nfe"], grid="default", sigma_data=model.sigma_data
        )
        same = len(rule.grid) == len(plan.grid) and torch.allclose(
            schedule.lam(rule.grid[:-1]), schedule.lam(plan.grid[:-1]), atol=1e-6
        )
        ells = about["ell"] if isinstance(about["ell"], list) else [about["ell"]]
        plans[path.stem.removeprefix(f"{name}-")] = {
            "solver": about["solver"], "ell": [min(ells), max(ells)], "moved": not same,
            "sigmas": levels(schedule, plan.grid),
        }  # fmt: skip
    rules = {
        "default": levels(schedule, expint.defaults.grid(schedule, RULE_STEPS)),
        "KLUB": levels(schedule, tuning.klub_grid(schedule, RULE_STEPS, curve)),
    }
    return {
        "made": date.today().isoformat(), "sigmas": sigma.tolist(), "mmse": curve(sigma).tolist(),
        "plans": plans, "rules": rules,
    }  # fmt: skip


def middle(sigmas: Levels) -> float:
    """Half of the levels are above."""
    place = (len(sigmas) - 1) / 2
    low, high = sigmas[math.floor(place)], sigmas[math.ceil(place)]
    return math.sqrt(low * high)


def densest(sigmas: Levels) -> float:
    """Where the shortest step in λ is."""
    return math.sqrt(math.prod(min(pairwise(sigmas), key=lambda pair: pair[0] / pair[1])))


def steepest(problem: dict[str, Any]) -> float:
    """Where the mmse falls fastest in λ."""
    pairs = [*zip(pairwise(problem["sigmas"]), pairwise(problem["mmse"]), strict=True)]
    (a, b), _ = max(pairs, key=lambda p: (p[1][0] - p[1][1]) / math.log(p[0][0] / p[0][1]))
    return math.sqrt(a * b)


def spread(values: list[float]) -> str:
    """Median and range."""
    ends = f" ({cell(min(values))} to {cell(max(values))})" if len(values) > 1 else ""
    return f"{cell(median(values))}{ends}"


def row(name: str, what: str, found: list[dict[str, Any]]) -> tuple[str, ...]:
    """Of some plans."""
    sigmas = [plan["sigmas"] for plan in found]
    ells = [ell for plan in found for ell in plan.get("ell", ())]
    span = f"{cell(min(ells))} to {cell(max(ells))}" if ells and max(ells) else "–"
    moved = f"{sum(plan['moved'] for plan in found)} of {len(found)}" if ells else "–"
    places = (spread([f(s) for s in sigmas]) for f in (middle, densest, lambda s: s[-1]))
    return (name, what, moved, span, *places)


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks."""
    head = ("network", "levels of", "moved by the search", "ℓ", "σ in the middle",
            "σ at the shortest step", "last σ")  # fmt: skip
    rows: list[tuple[str, ...]] = [head]
    for name, problem in done.items():
        for kind in KINDS:
            plans = [p for key, p in problem["plans"].items() if key.startswith(kind)]
            rows.append(row(name, kind, plans))
        for rule, sigmas in problem["rules"].items():
            rows.append(row(name, f"{rule}, {RULE_STEPS} steps", [{"sigmas": sigmas}]))
        rows.append((name, "mmse falls fastest", "–", "–", "–", cell(steepest(problem)), "–"))
    every = [pair for problem in done.values() for pair in problem["plans"].items()]
    for what, few in (("moved, 5 to 10 evaluations", True), ("moved, 15 to 30", False)):
        moved = [p for key, p in every if p["moved"] and (int(key.split("-")[1]) <= 10) is few]
        rows.append(row("all", what, moved))
    return filled(text, "best schedule", table_text(rows, markdown=True))


def draw(done: dict[str, Any]) -> None:
    """Curves above, levels below."""
    figure = new_figure(13.0, 6.0)
    axes = figure.subplots(2, len(done), sharex=True, height_ratios=[1.0, 2.2])
    for (name, problem), (above, below) in zip(done.items(), axes.T, strict=True):
        above.loglog(problem["sigmas"], problem["mmse"], color="0.4")
        above.set_title(name, fontsize=11)
        lines = [(f"{rule} {RULE_STEPS}", s, "0.5") for rule, s in problem["rules"].items()]
        for kind, colour in KINDS.items():
            plans = [(int(key.split("-")[1]), p) for key, p in problem["plans"].items()
                     if key.startswith(kind)]  # fmt: skip
            for nfe, plan in sorted(plans, key=lambda pair: pair[0]):
                label = f"{nfe}{'' if plan['moved'] else ' (default)'}"
                lines.append((label, plan["sigmas"], colour))
        for i, (_, sigmas, colour) in enumerate(reversed(lines)):
            below.plot(sigmas, [i] * len(sigmas), "|-", color=colour, linewidth=0.6, markersize=9)
        below.set_yticks(range(len(lines)), [label for label, *_ in reversed(lines)], fontsize=8)
        below.set(xlabel="σ", xlim=(200.0, 2e-3))
        for ax in (above, below):
            ax.axvline(steepest(problem), color="0.4", linestyle=":", linewidth=1)
    axes[0, 0].set_ylabel("mmse")
    axes[1, 0].set_ylabel("evaluations of plans; 10 of two rules")
    figure.savefig(PICTURE, dpi=120)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in () if page else tqdm([name for name in NETWORKS if name not in done]):
        done[name] = measured(name)
        write_json(FILE, done)
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw(done)


if __name__ == "__main__":
    main()
