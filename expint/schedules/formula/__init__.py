"""Schedules written by their user: formulas and functions of time."""

from expint.schedules.formula.callables import FromCallables
from expint.schedules.formula.symbolic import Symbolic

__all__ = ["FromCallables", "Symbolic"]
