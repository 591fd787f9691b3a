"""Tuned plans of the shipped networks: the files NETWORK-KIND-NFE.json of the folder `plans`, made
by `examples/tune_shipped.py`."""

import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from diffusion_adapters.shipped.files import DATA
from expint.plans.file_format import read_content

KINDS: dict[str, tuple[float, float]] = {"stochastic": (0.3, 2.0), "deterministic": (0.0, 0.0)}
"""Between which bounds ℓ lies in every step."""
MARGIN = 0.3
"""In units of the floor: what a plan must gain on samples held out, a few hundred, to be taken."""
PLANS = Path(__file__).parent / "plans"


def weights_hash(name: str) -> str:
    """By which a plan's file knows the weights of its network."""
    return sha256((DATA / f"{name}.safetensors").read_bytes()).hexdigest()[:16]


def tuned_plan(name: str, nfe: int) -> Mapping[str, Any] | None:
    """The tuned plan of a shipped network for at most `nfe` evaluations, as the content of its
    file.

    It is one with the most evaluations, which serve up to a third more: of those of the two kinds,
    stochastic and deterministic, the one that came nearer to the network's law on samples held out.

    Args:
        name: of the network.
        nfe: evaluations that there are.

    Returns:
        The content, or None: where there is no such plan, where it was made for other weights, and
        where it did not come nearer than the default plan by more than the noise, `MARGIN`.

    Raises:
        ValueError: for a damaged file.
    """
    found: dict[int, list[Path]] = {}
    for kind in KINDS:
        for file in PLANS.glob(f"{name}-{kind}-*.json"):
            found.setdefault(int(file.stem.split("-")[-1]), []).append(file)
    most = max((count for count in found if count <= nfe < 4 * count / 3), default=None)
    if most is None:
        return None
    weights = weights_hash(name)
    known = {
        about["distance"]: content
        for content in map(read_content, found[most])
        if (about := content["about"]).get("weights") == weights
        and about["distance"] + MARGIN < about.get("distance of the default plan", math.inf)
    }
    return known[min(known)] if known else None
