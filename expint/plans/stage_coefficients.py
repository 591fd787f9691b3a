"""Coefficients of many steps of one tableau at a time, float64, the steps in dimension 0."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from expint.equations import SemiLinearSDE
from expint.noise import SubstepNoise
from expint.numerics.float64 import as_float64
from expint.numerics.phi_functions import phi
from expint.numerics.quadrature import gauss_legendre
from expint.plans.plan import Coefficient
from expint.schedules import Schedule
from expint.solvers import Stage, Tableau


class StageNumbers(NamedTuple):
    """One stage in all steps of a group, one entry per step; for the attributes see `Row`.
    `weights` and `slopes` are by evaluation, `noise` by normal."""

    time: Sequence[float]
    target: Sequence[float]
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
    sde: SemiLinearSDE,
    tableau: Tableau,
    s: Tensor,
    t: Tensor,
    earlier: Sequence[Tensor],
    *,
    round_time: Callable[[Tensor], Tensor] | None = None,
    factor: Tensor | None = None,
) -> StepNumbers:
    """Coefficients of the steps from times `s` to `t`.

    Args:
        sde: the equation.
        tableau: the scheme of these steps.
        s, t: starts and ends, shape (steps,).
        earlier: starts of the steps before, the nearest first, each of shape (steps,); as many as
            the scheme looks back.
        round_time: maps interior nodes to times that the network knows.
        factor: noise scale factor of each step, shape (steps,).
    """
    shape = (-1, *[1] * sde.event_ndim)
    s, t = s.reshape(shape), t.reshape(shape)
    mu_s = sde.clock(s)
    h = sde.clock(t) - mu_s
    nodes = _nodes(sde, tableau, s, t, mu_s, h)
    if round_time is not None:
        nodes = {c: node if c in (0, 1) else round_time(node) for c, node in nodes.items()}
    # Positions in the clock where they are not the tableau's own.
    where: dict[Fraction, Tensor] = {}
    if round_time is not None or earlier or tableau.variable != "clock":
        where = {c: (sde.clock(node) - mu_s) / h for c, node in nodes.items()}
        if round_time is not None:
            _check_rounding(tableau, where)
    before = {-j - 1: time.reshape(shape) for j, time in enumerate(earlier)}
    places = {j: nodes[c] for j, c in enumerate(tableau.evaluation_nodes)} | before
    step = _Step(sde, tableau, s, t, mu_s, h, places)
    log_a_s = sde.log_propagator(s)
    steps = len(s)
    rates = _rates(sde, tableau, nodes)
    stages = []
    for i, (stage, at) in enumerate(zip(tableau.stages, tableau.evaluation_nodes, strict=True)):
        target = nodes[stage.c]
        log_a = sde.log_propagator(target)
        size = as_float64(sde.kappa) * h
        size = size * torch.exp(log_a + as_float64(sde.rho) * sde.clock(target))
        weights = step.weights(i, where.get(stage.c), target)
        slopes = {
            j: size * h * step.phi.sum(terms) * rates[j][2] for j, terms in stage.slope.items()
        }
        tangent = None
        if i in rates:
            tangent = list(zip(*(_numbers(v, sde, steps) for v in rates[i][:2]), strict=True))
        stages.append(
            StageNumbers(
                nodes[at].detach().reshape(-1).tolist(),
                target.detach().reshape(-1).tolist(),
                _numbers(torch.exp(log_a - log_a_s), sde, steps),
                {j: _numbers(size * b, sde, steps) for j, b in weights.items()},
                {j: _numbers(b, sde, steps) for j, b in slopes.items()},
                _stage_noise(sde, tableau, stage, nodes, log_a, factor),
                tangent,
            )
        )
    return StepNumbers(tuple(stages), _noises(sde, tableau, nodes))


def _rates(
    sde: SemiLinearSDE, tableau: Tableau, nodes: Mapping[Fraction, Tensor]
) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """(A, b, dt/dμ) at the evaluations whose derivative is used; b = κ a e^{ρμ} dμ/dt."""
    rates = {}
    for j in tableau.slopes:
        t = nodes[tableau.evaluation_nodes[j]]
        if t.requires_grad:
            raise ValueError(
                f"{tableau.name!r} cannot be differentiated with respect to the grid: use a solver "
                "without derivatives."
            )
        A, b, _ = sde.coefficients_at(t)
        weight = torch.exp(sde.log_propagator(t) + as_float64(sde.rho) * sde.clock(t))
        rates[j] = (A, b, as_float64(sde.kappa) * weight / b)
    return rates


Variable = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _variable(sde: SemiLinearSDE, name: str | Schedule) -> Variable:
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


def _nodes(
    sde: SemiLinearSDE, tableau: Tableau, s: Tensor, t: Tensor, mu_s: Tensor, h: Tensor
) -> dict[Fraction, Tensor]:
    """Times of the nodes 0, 1 and of all stages."""
    nodes = {Fraction(0): s, Fraction(1): t}
    variable, inverse = _variable(sde, tableau.variable)
    for c in {stage.c for stage in tableau.stages} - {Fraction(1)}:
        if tableau.variable == "clock":
            nodes[c] = inverse(mu_s + float(c) * h)
        else:
            start, end = variable(s), variable(t)
            nodes[c] = inverse(start + float(c) * (end - start))
    return nodes


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


class _Step:
    """The weights b_j of F in the stages, in units of κ a e^{ρμ} h, for all steps of a group."""

    def __init__(
        self,
        sde: SemiLinearSDE,
        tableau: Tableau,
        s: Tensor,
        t: Tensor,
        mu_s: Tensor,
        h: Tensor,
        places: Mapping[int, Tensor],
    ) -> None:
        self.sde, self.tableau, self.s, self.t, self.mu_s, self.h = sde, tableau, s, t, mu_s, h
        self.z = -as_float64(sde.rho) * h
        self.places = places
        self.phi = _Phi(self.z)

    def weights(self, i: int, c: Tensor | None, target: Tensor) -> dict[int, Tensor]:
        """b_j(z) of stage i, which lies at position `c` if that is not the tableau's own."""
        stage = self.tableau.stages[i]
        if c is None:
            return {j: self.phi.sum(terms) for j, terms in self.tableau.terms[i].items()}
        if stage.weights:
            rows = [[tuple(term) for term in terms] for terms in stage.weights.values()]
        elif self.tableau.variable == "clock" or stage.rule is not None:
            nodes = [(self.sde.clock(self.places[j]) - self.mu_s) / self.h for j in stage.through]
            rows = stage.placed(c, nodes)
        else:
            return self._by_quadrature(stage, target)
        values = self.phi if stage.weights else _Phi(self.z, c)
        return {j: values.sum(row) for j, row in zip(stage.sources, rows, strict=True)}

    def _by_quadrature(self, stage: Stage, target: Tensor) -> dict[int, Tensor]:
        """b_j = ∫_s^t L_j(v) e^{ρ(μ − μ_t)} dμ/h for another variable v than the clock, by
        Gauss–Legendre quadrature in λ, where e^{ρμ} and v are smooth (else in μ)."""
        sde, diffusion = self.sde, self.sde.diffusion
        variable, _ = _variable(sde, self.tableau.variable)
        along, time = sde.clock.mu, sde.clock.time
        if diffusion:
            along, time = diffusion.schedule.lam, diffusion.schedule.t_of_lam
        low, high = along(self.s), along(target)
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
        start = variable(self.s)
        width = variable(self.t) - start
        nodes = [(variable(self.places[j]) - start) / width for j in stage.through]
        rows = stage.polynomials((variable(target) - start) / width, nodes)
        v = (variable(t) - start) / width
        density = widths * speed * torch.exp(as_float64(sde.rho) * (mu - sde.clock(target)))
        density = density * (high - low) / self.h
        sums = []
        for row in rows:
            value = torch.zeros_like(v)
            for coefficient in reversed(list(row)):
                value = value * v + coefficient
            sums.append((density * value).sum(0))
        return dict(zip(stage.through, sums, strict=True))


class _Phi:
    """φ_k(scale · z), each computed once for all evaluations of a stage."""

    def __init__(self, z: Tensor, c: Tensor | float = 1.0) -> None:
        self._z, self._c = z, c
        self._known: dict[tuple[int, Any], Tensor] = {}

    def sum(self, terms: Sequence[Sequence[Any]]) -> Tensor:
        """Σ q φ_k(scale · z) over terms (q, k, scale), or (q, k) with the stage's own position."""
        total = torch.zeros_like(self._z)
        for q, k, *scale in terms:
            total = total + _real(q) * self._value(k, scale[0] if scale else None)
        return total

    def _value(self, k: int, scale: Any) -> Tensor:
        key = (k, scale)
        if key not in self._known:
            self._known[key] = phi(k, (self._c if scale is None else _real(scale)) * self._z)
        return self._known[key]


def _real(value: Any) -> Any:
    return float(value) if isinstance(value, Fraction) else value


def _noises(
    sde: SemiLinearSDE, tableau: Tableau, nodes: Mapping[Fraction, Tensor]
) -> Sequence[SubstepNoise | None]:
    """What each step asks of the noise."""
    clock, steps = sde.noise, len(nodes[Fraction(0)])
    if clock is None:
        return [None] * steps
    ordered = [nodes[Fraction(0)], *(nodes[c] for c in tableau.noise_nodes)]

    @cache
    def times() -> Tensor:
        return torch.stack([clock(node).detach() for node in ordered], 1)

    count, integral = len(tableau.noise_nodes), tableau.needs_integral
    return [SubstepNoise(count, integral, lambda k=k: times()[k]) for k in range(steps)]


def _stage_noise(
    sde: SemiLinearSDE,
    tableau: Tableau,
    stage: Stage,
    nodes: Mapping[Fraction, Tensor],
    log_a: Tensor,
    factor: Tensor | None,
) -> Sequence[tuple[Coefficient, ...]]:
    """Per step the coefficients of the substep's normals in the noise of a stage.

    Ordinary noise a_i [W(τ_i) − W(τ_s)] has a_i √(τ_k − τ_{k−1}) up to its own node. With the
    weight p of the increment, a_i [p ΔW + 2(θ − p) U/Δτ] has, with δ_k = (τ_k − τ_{k−1})/Δτ and m_k
    the middle of interval k, a_i √Δτ √δ_k [p + 2(θ − p)(1 − m_k)] and for the normal of U
    a_i √Δτ 2(θ − p) √(Σ δ_k³/12). All in logarithms: a and τ may overflow, their product does not.
    """
    steps = len(log_a)
    if sde.noise is None:
        return [()] * steps
    log_interval = sde.noise.log_interval
    ends = [nodes[c] for c in tableau.noise_nodes]
    starts = [nodes[Fraction(0)], *ends[:-1]]
    logs = [log_interval(a, b) for a, b in zip(starts, ends, strict=True)]
    if stage.increment_weight is None:
        used = logs[: tableau.noise_nodes.index(stage.c) + 1]
        columns = [_finite(log_a + 0.5 * log) for log in used]
    else:
        p, whole = float(stage.increment_weight), log_interval(starts[0], ends[-1])
        noiseless = torch.isneginf(whole)
        theta = torch.where(
            noiseless, 0.0, torch.exp(log_interval(starts[0], nodes[stage.c]) - whole)
        )
        parts = [torch.where(noiseless, 0.0, torch.exp(log - whole)) for log in logs]
        size = _finite(log_a + 0.5 * whole)
        passed, columns = torch.zeros_like(whole), []
        for part in parts:
            ahead = 1.0 - passed - 0.5 * part
            columns.append(size * torch.sqrt(part) * (p + 2.0 * (theta - p) * ahead))
            passed = passed + part
        spread = torch.sqrt(sum((part**3 for part in parts), torch.zeros_like(whole)) / 12.0)
        columns.append(size * 2.0 * (theta - p) * spread)
    if factor is not None:
        columns = [values * factor.reshape(-1, *[1] * sde.event_ndim) for values in columns]
    return list(zip(*(_numbers(values, sde, steps) for values in columns), strict=True))


def _finite(log: Tensor) -> Tensor:
    """e^log, 0 where an interval has no noise."""
    noiseless = torch.isneginf(log)
    return torch.where(noiseless, 0.0, torch.exp(torch.where(noiseless, 0.0, log)))


def _numbers(values: Tensor, sde: SemiLinearSDE, steps: int) -> Sequence[Coefficient]:
    """One coefficient per step: floats where they can be, tensors for diagonal coefficients and
    where gradients are wanted."""
    if sde.event_ndim:
        return values.expand(steps, *values.shape[1:]).unbind(0)
    flat = values.expand(steps)
    return flat.unbind(0) if flat.requires_grad else flat.tolist()
