"""How stiff diffusion models are, in which form and clock, and what that says about step sizes: the
study behind docs/stiffness.md.

    python studies/stiffness.py            all problems, into studies/stiffness.json
    python studies/stiffness.py ring       one of them
    python studies/stiffness.py --page     the figures that are there into the page and pictures

Three shipped networks and two mixtures, σ from 50 to 0.02 at ℓ = 0 (all rates are 1 + ℓ² times as
large at another ℓ, but for those of α). Interrupted, it goes on with the next problem.

1. `expint.stiffness` on a path with 24 equal steps in λ (method `seeds-3`).
2. Local errors: from the states of that path one step of a method in each form, against 16 steps
   of `seeds-3`: the root mean square over states and components, in units of x/α.
3. Grids whose steps have equal stiffness, against three usual ones: the same error at σ = 0.02
   after 12 steps from σ = 50, against 400 steps.
4. Noise schedules: the ring with as many equal steps in the time of each.
"""

import json
import math
import time
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from pages import filled
from torch import Tensor

import expint
from diffusion_adapters import load
from expint import compile_plan, reverse_sde, schedules
from expint.noise import initial_state, per_sample
from expint.quality import analytic_target
from expint.results import new_figure, table_text, write_json
from expint.runs import execute  # without checks: some of these plans are meant to fail
from expint.spectra import StepStiffness, StiffnessStudy
from expint.targets import GaussianMixture

FILE = Path(__file__).with_suffix(".json")
DOCS = FILE.parents[1] / "docs"
PAGE = DOCS / "stiffness.md"
FIRST, LAST, STEPS, FINE, FEW = 50.0, 0.02, 24, 400, 12
FORMS = ("data", "noise", "precond", "log-sigma")
METHODS = ("seeds-1", "seeds-2")
COLOURS = dict(zip(FORMS, ("C0", "C1", "C2", "C7"), strict=True))


def ring() -> GaussianMixture:
    """Eight modes of width 0.05 on a circle of radius 0.7."""
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    means = 0.7 * torch.stack([angles.cos(), angles.sin()], 1)
    return GaussianMixture(means, 0.05, None, schedules.EDM())


# Model, sigma_data for the preconditioned form, states, Krylov vectors.
PROBLEMS: dict[str, tuple[Any, float, int, int]] = {
    "digits-edm": (lambda: load("digits-edm"), 0.5, 8, 24),
    "digits-vp": (lambda: load("digits-vp"), 0.5, 8, 24),
    "mnist-edm": (lambda: load("mnist-edm"), 0.5, 4, 24),
    "ring": (ring, 0.5, 64, 2),
    "grid-25": (lambda: analytic_target("grid-25"), 0.5, 64, 2),
}


def times_at(schedule: Any, lam: Tensor) -> Tensor:
    """Times of half log-SNRs."""
    return torch.stack([torch.as_tensor(schedule.t_of_lam(each)) for each in lam])


def run(model: Any, form: str, method: str, grid: Tensor, x: Tensor, scale: float) -> Tensor:
    """The state at the end of a grid, at ℓ = 0."""
    own = scale if form == "precond" else None
    sde = reverse_sde(model.schedule, form, 0.0, sigma_data=own)
    with torch.no_grad():
        return execute(compile_plan(sde, method, grid), model, x)


def between(low: float, high: float, steps: int) -> Tensor:
    """Equal steps in λ."""
    return torch.linspace(low, high, steps + 1, dtype=torch.float64)


def error(model: Any, found: Tensor, exact: Tensor, end: Tensor) -> float:
    """RMS difference in units of x/α."""
    return float((found - exact).double().square().mean().sqrt() / model.schedule.alpha(end))


def grids_of(model: Any, found: StiffnessStudy, scale: float) -> dict[str, Tensor]:
    """Grids of FEW steps as λ: usual ones, and one for each form whose steps have equal radius."""
    first, last = -math.log(FIRST), -math.log(LAST)
    place = torch.linspace(0.0, 1.0, FEW + 1, dtype=torch.float64)
    rho = FIRST ** (1 / 7) + place * (LAST ** (1 / 7) - FIRST ** (1 / 7))
    angles = [math.atan(sigma / scale) for sigma in (FIRST, LAST)]
    arctan = scale * torch.tan(angles[0] + place * (angles[1] - angles[0]))
    made = {
        "uniform in λ": between(first, last, FEW),
        "Karras (ρ = 7)": -7.0 * rho.log(),
        "uniform in arctan(σ/σd)": -arctan.log(),
    }
    edges = np.linspace(first, last, len(found.times) + 1)
    for form in FORMS:
        total = np.concatenate([[0.0], np.cumsum(found.part(form).radius)])
        lam = np.interp(np.linspace(0.0, total[-1], FEW + 1), total, edges)
        lam[0], lam[-1] = first, last
        made[f"equal stiffness, {form}"] = torch.as_tensor(lam)
    return made


def rounded(value: Any) -> Any:
    """Five digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else float(f"{value:.5g}")


def condensed(found: StiffnessStudy) -> dict[str, Any]:
    """What the page takes of a study: the columns of the plan's steps, the peaks of the clocks."""
    columns = ("sigmas", "steps", "low", "mean", "high", "imaginary")
    return {
        "setting": found.setting,
        **{name: rounded(list(getattr(found, name))) for name in columns},
        "radius": {p.form: rounded(list(p.radius)) for p in found.parts if p.clock == "plan"},
        "ideal": {p.form: rounded(p.ideal) for p in found.parts if p.clock == "plan"},
        "peaks": {f"{p.form}, {p.clock}": rounded(peaks(p)) for p in found.parts},
    }


def peaks(part: StepStiffness) -> list[float]:
    """Of F and of the linear part."""
    return [part.peak, max(map(abs, part.linear))]


def study(name: str) -> dict[str, Any]:
    """All figures of one problem."""
    make, scale, count, krylov = PROBLEMS[name]
    model, began = make(), time.perf_counter()
    schedule = model.schedule
    dtype = torch.float64 if count > 8 else torch.float32
    edges = between(-math.log(FIRST), -math.log(LAST), STEPS)
    grid = times_at(schedule, edges)
    x = initial_state(per_sample(0, count), model.shape, dtype) * schedule.std(grid[0]).to(dtype)
    plan = compile_plan(reverse_sde(schedule, "data", 0.0), "seeds-3", grid)
    found = expint.stiffness(
        model, plan, states=x, forms=FORMS, sigma_data=scale, krylov=krylov
    )  # fmt: skip
    states = [x]
    with torch.no_grad():
        execute(plan, model, x, callback=lambda step, nfe, t, x, denoised: states.append(x))
    local: dict[str, list[float]] = {f"{m}, {form}": [] for m in METHODS for form in FORMS}
    for k, state in enumerate(states[:-1]):
        fine = times_at(schedule, between(float(edges[k]), float(edges[k + 1]), 16))
        exact = run(model, "data", "seeds-3", fine, state, scale)
        for key, errors in local.items():
            method, form = key.split(", ")
            end = run(model, form, method, grid[k : k + 2], state, scale)
            errors.append(error(model, end, exact, grid[k + 1]))
    fine = times_at(schedule, between(float(edges[0]), float(edges[-1]), FINE))
    exact = run(model, "data", "seeds-3", fine, x, scale)
    ends: dict[str, dict[str, float]] = {}
    for title, lam in grids_of(model, found, scale).items():
        few = times_at(schedule, lam)
        ends[title] = {
            key: error(model, run(model, form, method, few, x, scale), exact, few[-1])
            for key in local
            for method, form in [key.split(", ")]
        }
    return {
        "made": date.today().isoformat(),
        "states": count,
        "krylov": krylov,
        "sigma_data": scale,
        "seconds": round(time.perf_counter() - began),
        "study": condensed(found),
        "local": rounded(local),
        "ends": rounded(ends),
    }


def under_schedules() -> dict[str, Any]:
    """The ring at the same noise levels under each schedule: F and linear part at their stiffest,
    with equal steps in time."""
    target, found = ring(), {}
    for name in ("edm", "vp", "cosine", "flow"):
        schedule = schedules.get(name)
        model = GaussianMixture(target.means, target.std, None, schedule)
        grid = times_at(schedule, between(-math.log(FIRST), -math.log(LAST), STEPS))
        x = initial_state(per_sample(0, 64), model.shape, torch.float64) * schedule.std(grid[0])
        study = expint.stiffness(
            model, compile_plan(reverse_sde(schedule, "data", 0.0), "seeds-3", grid),
            states=x, forms=FORMS, clocks=["time"], sigma_data=0.5,
        )  # fmt: skip
        found[str(schedule).split("(")[0]] = {p.form: rounded(peaks(p)) for p in study.parts}
    return {"made": date.today().isoformat(), "peaks": found}


# --- the page


def share(errors: list[float], radii: list[float], beside: list[list[float]]) -> float:
    """Share of the variance of log error that a straight line in log radius explains (or what is
    beside it alone)."""
    y = np.log(errors)
    columns = [np.log(radii)] if radii else []
    X = np.column_stack([*columns, *beside, np.ones_like(y)])
    left = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    return float(1.0 - (left**2).sum() / ((y - y.mean()) ** 2).sum())


def pair(f: float, linear: float) -> str:
    """Two numbers of two digits."""
    return " / ".join(f"{v:.0f}" if v >= 10 else f"{v:.2g}" for v in (f, linear))


def spectra_table(done: dict[str, Any]) -> list[tuple[str, ...]]:
    """Range of g, and the stiffest and mean step of each form."""
    rows = [("problem", "g, greatest", "at σ", "g, least", *(f"{form}" for form in FORMS))]
    for name, problem in done.items():
        study = problem["study"]
        top = max(study["high"])
        sigma = study["sigmas"][study["high"].index(top)]
        cells = [f"{max(study['radius'][f]):.2f} ({study['ideal'][f]:.2f})" for f in FORMS]
        rows.append((name, f"{top:.2f}", f"{sigma:.2g}", f"{min(study['low']):.2g}", *cells))
    return rows


def clocks_table(done: dict[str, Any]) -> list[tuple[str, ...]]:
    """F and linear part at their stiffest with equal steps in each clock."""
    clocks = {"lambda": "λ", "arctan": "arctan(σ/σd)", "sigma": "σ", "time": "t"}
    rows = [("problem", "form", *(f"{title}: F / linear" for title in clocks.values()))]
    for name, problem in done.items():
        for form in FORMS[:3]:
            pairs = (problem["study"]["peaks"][f"{form}, {clock}"] for clock in clocks)
            rows.append((name, form, *(pair(*values) for values in pairs)))
    return rows


def schedules_table(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """The same for the time of each schedule."""
    rows = [("schedule", *(f"{form}: F / linear" for form in FORMS))]
    for name, peaks in found["peaks"].items():
        rows.append((name, *(pair(*values) for values in peaks.values())))
    return rows


def errors_table(done: dict[str, Any]) -> list[tuple[str, ...]]:
    """What the stiffness explains of the local errors."""
    head = "problem", "form", "sum of local errors", "explained by rate", "by σ", "by both"
    rows: list[tuple[str, ...]] = [head]
    for name, problem in done.items():
        logs = np.log(problem["study"]["sigmas"])
        beside = [logs, logs**2]
        for form in FORMS:
            radii = problem["study"]["radius"][form]
            local = [problem["local"][f"{method}, {form}"] for method in METHODS]
            sums = ", ".join(f"{sum(errors):.2g}" for errors in local)
            kinds = (([radii, []]), ([], beside), (radii, beside))
            shares = (", ".join(f"{share(e, *kind):.2f}" for e in local) for kind in kinds)
            rows.append((name, form, sums, *shares))
    return rows


def grids_table(done: dict[str, Any]) -> list[tuple[str, ...]]:
    """Errors at the end on every grid, for seeds-1 and seeds-2."""
    chosen = ("seeds-1, data", "seeds-2, data", "seeds-2, precond")
    rows = [("problem", "method and form", *next(iter(done.values()))["ends"])]
    for name, problem in done.items():
        for key in chosen:
            cells = (f"{values[key]:.2g}" for values in problem["ends"].values())
            rows.append((name, key, *cells))
    return rows


def draw(done: dict[str, Any]) -> None:
    """Spectra and steps; local errors against steps."""
    figure = new_figure(12.0, 5.6)
    axes = figure.subplots(2, len(done), sharex=True, sharey="row")
    for (name, problem), (top, bottom) in zip(done.items(), axes.T, strict=True):
        study = problem["study"]
        top.fill_between(study["sigmas"], study["low"], study["high"], color="C0", alpha=0.25)
        top.plot(study["sigmas"], study["mean"], color="C0", linewidth=1)
        top.axhline(1.0, color="0.6", linewidth=0.7)
        top.set_title(name, fontsize=11)
        for form, colour in COLOURS.items():
            radii = study["radius"][form]
            dashes = "--" if form == FORMS[-1] else "-"  # where α = 1 it lies on another
            bottom.plot(study["sigmas"], radii, dashes, color=colour, label=form)
        bottom.set(xscale="log", yscale="log", xlabel="σ", ylim=(1e-3, 3.0))
        bottom.invert_xaxis()
        for ax in (top, bottom):
            ax.grid(visible=True, color="0.92")
    axes[0, 0].set_ylabel("eigenvalues g of α ∂D/∂x")
    axes[1, 0].set_ylabel("rate of F × step")
    axes[1, 0].legend(fontsize=8, loc="lower right")
    for ax in axes[0, 1:].flat:
        ax.tick_params(labelleft=False)
    figure.savefig(DOCS / "img" / "stiffness-spectra.png", dpi=120)
    figure = new_figure(12.0, 3.0)
    for ax, (name, problem) in zip(figure.subplots(1, len(done)), done.items(), strict=True):
        for form in FORMS[:3]:
            for method, marker in zip(METHODS, "os", strict=True):
                errors = problem["local"][f"{method}, {form}"]
                radii = problem["study"]["radius"][form]
                style: dict[str, Any] = {"color": COLOURS[form], "markersize": 3, "linewidth": 0}
                ax.plot(radii, errors, marker, label=f"{method}, {form}", **style)
        ax.set(xscale="log", yscale="log", xlabel="rate of F × step", ylim=(3e-9, 1e-1))
        ax.set_title(name, fontsize=11)
        ax.grid(visible=True, color="0.92")
    figure.axes[0].set_ylabel("local error")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=6, fontsize=8)  # fmt: skip
    figure.savefig(DOCS / "img" / "stiffness-errors.png", dpi=120)


def page_of(text: str, found: dict[str, Any]) -> str:
    """The page with its tables between their marks."""
    done = {name: found[name] for name in PROBLEMS}
    tables = {
        "spectra": spectra_table(done),
        "clocks": clocks_table(done),
        "schedules": schedules_table(found["schedules"]),
        "errors": errors_table(done),
        "grids": grids_table(done),
    }
    for name, rows in tables.items():
        text = filled(text, name, table_text(rows, markdown=True))
    return text


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice([*PROBLEMS, "schedules"]))
@click.option("--page", is_flag=True)
def main(names: tuple[str, ...], page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in () if page else names or (*PROBLEMS, "schedules"):
        if name not in done:
            done[name] = under_schedules() if name == "schedules" else study(name)
            write_json(FILE, done)
            click.echo(f"{name}: done")
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw({name: done[name] for name in PROBLEMS})


if __name__ == "__main__":
    main()
