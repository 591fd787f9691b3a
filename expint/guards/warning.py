"""Warnings that name the caller's line."""

import sys
import warnings

_OWN = ("expint", "diffusion_adapters")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn where the user's code called this library, however deep in it the reason was found."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _OWN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level + 1)
