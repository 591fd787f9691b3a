"""Solvers for critically-damped Langevin diffusion on the shipped network digits-cld: Fréchet
distance by solver and number of evaluations; the second table in docs/blocks-and-fields.md.

    python studies/cld_network.py           what is missing in the JSON beside it
    python studies/cld_network.py --page    the table into the page, and a picture of 64 digits

In the features of the shipped classifier, from the 450 held-out digits, 2,000 samples in a run, of
which the first 130 of each class, as the classifier names it, are taken: that the numbers of each
class are random would make up most of the distance. The floor is that of 130 training digits of
each. All start from the limit of the forward process and
end with a denoising evaluation, which counts. The grid is that of `expint.sample`; the published
samplers take the better of this one and one that is uniform in √t, by the first run of 20
evaluations.
"""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import click
import torch
from pages import with_table
from torch import Tensor

from diffusion_adapters import load, load_classifier
from diffusion_adapters.cli.output import picture_bytes
from diffusion_adapters.shipped.image_quality import real_images
from expint import Plan, compile_plan, execute, metrics, noise, sample
from expint.phase_space import GDDIM, Denoised, reverse_cld, split_score, sscs_plan
from expint.phase_space_samples import plan_phase_space
from expint.solvers import get

FILE = Path(__file__).with_suffix(".json")
PAGE = FILE.parents[1] / "docs" / "blocks-and-fields.md"
NFE, SAMPLES, BATCH, EACH = (20, 50, 100), 2000, 500, 130
GRIDS = ("default", "root")
RUNS = [(20, 0), (50, 0), (20, 1), (20, 2), (100, 0), (50, 1), (50, 2), (100, 1), (100, 2)]
FIRST = RUNS[0]

# Name: solver, form, ell.
SOLVERS: dict[str, tuple[str, str, float]] = {
    **{f"{name}, ℓ = 1": (name, "data", 1.0) for name in ("seeds-1", "seeds-2", "seeds-3")},
    "seeds-ab2, ℓ = 1": ("seeds-ab2", "data", 1.0),
    "seeds-ab2, ℓ = 0": ("seeds-ab2", "data", 0.0),
    "SSCS": ("seeds-1", "sscs", 1.0),
    "Euler–Maruyama": ("seeds-1", "drift", 1.0),
    "gDDIM, two steps, ℓ = 0": ("seeds-ab2", "gddim", 0.0),
}


def run_of(name: str, nfe: int, grid: str, model: Any) -> tuple[Plan, Callable[..., Tensor]]:
    """The plan, with one evaluation left for denoising, and its F."""
    solver, form, ell = SOLVERS[name]
    evaluations, process = get(solver).tableau.evaluations, model.schedule
    steps = (nfe - 1) // evaluations + 1
    times = plan_phase_space(process, solver, steps=steps, grid=grid).grid
    if form == "sscs":
        return sscs_plan(process, times), split_score(process, Denoised(process, model, "score"))
    end = float(times[-1])
    if form == "gddim":
        gddim = GDDIM(process, end=end)
        return compile_plan(gddim.sde, solver, times), gddim(model)
    sde = reverse_cld(process, form, ell, end=end)
    return compile_plan(sde, solver, times), Denoised(process, model, form, ell)


@torch.inference_mode()
def samples(name: str, nfe: int, grid: str, seed: int, model: Any) -> Tensor:
    """Denoised samples of a run, shape (SAMPLES, 1, 8, 8)."""
    plan, F = run_of(name, nfe, grid, model)
    assert plan.nfe < nfe
    drawn = []
    for start in range(0, SAMPLES, BATCH):
        seeds = noise.per_sample(seed, BATCH, start=start)
        u = noise.initial_state(seeds, (2, *model.shape), torch.float32)
        u[:, 1] *= model.schedule.M**0.5
        end = execute(plan, F, u, noise.Gaussian(seeds))
        drawn.append(model(end, plan.grid[-1])[:, 0])
    return torch.cat(drawn)


def grid_of(name: str, done: dict[str, Any]) -> str:
    """The one on which a solver is run after the first run."""
    keys = {f"{name} | {FIRST[0]} | {grid} | {FIRST[1]}": grid for grid in GRIDS}
    found = {done[key]: grid for key, grid in keys.items() if key in done}
    return found[min(found)] if found else GRIDS[0]


@torch.inference_mode()
def balanced(images: Tensor, classifier: Any) -> Tensor:
    """Features of the first EACH images of every class."""
    features = torch.cat([classifier.features(part) for part in images.split(BATCH)])
    classes = classifier.head(features).argmax(1)
    parts = [features[classes == label][:EACH] for label in range(classifier.label_dim)]
    if min(map(len, parts)) < EACH:
        raise ValueError(f"There are {[len(part) for part in parts]} images, not {EACH} of each.")
    return torch.cat(parts)


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with the table between its marks: means of the runs, and how many they are."""
    shown = [n for n in NFE if any(f" | {n} | " in key for key in done)]
    rows = [("solver", *(f"NFE {n}" for n in shown))]
    for name in SOLVERS:
        cells = []
        for n in shown:
            head = f"{name} | {n} | {grid_of(name, done)} |"
            found = [value for key, value in done.items() if key.startswith(head)]
            cells.append(f"{mean(found):.3f} ({len(found)})" if found else "–")
        rows.append((name, *cells))
    rows.append(("training digits", *(f"{done['floor']:.3f}" for _ in shown)))
    return with_table(text, "cld network", rows)


@click.command(help=__doc__)
@click.option("--page", is_flag=True)
def main(page: bool) -> None:
    """Run it."""
    done: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    model = load("digits-cld")
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        digits = sample(model, (64, *model.shape), nfe=20, seed=1).numpy()
        (PAGE.parent / "img" / "digits-cld.png").write_bytes(picture_bytes(digits))
        return
    torch.set_num_threads(1)
    classifier, _ = load_classifier("digits-classifier")
    train, held_out = real_images("digits-cld")
    model.to(memory_format=torch.channels_last)
    reference = classifier.features(held_out)
    done["floor"] = metrics.frechet_distance(balanced(train, classifier), reference).item()
    for (nfe, seed), name in product(RUNS, SOLVERS):
        choice = (nfe, seed) == FIRST and not name.startswith("seeds")
        for grid in GRIDS if choice else [grid_of(name, done)]:
            key = f"{name} | {nfe} | {grid} | {seed}"
            if key not in done:
                drawn = balanced(samples(name, nfe, grid, seed, model), classifier)
                done[key] = round(metrics.frechet_distance(drawn, reference).item(), 5)
                click.echo(f"{key}: {done[key]:.4f} (floor {done['floor']:.4f})")
                FILE.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
