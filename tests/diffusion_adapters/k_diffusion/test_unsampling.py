"""Levels that rise, and levels that repeat, in the sampling functions of k-diffusion."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_adapters.k_diffusion import sample_expint
from expint.noise.paths.brownian import refuse_times
from expint.noise.paths.union import union_of_times
from expint.noise.source import SubstepNoise

pytestmark = [pytest.mark.filterwarnings("ignore::expint.soundness.PlanWarning")]
MEAN, STD = 0.5, 0.3


class Model:
    """The exact denoiser of N(0.5, 0.3²)."""

    def __init__(self, flow: bool) -> None:
        self.flow, self.levels = flow, []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.levels.append(float(sigma[0]))
        alpha, std = (1 - sigma[:, None], sigma[:, None]) if self.flow else (1.0, sigma[:, None])
        gain = alpha * STD**2 / ((alpha * STD) ** 2 + std**2)
        return MEAN + gain * (x - alpha * MEAN)


def exact(x: Tensor, start: float, end: float, flow: bool) -> Tensor:
    """The ODE of a Gaussian keeps the standardised state."""

    def law(sigma: float) -> tuple[float, float]:
        alpha = 1 - sigma if flow else 1.0
        return alpha * MEAN, math.hypot(alpha * STD, sigma)

    (mean, std), (to, wide) = law(start), law(end)
    return to + wide * (x - mean) / std


X = torch.tensor([[0.2, 0.9], [0.5, -0.1]], dtype=torch.float64)


@pytest.mark.parametrize("solver", ["seeds-3", "seeds-ab3", "heun", "unipc-2", "dpmpp-2m"])
@pytest.mark.parametrize("flow", [False, True])
def test_rising_levels_are_the_ode_backwards(solver: str, flow: bool):
    """Whatever eta is; the callback sees the states and estimates of the image."""
    top, model, told = (1.0 if flow else 10.0), Model(flow), []
    sigmas = torch.linspace(1e-4**0.25, top**0.25, 81, dtype=torch.float64) ** 4
    end = sample_expint(
        model, X, sigmas, None, told.append, solver=solver, eta=1.0, flow=flow, disable=True
    )
    error = (end - exact(X, 1e-4, top, flow)).abs().max() / top
    assert error < 1e-2
    assert [about["i"] for about in told] == list(range(80))
    assert max(model.levels) <= top and min(model.levels) >= 1e-4 - 1e-12
    about = told[40]
    torch.testing.assert_close(
        about["x"], exact(X, 1e-4, float(sigmas[40]), flow), rtol=0, atol=0.02
    )
    expected = Model(flow)(about["x"], sigmas[40].expand(2))
    torch.testing.assert_close(about["denoised"], expected, rtol=0, atol=1e-3)
    assert about["sigma"] == sigmas[40]


def test_what_no_ode_can_do_is_refused():
    with pytest.raises(ValueError, match="begin at 1e-4"):
        sample_expint(Model(False), X, [0.0, 1.0, 2.0], disable=True)
    with pytest.raises(ValueError, match="adds no noise"):
        rising: Any = [0.01, 0.1, 1.0, 5.0, 20.0, 80.0]
        sample_expint(Model(False), X, rising, solver="edm-stochastic", disable=True)


@pytest.mark.parametrize("solver", ["seeds-3", "unipc-2"])
def test_a_repeated_level_is_a_step_in_which_nothing_happens(solver: str):
    settings: Any = {"solver": solver, "seed": 3, "disable": True}
    told: list[dict[str, Any]] = []
    sigmas = torch.tensor([10.0, 2.0, 2.0, 0.5, 0.5, 0.5, 0.0], dtype=torch.float64)
    end = sample_expint(Model(False), X, sigmas, None, told.append, **settings)
    expected = sample_expint(Model(False), X, sigmas.unique_consecutive(), **settings)
    assert torch.equal(end, expected)
    assert [about["i"] for about in told] == [0, 1, 3]
    assert [float(about["sigma"]) for about in told] == [10.0, 2.0, 0.5]
    assert torch.equal(sample_expint(Model(False), X, [2.0, 2.0], **settings), X)


def test_a_clock_at_minus_infinity_is_called_that():
    """At σ = ∞ some clocks come out as NaN, a difference of infinities."""
    with pytest.raises(ValueError, match="τ = -inf"):
        refuse_times([math.nan, 0.5], False, torch.float32)
    noise = SubstepNoise(1, nodes=torch.tensor([math.nan, 0.5], dtype=torch.float64))
    with pytest.raises(ValueError, match="τ = -inf"):
        union_of_times([noise])
    sigmas = torch.tensor([1.0, 0.7, 0.3, 0.0])
    with pytest.raises(ValueError, match="τ = -inf"):
        sample_expint(
            Model(True), X, sigmas, solver="euler-maruyama", flow=True, noise="path", seed=0,
            disable=True,
        )  # fmt: skip
