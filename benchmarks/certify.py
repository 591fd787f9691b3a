"""Certify every registered solver in the convergence laboratory and record what was measured in
certificates.json.

    python benchmarks/certify.py [--write] [NAME ...]

A solver is registered only while its coefficients are those of its certificate. After a change run
this with --write: a solver that does not keep its declared orders gets no certificate, and the
findings are printed.
"""

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from expint.convergence.certification import certify_registration
from expint.solvers import registry

FILE = Path(registry.__file__).with_name("certificates.json")


def main() -> None:
    """Measure and, if asked to, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--write", action="store_true", help="record the certificates")
    options = parser.parse_args()
    known = [*registry.entries(), *registry.pending()]
    unknown = set(options.names) - {entry.name for entry in known}
    if unknown:
        parser.error(f"unknown solvers {sorted(unknown)}")
    reference = next((entry for entry in registry.pending() if entry.name == "seeds-sra3"), None)
    if (
        reference is not None
    ):  # strong orders are measured against it; it has to earn its place first, without them
        if not certify_registration(reference.build()).passed:
            parser.error(
                "the reference of the strong orders, seeds-sra3, does not keep its own orders"
            )
        registry.add(reference)
    certificates = json.loads(FILE.read_text(encoding="utf-8"))
    for entry in tqdm(
        [entry for entry in known if not options.names or entry.name in options.names],
        unit="solver",
    ):
        certificate = certify_registration(entry.build(), strong=True)
        measured = {study.kind: round(study.order, 3) for study in certificate.studies}
        tqdm.write(
            f"{entry.name:22} {'certified' if certificate.passed else 'NOT certified'} {measured} "
            f"declared {certificate.declared}"
        )
        for finding in certificate.findings:
            tqdm.write(f"    {finding}")
        if certificate.passed:
            certificates[entry.name] = {
                "fingerprint": registry.fingerprint(entry.build()),
                "measured": measured,
            }
        else:
            certificates.pop(entry.name, None)
    if options.write:
        FILE.write_text(
            json.dumps(dict(sorted(certificates.items())), indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
