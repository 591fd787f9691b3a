"""Tuned plans of the shipped networks: the files NETWORK-KIND-NFE.json of the folder `plans`, made
by `examples/tune_shipped.py`."""

import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from diffusion_adapters.shipped.files import DATA
from expint.defaults import FEW
from expint.plans.file_format import read_content

KINDS: dict[str, tuple[float, float]] = {"stochastic": (0.3, 2.0), "deterministic": (0.0, 0.0)}
"""Between which bounds ℓ lies in every step."""
MARGINS = {"Paths": (0.15, 0.6), "SampleObjective": (0.3, 0.0)}
"""What a plan must gain to be taken, by how distances were measured, in units of the floor; and for
ℓ farther from 1 by 1, for the law of a network is another there."""
PLANS = Path(__file__).parent / "plans"


def weights_hash(name: str) -> str:
    """By which a plan's file knows the weights of its network."""
    return sha256((DATA / f"{name}.safetensors").read_bytes()).hexdigest()[:16]


def tuned_plan(name: str, nfe: int) -> Mapping[str, Any] | None:
    """The tuned plan of a shipped network for at most `nfe` evaluations, as the content of its
    file.

    It is one with the most evaluations, which serve up to a third more: of those of the two kinds,
    stochastic and deterministic, the nearer one.

    Args:
        name: of the network.
        nfe: evaluations that there are.

    Returns:
        The content, or None: where there is no such plan, where it was made for other weights, and
        where it did not come nearer than the default plan by more than `MARGINS`.

    Raises:
        ValueError: for a damaged file.
    """
    files = [file for kind in KINDS for file in PLANS.glob(f"{name}-{kind}-*.json")]
    counts = [int(file.stem.split("-")[-1]) for file in files]
    most = max((count for count in counts if count <= nfe < 4 * count / 3), default=None)
    near: dict[float, Mapping[str, Any]] = {}
    found = [read_content(file) for file, count in zip(files, counts, strict=True) if count == most]
    usual = [one["about"].get("distance of the default plan", math.inf) for one in found]
    for content in found:
        about = content["about"]
        ell = content["ell"][0] if isinstance(content["ell"], list) else content["ell"]
        least, gap = MARGINS[about["objective"]]
        gained = min(usual) - about["distance"] - gap * max(0.0, abs(1.0 - ell) - (nfe <= FEW))
        if gained > least and about.get("weights") == weights_hash(name):
            near[about["distance"] + gap * abs(1.0 - ell)] = content
    return near[min(near)] if near else None
