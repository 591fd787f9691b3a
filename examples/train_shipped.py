"""Train one of the shipped networks on a CPU, and write its weights and its card.

python examples/train_shipped.py digits-edm --minutes 10
python examples/train_shipped.py digits-cld --minutes 10
python examples/train_shipped.py mnist-edm --data mnist.npz --minutes 60
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
import training_losses as losses
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from tqdm import tqdm
from training_data import Images, augment, digits, mnist

from diffusion_adapters.shipped.networks import (
    Classifier,
    EDMNetwork,
    IDDPMNetwork,
    VENetwork,
    VPNetwork,
)
from diffusion_adapters.shipped.phase_space_network import CLDNetwork
from expint.files import replacing

SHIPPED = Path(__file__).resolve().parent.parent / "diffusion_adapters" / "shipped" / "data"


def classifier_loss(
    net: Classifier, x: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Cross-entropy; arguments as in `training_losses.edm_loss`."""
    return nn.functional.cross_entropy(net(x), labels, label_smoothing=0.05)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that distinguishes one training from another.

    Attributes:
        network: class of the network.
        family: name of its calling convention.
        prediction: what it predicts.
        schedule: kind and parameters of the noise schedule, for the card.
        loss: `loss(net, x, labels, generator) -> scalar`.
        architecture: arguments of the network's class beyond the image's shape.
        batch: images per step.
        rate: highest learning rate.
        augmented: share of the images that are moved about a little.
        minutes: how long to train if the command line does not say.
    """

    network: type[nn.Module]
    family: str
    prediction: str
    schedule: dict[str, Any]
    loss: Callable[..., Tensor]
    architecture: dict[str, Any]
    batch: int = 128
    rate: float = 2e-3
    augmented: float = 0.4
    minutes: float = 10.0


DIGITS = {"channels": 24, "multipliers": [1, 2], "blocks": 1, "patch": 1, "attention": True}
MNIST = {"channels": 32, "multipliers": [1, 2], "blocks": 1, "patch": 2, "attention": True}
CLD_PROCESS = {"beta": 4.0, "M": 0.25, "gamma": 0.04}
EDM_SCHEDULE = {"kind": "EDM", "sigma_min": 0.002, "sigma_max": 80.0}
RECIPES = {
    "digits-vp": Recipe(
        VPNetwork,
        "vp",
        "noise",
        {"kind": "VP", "beta_min": 0.1, "beta_d": 19.9},
        losses.vp_loss,
        DIGITS | {"max_frequency": 100.0},
    ),
    "digits-ve": Recipe(
        VENetwork,
        "ve",
        "score",
        {"kind": "VE", "sigma_min": 0.01, "sigma_max": 50.0},
        losses.ve_loss,
        DIGITS,
    ),
    "digits-iddpm": Recipe(
        IDDPMNetwork,
        "iddpm",
        "noise",
        {"kind": "IDDPM", "M": 1000},
        losses.iddpm_loss,
        DIGITS | {"max_frequency": 100.0},
    ),
    "digits-edm": Recipe(
        EDMNetwork, "edm", "data", EDM_SCHEDULE, losses.edm_loss, DIGITS | {"label_dim": 10}
    ),
    "digits-cld": Recipe(
        CLDNetwork,
        "cld",
        "mixed",
        {"kind": "CLD", **CLD_PROCESS},
        losses.cld_loss,
        DIGITS | CLD_PROCESS | {"channels": 20},
    ),
    "mnist-edm": Recipe(
        EDMNetwork,
        "edm",
        "data",
        EDM_SCHEDULE,
        functools.partial(losses.edm_loss, label_dropout=0.1),
        MNIST | {"label_dim": 10},
        batch=96,
        rate=1.5e-3,
        augmented=0.0,
        minutes=60.0,
    ),
    "digits-classifier": Recipe(
        Classifier,
        "classifier",
        "class",
        {},
        classifier_loss,
        {"label_dim": 10, "channels": 16},
        minutes=1.5,
    ),
    "mnist-classifier": Recipe(
        Classifier,
        "classifier",
        "class",
        {},
        classifier_loss,
        {"label_dim": 10, "channels": 8},
        minutes=3.0,
    ),
}


def build(name: str, data: Images) -> tuple[nn.Module, dict[str, Any]]:
    """The untrained network of a recipe and the arguments of its class, which go into the card."""
    recipe = RECIPES[name]
    parameters = {
        key: value for key, value in recipe.schedule.items() if key.startswith(("sigma", "beta"))
    }
    arguments = (
        {"img_channels": 1, "img_resolution": data.train.shape[-1]}
        | parameters
        | recipe.architecture
    )
    if recipe.family in ("edm", "cld"):
        arguments["sigma_data"] = round(data.sigma_data, 4)
    return recipe.network(**arguments), arguments


def save(name: str, net: nn.Module, card: dict[str, Any], out: Path) -> None:
    """Write NAME.safetensors (float16) and NAME.json into `out`, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {key: value.to(torch.float16).contiguous() for key, value in net.state_dict().items()}
    with replacing(out / f"{name}.safetensors") as part:
        part.write_bytes(to_bytes(weights))
    with replacing(out / f"{name}.json") as part:
        part.write_text(json.dumps(card, indent=2) + "\n")


def rate_factor(progress: float, step: int) -> float:
    """Learning rate as a share of the highest: 200 steps of warm-up, then a half cosine down to
    0.
    """
    cosine = 0.5 * (1 + torch.cos(torch.tensor(min(progress, 1.0) * torch.pi)).item())
    return min(1.0, (step + 1) / 200) * cosine


@torch.no_grad()
def held_out_loss(name: str, net: nn.Module, data: Images, draws: int = 20) -> float:
    """The loss of a recipe on the held-out images, the mean of some draws of times and noise."""
    generator = torch.Generator().manual_seed(0)
    held_out = net, data.test, data.test_labels, generator
    return round(sum(RECIPES[name].loss(*held_out).item() for _ in range(draws)) / draws, 4)


def train(
    name: str, data: Images, minutes: float, steps: int | None, threads: int, seed: int, out: Path
) -> None:
    """Train the network `name` and write it to `out`, once a minute and at the end."""
    recipe = RECIPES[name]
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net, arguments = build(name, data)
    average = copy.deepcopy(net).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=recipe.rate, betas=(0.9, 0.99), weight_decay=1e-3
    )
    start = saved = time.monotonic()
    step, running, progress = 0, float("nan"), 0.0

    def card() -> dict[str, Any]:
        return {
            "name": name,
            "family": recipe.family,
            "prediction": recipe.prediction,
            "schedule": recipe.schedule,
            "architecture": arguments,
            "shape": list(data.train.shape[1:]),
            "range": [-1.0, 1.0],
            "classes": list(range(10)) if arguments.get("label_dim") else [],
            "sigma_data": round(data.sigma_data, 4),
            "parameters": sum(p.numel() for p in net.parameters()),
            "stored_as": "float16",
            "data": {"source": data.source, "split": data.split},
            "training": {
                "seed": seed,
                "steps": step,
                "batch": recipe.batch,
                "minutes": round((time.monotonic() - start) / 60, 1),
                "threads": threads,
                "augmented": recipe.augmented,
                "finished": progress >= 1,
                "held_out_loss": held_out_loss(name, average, data) if progress >= 1 else None,
            },
            "metrics": {},
        }

    # bfloat16 convolutions are about a third faster on CPUs that have them; weights and losses stay
    # in float32.
    mixed = recipe.family != "classifier"
    with tqdm(
        total=100.0,
        unit="%",
        desc=name,
        mininterval=10,
        bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}",
    ) as bar:
        while progress < 1:
            elapsed = time.monotonic() - start
            progress = step / steps if steps is not None else elapsed / (60 * minutes)
            bar.n = min(100.0, round(100 * progress, 2))
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * rate_factor(progress, step)
            chosen = torch.randint(len(data.train), (recipe.batch,), generator=generator)
            x, labels = data.train[chosen], data.train_labels[chosen]
            if recipe.augmented:
                x = augment(x, generator, recipe.augmented)
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                loss = recipe.loss(net, x, labels, generator)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            step += 1
            decay = min(0.999, (1 + step) / (20 + step))
            for target, value in zip(average.parameters(), net.parameters(), strict=True):
                target.lerp_(value, 1 - decay)
            running = loss.item() if step == 1 else 0.99 * running + 0.01 * loss.item()
            if step % 50 == 0:
                bar.set_postfix(step=step, loss=f"{running:.4f}", refresh=False)
            bar.update(0)
            if time.monotonic() - saved > 60:
                saved = time.monotonic()
                save(name, average, card(), out)
    save(name, average, card(), out)


@click.command()
@click.argument("name", type=click.Choice(sorted(RECIPES)))
@click.option(
    "--data", type=click.Path(exists=True, dir_okay=False), help="MNIST as an .npz file; see above."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="How long to train.  [default: per network]",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Train for so many steps instead: the same on any machine.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads."
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of initial weights, batches and noise.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=SHIPPED,
    help="Folder to write to.",
)
def main(
    name: str,
    data: str | None,
    minutes: float | None,
    steps: int | None,
    threads: int,
    seed: int,
    out: Path,
) -> None:
    """Train the shipped network NAME, and write NAME.safetensors and NAME.json.

    The digits come with scikit-learn. MNIST does not come with this project: give --data an .npz
    file with the arrays train_x, train_y, test_x and test_y (uint8, 28x28 pixels), or Keras' file
    https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz as it is.
    """
    if name.startswith("mnist"):
        if data is None:
            raise click.UsageError(
                f"{name} needs --data, the path of MNIST as an .npz file; see --help for where to "
                "get it."
            )
        images = mnist(data)
    else:
        images = digits()
    train(
        name,
        images,
        RECIPES[name].minutes if minutes is None else minutes,
        steps,
        threads,
        seed,
        out,
    )


if __name__ == "__main__":
    main()
