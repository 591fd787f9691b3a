"""How good every solver is at a given number of network evaluations, on data whose law is known.

    python benchmarks/quality.py
    python benchmarks/quality.py --quick --out quality.md --json quality.json

Three grids: Karras (rho = 7, sigma from 80 to 0.002), equal steps in lambda (sigma from 152 to
0.0105), and equal steps in lambda over the range of the first; each with a final denoising
evaluation ("denoise") and without ("none").

1. Gaussian data, d = 64, variances log-spaced from 0.001 to 1: Wasserstein-2 distance over the root
   of the total variance. It is exact, no samples are drawn, and it includes the error of the start
   at N(0, sigma²). Then the best solvers, with noise and without, beside bars: the least distances
   that samplers outside this library were found to reach. "Ours" are the solvers called seeds-*.
2. A mixture of 25 modes in the plane: sliced Wasserstein-2 distance of samples, and the evaluations
   that it takes to come within 1.2 times the distance of two sets of exact samples.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

import expint
from expint.metrics import sliced_wasserstein
from expint.quality import QualityStudy, analytic_target, compare_quality
from expint.results import table_text
from expint.schedules import EDM

NFES = (10, 20, 30, 50, 100)
BARS: dict[str, dict[int, float]] = {
    "stochastic": dict(zip(NFES, (0.031, 0.0080, 0.0015, 0.0007, 0.0007), strict=True)),
    "deterministic": dict(zip(NFES, (0.0030, 0.0021, 0.0012, 0.0003, 0.00008), strict=True)),
}
WIDE, NARROW = EDM(), EDM(sigma_min=0.0105, sigma_max=152.0)
GRIDS = {
    "Karras": (WIDE, "karras"),
    "uniform lambda": (NARROW, "uniform_lambda"),
    "uniform lambda to 0.002": (WIDE, "uniform_lambda"),
}
FINALS = ("denoise", "none")

# Settings that a search over forms, stochasticities and sigma_data found to be good on this very
# target, and so are reported separately.
TUNED: dict[str, dict[str, Any]] = {
    "seeds-ab3, sigma, ell=0.5": {"solver": "seeds-ab3", "form": "sigma", "ell": 0.5},
    "seeds-ab3, sigma, ell=1": {"solver": "seeds-ab3", "form": "sigma", "ell": 1.0},
    "seeds-ab4, sigma, ell=0.5": {"solver": "seeds-ab4", "form": "sigma", "ell": 0.5},
    "seeds-1, precond 1, ell=0.6": {
        "solver": "seeds-1",
        "form": "precond",
        "sigma_data": 1.0,
        "ell": 0.6,
    },
    "seeds-2, precond 0.3, ell=0.7": {
        "solver": "seeds-2",
        "form": "precond",
        "sigma_data": 0.3,
        "ell": 0.7,
    },
    "seeds-3, data, ell=0.25": {"solver": "seeds-3", "form": "data", "ell": 0.25},
    "seeds-sra3, data, ell=0.4": {"solver": "seeds-sra3", "form": "data", "ell": 0.4},
    "seeds-ab4, noise, ell=0": {"solver": "seeds-ab4", "form": "noise", "ell": 0.0},
    "seeds-3b, data, ell=0": {"solver": "seeds-3b", "form": "data", "ell": 0.0},
}

MIXTURE_NFES = (10, 16, 19, 22, 25, 34, 50, 100)
MIXTURE_SOLVERS = {
    "seeds-1 = DDPM ancestral": {"solver": "seeds-1", "form": "data", "ell": 1.0},
    "seeds-3": {"solver": "seeds-3", "form": "data", "ell": 1.0},
}
# 32 directions resolve the plane as well as more would.
PLANE = partial(sliced_wasserstein, directions=32)


def is_stochastic(settings: dict[str, Any]) -> bool:
    """Whether a solver draws Gaussians in this setting."""
    return expint.plan_sampling(EDM(), steps=3, **settings).normals > 0


def candidates() -> dict[str, dict[str, dict[str, Any]]]:
    """Settings by group and label: each solver in its own setting and, if that has noise, as ODE
    solver; and TUNED.
    """
    found = {f"{kind}, {whose}": {} for whose in ("ours", "others", "ours, tuned") for kind in BARS}
    for name in expint.solvers.names():
        whose = "ours" if name.startswith("seeds-") else "others"
        own, without = {"solver": name}, {"solver": name, "ell": 0.0}
        if is_stochastic(own):
            found[f"stochastic, {whose}"][name] = own
            if not is_stochastic(without):
                found[f"deterministic, {whose}"][f"{name}, ell=0"] = without
        else:
            found[f"deterministic, {whose}"][name] = own
    for label, settings in TUNED.items():
        found[
            "stochastic, ours, tuned" if is_stochastic(settings) else "deterministic, ours, tuned"
        ][label] = settings
    return found


def gaussian_studies(
    kind: str, entries: dict[str, dict[str, Any]], nfes: tuple[int, ...]
) -> list[QualityStudy]:
    """One study per grid and end, of the solvers of one kind."""
    return [
        compare_quality(
            analytic_target("gaussian-64", schedule),
            entries,
            nfes,
            grid=grid,
            final=final,
            name=f"gaussian-64, {kind}, {label}, {final}",
        )
        for label, (schedule, grid) in GRIDS.items()
        for final in FINALS
    ]


def best_rows(
    studies: dict[str, list[QualityStudy]], nfes: tuple[int, ...]
) -> list[dict[str, Any]]:
    """The best solver of each kind at each number of evaluations, over all grids and ends, beside
    the bar.
    """
    rows = []
    for kind, listed in studies.items():
        for nfe in nfes:
            found = [
                (distance, i, curve)
                for i, study in enumerate(listed)
                if (curve := study.best(nfe)) is not None
                and (distance := curve.at(nfe).distance) is not None
            ]
            distance, i, curve = min(found, key=lambda entry: entry[:2])
            study = listed[i]
            rows.append(
                {
                    "kind": kind,
                    "nfe": nfe,
                    "solver": curve.name,
                    "setting": curve.setting,
                    "grid": list(GRIDS)[i // len(FINALS)],
                    "final": study.settings["final"],
                    "used": curve.at(nfe).used,
                    "distance": distance,
                    "bar": BARS[kind.split(",")[0]][nfe],
                }
            )
    return rows


def best_table(rows: list[dict[str, Any]]) -> str:
    """The rows of `best_rows`, as Markdown."""
    cells = [
        ("kind", "NFE", "best", "setting", "grid", "final", "distance", "bar", "distance / bar")
    ]
    for row in rows:
        ratio = row["distance"] / row["bar"]
        cells.append(
            (
                row["kind"],
                str(row["nfe"]),
                row["solver"],
                row["setting"],
                row["grid"],
                row["final"],
                f"{row['distance']:.2g}",
                f"{row['bar']:.2g}",
                f"{ratio:.2f}",
            )
        )
    return table_text(cells, markdown=True)


def mixture_study(quick: bool) -> QualityStudy:
    """SEEDS-3 and DDPM ancestral sampling on the mixture, in equal steps of lambda; the ends differ
    too little to distinguish.
    """
    target = analytic_target("grid-25", NARROW)
    n, repeats, nfes = (20_000, 1, (10, 16, 25, 50)) if quick else (50_000, 2, MIXTURE_NFES)
    return compare_quality(
        target,
        MIXTURE_SOLVERS,
        nfes,
        n=n,
        repeats=repeats,
        batch=10_000,
        metric=PLANE,
        grid="uniform_lambda",
        name="grid-25",
        progress=True,
    )


@click.command()
@click.option("--quick", is_flag=True, help="Fewer numbers of evaluations, and fewer samples.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables as Markdown."
)
@click.option(
    "--json",
    "numbers",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all numbers as JSON.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def main(quick: bool, out: Path | None, numbers: Path | None, threads: int) -> None:
    """Print the tables."""
    torch.set_num_threads(threads)
    began = time.perf_counter()
    nfes = NFES[::2] if quick else NFES
    studies = {
        kind: gaussian_studies(kind, entries, nfes) for kind, entries in candidates().items()
    }
    rows = best_rows(studies, nfes)
    mixture = mixture_study(quick)
    listed = [study for group in studies.values() for study in group]
    sections = [
        *(study.table(markdown=True) for study in listed),
        best_table(rows),
        mixture.table(markdown=True),
    ]
    text = "\n\n".join([*sections, f"{time.perf_counter() - began:.0f} s"])
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    if numbers is not None:
        content = {
            "gaussian": [study.to_dict() for study in listed],
            "best": rows,
            "mixture": mixture.to_dict(),
        }
        numbers.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
