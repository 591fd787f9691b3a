"""Coefficients of many steps of one tableau at a time, float64, with a leading dimension over the
steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from scipy import special
from torch import Tensor

from expint.equations.sde import SemiLinearSDE
from expint.numerics.float64 import as_float64
from expint.numerics.phi_functions import phi
from expint.plans.plan import Coefficient
from expint.schedules import Schedule
from expint.solvers import Stage, Tableau

__all__ = ["StepStages", "step_stages"]

_LEAST_LOG_FRACTION = -74.0  # correlations below e^(−37) are rounding errors
_POINTS, _WEIGHTS = (torch.as_tensor(v, dtype=torch.float64) for v in special.roots_legendre(32))
_POINTS, _WEIGHTS = 0.5 * (_POINTS + 1.0), 0.5 * _WEIGHTS


class StageNumbers(NamedTuple):
    """One stage in all steps of a group: lists with one entry per step."""

    evaluation: Sequence[float]
    target: Sequence[float]
    scale: Sequence[Coefficient]
    weights: dict[int, Sequence[Coefficient]]
    kick: dict[str, Sequence[Any]]
    node: int
    slopes: dict[int, Sequence[Coefficient]]
    tangent: Sequence[tuple[Coefficient, Coefficient]] | None


@dataclass(frozen=True)
class StepStages:
    """All stages of a group of steps, and per step the noise clock in the global and in the local
    clock.
    """

    stages: tuple[StageNumbers, ...]
    taus: Tensor | None
    local_taus: Any


def step_stages(
    sde: SemiLinearSDE,
    tableau: Tableau,
    s: Tensor,
    t: Tensor,
    earlier: Sequence[Tensor],
    *,
    round_time: Callable[[Tensor], Tensor] | None = None,
    gain: Tensor | None = None,
) -> StepStages:
    """Coefficients of the steps from times `s` to `t`.

    Args:
        sde: the equation.
        tableau: the scheme of these steps.
        s, t: starts and ends, shape (steps,).
        earlier: starts of the steps before, the nearest first, each of shape (steps,); as many as
            the scheme looks back.
        round_time: maps interior nodes to times that the network knows.
        gain: factor of the noise in each step.
    """
    shape = (-1, *[1] * sde.event_ndim)
    s, t = s.reshape(shape), t.reshape(shape)
    mu_s = sde.clock(s)
    h = sde.clock(t) - mu_s
    z = -as_float64(sde.rho) * h
    nodes = _nodes(sde, tableau, s, t, mu_s, h)
    position: dict[int, Tensor] | None = None
    if round_time is not None:
        nodes = {c: node if c in (0, 1) else round_time(node) for c, node in nodes.items()}
    where: dict[Fraction, Tensor] = {}
    if round_time is not None or earlier or tableau.variable != "clock":
        where = {c: (sde.clock(node) - mu_s) / h for c, node in nodes.items()}
        if round_time is not None:
            _check_rounding(tableau, where)
        position = {j: where[c] for j, c in enumerate(tableau.evaluation_nodes)}
        position |= {
            -j - 1: (sde.clock(before.reshape(shape)) - mu_s) / h
            for j, before in enumerate(earlier)
        }
    log_a_s = sde.log_propagator(s)
    steps = len(s)
    noise = _noise_clocks(sde, tableau, nodes) if sde.is_stochastic else None
    at = {c: i + 1 for i, c in enumerate(tableau.noise_nodes)}
    clock = {c: node.detach().reshape(-1).tolist() for c, node in nodes.items()}

    rates = _rates(sde, tableau, nodes) if tableau.slopes else {}
    stages = []
    for i, (stage, evaluated) in enumerate(
        zip(tableau.stages, tableau.evaluation_nodes, strict=True)
    ):
        target = nodes[stage.c]
        log_a = sde.log_propagator(target)
        factor = (
            as_float64(sde.kappa) * torch.exp(log_a + as_float64(sde.rho) * sde.clock(target)) * h
        )
        if position is None:
            weights = _exact_weights(tableau, i, z)
        elif tableau.variable == "clock" or stage.rule is not None or stage.weights:
            weights = _placed_weights(stage, where[stage.c], z, position)
        else:
            weights = _quadrature_weights(
                sde, tableau.variable, stage, where[stage.c], z, mu_s, h, position
            )
        stages.append(
            StageNumbers(
                clock[evaluated],
                clock[stage.c],
                _numbers(torch.exp(log_a - log_a_s), sde, steps),
                {j: _numbers(factor * b, sde, steps) for j, b in weights.items()},
                _stage_noise(sde, stage, nodes, torch.exp(log_a), noise, gain),
                at[Fraction(1) if stage.share is not None else stage.c] if noise else 0,
                {
                    j: _numbers(factor * h * _Phi(z).sum(terms) * rates[j][2], sde, steps)
                    for j, terms in stage.slope.items()
                },
                list(zip(*(_numbers(value, sde, steps) for value in rates[i][:2]), strict=True))
                if i in rates
                else None,
            )
        )
    return StepStages(tuple(stages), noise[0] if noise else None, noise[1] if noise else None)


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
        weight = as_float64(sde.kappa) * torch.exp(
            sde.log_propagator(t) + as_float64(sde.rho) * sde.clock(t)
        )
        rates[j] = (A, b, weight / b)
    return rates


def _nodes(
    sde: SemiLinearSDE, tableau: Tableau, s: Tensor, t: Tensor, mu_s: Tensor, h: Tensor
) -> dict[Fraction, Tensor]:
    """Times of the nodes 0, 1 and of all stages."""
    nodes = {Fraction(0): s, Fraction(1): t}
    variable, inverse = _variable(sde, tableau.variable)
    for c in {stage.c for stage in tableau.stages} - {Fraction(1)}:
        if tableau.variable == "clock":
            nodes[c] = sde.time_of_clock(mu_s + float(c) * h)
        else:
            start, end = variable(s), variable(t)
            nodes[c] = inverse(start + float(c) * (end - start))
    return nodes


def _variable(
    sde: SemiLinearSDE, name: str | Schedule
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """A function of time in which polynomials are taken, and its inverse."""
    if name == "clock":
        return sde.clock, sde.time_of_clock
    if name == "time":
        return (lambda t: t), (lambda v: v)
    schedule = sde.schedule
    if schedule is None:
        raise ValueError(
            f"{sde} has no noise schedule, so that nothing can be a polynomial in sigma: use "
            "variable='clock'."
        )
    if isinstance(name, Schedule):
        return (lambda t: name.t_of_sigma(schedule.sigma(t))), (
            lambda v: schedule.t_of_sigma(name.sigma(v))
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


def _exact_weights(tableau: Tableau, i: int, z: Tensor) -> dict[int, Tensor]:
    """b_j(z) of stage i at the tableau's own nodes."""
    values = _Phi(z)
    return {j: values.sum(terms) for j, terms in tableau.terms[i].items()}


def _placed_weights(
    stage: Stage, c: Tensor, z: Tensor, position: Mapping[int, Tensor]
) -> dict[int, Tensor]:
    """b_j(z) where the evaluations really are, and of `weights`, which know where they are."""
    if stage.weights:
        rows = [[tuple(term) for term in terms] for terms in stage.weights.values()]
    else:
        rows = stage.placed(c, [position[j] for j in stage.through])
    values = _Phi(z, c)
    return {j: values.sum(row) for j, row in zip(stage.sources, rows, strict=True)}


class _Phi:
    """φ_k(scale · z), each computed once for all evaluations of a stage."""

    def __init__(self, z: Tensor, c: Tensor | float = 1.0) -> None:
        self._z, self._c = z, c
        self._known: dict[tuple[int, Any], Tensor] = {}

    def sum(self, terms: Sequence[Sequence[Any]]) -> Tensor:
        """Σ q φ_k(scale · z) over terms (q, k, scale), or (q, k) with the stage's own position
        c.
        """
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


def _quadrature_weights(
    sde: SemiLinearSDE,
    name: str | Schedule,
    stage: Stage,
    c: Tensor,
    z: Tensor,
    mu_s: Tensor,
    h: Tensor,
    position: Mapping[int, Tensor],
) -> dict[int, Tensor]:
    """b_j = ∫_0^c L_j(v) e^{z(c−θ)} dθ for polynomials in another variable v than the clock, by
    Gauss–Legendre quadrature.
    """
    variable, _ = _variable(sde, name)

    def value(theta: Tensor) -> Tensor:
        return variable(sde.time_of_clock(mu_s + theta * h))

    start, width = (
        value(torch.zeros_like(h)),
        value(torch.ones_like(h)) - value(torch.zeros_like(h)),
    )
    rows = stage.polynomials(
        (value(c) - start) / width, [(value(position[j]) - start) / width for j in stage.through]
    )
    sums = [torch.zeros_like(h * z) for _ in rows]
    for point, weight in zip(_POINTS.tolist(), _WEIGHTS.tolist(), strict=True):
        theta = c * point
        v = (value(theta) - start) / width
        density = weight * c * torch.exp(z * (c - theta))
        for total, row in zip(sums, rows, strict=True):
            total += density * sum(coefficient * v**m for m, coefficient in enumerate(row))
    return dict(zip(stage.through, sums, strict=True))


def _noise_clocks(
    sde: SemiLinearSDE, tableau: Tableau, nodes: dict[Fraction, Tensor]
) -> tuple[Tensor, Tensor, dict[Fraction, Tensor]]:
    """τ at the start and the noise nodes of every step, shape (steps, nodes + 1, *event), in the
    global and in local clocks; and the coefficients of the increments in the local clock.

    The local clock of a step is (τ − τ_s)/(τ_t − τ_s), from 0 to 1, so that nothing overflows where
    a mode is very stiff. There its fractions are held above a small number: nodes so far apart have
    independent noise in either case, to the last digit, and the variances, which the coefficients
    restore, are exact.
    """
    ordered = [nodes[Fraction(0)], *(nodes[c] for c in tableau.noise_nodes)]
    taus = torch.stack([sde.noise_clock(node) for node in ordered], 1)
    logs = [sde.log_noise_interval(ordered[0], node) for node in ordered[1:]]
    log_fraction = torch.zeros_like(logs[-1])
    fractions, coefficients = [], {}
    for i, c in reversed(list(enumerate(tableau.noise_nodes))):
        if i + 1 < len(logs):
            log_fraction = log_fraction + (logs[i] - logs[i + 1]).clamp(
                min=_LEAST_LOG_FRACTION, max=0.0
            )
        noiseless = torch.isneginf(logs[i])
        fractions.insert(
            0,
            torch.exp(log_fraction)
            if c == 1
            else torch.where(noiseless, 0.0, torch.exp(log_fraction)),
        )
        strength = torch.exp(sde.log_propagator(nodes[c]) + 0.5 * (logs[i] - log_fraction))
        coefficients[c] = torch.where(noiseless, 0.0, strength)
    return taus, torch.stack([torch.zeros_like(fractions[0]), *fractions], 1), coefficients


def _stage_noise(
    sde: SemiLinearSDE,
    stage: Stage,
    nodes: dict[Fraction, Tensor],
    a: Tensor,
    noise: tuple[Tensor, Tensor, dict[Fraction, Tensor]] | None,
    gain: Tensor | None,
) -> dict[str, Sequence[Any]]:
    """Per step the coefficients of the increment and of U in the noise of a stage, in the global
    and in the local clock.
    """
    steps = len(nodes[Fraction(0)])
    absent: dict[str, Sequence[Any]] = {"noise": [None] * steps, "local_noise": [None] * steps}
    if noise is None:
        return absent
    if stage.share is None:
        columns = {"noise": a, "local_noise": noise[2][stage.c]}
    else:
        s, t = nodes[Fraction(0)], nodes[Fraction(1)]
        share = float(stage.share)
        whole, log_whole = noise[0][:, -1] - noise[0][:, 0], sde.log_noise_interval(s, t)
        noiseless = torch.isneginf(log_whole)
        theta = torch.where(
            noiseless, 0.0, torch.exp(sde.log_noise_interval(s, nodes[stage.c]) - log_whole)
        )
        local = torch.exp(sde.log_propagator(nodes[stage.c]) + 0.5 * log_whole)
        columns = {
            "area": torch.where(noiseless, 0.0, a * 2.0 * (theta - share) / whole),
            "local_area": local * 2.0 * (theta - share),
        }
        if share:
            columns |= {"noise": a * share, "local_noise": local * share}
    if gain is not None:
        columns = {
            name: values * gain.reshape(-1, *[1] * sde.event_ndim)
            for name, values in columns.items()
        }
    return absent | {name: _numbers(values, sde, steps) for name, values in columns.items()}


def _numbers(values: Tensor, sde: SemiLinearSDE, steps: int) -> Sequence[Coefficient]:
    """One coefficient per step: floats where they can be, tensors for diagonal coefficients and
    where gradients are wanted.
    """
    if sde.event_ndim:
        return values.expand(steps, *values.shape[1:]).unbind(0)
    flat = values.expand(steps)
    return flat.unbind(0) if flat.requires_grad else flat.tolist()
