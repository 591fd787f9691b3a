"""What numbers depend on besides the settings."""

import platform

import numpy as np
import torch

import expint


def origin() -> dict[str, dict[str, str]]:
    """Versions and machine that numbers depend on, for JSON files."""
    return {
        "versions": {
            "expint": expint.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "platform": {"system": platform.system(), "machine": platform.machine()},
    }
