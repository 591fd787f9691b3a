"""How many plans `expint.PlanWarning` is given for: the share, for every solver and form, at ℓ = 0
and 1 and several numbers of evaluations, on VP and EDM. Solvers that take derivatives are
left out.
About 3 minutes.

    python benchmarks/soundness.py [--out verdicts.json]
"""

import json
import warnings
from itertools import product
from pathlib import Path

import click
from tqdm import tqdm

from expint import plan_sampling, schedules, solvers
from expint.soundness import verdict

SCHEDULES = {"vp": schedules.VP(), "edm": schedules.EDM()}
FORMS = (None, "data", "noise", "precond")
ELLS = (None, 0.0, 1.0)
NFES = (8, 10, 20, 40)
GROUPS = {
    "own form and ell": lambda form, ell: form is None and ell is None,
    "data form": lambda form, ell: form == "data" and ell is not None,
    "noise form": lambda form, ell: form == "noise" and ell is not None,
    "precond form": lambda form, ell: form == "precond" and ell is not None,
}


def off(solver, form, ell, nfe, schedule):
    """How far a plan is off, in what is tolerated; None for what is refused."""
    try:
        plan = plan_sampling(
            SCHEDULES[schedule], solver, form=form, ell=ell, nfe=nfe, sigma_data=0.5
        )
        return None if plan.has_tangents else verdict(plan)[0]
    except ValueError:
        return None


@click.command()
@click.option("--out", default=None, type=Path, help="A JSON file of all verdicts.")
def main(out):
    """Print the shares; write the verdicts."""
    warnings.simplefilter("ignore")
    keys = [
        key
        for key in product(solvers.names(), FORMS, ELLS, NFES, SCHEDULES)
        if (key[1] is None) == (key[2] is None)
    ]
    found = {key: value for key in tqdm(keys) if (value := off(*key)) is not None}
    print("Share of plans (%) that are warned of, by network evaluations:")
    print(f"{'group':<18}" + "".join(f"{nfe:>8}" for nfe in NFES))
    for name, belongs in GROUPS.items():
        cells = []
        for nfe in NFES:
            values = [v for k, v in found.items() if belongs(*k[1:3]) and k[3] == nfe]
            cells.append(100.0 * sum(value > 1.0 for value in values) / len(values))
        print(f"{name:<18}" + "".join(f"{share:>8.1f}" for share in cells))
    if out is not None:
        out.write_text(json.dumps([[*key, value] for key, value in found.items()]) + "\n")


if __name__ == "__main__":
    main()
