"""What is said of a name that nobody bears."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

__all__ = ["unknown"]


def unknown(kind: str, name: Any, known: Sequence[str], way_out: str = "") -> ValueError:
    """The error for an unknown name: it tells the nearest known ones, and all of them.

    Args:
        kind: what is named, for example "solver".
        name: what came.
        known: all names.
        way_out: what else may be given, appended to the message.
    """
    near = get_close_matches(str(name), known, n=3, cutoff=0.3)
    return ValueError(
        f"Unknown {kind} {name!r}; nearest: {near or list(known)}. All: {list(known)}{way_out}."
    )
