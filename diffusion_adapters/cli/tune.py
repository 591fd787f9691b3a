"""`expint tune`: the best plan for a network and a number of evaluations."""

import time
from pathlib import Path
from typing import Any

import click

from diffusion_adapters.cli import options, output
from diffusion_adapters.cli.given_data import read_data
from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.own_objects import model_of, solver_of
from diffusion_adapters.shipped.image_quality import EveryClass
from expint.runs.model import describe

_ELL = "Of every step: a number; low,high between which it is chosen; or free, 0 to 2."
_BUDGET = "Evaluations of the network on one sample that the search may take."
_REFERENCE = "Samples that are aimed at, (n, *shape): .npy, .npz or .safetensors."
_JOURNAL = "Keeps what is measured: a stopped search, started again as it was, goes on."
_FINE = "none, but solutions of the network's own, of 50 evaluations, along the same paths"


@click.command("tune")
@options.MODEL
@option("--nfe N", "Network evaluations of the plan.", required=True, least=1)
@option("--solver NAME", "auto, or what `expint solvers` lists.", default="auto")
@option("--ell TEXT", _ELL, default="1")
@option("--reference FILE", _REFERENCE, usual=_FINE)
@option("--array NAME", "Which array of the file.", usual="the only one of the network's shape")
@option("--budget N", _BUDGET, default=150_000, least=1)
@option("--journal FILE", _JOURNAL, usual="none")
@options.SEED
@option("--out FILE", "The .json file.", required=True)
@options.NO_PROGRESS
def tune_command(
    model: str, nfe: int, solver: str, ell: str, reference: Path | None, array: str | None,
    out: Path, **settings: Any,
) -> None:  # fmt: skip
    """Find the best plan for a network and a number of evaluations.

    Writes a .json file that expint.Plan.load reads, and --plan of other commands. A network with
    classes is tuned for all of them in turn.
    """
    from expint.tuning import tune  # the other commands do without its scipy.optimize

    network = model_of(model, EveryClass)
    samples = None
    if reference is not None:
        samples = read_data(reference, describe(network).shape, array)[0]
    elif array:
        raise ValueError("--array names an array of a file: give it with --reference.")
    output.check_folder(out.parent, [out.name])
    chosen = solver if solver == "auto" else solver_of(solver)
    begun = time.monotonic()
    plan = tune(network, nfe, solver=chosen, ell=_ell(ell), reference=samples, **settings)
    plan.save(out, network=model, seconds=round(time.monotonic() - begun, 1))
    told = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in plan.about.items())
    click.echo(f"{plan.solver}, {plan.nfe} evaluations, {', '.join(told)}: {out}")


def _ell(text: str) -> Any:
    if text == "free":
        return text
    values = options.listed("--ell", text, float, what="a number, low,high or free")
    return values[0] if len(values) == 1 else tuple(values)
