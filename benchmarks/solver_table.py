"""Tables of all solvers in the documents: the one in docs/solvers.md, from the registry, the
certificates and a comparison on the mixture of 25 modes; and the table and picture of strong
orders in docs/orders.md, from the certificates.

    python benchmarks/solver_table.py [--comparison COMPARE_JSON] [--check]

`--comparison` takes the compare.json of

    expint compare --model grid-25 --solvers all --nfe 10,15,20,25,30,50,100 --n 10000 --out DIR

and keeps what the table needs in nfe_to_floor.json beside it; --check only reports whether the
pages are up to date.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from expint.convergence import Comparison, OrderStudy, certificates
from expint.convergence.certificates import Measured, Record
from expint.results import Rows, table_text
from expint.solvers import Entry, entries, get

DOCS = Path(__file__).resolve().parents[1] / "docs"
FLOORS = DOCS / "nfe_to_floor.json"
PICTURE = DOCS / "img" / "orders-strong.png"
START, END = "<!-- table -->\n", "<!-- end of table -->"
HEAD = ("name", "what", "equation", "NFE/step", "without noise", "weak", "strong", "NFE to floor")
DETAILS = ("name", "without noise", "weak", "strong", "source")
STRONG = ("seeds-1", "seeds-2", "seeds-3", "seeds-sra", "seeds-sra3")


def row(entry: Entry, floors: dict[str, int | None]) -> tuple[str, ...]:
    """One line of the table of solvers."""
    method = get(entry.name)
    scale = getattr(method.noise_scale, "name", method.noise_scale)
    equation = f"{method.form}, ℓ = {method.ell:g}" if scale is None else f"noise scale {scale}"
    reached = floors.get(entry.name, 0)
    return (
        f"`{entry.name}`",
        entry.summary,
        equation,
        str(method.tableau.evaluations),
        *map(str, declared(entry).values()),
        "" if reached == 0 else "> 100" if reached is None else str(reached),
    )


def declared(entry: Entry) -> dict[str, Any]:
    """The orders that follow from the coefficients, a dash where there is none."""
    method = get(entry.name)
    noisy = method.ell > 0 or method.operations
    own_path = method.ell > 0 and not method.operations
    return {
        "deterministic": method.deterministic_order,
        "weak": method.weak_order if noisy else method.deterministic_order,
        "strong": method.strong_order if own_path else "–",
    }


def details(entry: Entry, found: Record) -> tuple[str, ...]:
    """Its orders with the measured ones in brackets, and where it is from."""
    orders = [
        f"{order} ({found.measured[kind].order:.2f})" if kind in found.measured else str(order)
        for kind, order in declared(entry).items()
    ]
    return f"`{entry.name}`", *orders, get(entry.name).source


def solver_rows() -> Rows:
    """The table in docs/solvers.md that can be sorted."""
    floors = json.loads(FLOORS.read_text(encoding="utf-8")) if FLOORS.exists() else {}
    return [HEAD, *(row(entry, floors) for entry in entries())]


def detail_rows(records: dict[str, Record]) -> Rows:
    """The table below it."""
    return [DETAILS, *(details(entry, records[entry.name]) for entry in entries())]


def strong_rows(records: dict[str, Record]) -> Rows:
    """The table in docs/orders.md."""
    found = {name: records[name].measured["strong"] for name in STRONG}
    steps = [n for n in found[STRONG[0]].steps if all(n in own.steps for own in found.values())]
    rows = [("solver", "declared", "measured (95 %)", *(f"error at {n} steps" for n in steps))]
    for name, measured in found.items():
        low, high = measured.interval or (measured.order, measured.order)
        errors = dict(zip(measured.steps, measured.errors, strict=True))
        cells = [f"{errors[n]:.2e}" for n in steps]
        order = f"{measured.order:.2f} ({low:.2f} to {high:.2f})"
        rows.append((f"`{name}`", f"{float(get(name).strong_order):g}", order, *cells))
    return rows


def as_study(name: str, measured: Measured) -> OrderStudy:
    """A recorded strong order, to draw it."""
    method, steps = get(name), tuple(measured.steps)
    return OrderStudy(
        kind="strong",
        solver=name,
        declared=float(method.strong_order),
        setting="mixture of three modes, data form, ell = 1, 2 > sigma > 0.5",
        measure="RMS error",
        reference="",
        steps=steps,
        evaluations=tuple(method.evaluations_in(n) for n in steps),
        errors=tuple(measured.errors),
        fitted=(0, len(steps) - 1),
        order=measured.order,
    )


def reached(points: list[dict[str, float]], threshold: float) -> int | None:
    """The least number of evaluations at which the distance is that of the floor."""
    near = (p for p in points if p["distance"] is not None and p["distance"] <= threshold)
    return min((int(p["used"]) for p in near), default=None)


def page(name: str, tables: Sequence[Rows]) -> str:
    """A page with its tables made anew."""
    before, *parts = (DOCS / name).read_text(encoding="utf-8").split(START)
    assert len(parts) == len(tables), f"{name} has {len(parts)} places for {len(tables)} tables"
    for part, rows in zip(parts, tables, strict=True):
        table = table_text(rows, markdown=True)
        before += f"{START}\n{table}\n\n{END}{part.split(END)[1]}"
    return before


@click.command(help=__doc__)
@click.option("--comparison", type=click.Path(path_type=Path, exists=True))
@click.option("--check", is_flag=True)
def main(comparison: Path | None, check: bool) -> None:
    """Write the pages, or check them."""
    if comparison is not None:
        study = json.loads(comparison.read_text(encoding="utf-8"))
        floors = {
            curve["name"]: reached(curve["points"], study["threshold"]) for curve in study["curves"]
        }
        FLOORS.write_text(json.dumps(floors, indent=1) + "\n", encoding="utf-8")
    records = certificates.read()
    pages = {
        "solvers.md": [solver_rows(), detail_rows(records)],
        "orders.md": [strong_rows(records)],
    }
    for name, tables in pages.items():
        text, file = page(name, tables), DOCS / name
        if check and text != file.read_text(encoding="utf-8"):
            sys.exit(f"docs/{name} is out of date: run benchmarks/solver_table.py")
        if not check:
            file.write_text(text, encoding="utf-8")
    if not check:
        studies = [as_study(name, records[name].measured["strong"]) for name in STRONG]
        Comparison(tuple(studies)).plot(PICTURE)


if __name__ == "__main__":
    main()
