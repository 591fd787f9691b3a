"""Solvers as data: tableaus, their order conditions, and the registry by name."""

from expint.solvers.order_conditions import deterministic_order
from expint.solvers.registry import Entry, entries, get, names, register
from expint.solvers.seeds import seeds1, seeds2, seeds3, seeds3b
from expint.solvers.space_time import seeds_sra, seeds_sra3
from expint.solvers.tableau import Stage, Tableau, Term

__all__ = [
    "Entry", "Stage", "Tableau", "Term", "deterministic_order", "entries", "get", "names", "register",
    "seeds1", "seeds2", "seeds3", "seeds3b", "seeds_sra", "seeds_sra3",
]  # fmt: skip
