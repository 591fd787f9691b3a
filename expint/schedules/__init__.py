"""Noise schedules. Each gives alpha(t), std(t), sigma(t), lam(t), t_of_lam(lam) and its time domain."""

from expint.schedules.base import Schedule
from expint.schedules.discrete import IDDPM, Discrete
from expint.schedules.flow import Flow
from expint.schedules.registry import get, names, register
from expint.schedules.variance_exploding import EDM, VE
from expint.schedules.variance_preserving import VP, Cosine

__all__ = ["EDM", "IDDPM", "VE", "VP", "Cosine", "Discrete", "Flow", "Schedule", "get", "names", "register"]
