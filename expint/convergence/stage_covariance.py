"""The joint law of the noise in all stages of a run, against the reverse SDE itself: neither a
propagator nor a clock of the engine enters the reference.

In z = x/α and λ, with D = skip(σ) z + (a part that is F's), the reverse SDE is

    dz = −(1+ℓ²) (z − D) dλ + ℓ √2 σ dω = [A z + …F] dλ + g dω,
    A = −(1+ℓ²) (1 − skip),    g = ℓ √2 e^{−λ},

so that the noise of a stage at λ_i, given the state at λ_s, is a Wiener integral ∫ k_i dω over the
step with

    k_i(λ) = Φ(λ_i, λ) g(λ) · 1[λ < λ_i]                      for the ordinary noise of its node,
    k_i(λ) = Φ(λ_i, λ) g(λ) · [θ_i + r_i (2 R(λ) − 1)]        for a stage with weight p of the
    increment and the rest from U, r_i = (c − p) √(θ_i (1 − θ_i)/(c (1 − c))),

Φ(b, a) = exp ∫_a^b A, R(λ) the part of ∫ (g/Φ)² dλ that lies after λ, and θ_i = 1 − R(λ_i).
Covariances are ∫ k_i k_j dλ.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from expint.convergence.linear_response import noise_responses
from expint.numerics.float64 import as_float64
from expint.numerics.quadrature import gauss_legendre, integrate
from expint.plans.plan import Plan
from expint.results import Result, Rows, new_figure
from expint.solvers import Stage, get
from expint.solvers.registry import Solver

_POINTS = 24  # of the quadrature, in each panel


@dataclass(frozen=True, eq=False)
class NoiseStudy(Result):
    """Covariance of the noise in all states of a run, found and exact.

    Attributes:
        solver: its name.
        setting: the equation.
        labels: names of the states, one per row of the plan.
        found, exact: covariances, shape (rows, rows).
        scale_error: largest relative error of the factor of the initial state.
    """

    derived: ClassVar[tuple[str, ...]] = ("error",)

    solver: str
    setting: str
    labels: tuple[str, ...]
    found: Tensor
    exact: Tensor
    scale_error: float

    @property
    def stds(self) -> Tensor:
        """Exact standard deviations, shape (rows,)."""
        return torch.sqrt(self.exact.diagonal())

    @property
    def errors(self) -> Tensor:
        """found − exact in units of the exact standard deviations, shape (rows, rows)."""
        return (self.found - self.exact) / torch.outer(self.stds, self.stds)

    @property
    def error(self) -> float:
        """The largest of them, and of the factors of the initial state."""
        return max(float(self.errors.abs().max()), self.scale_error)

    def finding(self, tolerance: float = 1e-7) -> str | None:
        """What is off, in words, or None if nothing exceeds `tolerance`."""
        wrong = torch.nonzero(self.errors.abs().tril() > tolerance).tolist()
        if not wrong:
            if self.scale_error <= tolerance:
                return None
            return (
                f"propagator: factors of the initial state are off by up to {self.scale_error:.3g}"
            )
        # The earliest wrong variance explains what follows from it; else the earliest wrong
        # covariance.
        i, j = next((pair for pair in wrong if pair[0] == pair[1]), wrong[0])
        found, exact = float(self.found[i, j]), float(self.exact[i, j])
        if i == j:
            return (
                f"stage covariance: the noise of {self.labels[i]} has variance {found:.6g} instead "
                f"of {exact:.6g}"
            )
        root = float(self.stds[i] * self.stds[j])
        return (
            f"stage covariance: the noises of {self.labels[j]} and {self.labels[i]} have "
            f"correlation {found / root:.6g} instead of {exact / root:.6g}"
        )

    def blocks(self) -> Iterator[str | Rows]:
        """Standard deviation of every state, found and exact, and the largest error of its
        correlations.
        """
        stds = self.found.diagonal().clamp(min=0).sqrt()
        numbers = torch.stack([stds, self.stds, self.errors.abs().amax(1)], 1).tolist()
        rows = [("state", "std found", "std exact", "largest error of its correlations")]
        for label, (found, exact, error) in zip(self.labels, numbers, strict=True):
            rows.append((label, f"{found:.6g}", f"{exact:.6g}", f"{error:.1e}"))
        yield f"stage covariances of {self.solver}, {self.setting}"
        yield ""
        yield rows
        yield ""
        yield self.finding() or "all as the SDE has them"

    def figure(self) -> Any:
        """The correlations found, the exact ones, and their difference."""
        scale = torch.outer(self.stds, self.stds)
        matrices = {"found": self.found, "exact": self.exact, "difference": self.found - self.exact}
        figure = new_figure(13, 4.2)
        figure.suptitle(f"Noise correlations of {self.solver}")
        for axes, (title, values) in zip(figure.subplots(1, 3), matrices.items(), strict=True):
            shown = values / scale
            # White is 0 in all three.
            limit = max(float(shown.abs().max()), 1e-16) if title == "difference" else 1.0
            image = axes.imshow(shown.numpy(), cmap="RdBu", vmin=-limit, vmax=limit)
            axes.set_title(title)
            axes.set_xticks([])
            labels = self.labels if title == "found" else [""] * len(self.labels)
            axes.set_yticks(range(len(self.labels)), labels, fontsize=8)
            figure.colorbar(image, ax=axes, shrink=0.8)
        return figure


def noise_covariance(plan: Plan, solver: Solver | None = None, *, ell: float = 1.0) -> NoiseStudy:
    """The joint covariance of the noise in all states of a run, as executed, against that of the
    reverse SDE by quadrature.

    Args:
        plan: of a diffusion SDE with constant ℓ, on a grid with finite λ at both ends. A few steps
            are enough.
        solver: the method behind the plan; default: the plan's method.
        ell: stochasticity ℓ > 0 of the equation that the plan should sample.

    Raises:
        ValueError: for a plan without noise or schedule, with σ = 0 or ∞ in its grid, with noise
            that is not the SDE's, or not of this solver.
    """
    method = get(plan.method if solver is None else solver)
    diffusion = plan.sde.diffusion
    if not diffusion or diffusion.prediction not in _PROPAGATED:
        raise ValueError(
            "Stage covariances are known for the reverse diffusion SDE in the forms of "
            f"{list(_PROPAGATED)}, not for {plan.sde}."
        )
    if not ell > 0 or plan.normals == 0:
        raise ValueError(
            f"There is no noise to study at ell = {ell!r}: take ell > 0 and a plan compiled with "
            "it."
        )
    schedule, fresh = diffusion.schedule, any(noise.nodes is None for noise in plan.run)
    lam = schedule.lam(plan.grid)
    if not torch.isfinite(lam).all() or fresh:
        raise ValueError(
            "Stage covariances need a grid with finite lambda and no noise but the SDE's own; got "
            f"lambda from {float(lam[0]):.6g} to {float(lam[-1]):.6g}"
            + (" and added noise." if fresh else ".")
        )
    stages = [stage for k in range(plan.steps) for stage in method.at(k, plan.steps).stages]
    if len(stages) != len(plan.rows):
        raise ValueError(
            f"{method.name!r} makes {len(stages)} states in {plan.steps} steps, but the plan has "
            f"{len(plan.rows)} rows."
        )
    targets = as_float64([row.target for row in plan.rows])
    at, alphas = schedule.lam(targets), schedule.alpha(targets)
    scales, responses = noise_responses(plan, diffusion)
    # The numbers of z = x/α.
    scales, responses = scales * schedule.alpha(plan.grid[0]) / alphas, responses / alphas[:, None]
    equation = _Equation(float(ell), diffusion.prediction, diffusion.sigma_data or 1.0)
    exact = _white_noise(plan, stages, equation, lam, at)
    return NoiseStudy(
        plan.solver,
        plan.sde.name,
        tuple(
            f"step {row.step + 1}" + ("" if ends else f", stage at {stage.c}")
            for row, stage, ends in zip(plan.rows, stages, plan.ends_step, strict=True)
        ),
        responses @ responses.T,
        exact @ exact.T,
        float((scales / equation.transition(lam[0], at) - 1.0).abs().max()),
    )


_PROPAGATED: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "data": lambda lam, sd: torch.exp(-lam),
    "noise": lambda lam, sd: torch.ones_like(lam),
    "precond": lambda lam, sd: torch.sqrt(torch.exp(-2.0 * lam) + sd**2),
}
"""u with u'/u = skip − 1 at (λ, σ_data), by what F is: skip = 0, 1 and σ_data²/(e^{−2λ} + σ_data²),
the factor of z in D."""


@dataclass(frozen=True)
class _Equation:
    ell: float
    prediction: str
    sigma_data: float

    def transition(self, low: Tensor, high: Tensor) -> Tensor:
        """Φ(high, low)."""
        start, end = (_PROPAGATED[self.prediction](lam, self.sigma_data) for lam in (low, high))
        return (end / start) ** (1.0 + self.ell**2)

    def kernel(self, to: Tensor, lam: Tensor) -> Tensor:
        """Φ(to, λ) g(λ)."""
        return self.transition(lam, to) * (self.ell * 2**0.5) * torch.exp(-lam)

    def later(self, start: Tensor, lam: Tensor, end: Tensor) -> Tensor:
        """R(λ): the part of the noise clock between start and end that lies after λ."""
        clock = lambda at: self.kernel(start, at) ** 2  # noqa: E731
        return integrate(clock, lam, end, _POINTS) / integrate(clock, start, end, _POINTS)

    def weight(self, stage: Stage, at: Tensor, start: Tensor, lam: Tensor, end: Tensor) -> Tensor:
        """k_i(λ) of a stage at `at`."""
        kernel = self.kernel(at, lam)
        if stage.increment_weight is None:
            return kernel * (lam < at)
        after = self.later(start, at, end)
        theta, c, p = 1.0 - after, float(stage.c), float(stage.increment_weight)
        rest = (c - p) * torch.sqrt(theta * after / (c * (1.0 - c)))
        return kernel * (theta + rest * (2.0 * self.later(start, lam, end) - 1.0))


def _white_noise(
    plan: Plan, stages: Sequence[Stage], equation: _Equation, lam: Tensor, at: Tensor
) -> Tensor:
    """Coefficients of the states that all rows produce in independent normals, one for each point
    of a quadrature over the run, from a start without noise: the kernels of each step times the
    roots of the weights, and what the step's start brings. Shape (rows, points).
    """
    made, before = [], lam.new_zeros(0)
    nodes, weights = gauss_legendre(_POINTS)
    for step in range(plan.steps):
        start, end = lam[step], lam[step + 1]
        own = [i for i, row in enumerate(plan.rows) if row.step == step]
        # Panels between the times of the states, where kernels are cut off.
        cuts = torch.cat([start[None], at[own].clamp(max=end), end[None]]).sort().values
        widths = cuts.diff()[:, None]
        points = (cuts[:-1, None] + widths * nodes).flatten()
        roots = torch.sqrt(widths * weights).flatten()
        for i in own:
            kernel = equation.weight(stages[i], at[i], start, points, end)
            carried = equation.transition(start, at[i]) * before
            made.append(torch.cat([carried, kernel * roots]))
        before = made[-1]
    return pad_sequence(made, batch_first=True)
