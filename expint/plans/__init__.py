"""Plans: everything that a run needs but the network and the noise, as a table of float64
coefficients.
"""

from expint.plans.compilation import compile_plan
from expint.plans.extrapolation import extrapolated
from expint.plans.plan import Plan, Row
from expint.plans.restart import restarted
from expint.plans.step_scale import step_scaled

__all__ = ["Plan", "Row", "compile_plan", "extrapolated", "restarted", "step_scaled"]
