"""expint: exponential integrators for semi-linear SDEs, and above all for sampling diffusion models."""

from expint import certification, convergence, grids, metrics, noise, predictions, schedules, solvers, stochasticity, targets
from expint.adaptive import AdaptiveResult, sample_adaptive
from expint.compilation import compile_plan
from expint.continuation import Sampling, begin_sampling, continue_sampling
from expint.execution import execute
from expint.forms import reverse_sde
from expint.integration import Solution, integrate
from expint.phi_functions import phi
from expint.plan import Plan
from expint.recording import Recorder
from expint.sampling import plan_sampling, sample
from expint.score_moments import SecondMoment, second_moment
from expint.sde import SemiLinearSDE
from expint.torchsde_export import to_torchsde

__version__ = "0.1.0"

__all__ = [
    "AdaptiveResult", "Plan", "Recorder", "Sampling", "SecondMoment", "SemiLinearSDE", "Solution", "begin_sampling",
    "certification", "compile_plan", "continue_sampling", "convergence",
    "execute", "grids", "integrate", "metrics", "noise", "phi", "plan_sampling", "predictions", "reverse_sde", "sample",
    "sample_adaptive", "schedules", "second_moment", "solvers", "stochasticity", "targets", "to_torchsde",
]  # fmt: skip
