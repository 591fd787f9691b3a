"""Every number of a plan moved by gradients through the network, on one set of samples."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from scipy.optimize import minimize
from torch import Tensor

from expint.tuning.objective import Objective
from expint.tuning.parameters import Numbers, Tunable

Measure = Callable[[Callable[[], list[Any]]], list[Any]]


def descended(
    objective: Callable[[], Objective], tunable: Tunable, start: Numbers, count: int, most: int,
    measured: Measure,
) -> tuple[Numbers, str]:  # fmt: skip
    """The numbers of the least distance that L-BFGS finds, and why it stopped early, if it did.

    Args:
        objective: what is minimised.
        tunable, start: where it begins.
        count: samples of each gradient, always the same.
        most: how many gradients.
        measured: gives back what a function of no arguments finds.
    """
    low, high = tunable.bounds
    sizes = [len(part) for part in start]
    best, reason = (math.inf, start), ""

    def compute(x: Tensor) -> list[Any]:
        leaf = x.requires_grad_(True)
        try:
            distance = objective().of(tunable.plan(Numbers(*leaf.split(sizes))), count)
            (slope,) = torch.autograd.grad(distance, leaf)
        except (ValueError, FloatingPointError):
            return [math.inf]
        except (RuntimeError, TypeError, AttributeError) as error:
            return [str(error).split("\n")[0]]
        return [float(distance.detach()), *slope.tolist()]

    def value(x: Any) -> tuple[float, Any]:
        nonlocal best, reason
        point = torch.tensor(x, dtype=torch.float64)
        found = measured(partial(compute, point.clone()))
        if isinstance(found[0], str):
            reason = found[0]
            raise StopIteration
        slope = torch.tensor(found[1:] or [0.0] * len(x), dtype=torch.float64)
        if not (math.isfinite(found[0]) and bool(torch.isfinite(slope).all())):
            return 1e30, 0.0 * x
        best = min(best, (found[0], Numbers(*point.split(sizes))), key=lambda pair: pair[0])
        return found[0], slope.numpy()

    free = [(None, None)] * sizes[0], [(low, high)] * sizes[1], [(None, None)] * sizes[2]
    options = {"maxfun": most, "maxiter": most, "maxcor": 20, "ftol": 1e-12, "gtol": 1e-12}
    try:
        minimize(
            value, torch.cat(list(start)).numpy(), jac=True, method="L-BFGS-B",
            bounds=[pair for part in free for pair in part], options=options,
        )  # fmt: skip
    except StopIteration:
        pass
    return best[1], reason
