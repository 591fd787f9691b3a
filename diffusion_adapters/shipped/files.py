"""Networks that come with the package: small, pretrained on 8x8 digits and on MNIST, read without
pickle.

Each is two files in the folder `data`: NAME.safetensors, the weights, and NAME.json, the card,
which says how the network is called, on what it was trained, and how well it does.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffusion_adapters.checkpoints.state_dicts import load_weights, read_weights
from diffusion_adapters.shipped import networks
from diffusion_adapters.shipped.phase_space_network import CLDNetwork
from expint.guards.arguments import checked
from expint.registry import unknown

FAMILIES: dict[str, type[nn.Module]] = {
    "vp": networks.VPNetwork, "ve": networks.VENetwork, "iddpm": networks.IDDPMNetwork,
    "edm": networks.EDMNetwork, "cld": CLDNetwork, "classifier": networks.Classifier,
}  # fmt: skip
DATA = Path(__file__).parent / "data"


def _names(folder: Path | None, kind: str) -> list[str]:
    stems = [file.stem for file in (folder or DATA).glob("*.json")]
    return sorted(stem for stem in stems if stem.endswith("-classifier") == (kind == "classifier"))


@checked
def names(folder: Path | None = None) -> list[str]:
    """Names of the shipped diffusion networks.

    Args:
        folder: another folder of cards and weights; None for the package's own.

    Example:
        >>> "digits-edm" in names()
        True
    """
    return _names(folder, "network")


@checked
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
    return _read(name, "network", folder)


@checked
def load_classifier(
    name: str, folder: Path | None = None
) -> tuple[networks.Classifier, dict[str, Any]]:
    """Read the classifier beside the shipped networks, whose features measure their samples.

    Args:
        name: "digits-classifier" or "mnist-classifier".
        folder: another folder of cards and weights; None for the package's own.

    Returns:
        The classifier, as `load_network` returns networks, and its card.

    Raises:
        ValueError: as `load_network` does.
    """
    return _read(name, "classifier", folder)


def _read(name: str, kind: str, folder: Path | None) -> tuple[Any, dict[str, Any]]:
    known, where = _names(folder, kind), folder or DATA
    if name not in known:
        raise unknown(f"shipped {kind}", name, known)
    card_file, weights_file = where / f"{name}.json", where / f"{name}.safetensors"
    try:
        card = json.loads(card_file.read_text(encoding="utf-8"))
        with torch.device("meta"):  # where no first weights are drawn
            network = FAMILIES[card["family"]](**card["architecture"])
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ValueError(
            f"The card {card_file} is not a JSON object with the family (known: {list(FAMILIES)}) "
            f"and architecture of a network: {error!r}."
        ) from error
    load_weights(network.to_empty(device="cpu"), read_weights(weights_file), weights_file)
    return network.requires_grad_(False), card
