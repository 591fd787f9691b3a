"""What a method does with the settings of a run, and in its first steps."""

import pytest
import torch
from toy_models import mixture

from expint import compile_plan, execute, reverse_sde, solvers
from expint.sampling import plan_sampling
from expint.schedules import EDM
from expint.solvers import Method

X = torch.tensor([[0.7, -1.1], [2.0, 0.1]], dtype=torch.float64)
GRID = [9.0, 4.0, 1.5, 0.6, 0.2]


@pytest.mark.parametrize("ell", [0.0, 0.5])
def test_ell_takes_the_place_of_the_methods_own_noise(ell: float):
    """ell = 0 is the ODE, also for a solver that has a noise scale or another ell of its own."""
    for solver in ("er-sde-3", "seeds-3", "dpmpp-2m-sde", "sa-solver"):
        sde = plan_sampling(EDM(), solver, steps=5, ell=ell).sde
        assert sde.diffusion and sde.diffusion.ell == ell and sde.diffusion.noise_scale is None
        assert sde.is_stochastic == (ell > 0)


def test_a_start_up_scheme_has_the_history_that_there_is():
    """A scheme of two steps as the start-up of one of three is one of one step at first."""
    two, three = (solvers.get(f"seeds-ab{n}").tableau for n in (2, 3))
    grown = Method(three)
    started = Method(three, name="started", start_up=(two, two, two))
    sde, model = reverse_sde(EDM(), ell=0.0), mixture(EDM())
    plans = [compile_plan(sde, method, GRID) for method in (started, grown, Method(two))]
    rows = [[row.weights for row in plan.rows] for plan in plans]
    assert rows[0][:2] == rows[1][:2] == rows[2][:2]
    assert rows[0][2] == rows[2][2] and rows[0][3] == rows[1][3]
    assert [len(weights) for weights in rows[0]] == [1, 2, 2, 3]
    assert torch.isfinite(execute(plans[0], model, X)).all()
