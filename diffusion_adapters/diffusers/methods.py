"""The method of a scheduler's configuration."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from expint import defaults, solvers
from expint.equations.given_ell import asked_noise
from expint.solvers import Method


def method_of(config: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Method:
    """The solver with its options and operations; without a name the default for the steps that
    `set_timesteps` was given, which changes with their number but takes one evaluation for each.
    With a plan it is the plan's."""
    source, asked = config["plan"] or config, given or {}
    listed = [len(asked[name]) for name in ("timesteps", "sigmas") if asked.get(name) is not None]
    steps = asked.get("steps") or next(iter(listed), defaults.STEPS)
    stochastic = asked_noise(config[name] for name in ("ell", "eta", "noise_scale"))
    name = source["solver"] or defaults.solver(steps, stochastic=stochastic)
    method = solvers.get(name, **(config["solver_options"] or {}))
    added = (solvers.operation(text) for text in source["operations"] or ())
    return replace(method, operations=(*method.operations, *added))
