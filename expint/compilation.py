"""Compile an SDE, a tableau and a grid into a plan; everything is computed here, once, in float64, for all steps together."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from expint import grids
from expint.float64 import as_float64
from expint.phi_functions import phi
from expint.plan import Coefficient, Plan, Row
from expint.sde import SemiLinearSDE
from expint.solvers import Stage, Tableau, get
from expint.solvers.interpolation import interpolation_weights

__all__ = ["compile_plan"]

_INF = float("inf")
_LEAST_LOG_FRACTION = -74.0  # correlations below e^(−37) are rounding errors


def compile_plan(
    sde: SemiLinearSDE,
    solver: str | Tableau,
    grid: Sequence[float] | Tensor,
    *,
    round_time: Callable[[Tensor], Tensor] | None = None,
) -> Plan:
    """The plan of `solver` for `sde` on `grid`.

    Args:
        sde: what to integrate, for example `reverse_sde(schedule)`.
        solver: a registered name or a tableau.
        grid: times from noise to data, shape (steps + 1,). A grid that ends at σ = 0 ends with the exact first-order step
            x = αD; one that starts at σ = ∞ starts with a first-order step.
        round_time: maps the times of the evaluations to those that the network knows; the rounded times are then used everywhere.

    Raises:
        ValueError: for an unknown solver, or a grid that is not monotone or leaves the domain.

    Source: design of the engine: variation of constants, SEEDS, arXiv 2305.14267, eq. (10), integrated row by row.
    """
    tableau = get(solver)
    times = _check_grid(sde, grid)
    if round_time is not None:
        clean = sde.schedule is not None and sde.schedule.lam(times[-1].item()) == _INF
        kept = round_time(times[:-1] if clean else times)
        times = _check_grid(sde, torch.cat([kept, times[-1:]]) if clean else kept)
    starts, ends = _degenerate_ends(sde, times)
    rows: list[Row] = []
    taus: list[Tensor | None] = []
    local: list[Tensor | None] = []
    if starts:
        _add(_first_from_infinity(sde, times), rows, taus, local)
    inner = times[int(starts) : len(times) - int(ends)]
    if len(inner) > 1:
        for part in _regular_steps(sde, tableau, inner, int(starts), len(rows), round_time):
            _add(part, rows, taus, local)
    if ends and not (starts and len(times) == 2):
        _add(_last_to_zero(sde, times, len(rows)), rows, taus, local)
    return Plan(sde, tableau.name, times.detach(), tuple(rows), tuple(taus), tuple(local))


_Step = tuple[list[Row], Tensor | None, Tensor | None]


def _add(part: _Step, rows: list[Row], taus: list[Tensor | None], local: list[Tensor | None]) -> None:
    rows.extend(part[0])
    taus.append(part[1])
    local.append(part[2])


def _check_grid(sde: SemiLinearSDE, grid: Any) -> Tensor:
    if sde.schedule is not None:
        return grids.check(sde.schedule, grid)
    times = as_float64(grid)
    if times.ndim != 1 or len(times) < 2 or not torch.isfinite(times).all():
        raise ValueError(f"A grid is a 1-D sequence of at least 2 finite times, got shape {tuple(times.shape)}: {grid!r}.")
    mu = sde.clock(times)
    flat = torch.nonzero(~(mu[1:] > mu[:-1]))
    if len(flat):
        i = int(flat[0])
        raise ValueError(
            f"The clock of {sde} must increase along the grid, but between grid[{i}] = {times[i].item():.9g} and grid[{i + 1}] = "
            f"{times[i + 1].item():.9g} it goes from {mu[i].item():.9g} to {mu[i + 1].item():.9g}."
        )
    return times


def _degenerate_ends(sde: SemiLinearSDE, times: Tensor) -> tuple[bool, bool]:
    if sde.schedule is None:
        return False, False
    lam = sde.schedule.lam(times.detach())
    return lam[0].item() == -_INF, lam[-1].item() == _INF


def _first_from_infinity(sde: SemiLinearSDE, times: Tensor) -> _Step:
    """The first step from σ = ∞, where every form has the same limit, of first order: x_t = P x_s + α_t D + noise.

    ℓ > 0: P = 0 and the noise has standard deviation σ̄_t; ℓ = 0: P = σ̄_t/σ̄_s and no noise. In between are noise scales for which
    φ/σ stays finite as σ → ∞, such as windows: P = (σ̄_t/σ̄_s) √q and variance σ̄_t² (1 − q) with q = τ_s/τ_t.
    """
    schedule = sde.schedule
    assert schedule is not None
    start, end = times[0].item(), times[1].item()
    std = float(schedule.std(end))
    weights = ((0, float(schedule.alpha(end))),)
    if not sde.is_stochastic or std == 0.0:
        scale = std / float(schedule.std(start))
        return [Row(0, start, "data", end, scale, weights, None, None, 0, True)], None, None
    # In the global clock the first interval starts at τ(σ=∞): 0 in every form but the noise form, where it is −∞ and only fresh
    # noise can serve.
    tau = torch.stack([sde.noise_clock(times[0]), sde.noise_clock(times[1])])
    kept = min(float(tau[0] / tau[1]), 1.0) if sde.noise_sign > 0 else 0.0
    scale = math.sqrt(kept) * std / float(schedule.std(start))
    noise = std / math.sqrt(tau[1] if sde.noise_sign > 0 else tau[1] - tau[0])
    row = Row(0, start, "data", end, scale, weights, noise, std, 1, True)
    return [row], tau, torch.tensor([0.0, 1.0 - kept], dtype=torch.float64)


def _last_to_zero(sde: SemiLinearSDE, times: Tensor, index: int) -> _Step:
    """The last step to σ = 0, where every form has the same first-order limit: x = α D, without noise."""
    schedule = sde.schedule
    assert schedule is not None
    start, end = times[-2].item(), times[-1].item()
    row = Row(len(times) - 2, start, "data", end, 0.0, ((index, float(schedule.alpha(end))),), None, None, 0, True)
    return [row], None, None


def _regular_steps(
    sde: SemiLinearSDE,
    tableau: Tableau,
    times: Tensor,
    first_step: int,
    first_row: int,
    round_time: Callable[[Tensor], Tensor] | None,
) -> list[_Step]:
    """Rows of all steps with finite clock, computed with a leading dimension over steps."""
    shape = (-1, *[1] * sde.event_ndim)
    s, t = times[:-1].reshape(shape), times[1:].reshape(shape)
    mu_s = sde.clock(s)
    h = sde.clock(t) - mu_s
    z = -as_float64(sde.rho) * h
    nodes = {Fraction(0): s, Fraction(1): t}
    for c in {stage.c for stage in tableau.stages} - {Fraction(1)}:
        nodes[c] = sde.time_of_clock(mu_s + float(c) * h)
    position = None
    if round_time is not None:
        nodes = {c: node if c in (0, 1) else round_time(node) for c, node in nodes.items()}
        position = {c: (sde.clock(node) - mu_s) / h for c, node in nodes.items()}
        _check_rounding(tableau, position)
    log_a_s = sde.log_propagator(s)

    table = []  # per stage: (c, p, {evaluation: weight}), float64 with steps leading
    for i, stage in enumerate(tableau.stages):
        target = nodes[stage.c]
        log_a = sde.log_propagator(target)
        gain = as_float64(sde.kappa) * torch.exp(log_a + as_float64(sde.rho) * sde.clock(target)) * h
        weights = {j: gain * b for j, b in _stage_weights(tableau, i, z, position).items()}
        table.append((stage.c, torch.exp(log_a - log_a_s), torch.exp(log_a), weights))
    noise = _noise_clocks(sde, tableau, nodes) if sde.is_stochastic else None
    return _rows(sde, tableau, nodes, table, noise, first_step, first_row)


def _check_rounding(tableau: Tableau, position: dict[Fraction, Tensor]) -> None:
    if any(stage.weights for stage in tableau.stages):
        raise ValueError(
            f"Cannot round the evaluation times of {tableau.name!r}, whose rows are stated for fixed nodes: use interpolated "
            "times (timesteps='interpolate') or a solver with interpolatory rows."
        )
    ordered = torch.stack([position[c].reshape(-1) for c in sorted(position)])
    if not bool((ordered[1:] > ordered[:-1]).all()):
        raise ValueError(
            "The grid is too fine for the table that the network was trained on: after rounding, nodes of one step coincide. "
            "Take fewer steps, a solver with fewer stages, or timesteps='interpolate'."
        )


def _stage_weights(tableau: Tableau, i: int, z: Tensor, position: dict[Fraction, Tensor] | None) -> dict[int, Tensor]:
    """b_j(z) of stage i; with rounded times the interpolation is redone at the positions where the evaluations really are."""
    stage = tableau.stages[i]
    if position is None:
        return {
            j: sum((float(q) * phi(k, float(scale) * z) for q, k, scale in terms), torch.zeros_like(z))
            for j, terms in tableau.terms[i].items()
        }
    c = position[stage.c]
    through = [position[tableau.evaluation_nodes[j]] for j in stage.through]
    rows = interpolation_weights(c, through)
    return {j: sum((q * phi(k, c * z) for q, k in row), torch.zeros_like(z)) for j, row in zip(stage.through, rows, strict=True)}


def _noise_clocks(
    sde: SemiLinearSDE, tableau: Tableau, nodes: dict[Fraction, Tensor]
) -> tuple[Tensor, Tensor, dict[Fraction, Tensor]]:
    """τ at the start and the noise nodes of every step, shape (steps, nodes + 1, *event), in the global and in local clocks; and
    the coefficients of the increments in the local clock.

    The local clock of a step is (τ − τ_s)/(τ_t − τ_s), from 0 to 1, so that nothing overflows where a mode is very stiff. There
    its fractions are held above a small number: nodes so far apart have independent noise in either case, to the last digit, and
    the variances, which the coefficients restore, are exact.
    """
    ordered = [nodes[Fraction(0)], *(nodes[c] for c in tableau.noise_nodes)]
    taus = torch.stack([sde.noise_clock(node) for node in ordered], 1)
    logs = [sde.log_noise_interval(ordered[0], node) for node in ordered[1:]]
    log_fraction = torch.zeros_like(logs[-1])
    fractions, coefficients = [], {}
    for i, c in reversed(list(enumerate(tableau.noise_nodes))):
        if i + 1 < len(logs):
            log_fraction = log_fraction + (logs[i] - logs[i + 1]).clamp(min=_LEAST_LOG_FRACTION, max=0.0)
        noiseless = torch.isneginf(logs[i])
        fractions.insert(0, torch.exp(log_fraction) if c == 1 else torch.where(noiseless, 0.0, torch.exp(log_fraction)))
        strength = torch.exp(sde.log_propagator(nodes[c]) + 0.5 * (logs[i] - log_fraction))
        coefficients[c] = torch.where(noiseless, 0.0, strength)
    return taus, torch.stack([torch.zeros_like(fractions[0]), *fractions], 1), coefficients


def _rows(
    sde: SemiLinearSDE,
    tableau: Tableau,
    nodes: dict[Fraction, Tensor],
    table: list[tuple[Fraction, Tensor, Tensor, dict[int, Tensor]]],
    noise: tuple[Tensor, Tensor, dict[Fraction, Tensor]] | None,
    first_step: int,
    first_row: int,
) -> list[_Step]:
    """Turn the arrays into rows of plain numbers."""
    clock = {c: node.detach().reshape(-1).tolist() for c, node in nodes.items()}
    steps = len(clock[Fraction(0)])
    evaluation = tableau.evaluation_nodes
    columns = [
        (
            c,
            _numbers(p, sde, steps),
            _stage_noise(sde, stage, nodes, a, noise),
            {j: _numbers(w, sde, steps) for j, w in weights.items()},
        )
        for stage, (c, p, a, weights) in zip(tableau.stages, table, strict=True)
    ]
    last = len(columns) - 1
    where = {c: i + 1 for i, c in enumerate(tableau.noise_nodes)}
    where = {i: where[Fraction(1) if stage.share is not None else stage.c] for i, stage in enumerate(tableau.stages)}
    parts: list[_Step] = []
    for k in range(steps):
        base = first_row + k * tableau.evaluations
        rows = [
            Row(
                step=first_step + k,
                time=clock[evaluation[i]][k],
                prediction=sde.prediction,
                target=clock[c][k],
                scale=p[k],
                weights=tuple((base + j, w[k]) for j, w in weights.items()),
                node=where[i] if noise else 0,
                ends_step=i == last,
                **{name: values[k] for name, values in kick.items()},
            )
            for i, (c, p, kick, weights) in enumerate(columns)
        ]
        parts.append((rows, noise[0][k] if noise else None, noise[1][k] if noise else None))
    return parts


def _stage_noise(
    sde: SemiLinearSDE,
    stage: Stage,
    nodes: dict[Fraction, Tensor],
    a: Tensor,
    noise: tuple[Tensor, Tensor, dict[Fraction, Tensor]] | None,
) -> dict[str, Sequence[Any]]:
    """Per step the coefficients of the increment and of U in the noise of a stage, in the global and in the local clock."""
    steps = len(nodes[Fraction(0)])
    if noise is None:
        return {"noise": [None] * steps, "local_noise": [None] * steps}
    if stage.share is None:
        return {"noise": _numbers(a, sde, steps), "local_noise": _numbers(noise[2][stage.c], sde, steps)}
    s, t = nodes[Fraction(0)], nodes[Fraction(1)]
    share = float(stage.share)
    whole, log_whole = noise[0][:, -1] - noise[0][:, 0], sde.log_noise_interval(s, t)
    noiseless = torch.isneginf(log_whole)
    theta = torch.where(noiseless, 0.0, torch.exp(sde.log_noise_interval(s, nodes[stage.c]) - log_whole))
    local = torch.exp(sde.log_propagator(nodes[stage.c]) + 0.5 * log_whole)
    columns = {
        "area": torch.where(noiseless, 0.0, a * 2.0 * (theta - share) / whole),
        "local_area": local * 2.0 * (theta - share),
    }
    if share:
        columns |= {"noise": a * share, "local_noise": local * share}
    absent: dict[str, Sequence[Any]] = {"noise": [None] * steps, "local_noise": [None] * steps}
    return absent | {name: _numbers(values, sde, steps) for name, values in columns.items()}


def _numbers(values: Tensor, sde: SemiLinearSDE, steps: int) -> Sequence[Coefficient]:
    """One coefficient per step: floats where they can be, tensors for diagonal coefficients and where gradients are wanted."""
    if sde.event_ndim:
        return values.expand(steps, *values.shape[1:]).unbind(0)
    flat = values.expand(steps)
    return flat.unbind(0) if flat.requires_grad else flat.tolist()
