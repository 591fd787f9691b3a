"""Coefficients-preserving sampling as steps with ℓ."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from expint import plan_sampling
from expint.equations import ell_from_cps
from expint.schedules import EDM, VP, Flow


@pytest.mark.parametrize("level", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("schedule", [Flow(), VP(), EDM()], ids=str)
def test_a_step_is_that_of_cps(schedule: Any, level: float):
    """x_t = α_t D + σ̄_t (cos ε + sin z) with ε = (x − α_s D)/σ̄_s."""
    grid = [schedule.t_of_sigma(sigma) for sigma in (4.0, 1.0, 0.7, 0.1)]
    ell = ell_from_cps(schedule, grid, level)
    plan = plan_sampling(schedule, "seeds-1", grid=grid, form="data", ell=ell)
    cos, sin = math.cos(0.5 * math.pi * level), math.sin(0.5 * math.pi * level)
    for row, (s, t) in zip(plan.rows, pairwise(grid), strict=True):
        alpha, std = schedule.alpha(t), schedule.std(t)
        kept = std * cos / schedule.std(s)
        assert row.scale == pytest.approx(kept, rel=1e-12, abs=1e-12)
        weight = alpha - kept * schedule.alpha(s)
        assert row.weights[0][1] == pytest.approx(weight, rel=1e-11)
        assert sum(row.noise) == pytest.approx(std * sin, rel=1e-12, abs=1e-12)


def test_ends_have_no_ell():
    assert ell_from_cps(Flow(), [1.0, 0.8, 0.5, 0.0], 0.5).shape == (1,)
    assert ell_from_cps(Flow(), [0.8, 0.5], 1.0).tolist() == [math.inf]


@pytest.mark.parametrize("level", [-0.1, 1.1, math.nan, "half", None])
def test_other_levels_are_refused(level: Any):
    with pytest.raises(ValueError, match="from 0 to 1, got"):
        ell_from_cps(Flow(), torch.tensor([0.8, 0.5]), level)
