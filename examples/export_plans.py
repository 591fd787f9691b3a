"""Plans as tables that any language can run: what docs/play/ executes in JavaScript.

    python examples/export_plans.py [--out docs/play/plans.js]

Every solver below, at each ℓ that it is for, on three grids and for eight numbers of evaluations,
on the linear VP schedule. A plan is a list of rows, and a row is a list

    [flags, λ, scale, [j, w_j, …], [n_1, …], leaf, (on x, on D)]

for x ← scale · x_s + Σ w_j F_j + Σ n_k z_k. The flags are 1 if the denoiser is evaluated at the
current state and λ (α = 1/√(1 + e^(−2λ)), σ̄ = 1/√(1 + e^(2λ))), 2 if the new state is x_s of the
next rows, 4 if it ends a step, 8 if F is the noise, 16 if F is `on x` · x + `on D` · D; otherwise
F is D. `leaf` is the place of the new state's λ among `leaves` equal intervals of λ, on which the
page draws one Brownian path for all plans.
"""

import json
from pathlib import Path
from typing import Any

import click
import torch

import expint
from expint.plans import Plan
from expint.schedules import VP

OUT = Path(__file__).resolve().parents[1] / "docs" / "play" / "plans.js"
SCHEDULE = VP()
BOTH = (0.0, 0.5, 1.0)
SOLVERS: dict[str, tuple[float, ...]] = {
    "seeds-1": BOTH,
    "seeds-2": BOTH,
    "seeds-3": BOTH,
    "seeds-ab2": BOTH,
    "sa-solver": BOTH,
    "euler-maruyama": BOTH,
    "unipc-2": (0.0,),
    "dpm-solver-3": (0.0,),
    "heun": (0.0,),
}
GRIDS = ("default", "uniform_lambda", "karras")
NFES = (4, 6, 8, 10, 15, 20, 30, 50)
LEAVES, FIRST, LAST = 1024, -5.03, 4.57
EVALUATES, ENDS_SUBSTEP, ENDS_STEP, NOISE, RULE = 1, 2, 4, 8, 16


def plan_of(solver: str, ell: float, grid: str, nfe: int) -> Plan:
    """The plan of one setting."""
    return expint.plan_sampling(SCHEDULE, solver, nfe=nfe, ell=ell, grid=grid)


def name_of(solver: str, ell: float, grid: str, nfe: int) -> str:
    """Of its plan in the file."""
    return f"{solver}|{ell:g}|{grid}|{nfe}"


def leaf(t: Any) -> int:
    """The place of a time's λ; the last one at σ = 0."""
    place = (min(float(SCHEDULE.lam(t)), LAST) - FIRST) / (LAST - FIRST) * LEAVES
    return min(round(place), LEAVES)


def table(plan: Plan, digits: int = 10) -> list[list[Any]]:
    """The rows of a plan, its numbers to `digits` digits."""
    assert plan.sde.diffusion is not None
    rows, before = [], (-1, 0, leaf(plan.rows[0].time))

    def short(value: Any) -> float:
        value = float(f"{float(value):.{digits}g}")
        return int(value) if value.is_integer() else value

    for i, row in enumerate(plan.rows):
        rule = row.evaluates and row.prediction not in ("data", "noise")
        flags = EVALUATES * row.evaluates + ENDS_SUBSTEP * plan.ends_substep[i]
        flags += ENDS_STEP * plan.ends_step[i] + RULE * rule + NOISE * (row.prediction == "noise")
        # One more normal than the row before at most, up to a later place: see the page's noise.
        substep, used, place = before
        used = used if substep == row.substep else 0
        if row.noise and len(row.noise) > used:
            assert len(row.noise) == used + 1 and leaf(row.target) > place, (plan.solver, i)
            place = leaf(row.target)
        before = (row.substep, max(used, len(row.noise)), place)
        assert row.tangent is None and all(j >= 0 for j, _ in row.weights)
        assert all(plan.rows[j].prediction == row.prediction for j, _ in row.weights)
        weights = [number for j, w in row.weights for number in (j, short(w))]
        lam = min(float(SCHEDULE.lam(row.time)), 99.0)
        cells = [int(flags), short(lam), short(row.scale), weights, [*map(short, row.noise)]]
        rows.append([*cells, leaf(row.target)])
        if rule:
            own = torch.tensor([float(row.time)], dtype=torch.float64)
            to_f, _ = plan.sde.diffusion.conversions("data", row.prediction, own, None)
            rows[-1].append([short(value) for value in to_f])
    return rows


def content() -> dict[str, Any]:
    """Everything that the page needs."""
    settings = [
        (solver, ell, grid, nfe)
        for solver, ells in SOLVERS.items()
        for ell in ells
        for grid in GRIDS
        for nfe in NFES
    ]
    return {
        "schedule": repr(SCHEDULE),
        "leaves": LEAVES,
        "first": FIRST,
        "last": LAST,
        "solvers": SOLVERS,
        "grids": GRIDS,
        "nfes": NFES,
        "plans": {
            f"{s}|{ell:g}|{g}|{n}": table(plan_of(s, ell, g, n)) for s, ell, g, n in settings
        },
    }


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(out: Path) -> None:
    """Write the file."""
    text = json.dumps(content(), separators=(",", ":"))
    made = "// Made by examples/export_plans.py, which says what the numbers are.\n"
    out.write_text(f"{made}globalThis.PLANS = {text};\n", encoding="utf-8")
    click.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
