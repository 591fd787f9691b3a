"""Certify every registered solver and record what was measured in
expint/convergence/certificates.json.

    python benchmarks/certify.py [--write] [--paths 4096] [--steps 512,1024,2048,4096] [NAME ...]

The strong orders of all solvers of one equation are measured together, on one set of Brownian
paths: data of three modes, σ from 5 to 0.1 in equal steps of λ on VP. On these data F is smooth
enough that few paths do not decide the root mean square. A solver that does not keep its declared
orders gets no certificate, and neither does one whose interval of the strong order lies below the
declared one; the findings are printed. With all solvers and 4096 paths: about a quarter of an hour
on one thread.
"""

import argparse

import torch
from tqdm import tqdm

from expint.convergence import Problem, certificates, certify_registration, strong_orders
from expint.convergence.certification import has_path_noise
from expint.convergence.studies import OrderStudy
from expint.schedules import VP
from expint.solvers import Tableau, get, names
from expint.targets import GaussianMixture

MIXTURE = GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]], 0.6, None, VP())
PATHS, STEPS = 4096, (512, 1024, 2048, 4096)


def strong_studies(
    tableaus: list[Tableau], steps: tuple[int, ...], paths: int
) -> dict[str, OrderStudy]:
    """The strong orders of those that have one, by name."""
    groups: dict[tuple[str, float], list[Tableau]] = {}
    for tableau in tableaus:
        if has_path_noise(tableau) and tableau.strong_order > 0:
            groups.setdefault((tableau.form, tableau.ell), []).append(tableau)
    studies = [
        study
        for (form, ell), group in groups.items()
        for study in strong_orders(
            group, Problem(MIXTURE, form, ell), steps=steps, paths=paths, refine=4, progress=True
        ).studies
    ]
    return {study.solver: study for study in studies}


def holds(study: OrderStudy) -> bool:
    """Whether the interval of the order holds the declared one, or lies above it."""
    return study.order_interval is not None and study.order_interval[1] >= study.declared


def main() -> None:
    """Measure and, if asked to, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--write", action="store_true", help="record the certificates")
    parser.add_argument("--paths", type=int, default=PATHS)
    parser.add_argument("--steps", default=",".join(map(str, STEPS)))
    options = parser.parse_args()
    unknown = set(options.names) - set(names())
    if unknown:
        parser.error(f"unknown solvers {sorted(unknown)}")
    torch.set_num_threads(1)
    tableaus = [get(name) for name in options.names or names()]
    steps = tuple(int(n) for n in options.steps.split(","))
    strong = strong_studies(tableaus, steps, options.paths)
    records = certificates.read()
    for tableau in tqdm(tableaus, unit="solver"):
        study = strong.get(tableau.name)
        certificate = certify_registration(tableau, strong=study)
        kept = certificate.passed and (study is None or holds(study))
        lines = [certificate.table()]
        if study is not None and not holds(study):
            lines.append("  off: the interval of the strong order lies below the declared order")
        tqdm.write("\n".join(lines))
        records.pop(tableau.name, None)
        if kept:
            records[tableau.name] = certificates.record(certificate, tableau)
    if options.write:
        certificates.write(records)


if __name__ == "__main__":
    main()
