"""Inversion: a run with the normals that were found returns the samples."""

import math

import pytest
import torch

import expint
from expint import schedules, solvers
from tests.toy_models import forbidden, mixture

SCHEDULES = {"VP": schedules.VP(), "EDM": schedules.EDM(), "Flow": schedules.Flow()}
# Their last step does not reach x0: see the tests below.
LEFT_OUT = {"edm-stochastic", "seeds-sra3"}


def plan_of(name: str, schedule: expint.schedules.Schedule, steps: int = 12):
    for ell in ({}, {"ell": 1.0}):
        try:
            plan = expint.plan_sampling(schedule, name, steps=steps, final="none", **ell)
        except ValueError:
            continue
        if plan.run:
            return plan
    return None


NAMES = [e.name for e in solvers.entries() if plan_of(e.name, SCHEDULES["VP"])]


@pytest.mark.parametrize("name", sorted(set(NAMES) - LEFT_OUT))
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_returns_the_samples(name: str, schedule: str):
    model = mixture(SCHEDULES[schedule])
    plan = plan_of(name, model.schedule)
    for dtype, near in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        x0 = model.sample(3).to(dtype)
        x, noise = expint.invert(model, x0, plan=plan, seed=2)
        assert x.dtype == dtype and x.shape == x0.shape
        again = expint.sample(model, x, plan=plan, noise=noise, progress=False)
        assert (again - x0).abs().max() <= near * max(1.0, x0.abs().max())
