"""Kinetic (underdamped) Langevin dynamics

    dx = v dt,    dv = −γ v dt − ∇U(x) dt + √(2γT) dω,

whose positions have the stationary density e^{−U/T}: a linear part that is a 2 × 2 matrix, and F =
−∇U. All solvers of this package run on it; here are the splittings, as plans of the same rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from expint.blocks import Block, BlockNodes, square_root
from expint.chains import Chains
from expint.equations import SemiLinearSDE
from expint.execution import execute
from expint.guards.finite import check_state
from expint.noise import Gaussian, SubstepNoise, initial_state
from expint.noise.source import check_batch, check_seeds
from expint.numerics.float64 import are_numbers, is_whole
from expint.nystrom import NYSTROM, nystrom_rows
from expint.plans import Plan, Row, compile_plan
from expint.solvers import get
from expint.solvers.registry import Solver

SPLITTINGS = {
    "ubu": ("U.5 B1 U.5", "Sanz-Serna & Zygalakis, JMLR 22 (2021)"),
    "baoab": ("B.5 A.5 O1 A.5 B.5", "Leimkuhler & Matthews, Appl. Math. Res. eXpress (2013)"),
    "obabo": ("O.5 B.5 A1 B.5 O.5", "Bussi & Parrinello, Phys. Rev. E 75 (2007)"),
}
"""The flows of a step and their fractions: A of the position, B of the force, O of friction and
noise, U of all but the force."""

PLANS = {name: source for name, (_, source) in SPLITTINGS.items()} | NYSTROM
"""Their sources."""


def splitting_plan(
    name: str, gamma: float, step: float, steps: int, *, temperature: float = 1.0
) -> Plan:
    """The plan of a splitting, one gradient a step: "ubu" (strong order 2), "baoab" or "obabo"; or
    of strong order 3 with two gradients a step: "nystrom-3" or "quicsort".

    States are (x, v), shape (batch, 2, *event), and F is −∇U, shape (batch, 1, *event).

    Args:
        name: one of these.
        gamma, step, temperature: finite numbers > 0.
        steps: how many, at least 1.

    Raises:
        ValueError: for anything else.
    """
    if name not in list(PLANS):
        raise ValueError(f"A splitting is one of {sorted(PLANS)}, got {name!r}.")
    grid = _grid(step, steps)
    sde, kick = _equation(gamma, grid, temperature), torch.tensor([[0.0], [1.0]]).double()
    method = replace(get("seeds-1"), name=name, source=PLANS[name])
    if name in NYSTROM:
        return Plan(sde, method, grid, *nystrom_rows(name, sde, grid))
    made = [(part[0], float(part[1:])) for part in SPLITTINGS[name][0].split()]
    strength = [[0], [math.sqrt(2.0 * gamma * temperature)]]
    drifts = {"A": ([[0, 1], [0, 0]], None), "O": ([[0, 0], [0, -gamma]], strength)}
    parts = {k: SemiLinearSDE.from_blocks(a, G=g, span=(0.0, 1.0)) for k, (a, g) in drifts.items()}
    systems = {letter: part.blocks for letter, part in (parts | {"U": sde}).items() if part.blocks}
    system, zero = systems["U"], grid[0]
    flows = {
        (letter, part): systems[letter].transition(zero, zero + part * step)
        for letter, part in made
        if letter != "B"
    }
    rows: list[Row] = []
    noises: list[SubstepNoise | None] = []
    known: int | None = None  # the evaluation at the position of the state
    for n, (start, end) in enumerate(pairwise(grid.tolist())):
        # The state is p u_s + Σ weights F + Σ columns z; `formed` if a row has produced it.
        p, formed, reached = torch.eye(2, dtype=torch.float64), True, 0.0
        weights: dict[int, Tensor] = {}
        columns: list[Tensor] = []
        nodes = [start]
        asked: set[int] = set()  # rows that evaluate
        for letter, part in (*made, ("end", 0.0)):
            if letter == "end" or (letter == "B" and known is None and not formed):
                before = rows[-1].target if rows and rows[-1].step == n else start
                times = before, end if letter == "end" else start + reached * step
                scale, noise = p.as_subclass(Block), tuple(c.as_subclass(Block) for c in columns)
                own = tuple((j, w.as_subclass(Block)) for j, w in weights.items())
                rows.append(Row(n, *times, "F", scale, own, noise, n, len(rows) in asked))
            if letter == "B":
                known = len(rows) if known is None else known
                asked.add(known)
                weights[known] = weights.get(known, 0.0 * kick) + part * step * kick
            elif letter != "end":
                phi, q = flows[letter, part]
                p, weights = phi @ p, {j: phi @ w for j, w in weights.items()}
                columns = [phi @ column for column in columns]
                columns += [square_root(q)] if q.any() else []
                if letter != "O":
                    known, reached = None, reached + part
                    nodes.append(start + reached * step)
            formed = False
        own_path = BlockNodes(system, torch.tensor(nodes).double()) if name == "ubu" else None
        noises.append(SubstepNoise(len(columns), nodes=own_path))
    return Plan(sde, method, grid, tuple(rows), tuple(noises))


def kinetic_langevin(
    grad_U: Callable[[Tensor], Tensor],
    gamma: float,
    x: Tensor,
    *,
    step: float,
    steps: int,
    solver: Solver = "ubu",
    temperature: float = 1.0,
    seeds: Sequence[int] | None = None,
    v: Tensor | None = None,
    keep: int = 1,
) -> Chains:
    """Run kinetic Langevin dynamics, many chains at a time, with equal steps and no rejections: the
    law of the kept positions tends to e^{−U/T} up to a bias that falls with the step.

    Args:
        grad_U: ∇U, from positions of shape (chains, *event) to the same shape.
        gamma: friction γ > 0.
        x: initial positions, shape (chains, *event), floating point.
        step, steps: length and number of the steps.
        solver: "ubu", "baoab", "obabo", each with one gradient a step, "nystrom-3", "quicsort",
            each with two, or any solver of this package that needs no noise schedule: "seeds-1" is
            the exponential Euler scheme.
        temperature: T > 0.
        seeds: one integer per chain; default: 0, 1, …
        v: initial velocities; default: drawn from their stationary law, N(0, T).
        keep: every how many steps a state is kept.

    Returns:
        The chains.

    Raises:
        ValueError, TypeError: for anything that does not fit, before the first gradient.
        FloatingPointError: if a state became NaN or infinite, with the first step, time and
            chains: the step is too long.

    Source: UBU: Sanz-Serna & Zygalakis, JMLR 22 (2021); BAOAB: Leimkuhler & Matthews (2013);
        QUICSORT: Foster, Lyons & Oberhauser, arXiv 2101.03446.

    Example:
        >>> import torch
        >>> from expint.dynamics import effective_sample_size, kinetic_langevin
        >>> x = torch.zeros(64, 1, dtype=torch.float64)
        >>> chains = kinetic_langevin(lambda x: x, 1.0, x, step=0.5, steps=200)  # U = x²/2
        >>> abs(chains.x[20:].var().item() - 1) < 0.1
        True
    """
    if not is_whole(keep) or keep < 1 or (is_whole(steps) and keep > steps):
        raise ValueError(f"keep is an integer from 1 to the number of steps, got {keep!r}.")
    if not callable(grad_U):
        raise TypeError(f"grad_U is called as grad_U(x), got {grad_U!r}.")
    check_state(x)
    if x.is_complex():
        raise TypeError(f"x holds real numbers, got {x.dtype}: give real and imaginary parts.")
    if v is not None and not (isinstance(v, Tensor) and v.shape == x.shape):
        got = tuple(v.shape) if isinstance(v, Tensor) else repr(v)
        raise ValueError(f"v has the shape of x, {tuple(x.shape)}, got {got}.")
    own = check_seeds(range(len(x)) if seeds is None else seeds)
    check_batch(own, x)
    if isinstance(solver, str) and solver in PLANS:
        plan = splitting_plan(solver, gamma, step, steps, temperature=temperature)
    else:
        grid = _grid(step, steps)
        sde = _equation(gamma, grid, temperature)
        try:
            plan = compile_plan(sde, solver, grid)
        except ValueError as error:
            message = f"{error} Kinetic Langevin dynamics has its own: {', '.join(PLANS)}."
            raise ValueError(message) from error
    if v is None:
        v = initial_state(own, x.shape[1:], x.dtype, x.device) * math.sqrt(temperature)
    kept: list[Tensor] = []

    def record(n: int, nfe: int, t: float, state: Tensor, value: Tensor) -> None:
        if n % keep == 0:
            kept.append(state)

    def force(u: Tensor, t: Tensor) -> Tensor:
        found = grad_U(u[:, 0])
        if not isinstance(found, Tensor) or found.shape != x.shape:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"grad_U returns the shape of x, {tuple(x.shape)}, got {got}.")
        return -found[:, None]

    try:
        execute(plan, force, torch.stack([x, v.to(x)], 1), Gaussian(own), record)
    except FloatingPointError as error:
        found, message = str(error).partition(" Likely")[0], "The step is too long for this U"
        raise FloatingPointError(f"{found} {message}, or grad_U is not finite there.") from error
    positions, velocities = torch.stack(kept).unbind(2)
    return Chains(positions, velocities, plan.nfe, plan)


def _grid(step: Any, steps: Any) -> Tensor:
    if not is_whole(steps) or steps < 1:
        raise ValueError(f"steps is an integer >= 1, got {steps!r}.")
    return _positive("step", step) * torch.arange(steps + 1, dtype=torch.float64)


def _equation(gamma: Any, grid: Tensor, temperature: Any) -> SemiLinearSDE:
    strength = math.sqrt(2.0 * _positive("gamma", gamma) * _positive("temperature", temperature))
    A, B, G, span = [[0, 1], [0, -gamma]], [[0], [1]], [[0], [strength]], (0.0, grid[-1].item())
    return SemiLinearSDE.from_blocks(A, B, G, span=span, name="kinetic Langevin dynamics")


def _positive(name: str, value: Any) -> Any:
    if not are_numbers(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} is a finite number > 0, got {value!r}.")
    return value
