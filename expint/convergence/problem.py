"""What a convergence study integrates."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.equations.forms import reverse_sde
from expint.equations.predictions import to_denoiser
from expint.equations.sde import SemiLinearSDE
from expint.noise import initial_state
from expint.numerics.float64 import as_float64
from expint.plans.compilation import compile_plan
from expint.plans.plan import Plan
from expint.runs.model import describe
from expint.solvers import Method, get
from expint.solvers.registry import Solver


@dataclass(frozen=True, eq=False)
class Problem:
    """What is integrated in a study: a model along its reverse SDE, from one noise level to
    another, in equal steps of λ.

    Args:
        model: any model; the analytic targets of `expint.targets` cost nothing.
        form: "data", "noise" or "precond".
        ell: stochasticity.
        sigmas: first and last noise level, both finite and > 0.
        sigma_data: for the preconditioned form; default: the model's own.
        shape: of the event; default: the model's own attribute `shape`.
        planner: builds the plans that are studied: planner(sde, method, grid). The reference is
            never built by it.

    Raises:
        ValueError, TypeError: for noise levels outside the schedule's domain or in the wrong order,
            or a model without a schedule or shape.
    """

    model: Any
    form: str = "data"
    ell: float = 1.0
    sigmas: tuple[float, float] = (5.0, 0.1)
    sigma_data: float | None = None
    shape: tuple[int, ...] | None = None
    planner: Callable[[SemiLinearSDE, Method, Tensor], Plan] = compile_plan

    def __post_init__(self) -> None:
        model = describe(self.model)
        first, last = self.sigmas
        if not math.inf > first > last > 0:
            raise ValueError(
                "sigmas are the first and the last noise level, finite with first > last > 0, got "
                f"{self.sigmas!r}."
            )
        low, high = sorted(model.schedule.sigma(t) for t in model.schedule.domain)
        if first > high * (1 + 1e-9) or last < low * (1 - 1e-9):
            raise ValueError(
                f"sigmas {self.sigmas!r} leave the noise levels of {model.schedule}, {low:.6g} to "
                f"{high:.6g}."
            )
        shape = model.shape if self.shape is None else tuple(self.shape)
        if shape is None:
            raise ValueError(
                f"{type(self.model).__name__} has no attribute `shape`: give the event's shape, "
                "shape=(d,)."
            )
        object.__setattr__(self, "shape", shape)
        if self.sigma_data is None:
            object.__setattr__(self, "sigma_data", model.sigma_data)
        self.sde()

    @property
    def ends(self) -> tuple[float, float]:
        """First and last λ."""
        return -math.log(self.sigmas[0]), -math.log(self.sigmas[1])

    def sde(self) -> SemiLinearSDE:
        """The reverse SDE."""
        return reverse_sde(self.model.schedule, self.form, self.ell, sigma_data=self.sigma_data)

    def grid(self, steps: int) -> Tensor:
        """Times of `steps` equal steps in λ."""
        return self.model.schedule.t_of_lam(
            torch.linspace(*self.ends, steps + 1, dtype=torch.float64)
        )

    def plan(self, solver: Solver, steps: int) -> Plan:
        """The plan under study."""
        return self.planner(self.sde(), get(solver), self.grid(steps))

    def start(self, seeds: Sequence[int]) -> Tensor:
        """Initial states σ̄ times standard normals, float64, one per seed."""
        assert self.shape is not None
        std = self.model.schedule.std(self.grid(1)[0])
        return initial_state(seeds, self.shape, torch.float64) * std

    def without_noise(self, x: Tensor, steps: int) -> Tensor:
        """The solution at ℓ = 0 from `x`, by a reference that shares nothing with the engine: the
        classical Runge–Kutta method on dz/dλ = D − z, z = x/α, in equal steps of λ.
        """
        schedule, prediction, sigma_data = describe(self.model)[:3]
        times = self.grid(2 * steps)
        alphas = torch.as_tensor(schedule.alpha(times), dtype=torch.float64)
        rule = to_denoiser(prediction, schedule, times, sigma_data)
        h = (self.ends[1] - self.ends[0]) / steps

        def rate(z: Tensor, i: int) -> Tensor:
            x = alphas[i] * z
            return rule.on_x[i] * x + rule.on_output[i] * self.model(x, times[i]) - z

        z = x / alphas[0]
        for i in range(0, 2 * steps, 2):
            k1 = rate(z, i)
            k2 = rate(z + 0.5 * h * k1, i + 1)
            k3 = rate(z + 0.5 * h * k2, i + 1)
            k4 = rate(z + h * k3, i + 2)
            z = z + h / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
        return alphas[-1] * z

    def __str__(self) -> str:
        name = type(self.model).__name__
        return f"{self.sde().name}, {name}, {self.sigmas[0]:g} > sigma > {self.sigmas[1]:g}"


@dataclass(frozen=True, eq=False)
class SemiLinearProblem:
    """A semi-linear SDE of one's own in a study of strong or weak orders, in equal steps of its
    time over its span. Coefficients may be diagonal, and as stiff as they are.

    Args:
        equation: for example `SemiLinearSDE.from_coefficients(A, b, g, span=...)`, with noise.
        F: the nonlinear part, see `integrate`.
        x: the initial state of every path, shape of the event.
        planner: builds the plans that are studied, as in `Problem`.

    Raises:
        ValueError: for an equation without a span.

    Example:
        >>> from expint.convergence import strong_order
        >>> waves = torch.arange(8, dtype=torch.float64)
        >>> field = SemiLinearSDE.from_coefficients(-(waves**2), 1.0, 0.5, span=(0.0, 1.0))
        >>> problem = SemiLinearProblem(field, lambda x, t: torch.cos(x), torch.zeros(8))
        >>> strong_order("seeds-1", problem, steps=(8, 16, 32), paths=64).order > 0.9
        True
    """

    equation: SemiLinearSDE
    F: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    planner: Callable[[SemiLinearSDE, Method, Tensor], Plan] = compile_plan

    def __post_init__(self) -> None:
        if self.equation.span is None:
            raise ValueError(f"{self.equation} has no span: give it one, span=(first, last).")

    @property
    def model(self) -> Callable[[Tensor, Tensor], Tensor]:
        """F."""
        return self.F

    def sde(self) -> SemiLinearSDE:
        """The equation."""
        return self.equation

    def grid(self, steps: int) -> Tensor:
        """Times of `steps` equal steps."""
        assert self.equation.span is not None
        return torch.linspace(*self.equation.span, steps + 1, dtype=torch.float64)

    def plan(self, solver: Solver, steps: int) -> Plan:
        """The plan under study."""
        return self.planner(self.equation, get(solver), self.grid(steps))

    def start(self, seeds: Sequence[int]) -> Tensor:
        """The initial state once per seed, float64."""
        x = as_float64(self.x)
        return x.expand(len(seeds), *x.shape).clone()

    def __str__(self) -> str:
        assert self.equation.span is not None
        return (
            f"{self.equation.name}, t from {self.equation.span[0]:g} to {self.equation.span[1]:g}"
        )


def check_problem(problem: Any, *others: type) -> None:
    """Refuse a model in the place of a `Problem`."""
    if not isinstance(problem, (Problem, *others)):
        own = (
            ""
            if others or not isinstance(problem, SemiLinearProblem)
            else (" (a SemiLinearProblem has strong and weak orders only)")
        )
        raise TypeError(
            f"What is integrated is an expint.convergence.Problem, got {type(problem).__name__}: "
            "for a model, give Problem(model), which also states form, ell and noise levels"
            f"{own}."
        )
