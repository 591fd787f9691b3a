"""The published symmetric splitting of critically damped diffusion, which is not a tableau."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from expint.blocks import Block, BlockNodes, LinearSystem, square_root
from expint.equations import SemiLinearSDE
from expint.noise import SubstepNoise
from expint.numerics.float64 import as_float64
from expint.phase_space.reverse import product
from expint.plans import Plan, Row
from expint.schedules.formula.critical_damping import CriticalDamping
from expint.solvers import get


def split_cld(cld: CriticalDamping, *, end: float = 1e-3) -> SemiLinearSDE:
    """The reverse SDE (ℓ = 1) as SSCS splits it: the part that is solved exactly is the forward
    process with the sign of the Hamiltonian reversed, whose limit is N(0, P), P = diag(1, M), too:

        du = [(A + G Gᵀ P⁻¹) u − G Gᵀ F] dt + G dω,    F = S + P⁻¹ u,    t decreasing;

    F acts on the components that have noise."""
    limit = _limit(cld).diag()

    def spread(t: Tensor) -> Tensor:  # G Gᵀ
        return cld.diffusion(t) @ cld.diffusion(t).mT

    return SemiLinearSDE.from_blocks(
        lambda t: cld.drift(t) + spread(t) @ torch.linalg.inv(limit),
        lambda t: -spread(t)[..., cld.first_noised :],
        cld.diffusion,
        span=(cld.stop, end),
        name=f"reverse {type(cld).__name__}, split for SSCS",
    )


def sscs_plan(cld: CriticalDamping, grid: Sequence[float] | Tensor) -> Plan:
    """Symmetric splitting: half a step of the exact part, a kick by F at its end over the whole
    step, half a step of the exact part. One evaluation per step; its F is that of `split_score`.

    Source: Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3.3 and algorithm 1.
    """
    times = as_float64(grid)
    sde = split_cld(cld, end=float(times[-1]))
    system = sde.blocks
    assert isinstance(system, LinearSystem)
    times = sde.check_grid(times)
    middle = 0.5 * (times[1:] + times[:-1])
    strength = (2.0 * as_float64(cld.frictions) * _limit(cld)).diag()[:, cld.first_noised :]
    kick = (cld.elapsed(times[:-1]) - cld.elapsed(times[1:]))[:, None, None] * strength
    rows: list[Row] = []
    noises = []
    halves = system.transition(times[:-1], middle), system.transition(middle, times[1:])
    for i in range(len(middle)):
        (one, q_one), (two, q_two) = ((phi[i], q[i]) for phi, q in halves)
        roots = square_root(q_one), square_root(q_two)
        ends = [float(v) for v in (times[i], middle[i], times[i + 1])]
        first = Row(
            i, ends[0], ends[1], "F", _block(one), (), (_block(roots[0]),), i, evaluates=False
        )
        weights = ((len(rows) + 1, _block(two @ kick[i])),)
        noise = (_block(two @ roots[0]), _block(roots[1]))
        rows += [first, Row(i, ends[1], ends[2], "F", _block(two @ one), weights, noise, i)]
        noises.append(SubstepNoise(2, False, BlockNodes(system, as_float64(ends))))
    return Plan(sde, get("seeds-1"), times, tuple(rows), tuple(noises))


def split_score(cld: CriticalDamping, score: Any) -> Any:
    """F = S + P⁻¹ u of the splitting, with CLD S_v + v/M, from the score S(u, t) of the components
    that have noise."""
    weight = (1.0 / _limit(cld)).diag()[cld.first_noised :]
    return lambda u, t: score(u, t) + product(weight, u)


def _limit(cld: CriticalDamping) -> Tensor:
    """Variances of the limit of x and v."""
    return as_float64([1.0, cld.M])


def _block(matrix: Tensor) -> Block:
    return matrix.as_subclass(Block)
