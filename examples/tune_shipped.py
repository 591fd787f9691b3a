"""Tune the plans of the shipped networks, which `expint.sample` takes where nothing is chosen.

    python examples/tune_shipped.py
    python examples/tune_shipped.py mnist-edm --nfe 10 --kind stochastic --threads 2
    python examples/tune_shipped.py --table       what the files say, as in docs/choose-a-plan.md

For each network, number of evaluations and kind (stochastic: ℓ between 0.3 and 2 in every step;
deterministic: ℓ = 0) `expint.tune` is run, of a class-conditional network for all classes in turn.
The plan's file, NETWORK-KIND-NFE.json, also holds the network's name and the hash of its weights;
a plan that is there is made again only where the weights have changed.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import click
import torch
from tqdm import tqdm

import expint
from diffusion_adapters import load, names
from diffusion_adapters.shipped import tuned_plans
from diffusion_adapters.shipped.image_quality import EveryClass
from diffusion_adapters.shipped.tuned_plans import KINDS, weights_hash
from expint.plans.file_format import read_content
from expint.schedules import Schedule

# Plans are tuned for equations of scalar schedules, so that digits-cld has none.
NETWORKS = [name for name in names() if isinstance(load(name).schedule, Schedule)]
NFES = (5, 8, 10, 15, 20, 30)
DISTANCES = ("distance", "distance of the default plan")


def table() -> str:
    """The distances of all files beside those of the default plan, as Markdown; those of plans that
    are taken where nothing is chosen are bold."""
    counts = " | ".join(f"{nfe}" for nfe in NFES)
    lines = [f"| network, kind | {counts} |", "|---" * (1 + len(NFES)) + "|"]
    for name, kind in product(NETWORKS, KINDS):
        cells = []
        for nfe in NFES:
            file = tuned_plans.PLANS / f"{name}-{kind}-{nfe}.json"
            content = read_content(file) if file.exists() else {"about": {}}
            pair = [content["about"].get(key) for key in DISTANCES]
            bold = "**" * (tuned_plans.tuned_plan(name, nfe) == content)
            cells.append(f"{bold}{pair[0]:.2f} ({pair[1]:.2f}){bold}" if content["about"] else "–")
        lines.append(f"| {name}, {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.argument("networks", nargs=-1, type=click.Choice(NETWORKS))
@click.option("--nfe", "nfes", multiple=True, type=int, default=NFES, show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice([*KINDS]), default=[*KINDS])
@click.option("--budget", default=150_000, show_default=True, help="Evaluations of one sample.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--compile", "faster", is_flag=True, help="Compile networks (needs a C++ compiler).")
@click.option("--table", "shown", is_flag=True, help="Tune nothing: print what the files say.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=tuned_plans.PLANS, help="Folder of the files."
)
def main(
    networks: tuple[str, ...], nfes: tuple[int, ...], kinds: tuple[str, ...], budget: int,
    seed: int, threads: int, faster: bool, shown: bool, out: Path,
) -> None:  # fmt: skip
    """Make the files that are missing."""
    if shown:
        click.echo(table())
        return
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    wanted = list(product(networks or NETWORKS, nfes, kinds))
    for name, nfe, kind in tqdm(wanted, desc="plans", unit="plan"):
        file = out / f"{name}-{kind}-{nfe}.json"
        if file.exists() and read_content(file)["about"]["weights"] == weights_hash(name):
            continue
        model = EveryClass(name)
        if faster:
            model.model.network = torch.compile(model.model.network)
        plan = expint.tune(model, nfe, ell=KINDS[kind], budget=budget, seed=seed)
        plan.save(file, network=name, weights=weights_hash(name), seed=seed)
        tqdm.write(f"{file.name}: {plan.solver}, distance {plan.about['distance']:.4g}")


if __name__ == "__main__":
    main()
