"""Coefficients of many steps of one tableau at a time, float64, the steps in dimension 0."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from expint.equations import SemiLinearSDE
from expint.noise import SubstepNoise
from expint.numerics.float64 import as_float64
from expint.numerics.phi_functions import phi
from expint.numerics.quadrature import gauss_legendre
from expint.plans.plan import Coefficient, each
from expint.schedules import Schedule
from expint.solvers import Stage, Tableau

_ZERO, _ONE = Fraction(0), Fraction(1)


class StageNumbers(NamedTuple):
    """One stage in all steps of a group, one entry per step; for the attributes see `Row`.
    `weights` and `slopes` are by evaluation, `noise` by normal."""

    time: Sequence[Coefficient]
    target: Sequence[Coefficient]
    scale: Sequence[Coefficient]
    weights: dict[int, Sequence[Coefficient]]
    slopes: dict[int, Sequence[Coefficient]]
    noise: Sequence[tuple[Coefficient, ...]]
    tangent: Sequence[tuple[Coefficient, Coefficient]] | None


class StepNumbers(NamedTuple):
    """All stages of a group of steps, and what each step asks of the noise."""

    stages: tuple[StageNumbers, ...]
    noises: Sequence[SubstepNoise | None]


def step_numbers(
    sde: SemiLinearSDE, tableau: Tableau, at: "NodeTimes", factor: Tensor | None = None
) -> StepNumbers:
    """Coefficients of a group of steps.

    Args:
        sde: the equation.
        tableau: the scheme of these steps.
        at: their nodes.
        factor: noise scale factor of each step, shape (steps,).
    """
    kappa, rho, moments = as_float64(sde.kappa), as_float64(sde.rho), sde.clock.moments
    sums = PhiSums(at.h, partial(moments, at.node[_ZERO])) if moments else PhiSums(-rho * at.h)
    rates = _rates(sde, tableau, at)
    columns = _noise_columns(sde, tableau, at, factor)
    steps = len(at.h)

    def per_step(values: Iterable[Tensor]) -> list[Any]:
        return list(zip(*(_numbers(v, sde, steps) for v in values), strict=True))

    stages = []
    for i, (stage, own) in enumerate(zip(tableau.stages, tableau.evaluation_nodes, strict=True)):
        size = kappa * torch.exp(at.log_a[stage.c] + rho * at.mu[stage.c]) if not moments else 1.0
        weights = stage_weights(sde, tableau, i, at, sums)
        slopes = {
            j: size * at.h**2 * sums.of(terms) * rates[j][2] for j, terms in stage.slope.items()
        }
        stages.append(
            StageNumbers(
                each(at.node[own].reshape(-1)),
                each(at.node[stage.c].reshape(-1)),
                _numbers(torch.exp(at.log_a[stage.c] - at.log_a[_ZERO]), sde, steps),
                {j: _numbers(size * at.h * b, sde, steps) for j, b in weights.items()},
                {j: _numbers(b, sde, steps) for j, b in slopes.items()},
                per_step(columns[i]) if columns else [()] * steps,
                per_step(rates[i][:2]) if i in rates else None,
            )
        )
    return StepNumbers(tuple(stages), _noises(sde, tableau, at))


class NodeTimes:
    """The nodes c of a group of steps, those of earlier steps (c < 0) included: their times, and
    the clock and the propagator there, each evaluated once. Shape (steps, *1) each.

    Args:
        sde: the equation.
        tableau: the scheme of these steps.
        s, t: starts and ends, shape (steps,).
        earlier: starts of the steps before, the nearest first, each of shape (steps,); as many as
            the scheme looks back.
        round_time: maps interior nodes to times that the network knows.
    """

    def __init__(
        self,
        sde: SemiLinearSDE,
        tableau: Tableau,
        s: Tensor,
        t: Tensor,
        earlier: Sequence[Tensor],
        round_time: Callable[[Tensor], Tensor] | None,
    ) -> None:
        shape = (-1, *[1] * sde.event_ndim)
        node = {_ZERO: s.reshape(shape), _ONE: t.reshape(shape)}
        variable, inverse = variable_of(sde, tableau.variable)
        start, end = variable(torch.stack([node[_ZERO], node[_ONE]]))
        for c in {stage.c for stage in tableau.stages} - {_ONE}:
            inner = inverse(start + float(c) * (end - start))
            node[c] = inner if round_time is None else round_time(inner)
        node |= {Fraction(-j - 1): time.reshape(shape) for j, time in enumerate(earlier)}
        every = torch.stack(list(node.values()))
        self.node = node
        self.mu = dict(zip(node, sde.clock(every), strict=True))
        self.log_a = {} if sde.blocks else dict(zip(node, sde.log_propagator(every), strict=True))
        self.h = self.mu[_ONE] - self.mu[_ZERO]
        self.position = {c: (mu - self.mu[_ZERO]) / self.h for c, mu in self.mu.items()}
        # Whether the positions in the clock are other than the tableau's c.
        self.moved = bool(earlier) or round_time is not None or tableau.variable != "clock"
        if round_time is not None:
            _check_rounding(tableau, {c: x for c, x in self.position.items() if c >= 0})


def _rates(
    sde: SemiLinearSDE, tableau: Tableau, at: NodeTimes
) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """(A, b, dt/dμ) at the evaluations whose derivative is used; b = κ a e^{ρμ} dμ/dt."""
    rates = {}
    for j in tableau.slopes:
        node = tableau.evaluation_nodes[j]
        t = at.node[node]
        if t.requires_grad or at.log_a[node].requires_grad:
            raise ValueError(
                f"{tableau.name!r} cannot be differentiated with respect to the grid or the "
                "schedule: use a solver without derivatives."
            )
        A, b, _ = sde.coefficients_at(t)
        dt = torch.exp(at.log_a[node] + as_float64(sde.rho) * at.mu[node]) * sde.kappa / b  # / dμ
        rates[j] = (A, b, (at.node[_ONE] - at.node[_ZERO]) / at.h if sde.clock.moments else dt)
    return rates


Variable = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def variable_of(sde: SemiLinearSDE, name: str | Schedule) -> Variable:
    """A function of time in which polynomials are taken, and its inverse."""
    if name == "clock":
        return sde.clock, sde.clock.time
    if name == "time":
        return (lambda t: t), (lambda v: v)
    if not sde.diffusion:
        raise ValueError(
            f"{sde} has no noise schedule, so that nothing can be a polynomial in sigma: use "
            "variable='clock'."
        )
    schedule = sde.diffusion.schedule
    if isinstance(name, Schedule):
        return (
            lambda t: name.t_of_sigma(schedule.sigma(t)),
            lambda v: schedule.t_of_sigma(name.sigma(v)),
        )
    return schedule.sigma, schedule.t_of_sigma


def _check_rounding(tableau: Tableau, position: Mapping[Fraction, Tensor]) -> None:
    if any(stage.weights for stage in tableau.stages):
        raise ValueError(
            f"Cannot round the evaluation times of {tableau.name!r}, whose rows are stated for "
            "fixed nodes: use interpolated times (timesteps='interpolate') or a solver with "
            "interpolatory rows."
        )
    ordered = torch.stack([position[c].reshape(-1) for c in sorted(position)])
    if not bool((ordered[1:] > ordered[:-1]).all()):
        raise ValueError(
            "The grid is too fine for the table that the network was trained on: after rounding, "
            "nodes of one step coincide. Take fewer steps, a solver with fewer stages, or "
            "timesteps='interpolate'."
        )


def stage_weights(
    sde: SemiLinearSDE, tableau: Tableau, i: int, at: NodeTimes, phi_sums: "PhiSums"
) -> dict[int, Tensor]:
    """b_j(z) of F in stage i, in units of κ a e^{ρμ} h."""
    stage, nodes = tableau.stages[i], tableau.nodes
    if not at.moved:
        return {j: phi_sums.of(terms) for j, terms in tableau.terms[i].items()}
    if stage.weights:
        rows = [[tuple(term) for term in terms] for terms in stage.weights.values()]
    elif sde.clock.moments or tableau.variable == "clock" or stage.rule is not None:
        c = at.position[stage.c]
        rows = stage.placed(c, [at.position[nodes[j]] for j in stage.through])
        phi_sums = PhiSums(phi_sums.z, phi_sums.phi, c)
    else:
        return _by_quadrature(sde, tableau, stage, at)
    return {j: phi_sums.of(row) for j, row in zip(stage.sources, rows, strict=True)}


def _by_quadrature(
    sde: SemiLinearSDE, tableau: Tableau, stage: Stage, at: NodeTimes
) -> dict[int, Tensor]:
    """b_j = ∫_s^t L_j(v) e^{ρ(μ − μ_t)} dμ/h for another variable v than the clock, by
    Gauss–Legendre quadrature in λ, where e^{ρμ} and v are smooth (else in μ)."""
    variable, _ = variable_of(sde, tableau.variable)
    along, time = sde.clock.mu, sde.clock.time
    if sde.diffusion:
        along, time = sde.diffusion.schedule.lam, sde.diffusion.schedule.t_of_lam
    low, high = along(torch.stack([at.node[_ZERO], at.node[stage.c]]))
    points, widths = (v.reshape(-1, *[1] * low.ndim) for v in gauss_legendre(32))
    u = low + (high - low) * points
    if along == sde.clock.mu:
        t, speed = time(u), torch.ones_like(u)
        mu = u
    else:
        with torch.enable_grad():
            leaf = u if u.requires_grad else u.clone().requires_grad_(True)
            t = time(leaf)
            mu = sde.clock(t)
            (speed,) = torch.autograd.grad(mu.sum(), leaf, create_graph=u.requires_grad)
        if not u.requires_grad:
            t, mu = t.detach(), mu.detach()
    places = [at.node[tableau.nodes[j]] for j in stage.through]
    start, end, target, *through = variable(
        torch.stack([at.node[_ZERO], at.node[_ONE], at.node[stage.c], *places])
    )
    width = end - start
    rows = stage.polynomials((target - start) / width, [(v - start) / width for v in through])
    v = (variable(t) - start) / width
    density = widths * speed * torch.exp(as_float64(sde.rho) * (mu - at.mu[stage.c]))
    density = density * (high - low) / at.h
    sums = []
    for row in rows:
        value = torch.zeros_like(v)
        for coefficient in reversed(list(row)):
            value = value * v + coefficient
        sums.append((density * value).sum(0))
    return dict(zip(stage.through, sums, strict=True))


class PhiSums:
    """φ_k(scale · z), or another function in place of φ, each computed once for all evaluations of
    a stage."""

    def __init__(self, z: Tensor, own: Any = None, c: Tensor | float = 1.0) -> None:
        self.z, self.phi, self._c = z, own or phi, c
        self._known: dict[tuple[int, Any], Tensor] = {}

    def of(self, terms: Sequence[Sequence[Any]]) -> Tensor:
        """Σ q φ_k(scale · z) over terms (q, k, scale), or (q, k) with the stage's own position."""
        total = torch.zeros_like(self.z)
        for q, k, *scale in terms:
            total = total + _real(q) * self._value(k, scale[0] if scale else None)
        return total

    def _value(self, k: int, scale: Any) -> Tensor:
        key = (k, scale)
        if key not in self._known:
            self._known[key] = self.phi(k, (self._c if scale is None else _real(scale)) * self.z)
        return self._known[key]


def _real(value: Any) -> Any:
    return float(value) if isinstance(value, Fraction) else value


def _noises(sde: SemiLinearSDE, tableau: Tableau, at: NodeTimes) -> Sequence[SubstepNoise | None]:
    """What each step asks of the noise."""
    clock, steps = sde.noise, len(at.h)
    if clock is None:
        return [None] * steps

    @cache
    def times() -> Tensor:
        ordered = [at.node[c].detach() for c in (_ZERO, *tableau.noise_nodes)]
        return clock(torch.stack(ordered, 1))

    count, integral = len(tableau.noise_nodes), tableau.needs_integral
    return [SubstepNoise(count, integral, lambda k=k: times()[k]) for k in range(steps)]


def _noise_columns(
    sde: SemiLinearSDE, tableau: Tableau, at: NodeTimes, factor: Tensor | None
) -> list[list[Tensor]]:
    """By stage and normal of the substep, the coefficients of all steps; nothing without noise.

    With θ = (τ_i − τ_s)/Δτ, ordinary noise a_i [W(τ_i) − W(τ_s)] has a_i √(τ_k − τ_{k−1}) up to its
    own node. A stage with the weight p of the increment has a_i [θ ΔW + κ √(12 θ(1−θ)) H], where
    H = U/Δτ − ΔW/2 is independent of ΔW and κ = (c − p)/√(3c(1−c)): p ΔW + 2(c − p) U/Δτ where
    θ = c, and for κ = ±1 the joint law of W(τ_i) and W(τ_t) at every step size. On δ_k =
    (τ_k − τ_{k−1})/Δτ with m_k the middle of interval k, U/Δτ is Σ_k (1 − m_k) √δ_k z_k +
    √(Σ δ_k³/12) z_U. All in logarithms: a and τ may overflow, their product does not.
    """
    if sde.noise is None:
        return []
    ends = tableau.noise_nodes
    targets = (_ONE, *(stage.c for stage in tableau.stages))
    pairs = [*pairwise((_ZERO, *ends)), *((_ZERO, c) for c in targets)]
    first, last = (torch.stack([at.node[c] for c in side]) for side in zip(*pairs, strict=True))
    scales = torch.stack([at.log_a[c] for _, c in pairs])
    variances = sde.noise.log_variance(first, last, scales)
    logs = variances - 2.0 * scales
    inner, whole, until = logs[: len(ends)], logs[len(ends)], logs[len(ends) + 1 :]
    whole = torch.where(torch.isneginf(whole), 0.0, whole)  # no noise: its parts are −∞
    found = []
    for stage, log in zip(tableau.stages, until, strict=True):
        log_a = at.log_a[stage.c]
        if stage.increment_weight is None:
            k = ends.index(stage.c) + 1  # where a is large, no other order of these sums will do
            columns = [*_finite(0.5 * variances[:k] + (log_a - scales[:k]))]
        else:
            later = torch.sqrt(-torch.expm1((log - whole).clamp(max=0.0)))  # √(1 − θ)
            mean = _finite(log_a + log - 0.5 * whole)
            spread = stage.bridge_factor * math.sqrt(12.0) * later * _finite(log_a + 0.5 * log)
            parts = torch.exp(inner - whole)
            ahead = 0.5 - parts.cumsum(0) + 0.5 * parts
            columns = [*((mean + spread * ahead) * torch.sqrt(parts))]
            columns.append(spread * torch.sqrt((parts**3).sum(0) / 12.0))
        if factor is not None:
            columns = [values * factor.reshape(at.h.shape) for values in columns]
        found.append(columns)
    return found


def _finite(log: Tensor) -> Tensor:
    """e^log, 0 where an interval has no noise."""
    noiseless = torch.isneginf(log)
    return torch.where(noiseless, 0.0, torch.exp(torch.where(noiseless, 0.0, log)))


def _numbers(values: Tensor, sde: SemiLinearSDE, steps: int) -> Sequence[Coefficient]:
    """One coefficient per step: floats where they can be, tensors for diagonal coefficients and
    where gradients are wanted."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"The coefficients of a step of {sde} leave the floating-point numbers: its noise "
            "levels are too far apart for this form and ell. Use form='data', a smaller ell, or "
            "more steps."
        )
    if sde.event_ndim:
        return values.expand(steps, *values.shape[1:]).unbind(0)
    return each(values.expand(steps))
