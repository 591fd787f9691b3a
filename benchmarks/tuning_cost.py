"""What tuning costs: seconds, evaluations, and peak memory beside that of sampling a batch.

    python benchmarks/tuning_cost.py mnist-edm --nfe 10 --threads 2
    python benchmarks/tuning_cost.py mnist-edm --nfe 10 --budget 20000      memory alone

Each in a process of its own; the peak is that of the process, less what it holds when the network
is loaded. The batch of 500 is that in which the search samples.
"""

import json
import resource
import subprocess
import sys
import time
import warnings

import click
import torch

import expint
from diffusion_adapters.shipped.image_quality import EveryClass

BATCH = 500


def _mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run(what: str, name: str, nfe: int, budget: int, threads: int) -> None:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore", expint.PlanWarning)
    model = EveryClass(name)
    expint.sample(model, (1, *model.shape), nfe=nfe, progress=False)
    before, begun = _mebibytes(), time.monotonic()
    found = {}
    if what == "sampling":
        expint.sample(model, (BATCH, *model.shape), nfe=nfe, progress=False)
    else:
        found = expint.tune(model, nfe, ell=(0.3, 2.0), budget=budget, progress=False).about
    seconds, peak = time.monotonic() - begun, _mebibytes() - before
    print(json.dumps({"what": what, "MiB": round(peak), "seconds": round(seconds, 1), **found}))


@click.command()
@click.argument("name", default="mnist-edm")
@click.option("--nfe", default=10, show_default=True)
@click.option("--budget", default=150_000, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--only", default=None, hidden=True)
def main(name: str, nfe: int, budget: int, threads: int, only: str | None) -> None:
    """Print the cost of sampling a batch from the shipped network NAME, and of tuning a plan."""
    if only:
        return _run(only, name, nfe, budget, threads)
    for what in ("sampling", "tuning"):
        settings = [f"--nfe={nfe}", f"--budget={budget}", f"--threads={threads}", f"--only={what}"]
        subprocess.run([sys.executable, __file__, name, *settings], check=True)
    return None


if __name__ == "__main__":
    main()
