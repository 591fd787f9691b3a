"""expint: exponential integrators for semi-linear SDEs, and above all for sampling diffusion
models.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from expint import defaults, equations, grids, noise, schedules, solvers
from expint.equations import SemiLinearSDE, predictions, reverse_sde, to_torchsde
from expint.execution import execute
from expint.integration import Solution, integrate
from expint.numerics import phi
from expint.plans import Plan, compile_plan
from expint.runs import Reparametrized
from expint.sampling import plan_sampling, sample
from expint.soundness import PlanWarning

if TYPE_CHECKING:
    from expint import adaptive, convergence, fields, metrics, quality, targets, transitions, tuning
    from expint import dynamics as dynamics
    from expint.adaptive import Adaptive, AdaptiveReport
    from expint.encoding import encode
    from expint.frames import RandomFrames
    from expint.likelihoods import Likelihood, log_likelihood
    from expint.particle_filter import Particles, particles
    from expint.recorder import Recorder
    from expint.saved_runs import Sampling, begin_sampling, continue_sampling
    from expint.second_moments import SecondMoment, second_moment
    from expint.spectra import stiffness
    from expint.transitions import Rollout, invert, log_prob, rollout
    from expint.tuning import mmse_curve, tune

__version__ = "0.1.0"

__all__ = [
    "Adaptive", "AdaptiveReport", "Likelihood", "Particles", "Plan", "PlanWarning",
    "RandomFrames", "Recorder", "Reparametrized", "Rollout", "Sampling", "SecondMoment",
    "SemiLinearSDE", "Solution",
    "adaptive", "begin_sampling", "compile_plan", "continue_sampling", "convergence", "defaults",
    "dynamics", "encode", "equations", "execute", "fields", "grids", "integrate", "invert",
    "log_likelihood", "log_prob", "metrics", "mmse_curve", "noise", "particles", "phi",
    "plan_sampling", "predictions", "quality", "reverse_sde", "rollout", "sample", "schedules",
    "second_moment", "solvers", "stiffness", "targets", "to_torchsde", "transitions", "tune",
    "tuning",
]  # fmt: skip

# What is imported when it is first asked for: studies and tools that a run of the samplers does not
# need.
_HOMES = {
    "": "adaptive convergence dynamics fields metrics quality targets transitions tuning",
    "recorder": "Recorder",
    "saved_runs": "Sampling begin_sampling continue_sampling", "tuning": "mmse_curve tune",
    "transitions": "Rollout invert log_prob rollout", "particle_filter": "Particles particles",
    "second_moments": "SecondMoment second_moment", "likelihoods": "Likelihood log_likelihood",
    "adaptive": "Adaptive AdaptiveReport", "spectra": "stiffness", "encoding": "encode",
    "frames": "RandomFrames",
}  # fmt: skip
_LATER = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"expint.{_LATER[name] or name}")
    return getattr(module, name) if _LATER[name] else module
