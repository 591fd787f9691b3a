"""expint: exponential integrators for semi-linear SDEs, and above all for sampling diffusion models."""

from expint import convergence, grids, noise, predictions, schedules, solvers, targets
from expint.compilation import compile_plan
from expint.execution import execute
from expint.forms import reverse_sde
from expint.phi_functions import phi
from expint.plan import Plan
from expint.sampling import plan_sampling, sample
from expint.sde import SemiLinearSDE

__version__ = "0.1.0"

__all__ = [
    "Plan", "SemiLinearSDE", "compile_plan", "convergence", "execute", "grids", "noise", "phi", "plan_sampling",
    "predictions", "reverse_sde", "sample", "schedules", "solvers", "targets",
]  # fmt: skip
