"""Where samples of Gaussian data have the wrong width: the ratio of standard deviations, exact, for
every solver and form, and the factor beyond which `expint.PlanWarning` is given.

For data N(0, 0.25²) and N(0, 1) on VP, EDM and the cosine schedule, the worse of the two; solvers
that take derivatives are left out.
Prints how many plans lie beyond each factor.
About 5 minutes.

    python benchmarks/soundness.py [--out ratios.json]
"""

import json
import warnings
from itertools import product
from pathlib import Path

import click
from tqdm import tqdm

from expint import plan_sampling, schedules, solvers
from expint.soundness import factor, std_ratios

SCHEDULES = {"vp": schedules.VP(), "edm": schedules.EDM(), "cosine": schedules.Cosine()}
STDS = (0.25, 1.0)
FORMS = (None, "data", "noise", "precond")
ELLS = (None, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
NFES = (4, 5, 6, 8, 9, 10, 12, 15, 20, 24, 30, 40, 60)
FACTORS = (1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0)
GROUPS = {
    "own form and ell": lambda form, ell: form is None and ell is None,
    "data form": lambda form, ell: form == "data" and ell is not None,
    "noise form": lambda form, ell: form == "noise" and ell is not None,
    "precond form": lambda form, ell: form == "precond" and ell is not None,
}


def ratio(solver, form, ell, nfe, schedule):
    """The ratio; None for what is refused, or whose own form needs no factor."""
    try:
        plan = plan_sampling(
            SCHEDULES[schedule], solver, form=form, ell=ell, nfe=nfe, sigma_data=0.5
        )
        return None if plan.has_tangents else max(std_ratios(plan, STDS), key=factor)
    except ValueError:
        return None


@click.command()
@click.option("--out", default=None, type=Path, help="A JSON file of all ratios.")
def main(out):
    """Print the shares; write the ratios."""
    warnings.simplefilter("ignore")
    keys = [
        key
        for key in product(solvers.names(), FORMS, ELLS, NFES, SCHEDULES)
        if (key[1] is None) == (key[2] is None)
    ]
    found = {key: value for key in tqdm(keys) if (value := ratio(*key)) is not None}
    print("Share of plans (%) of which the standard deviation is wrong by more than a factor:")
    print(f"{'group':<18}{'NFE':>8}{'plans':>8}" + "".join(f"{f:>8g}" for f in FACTORS))
    for (name, belongs), (low, high) in product(GROUPS.items(), ((4, 9), (10, 20), (24, 60))):
        factors = [factor(v) for k, v in found.items() if belongs(*k[1:3]) and low <= k[3] <= high]
        shares = [100.0 * sum(f > limit for f in factors) / len(factors) for limit in FACTORS]
        cells = "".join(f"{share:>8.1f}" for share in shares)
        print(f"{name:<18}{f'{low}-{high}':>8}{len(factors):>8}{cells}")
    if out is not None:
        out.write_text(json.dumps([[*key, value] for key, value in found.items()]) + "\n")


if __name__ == "__main__":
    main()
