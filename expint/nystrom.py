"""Kinetic Langevin dynamics to order 3 on the path: exponential Runge–Kutta–Nyström steps with two
gradients, at the positions of Gauss's nodes.

The position has no noise of its own, so that F is smooth along the path but for what its integral
knows. With the noise ξ of the position when there is no force, and the weights b_j of the step,

    "nystrom-3":  stages with noise N_j such that Σ_j b_j N_j = ∫ Φ B ξ du, in both components: the
                  first-order response to the noise is exact for a linear F, and the whole step for
                  a constant one. The stages take the last evaluation of the step before too;
    "quicsort":   stages along the polynomial that shares the increment W of ω and the integrals H
                  and K with the path, between which x and v follow an ODE.

Each takes four functionals of the path in a step. Their joint law is that of a linear system with
two more components.
"""

from itertools import pairwise

import torch
from torch import Tensor

from expint.blocks import Block, BlockNodes, square_root
from expint.equations import SemiLinearSDE
from expint.noise import SubstepNoise
from expint.plans import Row

NYSTROM = {
    "nystrom-3": "exponential Runge-Kutta-Nystrom, Gauss nodes, noise of exact linear response",
    "quicsort": "Foster, Lyons & Oberhauser, arXiv 2101.03446, as in diffrax",
}
"""Their sources."""

LOW, HIGH = 0.5 - 3.0**0.5 / 6.0, 0.5 + 3.0**0.5 / 6.0


def nystrom_rows(
    name: str, sde: SemiLinearSDE, grid: Tensor
) -> tuple[tuple[Row, ...], tuple[SubstepNoise, ...]]:
    """Rows and noises of a plan.

    Args:
        name: of NYSTROM.
        sde: of kinetic Langevin dynamics.
        grid: equal steps, shape (steps + 1,).
    """
    assert sde.blocks is not None
    own, zero, h = sde.blocks, grid[0], grid[1] - grid[0]
    A, B, eye = own.A(zero), own.B(zero), torch.eye(4).double()
    parts = torch.stack([LOW * h, HIGH * h, h, h / 3.0])
    phi, _, moments = own.integrals(0.0 * parts, parts, None, 2)
    # Weights of the two stages and the end; -1 is the last evaluation of the step before.
    alone = going = (), ((1, h * phi[3] @ B),)
    if name == "nystrom-3":  # the response of the system to ξ
        added = torch.cat([B @ eye[:1, :2], A], 1)
        second = (moments[1, 2] - LOW * moments[0, 2]) / (HIGH - LOW)
        weights = moments[0, 2] - second, second
        # For the second F is a line through that at −LOW h, of the step before, and that at LOW h.
        line = 0.5 * (HIGH / LOW * moments[1, 1] + moments[0, 1])
        going = ((-1, moments[0, 0]),), ((-1, moments[0, 1] - line), (1, line))
        both = torch.cat(weights, 1)
        size = both.abs().amax(1, keepdim=True)  # rows of orders apart where γ is large
        stages = torch.linalg.solve(both / size, eye[2:] / size)
        found = [torch.stack([stage, 0.0 * stage]) for stage in stages] + [eye[:2]]
    else:  # from ξ_x and its two first integrals: √(2γT) ω = ξ_v + γ ξ_x, and so on
        added, gamma = torch.cat([eye[:1], eye[2:3]]), -A[1, 1]
        W, first, second = (eye[i] + gamma * eye[j] for i, j in ((1, 0), (0, 2), (2, 3)))
        H = first / h - 0.5 * W
        K = second / h**2 - W / 6.0 - 0.5 * H
        weights = 0.5 * h * phi[1] @ B, 0.5 * h * phi[0] @ B
        found = [
            p @ B * (H + 6.0 * K) + m * (W - 12.0 * K) / h
            for p, m in zip(phi[:3], moments[0], strict=False)
        ]
        found[2] = found[2] - B * (H - 6.0 * K)
    G = torch.cat([own.G(zero), torch.zeros(2, 1).double()])
    drift = torch.cat([A @ eye[:2], added])
    system = SemiLinearSDE.from_blocks(drift, G=G, span=(0.0, 1.0)).blocks
    assert system is not None
    root = square_root(system.transition(zero, h)[1])
    columns = [tuple(map(_block, (f @ root).split(2, 1))) for f in found]
    last, rows = ((1, weights[0]), (2, weights[1])), list[Row]()
    for n, (start, end) in enumerate(pairwise(grid.tolist())):
        times = start, start + LOW * h.item(), start + HIGH * h.item(), end
        for i, used in enumerate((*(going if n else alone), last)):
            made = tuple((3 * n + k, _block(w)) for k, w in used)
            where = times[i], times[i + 1], "F"
            rows.append(Row(n, *where, _block(phi[i]), made, columns[i], n, i > 0))
    nodes = (BlockNodes(own, pair, system) for pair in grid.unfold(0, 2, 1))
    return tuple(rows), tuple(SubstepNoise(2, nodes=pair) for pair in nodes)


def _block(matrix: Tensor) -> Block:
    return matrix.as_subclass(Block)
