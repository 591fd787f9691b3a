"""Tuned plans of the shipped networks: the files NETWORK-KIND-NFE.json of the folder `plans`, made
by `examples/tune_shipped.py`."""

import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from diffusion_adapters.shipped.files import DATA
from expint import defaults
from expint.plans.file_format import read_content

KINDS: dict[str, tuple[float, float]] = {"stochastic": (0.3, 2.0), "deterministic": (0.0, 0.0)}
"""Between which bounds ℓ lies in every step."""
MARGINS = {"Paths": 0.1, "SampleObjective": 0.3}
"""In units of the floor, by how the distances were measured: what a plan must gain to be taken."""
GAP = 0.2
"""How far the law of a network is from that at ℓ = 1 where ℓ differs by 1, as in the search."""
PLANS = Path(__file__).parent / "plans"


def weights_hash(name: str) -> str:
    """By which a plan's file knows the weights of its network."""
    return sha256((DATA / f"{name}.safetensors").read_bytes()).hexdigest()[:16]


def tuned_plan(name: str, nfe: int) -> Mapping[str, Any] | None:
    """The tuned plan of a shipped network for at most `nfe` evaluations, as the content of its
    file.

    It is one with the most evaluations, which serve up to a third more: the stochastic one, or
    else the deterministic one.

    Args:
        name: of the network.
        nfe: evaluations that there are.

    Returns:
        The content, or None: where there is no such plan, where it was made for other weights, and
        where it did not come nearer than the default plan by more than the noise, `MARGINS`, and
        the difference of the laws, `GAP`.

    Raises:
        ValueError: for a damaged file.
    """
    files = [file for kind in KINDS for file in PLANS.glob(f"{name}-{kind}-*.json")]
    counts = [int(file.stem.split("-")[-1]) for file in files]
    most = max((count for count in counts if count <= nfe < 4 * count / 3), default=None)
    found = [read_content(f) for f, count in zip(files, counts, strict=True) if count == most]
    for content in found:
        about = content["about"]
        ell = content["ell"][0] if isinstance(content["ell"], list) else content["ell"]
        gap = GAP * (abs(1.0 - ell) - (nfe <= defaults.FEW))  # the default has ℓ = 0, later 1
        gained = about.get("distance of the default plan", math.inf) - about["distance"] - gap
        if gained > MARGINS[about["objective"]] and about.get("weights") == weights_hash(name):
            return content
    return None
