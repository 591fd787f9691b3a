"""Tuned plans of the shipped networks: the files NETWORK-KIND-NFE.json of the folder `plans`, made
by `examples/tune_shipped.py`."""

import json
from collections.abc import Mapping
from hashlib import sha256
from operator import lt
from pathlib import Path
from typing import Any

from diffusion_adapters.shipped.files import DATA
from expint.plans.file_format import naming, read_content

KINDS: dict[str, tuple[float, float]] = {"stochastic": (0.3, 2.0), "deterministic": (0.0, 0.0)}
"""Between which bounds ℓ lies in every step."""
PLANS = Path(__file__).parent / "plans"
FIGURES = "figures.json"
"""The file there of the plans' figures, and of those of the default plan: of the samples of three
runs together, and of each run (`python benchmarks/tuned.py --record`)."""


def weights_hash(name: str) -> str:
    """By which a plan's file knows the weights of its network."""
    return sha256((DATA / f"{name}.safetensors").read_bytes()).hexdigest()[:16]


def tuned_plan(name: str, nfe: int) -> Mapping[str, Any] | None:
    """The tuned plan of a shipped network for at most `nfe` evaluations, as the content of its
    file.

    It is one with the most evaluations, which serve up to a third more: of those of the two kinds,
    stochastic and deterministic, the nearer one by `FIGURES`.

    Args:
        name: of the network.
        nfe: evaluations that there are.

    Returns:
        The content, or None: where there is no such plan, where it was made for other weights, and
        where it was not nearer than the default plan in each of the runs.

    Raises:
        ValueError: for a damaged file.
    """
    counts = {int(file.stem.split("-")[-1]) for file in PLANS.glob(f"{name}-*.json")}
    most = max((count for count in counts if count <= nfe < 4 * count / 3), default=None)
    with naming(PLANS / FIGURES):
        known = json.loads((PLANS / FIGURES).read_text(encoding="utf-8"))
    near: dict[float, Mapping[str, Any]] = {}
    for file in (PLANS / f"{name}-{kind}-{most}.json" for kind in KINDS):
        figures = known.get(file.stem)
        if figures and all(map(lt, figures["tuned"], figures["default"])):
            content = read_content(file)
            same = content["checksum"].startswith(figures["plan"])
            if same and content["about"].get("weights") == weights_hash(name):
                near[figures["tuned"][0]] = content
    return near[min(near)] if near else None
