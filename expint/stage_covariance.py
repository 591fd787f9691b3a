"""The joint law of the noise in all stages of a run, against the reverse SDE itself: no propagator or clock enters the reference.

In z = x/α and λ, with D = skip(σ) z + (a part that is F's), the reverse SDE is

    dz = −(1+ℓ²) (z − D) dλ + ℓ √2 σ dω = [A z + …F] dλ + g dω,    A = −(1+ℓ²) (1 − skip),    g = ℓ √2 e^{−λ},

so that the noise of a stage at λ_i, given the state at λ_s, is a Wiener integral ∫ k_i dω over the step with

    k_i(λ) = Φ(λ_i, λ) g(λ) · 1[λ < λ_i]                      for the ordinary noise of its node,
    k_i(λ) = Φ(λ_i, λ) g(λ) · [p + 2 (θ_i − p) R(λ)]          for a stage with share p of the increment and the rest of U,

Φ(b, a) = exp ∫_a^b A, R(λ) the part of ∫ (g/Φ)² dλ that lies after λ, and θ_i = 1 − R(λ_i). Covariances are ∫ k_i k_j dλ.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from scipy import special
from torch import Tensor

from expint.linear_response import noise_responses
from expint.plan import Plan, Row
from expint.solvers import Stage, Tableau, get
from expint.studies import save_figure, table_text

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
            return f"propagator: factors of the initial state are off by up to {self.scale_error:.3g}"
        # The earliest wrong variance explains what follows from it; else the earliest wrong covariance.
        wrong = [(i, j) for i in range(len(off)) for j in range(i + 1) if float(off[i, j]) > tolerance]
        own = [pair for pair in wrong if pair[0] == pair[1]]
        i, j = (own or wrong)[0]
        found, exact = float(self.found[i, j]), float(self.exact[i, j])
        if i == j:
            return f"stage covariance: the noise of {self.labels[i]} has variance {found:.6g} instead of {exact:.6g}"
        root = float(torch.sqrt(self.exact[i, i] * self.exact[j, j]))
        return (
            f"stage covariance: the noises of {self.labels[j]} and {self.labels[i]} have correlation {found / root:.6g} "
            f"instead of {exact / root:.6g}"
        )

    def table(self, *, markdown: bool = False) -> str:
        """Standard deviation of every state and its correlation with the step that it belongs to, found and exact."""
        rows: list[Sequence[str]] = [("state", "std found", "std exact", "largest error of its correlations")]
        for i, label in enumerate(self.labels):
            stds = [f"{float(torch.sqrt(matrix[i, i].clamp(min=0))):.6g}" for matrix in (self.found, self.exact)]
            rows.append((label, *stds, f"{float(self.errors[i].abs().max()):.1e}"))
        head = f"stage covariances of {self.solver}, {self.setting}"
        return "\n".join([head, "", table_text(rows, markdown=markdown), "", self.finding() or "all as the SDE has them"])

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
            axes.set_yticks(range(len(self.labels)), self.labels if title == "found" else [""] * len(self.labels), fontsize=8)
            figure.colorbar(image, ax=axes, shrink=0.8)
        save_figure(figure, path)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values."""
        lists = {name: getattr(self, name).tolist() for name in ("found", "exact")}
        return {"solver": self.solver, "setting": self.setting, "labels": list(self.labels), "error": self.error, **lists}

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(self.to_dict(), indent=1)


def noise_covariance(plan: Plan, solver: str | Tableau | None = None, *, ell: float = 1.0) -> NoiseStudy:
    """The joint covariance of the noise in all states of a run, as executed, against that of the reverse SDE by quadrature.

    Args:
        plan: of a diffusion SDE with constant ℓ, on a grid with finite λ at both ends. A few steps are enough.
        solver: the tableau behind the plan; default: the registered one of the plan's name.
        ell: stochasticity ℓ > 0 of the equation that the plan should sample.

    Raises:
        ValueError: for a plan without noise or schedule, with σ = 0 or ∞ in its grid, or not of this tableau.
    """
    tableau = get(plan.solver if solver is None else solver)
    schedule = plan.sde.schedule
    if schedule is None or plan.sde.prediction not in _SKIP:
        raise ValueError(
            f"Stage covariances are known for the reverse diffusion SDE in the forms of {list(_SKIP)}, not for {plan.sde}."
        )
    if not ell > 0 or plan.gaussians == 0:
        raise ValueError(f"There is no noise to study at ell = {ell!r}: take ell > 0 and a plan compiled with it.")
    lam = torch.as_tensor(schedule.lam(plan.grid), dtype=torch.float64)
    if not torch.isfinite(lam).all() or len(plan.rows) != plan.steps * tableau.evaluations:
        raise ValueError(
            f"Stage covariances need a grid with finite lambda and {tableau.evaluations} rows per step of {tableau.name!r}; got "
            f"lambda from {float(lam[0]):.6g} to {float(lam[-1]):.6g} and {len(plan.rows)} rows for {plan.steps} steps."
        )
    scales, responses = noise_responses(plan)
    equation = _Equation(float(ell), plan.sde.prediction, plan.sde.sigma_data or 1.0)
    # The numbers of z = x/α.
    alphas = torch.stack([torch.as_tensor(schedule.alpha(row.target), dtype=torch.float64) for row in plan.rows])
    responses = responses / alphas[:, None]
    exact = _exact(plan, tableau, equation, lam)
    at = torch.stack([_lam(schedule, row) for row in plan.rows])
    decay = equation.transition(lam[0].expand_as(at), at)
    scale_error = float((scales * float(schedule.alpha(plan.grid[0])) / alphas / decay - 1.0).abs().max())
    labels = tuple(_label(plan, row, tableau.stages[i % tableau.evaluations]) for i, row in enumerate(plan.rows))
    return NoiseStudy(plan.solver, plan.sde.name, labels, responses @ responses.T, exact, scale_error)


def _label(plan: Plan, row: Row, stage: Stage) -> str:
    return f"step {row.step + 1}" if row.ends_step else f"step {row.step + 1}, stage at {stage.c}"


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
        return torch.exp(-rate * _integral(lambda lam: 1.0 - _SKIP[self.prediction](lam, self.sigma_data), low, high))

    def kernel(self, to: Tensor, lam: Tensor) -> Tensor:
        """Φ(to, λ) g(λ)."""
        return self.transition(lam, to.expand_as(lam)) * (self.ell * 2**0.5) * torch.exp(-lam)

    def later(self, start: Tensor, lam: Tensor, end: Tensor) -> Tensor:
        """R(λ): the part of the noise clock between start and end that lies after λ."""

        def rate(at: Tensor) -> Tensor:
            return self.kernel(start, at) ** 2

        return _integral(rate, lam, end.expand_as(lam)) / _integral(rate, start, end)

    def weight(self, stage: Stage, at: Tensor, start: Tensor, lam: Tensor, end: Tensor) -> Tensor:
        """k_i(λ) of a stage at `at`, for λ where it is not cut off."""
        if stage.share is None:
            return self.kernel(at, lam)
        p, theta = float(stage.share), 1.0 - self.later(start, at, end)
        return self.kernel(at, lam) * (p + 2.0 * (theta - p) * self.later(start, lam, end))


def _exact(plan: Plan, tableau: Tableau, equation: _Equation, lam: Tensor) -> Tensor:
    """Covariance of the states that all rows produce, from a start without noise."""
    count, size = tableau.evaluations, len(plan.rows)
    covariance = torch.zeros(size, size, dtype=torch.float64)
    before: Tensor | None = None  # covariance of the step's start with all earlier states, and its own variance
    for k in range(plan.steps):
        start, end = lam[k], lam[k + 1]
        first = k * count
        at = [_lam(plan.sde.schedule, plan.rows[first + i]) for i in range(count)]
        decay = [equation.transition(start, a) for a in at]
        for i, stage in enumerate(tableau.stages):
            for j, other in enumerate(tableau.stages[: i + 1]):
                stop = min([end, *(a for a, s in ((at[i], stage), (at[j], other)) if s.share is None)], key=float)
                value = _integral(
                    lambda x, i=i, j=j, a=stage, b=other, s=start, e=end, at=at: (
                        equation.weight(a, at[i], s, x, e) * equation.weight(b, at[j], s, x, e)
                    ),
                    start,
                    stop,
                )
                if before is not None:
                    value = value + decay[i] * decay[j] * before[-1]
                covariance[first + i, first + j] = covariance[first + j, first + i] = value
            if before is not None:
                covariance[first + i, :first] = covariance[:first, first + i] = decay[i] * before[:first]
        before = covariance[first + count - 1, : first + count]
    return covariance
