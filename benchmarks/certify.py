"""Certify registered solvers and record what was measured in
expint/convergence/certificates.json.

    python benchmarks/certify.py [--write] [--paths 2048] [--steps 512,1024,2048,4096] [NAME ...]

The strong orders of all solvers of one equation are measured together, on the same Brownian paths,
where schemes of order 1 show it (`strong_certificates`), with the median over the paths beside the
root mean square. A solver that does not keep its declared orders gets no certificate,
and neither does one whose interval of the strong order lies below the declared one; the findings
are printed. All solvers take a quarter of an hour on one thread. Then run
benchmarks/solver_table.py, which fills the documents.
"""

import click
import torch
from tqdm import tqdm

from expint.convergence import Certificate, OrderStudy, certificates, certify_registration
from expint.convergence.strong_certificates import strong_certificates
from expint.solvers import Method, get, names

PATHS, STEPS = 2048, (512, 1024, 2048, 4096)


def holds(study: OrderStudy) -> bool:
    """Whether the interval of the order holds the declared one, or lies above it."""
    return study.order_interval is not None and study.order_interval[1] >= study.declared


def record(certificate: Certificate, method: Method) -> certificates.Record:
    """What to keep of a certificate of this method: orders to three decimals, errors to four
    digits.
    """
    measured = {}
    for study in certificate.studies:
        part = slice(study.fitted[0], study.fitted[1] + 1)
        interval = study.order_interval and [round(end, 3) for end in study.order_interval]
        median = study.other_orders.get("median")
        median = None if median is None else round(median, 3)
        errors = [float(f"{error:.4g}") for error in study.errors[part]]
        measured[study.kind] = certificates.Measured(
            round(study.order, 3), interval, study.steps[part], errors, median
        )
    return certificates.Record(certificates.fingerprint(method), measured)


@click.command(help=__doc__)
@click.argument("chosen", nargs=-1, metavar="[NAME]...")
@click.option("--write", is_flag=True, help="Record the certificates.")
@click.option("--paths", default=PATHS)
@click.option("--steps", default=",".join(map(str, STEPS)))
def main(chosen, write, paths, steps):
    """Measure and, if asked to, record."""
    torch.set_num_threads(1)
    methods = [get(name) for name in chosen or names()]
    counts = tuple(int(n) for n in steps.split(","))
    strong = strong_certificates(methods, steps=counts, paths=paths, batch=512, progress=True)
    records = certificates.read()
    for method in tqdm(methods, unit="solver"):
        study = strong.get(method.name)
        certificate = certify_registration(method, strong=study)
        held = study is None or holds(study)
        tqdm.write(certificate.table())
        if not held:
            tqdm.write("  off: the interval of the strong order lies below the declared one")
        records.pop(method.name, None)
        if certificate.passed and held:
            records[method.name] = record(certificate, method)
    if write:
        certificates.write(records)


if __name__ == "__main__":
    main()
