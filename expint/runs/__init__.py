"""Running a plan: the loop, the model, and what its output means."""

from expint.runs.model import Description, Model, describe
from expint.runs.reparametrized import Reparametrized
from expint.runs.run import Callback, Run, drive, execute

__all__ = [
    "Callback", "Description", "Model", "Reparametrized", "Run", "describe", "drive", "execute",
]  # fmt: skip
