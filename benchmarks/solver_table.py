"""The table of all solvers in docs/solvers.md, from the registry, the certificates and a comparison
on the mixture of 25 modes.

    python benchmarks/solver_table.py [--comparison COMPARE_JSON] [--check]

`--comparison` takes the compare.json of

    expint compare --model grid-25 --solvers all --nfe 10,15,20,25,30,50,100 --n 10000 --out DIR

and keeps what the table needs in nfe_to_floor.json beside it; --check only tells whether the page
is up to date.
"""

import argparse
import json
import sys
from pathlib import Path

from expint.convergence.studies import table_text
from expint.solvers import Entry, entries

PAGE = Path(__file__).resolve().parents[1] / "docs" / "solvers.md"
FLOORS = PAGE.with_name("nfe_to_floor.json")
START, END = "<!-- table -->\n", "<!-- end of table -->"
HEAD = (
    "name",
    "what",
    "form, ℓ",
    "NFE/step",
    "without noise",
    "weak",
    "strong",
    "NFE to the floor",
    "source",
)


def row(entry: Entry, floors: dict[str, int | None]) -> tuple[str, ...]:
    """One line of the table."""
    tableau = entry.build()
    scale = getattr(tableau.noise_scale, "name", tableau.noise_scale)
    equation = f"{tableau.form}, {tableau.ell:g}" if scale is None else f"noise scale {scale}"
    declared = {
        "deterministic": tableau.deterministic_order,
        "weak": tableau.weak_order
        if tableau.ell > 0 or tableau.operations
        else tableau.deterministic_order,
        "strong": tableau.strong_order if tableau.ell > 0 and not tableau.operations else "–",
    }
    orders = [
        f"{declared[k]} ({entry.measured[k]:.2f})" if k in entry.measured else str(declared[k])
        for k in declared
    ]
    reached = floors.get(entry.name, 0)
    return (
        f"`{entry.name}`",
        entry.summary,
        equation,
        str(tableau.evaluations),
        *orders,
        "" if reached == 0 else "> 100" if reached is None else str(reached),
        tableau.source,
    )


def reached(points: list[dict[str, float]], threshold: float) -> int | None:
    """The least number of evaluations at which the distance is that of the floor."""
    return min(
        (
            int(p["used"])
            for p in points
            if p["distance"] is not None and p["distance"] <= threshold
        ),
        default=None,
    )


def page() -> str:
    """The page with its table made anew."""
    floors = json.loads(FLOORS.read_text(encoding="utf-8")) if FLOORS.exists() else {}
    text = PAGE.read_text(encoding="utf-8")
    table = table_text([HEAD, *(row(entry, floors) for entry in entries())], markdown=True)
    before, after = text.split(START)[0], text.split(END)[1]
    return f"{before}{START}\n{table}\n\n{END}{after}"


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--comparison", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.comparison:
        study = json.loads(options.comparison.read_text(encoding="utf-8"))
        floors = {
            curve["name"]: reached(curve["points"], study["threshold"]) for curve in study["curves"]
        }
        FLOORS.write_text(json.dumps(floors, indent=1) + "\n", encoding="utf-8")
    if options.check:
        same = page() == PAGE.read_text(encoding="utf-8")
        sys.exit(0 if same else "docs/solvers.md is out of date: run benchmarks/solver_table.py")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
