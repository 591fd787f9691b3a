"""Networks that come with the package: small, pretrained on 8x8 digits and on MNIST, read without
pickle.

Each is two files in the folder `data`: NAME.safetensors, the weights, and NAME.json, the card,
which says how the network is called, on what it was trained, and how well it does.
"""

import importlib.resources
import json
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from diffusion_adapters.checkpoints.state_dicts import differences
from diffusion_adapters.shipped.networks import (
    Classifier,
    EDMNetwork,
    IDDPMNetwork,
    VENetwork,
    VPNetwork,
)
from expint.registry import unknown

FAMILIES: dict[str, type[nn.Module]] = {
    "vp": VPNetwork,
    "ve": VENetwork,
    "iddpm": IDDPMNetwork,
    "edm": EDMNetwork,
    "classifier": Classifier,
}
_CARD_KEYS = ("name", "family", "prediction", "schedule", "architecture", "shape")


def _default_folder() -> Traversable:
    return importlib.resources.files("diffusion_adapters.shipped") / "data"


def _stems(folder: Traversable) -> list[str]:
    if not folder.is_dir():
        return []
    files = [entry.name for entry in folder.iterdir()]
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


def names(folder: Path | None = None) -> list[str]:
    """Names of the shipped diffusion networks.

    Args:
        folder: another folder of cards and weights; None for the package's own.

    Example:
        >>> "digits-edm" in names()
        True
    """
    stems = _stems(folder or _default_folder())
    return [stem for stem in stems if not stem.endswith("-classifier")]


def load_network(name: str, folder: Path | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Read a shipped network, bare: called in its family's own convention (see
    `diffusion_adapters.shipped.networks`).

    Args:
        name: one of `names()`.
        folder: another folder of cards and weights; None for the package's own.

    Returns:
        The network, float32, on the CPU, in evaluation mode and without gradients of its weights;
        and its card.

    Raises:
        ValueError: if there is no such network, or if its files are damaged or do not fit each
            other; the message names the file and what is wrong. Nothing is half loaded.

    Example:
        >>> network, card = load_network("digits-edm")
        >>> images = torch.zeros(2, *card["shape"])
        >>> network(images, 1.0).shape
        torch.Size([2, 1, 8, 8])
    """
    return _read(name, names(folder), "network", folder or _default_folder())


def load_classifier(name: str, folder: Path | None = None) -> tuple[Classifier, dict[str, Any]]:
    """Read the classifier beside the shipped networks, whose features measure their samples.

    Args:
        name: "digits-classifier" or "mnist-classifier".
        folder: another folder of cards and weights; None for the package's own.

    Returns:
        The classifier, as `load_network` returns networks, and its card.

    Raises:
        ValueError: as `load_network` does.
    """
    where = folder or _default_folder()
    known = [stem for stem in _stems(where) if stem.endswith("-classifier")]
    classifier, card = _read(name, known, "classifier", where)
    if not isinstance(classifier, Classifier):
        raise ValueError(
            f"{where / (name + '.json')} describes a network of family {card['family']!r}, no "
            "classifier."
        )
    return classifier, card


def _read(
    name: str, known: list[str], kind: str, folder: Traversable
) -> tuple[nn.Module, dict[str, Any]]:
    if name not in known:
        raise unknown(f"shipped {kind}", name, known)
    card_file, weights_file = folder / f"{name}.json", folder / f"{name}.safetensors"
    card = _read_card(card_file)
    weights = _read_weights(weights_file)
    try:
        # Built without memory, and so without drawing from torch's global generator.
        with torch.device("meta"):
            network = FAMILIES[card["family"]](**card["architecture"])
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:  # of a wrong number
        raise ValueError(
            f"The architecture in {card_file} builds no {card['family']!r} network: {error}"
        ) from error
    found = differences(network.state_dict(), weights, finite=True)
    if found:
        raise ValueError(
            f"The weights in {weights_file} do not fit their card ({found}); nothing was loaded."
        )
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False), card


def _read_card(file: Traversable) -> dict[str, Any]:
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The card {file} cannot be read as JSON: {error}") from error
    missing = [key for key in _CARD_KEYS if not isinstance(card, dict) or key not in card]
    if missing:
        raise ValueError(
            f"The card {file} lacks {missing}; a card is a JSON object with at least "
            f"{list(_CARD_KEYS)}."
        )
    if card["family"] not in FAMILIES or not isinstance(card["architecture"], dict):
        raise ValueError(
            f"The card {file} has family {card['family']!r} and architecture "
            f"{card['architecture']!r}; known families: {list(FAMILIES)}, and an architecture is "
            "an object."
        )
    return card


def _read_weights(file: Traversable) -> dict[str, Tensor]:
    try:
        stored = safetensors.torch.load(file.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"The weights {file} cannot be read as safetensors ({error}); the file is missing, cut "
            "short or damaged. Install the package again, or train the network with "
            "examples/train_shipped.py."
        ) from error
    return {key: value.to(torch.float32) for key, value in stored.items()}
