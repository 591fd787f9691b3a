"""Noise schedules.

Each gives alpha(t), std(t), sigma(t), lam(t), t_of_lam(lam) and its time domain.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from expint.schedules.base import Schedule
from expint.schedules.discrete import IDDPM, Discrete
from expint.schedules.flow import Flow
from expint.schedules.registry import get, names, register
from expint.schedules.sub_variance_preserving import SubVP
from expint.schedules.tables import (
    cosine_betas,
    linear_betas,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
)
from expint.schedules.variance_exploding import EDM, VE
from expint.schedules.variance_preserving import VP, Cosine

if TYPE_CHECKING:
    from expint.schedules.formula.callables import FromCallables
    from expint.schedules.formula.critically_damped import CLD
    from expint.schedules.formula.psld import PSLD
    from expint.schedules.formula.symbolic import Symbolic

__all__ = [
    "CLD", "EDM", "IDDPM", "PSLD", "VE", "VP", "Cosine", "Discrete", "Flow", "FromCallables",
    "Schedule", "SubVP", "Symbolic", "cosine_betas", "get", "linear_betas", "names", "register",
    "rescale_zero_terminal_snr", "scaled_linear_betas",
]  # fmt: skip


# The module of a name, where it is not the name in lower case.
_LATER = {"CLD": "critically_damped", "FromCallables": "callables", "PSLD": "", "Symbolic": ""}


def __getattr__(name: str) -> Any:
    """Schedules made of formulas need sympy, which takes longer to import than everything else
    here.
    """
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"expint.schedules.formula.{_LATER[name] or name.lower()}"), name)
