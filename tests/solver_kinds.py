"""Which solvers a test runs with: all of them would say the same thing many times."""

from expint import solvers

__all__ = ["KINDS", "ONE_STEP"]

ONE_STEP = [
    entry.name
    for entry in solvers.entries()
    if entry.name in ("seeds-1", "seeds-2", "seeds-3", "seeds-3b", "seeds-sra", "seeds-sra3")
]
"""The SEEDS schemes of one step, in every form and at every ℓ."""

KINDS = [*ONE_STEP, "seeds-ab3", "unipc-2", "pece-2", "etd-rk4"]
"""One of each kind: also several steps, with a corrector that costs nothing, and with one that
does.
"""
