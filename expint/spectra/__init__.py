"""Stiffness: the spectrum of the non-linear part of the reverse SDE along the path of a plan."""

from expint.spectra.steps import CLOCKS, stiffness
from expint.spectra.studies import StepStiffness, StiffnessStudy

__all__ = ["CLOCKS", "StepStiffness", "StiffnessStudy", "stiffness"]
