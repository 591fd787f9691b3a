"""Running a plan: the loop, the model, and what its output means."""

from expint.runs.run import Callback, Run, execute

__all__ = ["Callback", "Run", "execute"]
