"""The joint law of the noise in all stages of a run, against the reverse SDE itself: no propagator
or clock enters the reference.

In z = x/α and λ, with D = skip(σ) z + (a part that is F's), the reverse SDE is

    dz = −(1+ℓ²) (z − D) dλ + ℓ √2 σ dω = [A z + …F] dλ + g dω,    A = −(1+ℓ²) (1 − skip),    g = ℓ
    √2 e^{−λ},

so that the noise of a stage at λ_i, given the state at λ_s, is a Wiener integral ∫ k_i dω over the
step with

    k_i(λ) = Φ(λ_i, λ) g(λ) · 1[λ < λ_i]                      for the ordinary noise of its node,
    k_i(λ) = Φ(λ_i, λ) g(λ) · [p + 2 (θ_i − p) R(λ)]          for a stage with share p of the
    increment and the rest of U,

Φ(b, a) = exp ∫_a^b A, R(λ) the part of ∫ (g/Φ)² dλ that lies after λ, and θ_i = 1 − R(λ_i).
Covariances are ∫ k_i k_j dλ.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from scipy import special
from torch import Tensor

from expint.convergence.linear_response import noise_responses
from expint.convergence.studies import save_figure, table_text
from expint.plans.plan import Plan, Row
from expint.solvers import Tableau, get

__all__ = ["NoiseStudy", "noise_covariance"]

_POINTS, _WEIGHTS = (torch.as_tensor(v, dtype=torch.float64) for v in special.roots_legendre(24))
_POINTS, _WEIGHTS = 0.5 * (_POINTS + 1.0), 0.5 * _WEIGHTS


@dataclass(frozen=True, eq=False)
class NoiseStudy:
    """Covariance of the noise in all states of a run, found and exact.

    Attributes:
        solver: its name.
        setting: the equation.
        labels: names of the states, one per row of the plan.
        found, exact: covariances, shape (rows, rows).
        scale_error: largest relative error of the factor of the initial state.
    """

    solver: str
    setting: str
    labels: tuple[str, ...]
    found: Tensor
    exact: Tensor
    scale_error: float

    @property
    def errors(self) -> Tensor:
        """found − exact in units of the exact standard deviations, shape (rows, rows)."""
        std = torch.sqrt(self.exact.diagonal())
        return (self.found - self.exact) / (std[:, None] * std[None, :])

    @property
    def error(self) -> float:
        """The largest of them, and of the factors of the initial state."""
        return max(float(self.errors.abs().max()), self.scale_error)

    def finding(self, tolerance: float = 1e-7) -> str | None:
        """What is off, in words, or None if nothing exceeds `tolerance`."""
        off = self.errors.abs()
        if float(off.max()) <= tolerance:
            if self.scale_error <= tolerance:
                return None
            return (
                f"propagator: factors of the initial state are off by up to {self.scale_error:.3g}"
            )
        # The earliest wrong variance explains what follows from it; else the earliest wrong
        # covariance.
        wrong = [
            (i, j) for i in range(len(off)) for j in range(i + 1) if float(off[i, j]) > tolerance
        ]
        own = [pair for pair in wrong if pair[0] == pair[1]]
        i, j = (own or wrong)[0]
        found, exact = float(self.found[i, j]), float(self.exact[i, j])
        if i == j:
            return f"stage covariance: the noise of {self.labels[i]} has variance {found:.6g} instead of {exact:.6g}"
        root = float(torch.sqrt(self.exact[i, i] * self.exact[j, j]))
        return (
            f"stage covariance: the noises of {self.labels[j]} and {self.labels[i]} have "
            f"correlation {found / root:.6g} instead of {exact / root:.6g}"
        )

    def table(self, *, markdown: bool = False) -> str:
        """Standard deviation of every state and its correlation with the step that it belongs to,
        found and exact.
        """
        rows: list[Sequence[str]] = [
            ("state", "std found", "std exact", "largest error of its correlations")
        ]
        for i, label in enumerate(self.labels):
            stds = [
                f"{float(torch.sqrt(matrix[i, i].clamp(min=0))):.6g}"
                for matrix in (self.found, self.exact)
            ]
            rows.append((label, *stds, f"{float(self.errors[i].abs().max()):.1e}"))
        head = f"stage covariances of {self.solver}, {self.setting}"
        return "\n".join(
            [
                head,
                "",
                table_text(rows, markdown=markdown),
                "",
                self.finding() or "all as the SDE has them",
            ]
        )

    def plot(self, path: str | Path | IO[bytes]) -> None:
        """Draw the correlations found, the exact ones, and their difference."""
        from matplotlib.figure import Figure

        std = torch.sqrt(self.exact.diagonal())
        scale = std[:, None] * std[None, :]
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        figure.suptitle(f"Noise correlations of {self.solver}")
        matrices = {"found": self.found, "exact": self.exact, "difference": self.found - self.exact}
        for axes, (title, values) in zip(figure.subplots(1, 3), matrices.items(), strict=True):
            shown = values / scale
            # White is 0 in all three.
            limit = max(float(shown.abs().max()), 1e-16) if title == "difference" else 1.0
            image = axes.imshow(shown.numpy(), cmap="RdBu", vmin=-limit, vmax=limit)
            axes.set_title(title)
            axes.set_xticks([])
            axes.set_yticks(
                range(len(self.labels)),
                self.labels if title == "found" else [""] * len(self.labels),
                fontsize=8,
            )
            figure.colorbar(image, ax=axes, shrink=0.8)
        save_figure(figure, path)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values."""
        lists = {name: getattr(self, name).tolist() for name in ("found", "exact")}
        return {
            "solver": self.solver,
            "setting": self.setting,
            "labels": list(self.labels),
            "error": self.error,
            **lists,
        }

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(self.to_dict(), indent=1)


def noise_covariance(
    plan: Plan, solver: str | Tableau | None = None, *, ell: float = 1.0
) -> NoiseStudy:
    """The joint covariance of the noise in all states of a run, as executed, against that of the
    reverse SDE by quadrature.

    Args:
        plan: of a diffusion SDE with constant ℓ, on a grid with finite λ at both ends. A few steps
            are enough.
        solver: the tableau behind the plan; default: as the rows of the plan say.
        ell: stochasticity ℓ > 0 of the equation that the plan should sample.

    Raises:
        ValueError: for a plan without noise or schedule, with σ = 0 or ∞ in its grid, with noise
            that is not the SDE's, or not of this tableau.
    """
    stages = _stages(plan, None if solver is None else get(solver))
    schedule = plan.sde.schedule
    if schedule is None or plan.sde.prediction not in _SKIP:
        raise ValueError(
            "Stage covariances are known for the reverse diffusion SDE in the forms of "
            f"{list(_SKIP)}, not for {plan.sde}."
        )
    if not ell > 0 or plan.gaussians == 0:
        raise ValueError(
            f"There is no noise to study at ell = {ell!r}: take ell > 0 and a plan compiled with "
            "it."
        )
    lam = torch.as_tensor(schedule.lam(plan.grid), dtype=torch.float64)
    if not torch.isfinite(lam).all() or plan.adds_fresh_noise:
        raise ValueError(
            "Stage covariances need a grid with finite lambda and no noise but the SDE's own; got "
            f"lambda from {float(lam[0]):.6g} to {float(lam[-1]):.6g}"
            + (" and added noise." if plan.adds_fresh_noise else ".")
        )
    scales, responses = noise_responses(plan)
    equation = _Equation(float(ell), plan.sde.prediction, plan.sde.sigma_data or 1.0)
    # The numbers of z = x/α.
    alphas = torch.stack(
        [torch.as_tensor(schedule.alpha(row.target), dtype=torch.float64) for row in plan.rows]
    )
    responses = responses / alphas[:, None]
    exact = _exact(plan, stages, equation, lam)
    at = torch.stack([_lam(schedule, row) for row in plan.rows])
    decay = equation.transition(lam[0].expand_as(at), at)
    scale_error = float(
        (scales * float(schedule.alpha(plan.grid[0])) / alphas / decay - 1.0).abs().max()
    )
    labels = tuple(_label(plan, i, stages) for i in range(len(plan.rows)))
    return NoiseStudy(
        plan.solver, plan.sde.name, labels, responses @ responses.T, exact, scale_error
    )


class _Noise(NamedTuple):
    """Node of a state, and its share of the step's increment."""

    c: Fraction
    share: Fraction | None


def _stages(plan: Plan, tableau: Tableau | None) -> list[_Noise]:
    """What the tableau promises for every row; without one, what the rows say."""
    if tableau is None:
        return [_Noise(_position(plan, row), row.share) for row in plan.rows]
    schemes = [tableau.at(k, plan.steps) for k in range(plan.steps)]
    stages = [_Noise(stage.c, stage.share) for scheme in schemes for stage in scheme.stages]
    if len(stages) != len(plan.rows):
        count = f"{len(stages)} states in {plan.steps} steps"
        raise ValueError(f"{tableau.name!r} makes {count}, but the plan has {len(plan.rows)} rows.")
    return stages


def _position(plan: Plan, row: Row) -> Fraction:
    """The node of a row in the clock, for print-outs."""
    times = (plan.grid[row.step], row.target, plan.grid[row.step + 1])
    start, at, end = (float(plan.sde.clock(torch.as_tensor(t, dtype=torch.float64))) for t in times)
    return Fraction((at - start) / (end - start)).limit_denominator(1000)


def _label(plan: Plan, i: int, stages: Sequence[_Noise]) -> str:
    row = plan.rows[i]
    return (
        f"step {row.step + 1}" if row.ends_step else f"step {row.step + 1}, stage at {stages[i].c}"
    )


def _lam(schedule: Any, row: Row) -> Tensor:
    return torch.as_tensor(schedule.lam(row.target), dtype=torch.float64)


_SKIP: dict[str, Callable[[Tensor, float], Tensor]] = {
    "data": lambda lam, sd: torch.zeros_like(lam),
    "noise": lambda lam, sd: torch.ones_like(lam),
    "precond": lambda lam, sd: sd**2 / (torch.exp(-2.0 * lam) + sd**2),
}
"""The factor of z in D, by what F is."""


def _integral(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """∫ by Gauss–Legendre quadrature; low and high of one shape, which is that of the result."""
    width = (high - low)[..., None]
    return (function(low[..., None] + width * _POINTS) * width * _WEIGHTS).sum(-1)


@dataclass(frozen=True)
class _Equation:
    ell: float
    prediction: str
    sigma_data: float

    def transition(self, low: Tensor, high: Tensor) -> Tensor:
        """Φ(high, low)."""
        rate = 1.0 + self.ell**2
        return torch.exp(
            -rate
            * _integral(lambda lam: 1.0 - _SKIP[self.prediction](lam, self.sigma_data), low, high)
        )

    def kernel(self, to: Tensor, lam: Tensor) -> Tensor:
        """Φ(to, λ) g(λ)."""
        return self.transition(lam, to.expand_as(lam)) * (self.ell * 2**0.5) * torch.exp(-lam)

    def later(self, start: Tensor, lam: Tensor, end: Tensor) -> Tensor:
        """R(λ): the part of the noise clock between start and end that lies after λ."""

        def rate(at: Tensor) -> Tensor:
            return self.kernel(start, at) ** 2

        return _integral(rate, lam, end.expand_as(lam)) / _integral(rate, start, end)

    def weight(self, stage: _Noise, at: Tensor, start: Tensor, lam: Tensor, end: Tensor) -> Tensor:
        """k_i(λ) of a stage at `at`, for λ where it is not cut off."""
        if stage.share is None:
            return self.kernel(at, lam)
        p, theta = float(stage.share), 1.0 - self.later(start, at, end)
        return self.kernel(at, lam) * (p + 2.0 * (theta - p) * self.later(start, lam, end))


def _exact(plan: Plan, stages: Sequence[_Noise], equation: _Equation, lam: Tensor) -> Tensor:
    """Covariance of the states that all rows produce, from a start without noise."""
    size = len(plan.rows)
    covariance = torch.zeros(size, size, dtype=torch.float64)
    before: Tensor | None = (
        None  # covariance of the step's start with all earlier states, and its own variance
    )
    for k in range(plan.steps):
        start, end = lam[k], lam[k + 1]
        own = [i for i, row in enumerate(plan.rows) if row.step == k]
        first = own[0]
        at = {i: _lam(plan.sde.schedule, plan.rows[i]) for i in own}
        for i in own:
            decay = equation.transition(start, at[i])
            for j in own[: i - first + 1]:
                a, b = stages[i], stages[j]
                stop = min([end, *(at[n] for n in (i, j) if stages[n].share is None)], key=float)
                value = _integral(
                    lambda x, i=i, j=j, a=a, b=b, s=start, e=end, at=at: (
                        equation.weight(a, at[i], s, x, e) * equation.weight(b, at[j], s, x, e)
                    ),
                    start,
                    stop,
                )
                if before is not None:
                    value = value + decay * equation.transition(start, at[j]) * before[-1]
                covariance[i, j] = covariance[j, i] = value
            if before is not None:
                covariance[i, :first] = covariance[:first, i] = decay * before[:first]
        before = covariance[own[-1], : own[-1] + 1]
    return covariance
