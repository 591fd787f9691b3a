"""Every number of a plan moved by gradients, on one set of samples or without any."""

import math
from typing import Any

import torch
from scipy.optimize import minimize

from expint.tuning.objective import Objective
from expint.tuning.parameters import Numbers, Tunable


def descended(
    objective: Objective, tunable: Tunable, start: Numbers, count: int, most: int
) -> Numbers:
    """The numbers of the least distance that L-BFGS finds.

    Args:
        objective: what is minimised.
        tunable, start: where it begins.
        count: samples of each gradient, always the same.
        most: how many gradients.

    Raises:
        RuntimeError, TypeError, AttributeError: if the distance carries no gradient.
    """
    low, high = tunable.bounds
    sizes = [len(part) for part in start]

    def value(x: Any) -> tuple[float, Any]:
        leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        try:
            distance = objective.of(tunable.plan(Numbers(*leaf.split(sizes))), count)
            (slope,) = torch.autograd.grad(distance, leaf)
        except (ValueError, FloatingPointError):
            return 1e30, 0.0 * x
        found = float(distance.detach())
        if not (math.isfinite(found) and bool(torch.isfinite(slope).all())):
            return 1e30, 0.0 * x
        return found, slope.numpy()

    free = [(None, None)] * sizes[0] + [(low, high)] * sizes[1] + [(None, None)] * sizes[2]
    options = {"maxfun": most, "maxiter": most, "maxcor": 20, "ftol": 1e-12, "gtol": 1e-12}
    how: Any = {"jac": True, "method": "L-BFGS-B", "bounds": free, "options": options}
    found = minimize(value, torch.cat(list(start)).numpy(), **how)
    return Numbers(*torch.tensor(found.x, dtype=torch.float64).split(sizes))
