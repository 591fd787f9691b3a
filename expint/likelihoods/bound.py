"""The variational bound of the reverse SDE: KLUB's sum, given the sample.

With D the model's denoiser, σ_T and σ_e at the ends of the grid and x_t = α_t x_0 + σ̄_t z,

    −log p(x_0) ≤ ½ ‖x_0‖²/σ_T² + d/2 (1 + log 2πσ_e²) + ∫ e^{2λ} E‖x_0 − D(x_t, t)‖² dλ:

the divergence of the first state from noise, the density of x_0 about the last one as N(x_e/α_e,
σ_e²), and the divergence of the path at ℓ = 1, by the midpoint rule for each step.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from expint.runs import Description, Reparametrized
from expint.sampling import SamplingOptions, arguments_for, plan_sampling
from expint.solvers.registry import Solver

_OPTIONS = {"steps", "nfe", "grid"}


class Bound:
    """A lower bound on log p of samples, by one evaluation and one draw of x_t a step.

    Raises:
        ValueError: for a solver, other options, or a grid that ends at σ = 0.
    """

    def __init__(self, about: Description, solver: Solver | None, options: SamplingOptions) -> None:
        if solver is not None or set(options) - _OPTIONS:
            raise ValueError(
                "The bound is that of the SDE, whatever the solver: leave out the solver and all "
                f"options but {', '.join(sorted(_OPTIONS))}, or bound=True."
            )
        if options.get("grid") is None:
            options = {**options, "grid": "uniform_lambda"}
        asked: Any = {**options, "ell": 1.0, "final": "none"}
        self.plan = plan_sampling(about.schedule, **arguments_for(about, "seeds-1", asked))
        schedule, times = about.schedule, self.plan.grid
        lam = schedule.lam(times)
        if lam[-1] == math.inf:
            raise ValueError("The bound is for a grid that ends at sigma > 0: final='none'.")
        lam = lam[lam > -math.inf]
        if len(lam) < 2:
            raise ValueError("The grid has no step between finite noise levels.")
        self._ends, self._steps = torch.exp(-lam[[0, -1]]).tolist(), lam.diff()
        self._times = schedule.t_of_lam(0.5 * (lam[1:] + lam[:-1]))
        if about.round_time is not None:
            self._times = about.round_time(self._times)
        self._schedule, self.normals, self.nfe = schedule, len(self._times), len(self._times)
        self.setting = "variational bound"

    def __call__(self, model: Any, x: Tensor, noise: Iterator[Tensor]) -> Tensor:
        """The bound for samples x, shape (batch,)."""
        of, denoiser, (first, end) = self._schedule, Reparametrized(model, "data"), self._ends
        weights = (torch.exp(2.0 * of.lam(self._times)) * self._steps).tolist()
        total = 0.5 * _squares(x) / first**2
        total += 0.5 * x[0].numel() * (1.0 + math.log(2.0 * math.pi * end**2))
        for t, weight in zip(self._times, weights, strict=True):
            at = of.alpha(t).item() * x + of.std(t).item() * next(noise)
            total += weight * _squares(x - denoiser(at, t))
        return -total


def _squares(x: Tensor) -> Tensor:
    return x.flatten(1).double().square().sum(1)
