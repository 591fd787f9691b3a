"""`expint sample`: draw samples from a shipped network, or a model of one's own, into a folder."""

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

import expint
from diffusion_adapters.cli import options, output, shards
from diffusion_adapters.cli.continuing import continued
from diffusion_adapters.cli.labels import LABELS, classes_of
from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.placing import NETWORK_DTYPE, placed_model
from diffusion_adapters.families import EDMAdapter
from diffusion_adapters.runs.batches import Batches
from expint.plans import Plan
from expint.plans.plan_files import plan_content
from expint.runs.model import describe
from expint.sampling import arguments_for, title

FILES = ("samples.png", "samples.npz", "manifest.json")
_SEEDS = "A seed for each sample in place of a run: numbers and ranges, with commas: 0-63,70."
_START = "Place in the run of the first sample: --start 3 --num 1 is sample 3 of --num 10."
_BATCH = "Samples computed at a time; a sample does not depend on it, but for rounding."
_USUAL_BATCH = "64 on the CPU, elsewhere what there is memory for"


@click.command()
@options.MODEL
@options.sampling_options
@option("--shape LIST", "Shape of a sample, with commas.", usual="what the model says")
@option(
    "--num N", "How many samples.", usual="64, or one for each of --seeds", least=1, most=10_000_000
)
@option("--seed N", options.RUN, usual="0", least=0)
@option("--seeds LIST", _SEEDS)
@option("--start N", _START, default=0, least=0)
@LABELS
@options.OUT
@option("--dtype [float32|float64]", "Precision of the state.", default="float32")
@NETWORK_DTYPE
@option("--batch N", _BATCH, usual=_USUAL_BATCH, least=1)
@shards.SHARD
@shards.MERGE
@shards.IMAGES_OPTION
@options.DEVICE
@option("--compile", "Pass the network through torch.compile.")
@options.NO_PROGRESS
def sample(**asked: Any) -> None:
    """Draw samples from a shipped network, or from a model of your own.

    Writes samples.png (all of them in a picture, if they are images), samples.npz (samples,
    labels, seeds) and manifest.json (every setting). A run of more than 1000 samples, one of
    several processes, and one with --shard, --merge or --images is written in shards as it goes.
    The same command continues it, and so does `expint sample --out DIR` with nothing else.
    """
    asked = continued(asked)
    given = SimpleNamespace(**asked)
    network, place = placed_model(given)
    described = describe(network)
    event = options.listed("--shape", given.shape, int) if given.shape else described.shape
    if not event:
        raise ValueError(f"The model {given.model!r} has no shape: give --shape, such as 3,32,32.")
    is_image = len(event) == 3 and event[0] in (1, 3)
    files = FILES if is_image else FILES[1:]
    listed = None if given.seeds is None else options.seeds_in(given.seeds)
    num = given.num or (64 if listed is None else len(listed))
    label_dim = described.label_dim if isinstance(network, EDMAdapter) else 0
    classes = classes_of(given.labels, given.model, label_dim, num, given.start)
    arguments = options.sampling_arguments(described.schedule, asked)
    if given.plan is None:
        made = arguments_for(described, arguments.pop("solver"), arguments)
    else:
        made = {**arguments, "round_time": described.round_time}
    plan = expint.plan_sampling(described.schedule, **made)
    if made.get("plan") is not arguments.get("plan"):  # the model's own
        arguments = dict.fromkeys(arguments) | {"plan": plan_content(plan)}
    drawn: dict[str, Any] = {"seed": given.seed, "seeds": listed, "start": given.start}
    drawn |= {"labels": classes, "batch": given.batch, "dtype": getattr(torch, given.dtype)}
    drawn |= {"device": place, "compile": given.compile}
    if shards.are_wanted(given, num):
        shards.draw_in_shards(given, network, num, shape=event, plan=plan, **drawn)
        return
    batches = Batches(network, event, plan, num, **drawn)
    seeds = batches.seeds(range(num))
    output.check_folder(given.out, files)

    began = time.perf_counter()
    parts = -(-num // batches.batch)
    with tqdm(total=plan.nfe * parts, disable=not given.progress, unit="NFE") as bar:
        bar.set_description(title(plan))

        def seen(places: range, nfe: int) -> None:
            bar.update(places.start // batches.batch * plan.nfe + nfe - bar.n)

        images = batches.draw(range(num), seen).numpy()
    seconds = time.perf_counter() - began

    device = str(place or described.device or "cpu")
    seed = (given.seed or 0) if listed is None else None
    settings = options.asked("operation", *shards.NAMES) | settings_of(plan, arguments)
    settings |= {"solver": given.solver or settings["solver"], "operations": list(given.operation)}
    settings |= {"out": str(given.out), "sigmas": None, "num": num, "seed": seed}
    settings |= {"batch": batches.batch}
    manifest = {
        "command": "expint sample",
        "settings": settings,
        "model": {
            "name": given.model,
            "schedule": str(described.schedule),
            "prediction": described.prediction,
            "sigma_data": described.sigma_data,
            "shape": list(event),
        },
        "device": device,
        "sde": plan.sde.name,
        "steps": plan.steps,
        "nfe": plan.nfe,
        "gaussians": plan.normals,
        "times": plan.to_dict()["grid"],
        "operations": [str(operation) for operation in plan.method.operations],
        "seeds": list(seeds),
        "labels": classes,
        "seconds": round(seconds, 3),
        "threads": torch.get_num_threads(),
        **output.origin(),
        "files": list(files),
    }
    arrays = {"samples": images, "seeds": np.array(seeds, dtype=np.uint64)}
    arrays["labels"] = np.array(classes or [-1] * num, dtype=np.int64)
    npz = output.content_of(np.savez_compressed, **arrays)
    content = [output.picture_bytes(images)] if is_image else []
    content += [npz, output.json_bytes(manifest)]
    written = output.write_files(given.out, dict(zip(files, content, strict=True)))
    most = "" if given.nfe in (None, plan.nfe) else f" (of at most {given.nfe})"
    assert plan.sde.diffusion
    drawn_from = f"seeds {given.seeds}" if seed is None else f"seed {seed}"
    first = f" from sample {given.start}" if given.start else ""
    click.echo(f"{num} samples of {given.model}, {drawn_from}{first}: {written}")
    click.echo(f"{title(plan)}, {plan.sde.diffusion.setting}, {given.dtype} on {device}")
    click.echo(f"{plan.nfe} network evaluations per sample{most} in {plan.steps} steps")
    click.echo(f"{seconds:.2f} s, {1e3 * seconds / num:.1f} ms per sample")


def settings_of(plan: Plan, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with which `plan_sampling` makes the plan again, whatever the defaults become.

    They are those that were asked for, with the name of the plan's solver, the form and the amount
    of noise of its equation, and its times unless the grid has a name; or the content of its file.
    """
    equation, settings = plan.sde.diffusion, dict(asked)
    if "plan" in asked:
        return settings
    assert equation
    settings |= {"solver": plan.solver, "form": equation.form}
    scale = equation.noise_scale
    if asked["eta"] is None and not (scale and scale.pieces):  # else ell is a list, or infinite
        settings |= {"ell": equation.ell, "noise_scale": None if scale is None else scale.name}
    if asked["grid"] == "default" or not isinstance(asked["grid"], str):
        # the last time says where it ends
        settings |= {"grid": plan.grid.tolist(), "steps": None, "nfe": None, "final": None}
    return settings
