"""The joint law of the noise in all stages of a run, against the reverse SDE itself: neither a
propagator nor a clock of the engine enters the reference.

In z = x/α and λ, with D = skip(σ) z + (a part that is F's), the reverse SDE is

    dz = −(1+ℓ²) (z − D) dλ + ℓ √2 σ dω = [A z + …F] dλ + g dω,
    A = −(1+ℓ²) (1 − skip),    g = ℓ √2 e^{−λ},

so that the noise of a stage at λ_i, given the state at λ_s, is the Wiener integral over the step of

    k_i(λ) = Φ(λ_i, λ) g(λ) · 1[λ < λ_i],    Φ(b, a) = exp ∫_a^b A,

and covariances are ∫ k_i k_j dλ. A stage that takes its noise from the increment and the space-time
integral of the whole step must have the covariance of k_i with all but the other stages of its own
step. Its variance may be another, up to max(1, κ²) times that of k_i at any step size, and is the
same for κ² = 1, with κ² = (c − p)²/(3c(1 − c)) by its weight p of the increment.

Strong order 3/2 asks for more as the step Δλ vanishes: with b_i the weights of F in the step, η_i
the noises in units of the step's, and U by its definition (`strong_defects`),

    Σ b_i η_i = U/Δτ^{3/2} + O(Δλ),    Σ b_i E η_i² = 1/2 + O(Δλ).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from expint.convergence.linear_response import noise_responses
from expint.convergence.problem import Problem
from expint.numerics.float64 import as_float64
from expint.numerics.quadrature import gauss_legendre, integrate
from expint.plans.plan import Plan
from expint.results import Result, Rows, new_figure
from expint.solvers import Method, Stage, get
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
        held: which of them must agree, bool, shape (rows, rows).
        largest: bounds of the variances found, shape (rows,).
    """

    derived: ClassVar[tuple[str, ...]] = ("error",)

    solver: str
    setting: str
    labels: tuple[str, ...]
    found: Tensor
    exact: Tensor
    scale_error: float
    held: Tensor
    largest: Tensor

    @property
    def stds(self) -> Tensor:
        """Exact standard deviations, shape (rows,)."""
        return torch.sqrt(self.exact.diagonal())

    @property
    def errors(self) -> Tensor:
        """found − exact in units of the exact standard deviations where they must agree; else, on
        the diagonal, by how much the variance is beyond its bound; shape (rows, rows)."""
        beyond = torch.diag((self.found.diagonal() - self.largest).clamp(min=0.0))
        off = torch.where(self.held, self.found - self.exact, beyond)
        return off / torch.outer(self.stds, self.stds)

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
            limit = f"of {exact:.6g}" if self.held[i, i] else f"of at most {self.largest[i]:.6g}"
            return (
                f"stage covariance: the noise of {self.labels[i]} has variance {found:.6g} instead "
                f"{limit}"
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
    white, own = _white_noise(plan, equation, lam, at)
    exact = white @ white.T
    shared = torch.tensor([stage.increment_weight is not None for stage in stages])
    inner = ~torch.tensor(plan.ends_step)
    step = torch.tensor([row.step for row in plan.rows])
    free = (shared | shared[:, None]) & inner & inner[:, None] & (step == step[:, None])
    ratios = as_float64([_variance_ratio(stage) for stage in stages])
    free &= ~torch.diag(ratios == 1.0)
    return NoiseStudy(
        plan.solver,
        plan.sde.name,
        tuple(
            f"step {row.step + 1}" + ("" if ends else f", stage at {stage.c}")
            for row, stage, ends in zip(plan.rows, stages, plan.ends_step, strict=True)
        ),
        responses @ responses.T,
        exact,
        float((scales / equation.transition(lam[0], at) - 1.0).abs().max()),
        ~free,
        exact.diagonal() + (ratios.clamp(min=1.0) - 1.0) * own,
    )


def strong_defects(problem: Problem, method: Method, width: float = 1e-4) -> tuple[float, float]:
    """By how much a short step misses the two conditions of strong order 3/2, measured on an
    executed run with the lengths Δτ by quadrature: of the order of its width for a scheme that
    keeps them.

    Args:
        problem: with ell > 0, in a form that the stage covariances know.
        method: the solver.
        width: Δλ of the step, in the middle of the problem's noise levels.

    Returns:
        The standard deviation of Σ b_i η_i − U/Δτ^{3/2}, and |Σ b_i E η_i² − 1/2|.
    """
    schedule, diffusion = problem.model.schedule, problem.sde().diffusion
    assert diffusion is not None
    steps = torch.arange(method.tableau.history + 2, dtype=torch.float64)
    grid = schedule.t_of_lam(sum(problem.ends) / 2 + width * steps)
    plan = problem.planner(problem.sde(), method, grid)
    base = next(i for i, row in enumerate(plan.rows) if row.step == plan.steps - 1)
    scheme, noise = method.at(plan.steps - 1, plan.steps), plan.run[-1]
    states = noise_responses(plan, diffusion)[1][base:, -noise.normals :]
    states = states / states[-1].norm()
    # U in units of Δτ^{3/2}, from its definition in `SubstepNoise`.
    equation = _Equation(float(problem.ell), diffusion.prediction, diffusion.sigma_data or 1.0)
    ends = {stage.c: plan.rows[base + i].target for i, stage in enumerate(scheme.stages)}
    lam = schedule.lam(as_float64([grid[-2], *(ends[c] for c in scheme.noise_nodes)]))
    later = equation.later(lam[0], lam, lam[-1])
    lengths, middles = -later.diff(), 0.5 * (later[1:] + later[:-1])
    integral = torch.cat([middles * lengths.sqrt(), ((lengths**3).sum(0, True) / 12.0).sqrt()])
    integral = integral[: noise.normals] if noise.integral else integral[:-1]
    total, second = torch.zeros_like(integral), 0.0
    weights = {at: float(w) for at, w in plan.rows[-1].weights}
    for at, weight in weights.items():
        if at > base:
            made = states[at - base - 1]
            total += weight / sum(weights.values()) * made
            second += weight / sum(weights.values()) * float(made @ made)
    missing = 0.0 if noise.integral else float((lengths**3).sum() / 12.0)
    return math.hypot(float((total - integral).norm()), missing**0.5), abs(second - 0.5)


def _variance_ratio(stage: Stage) -> float:
    """κ², 1 for ordinary noise."""
    if stage.increment_weight is None:
        return 1.0
    return float((stage.c - stage.increment_weight) ** 2 / (3 * stage.c * (1 - stage.c)))


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


def _white_noise(plan: Plan, equation: _Equation, lam: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of the states that all rows produce in independent normals, one for each point
    of a quadrature over the run, from a start without noise: the kernels of each step times the
    roots of the weights, and what the step's start brings. Shape (rows, points). Then the variance
    that each row has of its own step, shape (rows,).
    """
    made, variances, before = [], [], lam.new_zeros(0)
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
            kernel = equation.kernel(at[i], points) * (points < at[i]) * roots
            carried = equation.transition(start, at[i]) * before
            made.append(torch.cat([carried, kernel]))
            variances.append(kernel @ kernel)
        before = made[-1]
    return pad_sequence(made, batch_first=True), torch.stack(variances)
