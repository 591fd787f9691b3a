"""How good the shipped networks are: sample with each, and compare the samples with held-out images
in the features of a classifier of its data set.

    python benchmarks/shipped_quality.py
    python benchmarks/shipped_quality.py mnist-edm --mnist mnist.npz --count 2000 --grids grids

Prints a table and, with --write, puts the figures into the cards. The columns:

    FD         Fréchet distance, in the classifier's last hidden layer, of the samples from the
               held-out images
    floor      the same distance of as many training images from the held-out images
    accuracy   fraction of the class-conditional samples that the classifier takes for the class
               they were asked for
    nearest    median distance of a sample to the nearest training image, divided by that of a
               held-out image: near 0 for a network that repeats its training images, near 1 for one
               that does not
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

import expint
from diffusion_adapters import load
from diffusion_adapters.shipped import files as shipped
from expint.metrics import frechet_distance

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from training_data import Images, digits, mnist  # from the folder of the training script

CARDS = Path(shipped.__file__).parent / "data"
BATCH = 500


def draw(
    name: str, count: int, conditional: bool, seed: int, how: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """`count` samples (N, C, H, W), and the (N,) classes asked for, in turn 0, 1, ..., 9, 0, ..."""
    classes = torch.arange(count) % 10
    drawn = []
    for chosen in tqdm(torch.arange(count).split(BATCH), desc=name, leave=False):
        model = load(name, labels=classes[chosen] if conditional else None)
        # Sample i of a run is a function of i, so the size of the batch does not matter.
        part = {"seed": seed, "start": int(chosen[0])}
        drawn.append(
            expint.sample(model, (len(chosen), *model.shape), progress=False, **part, **how)
        )
    return torch.cat(drawn), classes


def nearest(images: Tensor, training: Tensor) -> float:
    """Median Euclidean distance from an image to the nearest training image."""
    distances = [
        torch.cdist(part.flatten(1), training.flatten(1)).amin(1) for part in images.split(BATCH)
    ]
    return float(torch.cat(distances).median())


def save_grid(images: Tensor, path: Path, magnification: int) -> None:
    """The first 100 images as a 10 x 10 grid, a class per column if the classes were asked for in
    turn.
    """
    first = images[:100].clamp(-1, 1).add(1).mul(127.5).round()
    framed = nn.functional.pad(first, (1, 1, 1, 1), value=96)  # a grey line around each
    _, _, height, width = framed.shape
    pixels = (
        framed.reshape(10, 10, height, width).permute(0, 2, 1, 3).reshape(10 * height, 10 * width)
    )
    size = (10 * width * magnification, 10 * height * magnification)
    Image.fromarray(pixels.to(torch.uint8).numpy()).resize(size, Image.Resampling.NEAREST).save(
        path
    )


@torch.inference_mode()
def network_figures(
    name: str, data: Images, count: int, seed: int, how: dict[str, Any], grids: Path | None
) -> dict[str, Any]:
    """The figures of one network, by name, for the table and its card."""
    card = load(name).card
    classifier, _ = shipped.load_classifier(f"{name.split('-')[0]}-classifier")

    def features(images: Tensor) -> Tensor:
        return torch.cat([classifier.features(part) for part in images.split(BATCH)])

    generator = torch.Generator().manual_seed(seed)
    some_training = data.train[torch.randperm(len(data.train), generator=generator)[:count]]
    held_out = features(data.test)
    figures: dict[str, Any] = {"count": count, "held_out": len(data.test), **how}
    figures["frechet_floor"] = float(frechet_distance(features(some_training), held_out))
    reference = nearest(data.test[:count], data.train)
    modes = ["conditional", "unconditional"] if card["classes"] else ["unconditional"]
    for mode in modes:
        samples, classes = draw(name, count, mode == "conditional", seed, how)
        result = {
            "frechet_distance": float(frechet_distance(features(samples), held_out)),
            "nearest_ratio": nearest(samples, data.train) / reference,
        }
        if mode == "conditional":
            guessed = torch.cat([classifier(part).argmax(1) for part in samples.split(BATCH)])
            result["accuracy"] = float((guessed == classes).double().mean())
        figures[mode] = {key: round(value, 4) for key, value in result.items()}
        if grids is not None:
            grids.mkdir(parents=True, exist_ok=True)
            save_grid(samples, grids / f"{name}-{mode}.png", 8 if samples.shape[-1] < 16 else 3)
    figures["frechet_floor"] = round(figures["frechet_floor"], 4)
    return figures


@torch.inference_mode()
def classifier_figures(name: str, data: Images) -> dict[str, Any]:
    """Fraction of the held-out images that a classifier names rightly."""
    classifier, _ = shipped.load_classifier(name)
    guessed = torch.cat([classifier(part).argmax(1) for part in data.test.split(BATCH)])
    return {
        "held_out": len(data.test),
        "accuracy": round(float((guessed == data.test_labels).double().mean()), 4),
    }


def write(name: str, figures: dict[str, Any]) -> None:
    """Put the figures into the card."""
    path = CARDS / f"{name}.json"
    card = json.loads(path.read_text())
    card["metrics"] = figures
    path.write_text(json.dumps(card, indent=2) + "\n")


def table_rows(name: str, figures: dict[str, Any]) -> list[str]:
    """The lines of the table for one network."""
    rows = []
    for mode in ("conditional", "unconditional"):
        if mode in figures:
            result = figures[mode]
            accuracy = f"{100 * result['accuracy']:8.1f} %" if "accuracy" in result else " " * 10
            rows.append(
                f"{name:14} {mode:14} {figures['count']:6d} {result['frechet_distance']:8.3f} "
                f"{figures['frechet_floor']:8.3f} {accuracy} {result['nearest_ratio']:8.2f}"
            )
    return rows


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--mnist",
    "mnist_path",
    type=click.Path(exists=True, dir_okay=False),
    help="MNIST, as examples/train_shipped.py reads it.",
)
@click.option(
    "--count",
    type=click.IntRange(min=100),
    help="Samples per network.  [default: as many as for training, at most 2000]",
)
@click.option("--solver", default="seeds-3", show_default=True)
@click.option("--steps", type=click.IntRange(min=2), default=20, show_default=True)
@click.option("--form", default="data", show_default=True)
@click.option(
    "--ell", type=float, default=1.0, show_default=True, help="Stochasticity; 0 for the ODE."
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="The run: sample i is a function of N and i.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--grids",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for pictures of the first 100 samples.",
)
@click.option(
    "--write/--no-write",
    "writing",
    default=False,
    help="Whether to put the figures into the cards.",
)
def main(
    names: tuple[str, ...],
    mnist_path: str | None,
    count: int | None,
    seed: int,
    threads: int,
    grids: Path | None,
    writing: bool,
    **how: Any,
) -> None:
    """The quality of the shipped networks NAMES (all of them by default) and of the classifiers of
    their data sets.
    """
    torch.set_num_threads(threads)
    chosen = list(names) or shipped.names()
    unknown = [name for name in chosen if name not in shipped.names()]
    if unknown:
        raise click.UsageError(f"Unknown networks {unknown}; there are {shipped.names()}.")
    if mnist_path is None and any(name.startswith("mnist") for name in chosen):
        click.echo(
            "Left out the networks of MNIST: give --mnist the path of the data set.", err=True
        )
        chosen = [name for name in chosen if not name.startswith("mnist")]
    click.echo(
        f"{'network':14} {'mode':14} {'count':>6} {'FD':>8} {'floor':>8} {'accuracy':>10} "
        f"{'nearest':>8}"
    )
    for prefix in ("digits", "mnist"):
        group = [name for name in chosen if name.startswith(prefix)]
        if not group:
            continue
        data = mnist(mnist_path) if mnist_path is not None and prefix == "mnist" else digits()
        found = {f"{prefix}-classifier": classifier_figures(f"{prefix}-classifier", data)}
        for name in group:
            found[name] = network_figures(
                name, data, count or min(2000, len(data.train)), seed, how, grids
            )
            for row in table_rows(name, found[name]):
                click.echo(row)
        right = found[f"{prefix}-classifier"]["accuracy"]
        click.echo(
            f"{prefix}-classifier names {100 * right:.2f} % of {len(data.test)} held-out images "
            "rightly."
        )
        if writing:
            for name, figures in found.items():
                write(name, figures)


if __name__ == "__main__":
    main()
